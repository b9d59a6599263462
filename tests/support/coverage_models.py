"""The generators of docs/coverage.md, section by section, in float64 and eval mode."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from gfx import zoo
from support.patterns import PATTERNS
from support.zoo_small import SMALL
from thirdparty import CASES
from thirdparty.cases import build, double, shaken

__all__ = ["BEYOND_THE_ORACLE", "generators", "names", "one"]

# the oracle takes what one operation reads and writes for the same thing
BEYOND_THE_ORACLE = frozenset(["Normalised"])

Generator = tuple[str, nn.Module, tuple[Any, ...]]


def names(section: str) -> list[str]:
    """Lists the generators of a section."""
    if section == "published":
        return [case.name for case in CASES]
    return sorted(SMALL) if section == "zoo" else sorted(PATTERNS)


def generators(section: str) -> Iterator[Generator]:
    """Builds the generators of a section, one after the other."""
    for name in names(section):
        yield one(section, name)


def one(section: str, name: str) -> Generator:
    """Builds a generator."""
    if section == "published":
        return (name, *build(next(case for case in CASES if case.name == name)))
    torch.manual_seed(0)
    if section == "zoo":
        model, inputs = zoo.build(name, **SMALL[name]), zoo.example_inputs(name, **SMALL[name])
    else:
        kind, shapes = PATTERNS[name]
        model, inputs = kind(), tuple(torch.randn(shape) for shape in shapes)
    shaken(model)
    return name, model.double().eval(), tuple(double(x) for x in inputs)
