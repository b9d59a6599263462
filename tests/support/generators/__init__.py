"""Whole generators in the styles in which people write them, one file for each family.

Small re-implementations of published designs: tests trace them, prune them, and judge the result
by the consumer-zeroing oracle. Each is registered with its input shapes and what an expert would
say about it.
"""

from importlib import import_module
from pkgutil import iter_modules

from support.generators import register
from support.generators.register import GENERATORS, Entry

__all__ = ["GENERATORS", "Entry", "register"]

for found in iter_modules(__path__):
    import_module(f"support.generators.{found.name}")
