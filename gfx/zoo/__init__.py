"""Provides reference generators of the papers, to compile, to test and to compare against."""

from gfx.zoo.catalogue import about, build, example_inputs, names, options

__all__ = ["about", "build", "example_inputs", "names", "options"]
