"""Finds the sizes of a program's inputs that may vary: batch, height, width, length.

A size is tested by running the program on other shapes alone.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch.utils import _pytree as pytree

from gfx.errors import InputError
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate

__all__ = ["Extent", "Factors", "Survey", "dim_names", "resized", "runs_at", "survey"]

_SPATIAL = {4: ("height", "width"), 5: ("depth", "height", "width")}
_FACTORS = (Fraction(3, 2), Fraction(2), Fraction(1, 2), Fraction(3))

Factors = Mapping[str, Fraction]  # multipliers for the sizes of each extent


@dataclass(frozen=True)
class Extent:
    """Sizes of the inputs that vary together, such as the height of an image and of its mask."""

    name: str
    places: tuple[tuple[int, int], ...]  # (number of the input tensor, dimension)
    sizes: tuple[int, ...]  # at these places, in the example inputs

    def may(self, factor: Fraction) -> bool:
        """Whether a factor gives other whole numbers for the sizes."""
        sizes = [size * factor for size in self.sizes]
        return all(size.denominator == 1 and size > 1 for size in sizes)

    @property
    def one_more(self) -> Fraction | None:
        """The factor for one more at each place, if all sizes are equal."""
        alike = len(set(self.sizes)) == 1
        return Fraction(self.sizes[0] + 1, self.sizes[0]) if alike else None


@dataclass(frozen=True)
class Survey:
    """Holds the extents with factors at which the program runs, and the reasons of the others."""

    free: dict[Extent, tuple[Fraction, ...]]
    fixed: dict[Extent, str]  # with the reason


def survey(program: Program) -> Survey:
    """Finds the extents of a program's inputs at which it runs in other sizes too.

    Example:
        >>> import gfx
        >>> found = survey(gfx.trace(gfx.zoo.build("dcgan")))
        >>> [extent.name for extent in found.free], [extent.name for extent in found.fixed]
        (['batch'], [])
    """
    extents = list(_extents(program))
    found = {extent: _factors(program, (extent,)) for extent in extents}
    free = {extent: factors for extent, (factors, _) in found.items() if factors}
    fixed = {extent: why for extent, (factors, why) in found.items() if not factors}
    together = [extent for extent in fixed if extent.name != "batch"]
    if len(together) > 1:
        factors, _ = _factors(program, together)
        if factors:  # only square images, for example
            fixed = {extent: why for extent, why in fixed.items() if extent not in together}
            free[_joined(together)] = factors
    return Survey(free, dict(_without_channels(fixed, free)))


def resized(inputs: tuple[Any, ...], factors: Factors, extents: Iterable[Extent]) -> Any:
    """Resizes inputs by repeating or cutting their values."""
    leaves, spec = pytree.tree_flatten(inputs)
    for extent in extents:
        for (number, dim), size in zip(extent.places, extent.sizes, strict=True):
            wanted = int(size * factors.get(extent.name, 1))
            if wanted != size:
                index = torch.arange(wanted, device=leaves[number].device) % size
                leaves[number] = leaves[number].index_select(dim, index)
    return pytree.tree_unflatten(leaves, spec)


def dim_names(leaf: Any) -> dict[int, str]:
    """Names the dimensions of an input that may vary.

    Example:
        >>> dim_names(torch.ones(1, 3, 8, 8))
        {0: 'batch', 2: 'height', 3: 'width'}
    """
    return dict(_dims(leaf))


def runs_at(program: Program, inputs: tuple[Any, ...]) -> str | None:
    """Says why a program does not run on inputs of these shapes, None if it does."""
    try:
        propagate(replace(program, example_inputs=inputs))
    except InputError as error:
        return str(error).partition("; check the example inputs")[0]
    return None


def _without_channels(
    fixed: Mapping[Extent, str], free: Collection[Extent]
) -> Iterator[tuple[Extent, str]]:
    """Drops the channels of (N, L, C) or (N, C, L), which are not expected to vary."""
    names = {extent.name for extent in free}
    for extent, why in fixed.items():
        if extent.name == "sequence" or (extent.name == "length" and "sequence" in names):
            continue
        yield extent, why


def _factors(program: Program, extents: Collection[Extent]) -> tuple[tuple[Fraction, ...], str]:
    """Lists up to two factors at which a program runs; says why it does not at another."""
    first = next(iter(extents))
    found: list[Fraction] = []
    whys: list[str] = []
    batch = Fraction(first.sizes[0] + (1 if first.sizes[0] > 1 else 2), first.sizes[0])
    for factor in (batch,) if first.name == "batch" else _FACTORS:
        if len(found) < 2 and all(extent.may(factor) for extent in extents):
            inputs = resized(
                program.example_inputs, {extent.name: factor for extent in extents}, extents
            )
            why = runs_at(program, inputs)
            found += [factor] if why is None else []
            whys += [] if why is None else [why]
    return tuple(found), whys[0] if whys else "it has no size to try"


def _extents(program: Program) -> Iterator[Extent]:
    """Iterates over what may vary, the batch first."""
    leaves = pytree.tree_leaves(program.example_inputs)
    batch = next((x.shape[0] for x in leaves if _is_tensor(x) and x.dim()), None)
    places: dict[str, list[tuple[int, int]]] = {}
    for number, leaf in enumerate(leaves):
        for dim, name in _dims(leaf):
            size = leaf.shape[dim]
            if size > 1 if name != "batch" else size == batch:
                places.setdefault(name, []).append((number, dim))
    for name, found in places.items():
        yield Extent(name, tuple(found), tuple(leaves[n].shape[d] for n, d in found))


def _dims(leaf: Any) -> Iterator[tuple[int, str]]:
    """Iterates over the dimensions of an input that may vary, with their names."""
    if not _is_tensor(leaf) or not leaf.dim():
        return
    yield 0, "batch"
    if leaf.dim() in _SPATIAL:
        yield from enumerate(_SPATIAL[leaf.dim()], start=2)
    elif leaf.dim() == 3:  # one of them is channels
        yield from ((1, "sequence"), (2, "length"))
    elif leaf.dim() == 2 and not leaf.is_floating_point():
        yield 1, "sequence"


def _joined(extents: list[Extent]) -> Extent:
    places = tuple(place for extent in extents for place in extent.places)
    sizes = tuple(size for extent in extents for size in extent.sizes)
    return Extent(" = ".join(extent.name for extent in extents), places, sizes)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)
