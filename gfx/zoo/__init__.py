"""Provides reference generators of the papers, to compile, to test and to compare against.

`names()` lists the generators, `discriminators()` the networks that train against them.
"""

from gfx.zoo.catalogue import about, build, discriminators, example_inputs, names, options

__all__ = ["about", "build", "discriminators", "example_inputs", "names", "options"]
