"""Expresses sizes as formulas: each labelled dimension is affine in the groups' widths.

A shape in which such sizes stand for numbers goes through the very formulas that count a program
(gfx/costs/mac_formulas.py), and what comes out is the cost as a polynomial.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, prod
from typing import Union

import numpy as np
from torch import fx

from gfx.coupling import Groups
from gfx.coupling.channel_owners import ChannelOwners
from gfx.coupling.labelled_tensor import Labeled, core, varying
from gfx.coupling.labels import Ids

__all__ = ["Affine", "Changed", "Coefficient", "Number", "Size", "Symbols"]

Number = Union[int, Fraction, "Size"]
Coefficient = int | Fraction
Product = tuple[int, ...]  # numbers of factors, sorted


class Size:
    """A sum of products of factors, each with a coefficient.

    Example:
        >>> width = Size({(0,): 1})
        >>> (2 * width * width + 3 + width).terms
        {(0, 0): 2, (): 3, (0,): 1}
    """

    __slots__ = ("terms",)

    def __init__(self, terms: Mapping[Product, Coefficient]) -> None:
        self.terms = terms

    def __add__(self, other: Number) -> "Size":
        total = dict(self.terms)
        for product, number in _terms(other):
            total[product] = total.get(product, 0) + number
        return Size(total)

    def __mul__(self, other: Number) -> "Size":
        total: dict[Product, Coefficient] = {}
        for a, m in self.terms.items():
            for b, n in _terms(other):
                product = tuple(sorted(a + b))
                total[product] = total.get(product, 0) + m * n
        return Size(total)

    __radd__, __rmul__ = __add__, __mul__


def _terms(number: Number) -> Iterator[tuple[Product, Coefficient]]:
    if isinstance(number, Size):
        yield from number.terms.items()
    else:
        yield (), number


@dataclass(frozen=True)
class Affine:
    """Describes a factor: positions for each kept channel of some groups, and a constant."""

    slopes: tuple[tuple[int, Fraction], ...]  # (number of the group, positions)
    constant: int
    full: int  # its value before anything is removed


@dataclass(frozen=True)
class Changed:
    """Describes a factor: 1 where any of some other factors has changed, else 0."""

    factors: tuple[int, ...]


class Symbols:
    """Expresses every size of a program as a formula in the widths of its free groups."""

    def __init__(self, groups: Groups) -> None:
        self.groups = groups
        self.free = groups.free
        self.factors: list[Affine | Changed] = []
        self._numbers: dict[Affine | Changed, int] = {}
        self._roots = groups.roots
        self._owner = ChannelOwners(groups, self.free).group  # by label

    def size(self, ids: Ids) -> Number:
        """Returns the size of a dimension with these labels; a number if it cannot change."""
        owners, counts = np.unique(self._owner[ids], return_counts=True)
        found: dict[int, int] = dict(zip(owners.tolist(), counts.tolist(), strict=True))
        constant = found.pop(-1, 0)
        if not found:
            return constant
        slopes = {i: Fraction(n, self.free[i].size) for i, n in found.items()}
        shared = gcd(constant, *(s.numerator for s in slopes.values()))
        if any(s.denominator > 1 for s in slopes.values()):
            shared = 1  # a part of a group, which is right on average only
        factor = Affine(
            tuple((i, slope / shared) for i, slope in slopes.items()),
            constant // shared,
            len(ids) // shared,
        )
        return Size({(self._number(factor),): shared})

    def shape(self, value: Labeled) -> tuple[Number, ...]:
        """Returns the shape of an activation."""
        sizes: list[Number] = list(value.shape)
        for d in {d for labels in value.fields for d in varying(labels)}:
            crossed = self._crossed(value, d)
            if crossed is not None:
                sizes[d] = crossed
                continue
            ids = self._along(value, d)
            if ids is not None:
                sizes[d] = self.size(ids)
        return tuple(sizes)

    def _crossed(self, value: Labeled, dim: int) -> Number | None:
        """Returns the size of a dimension into which several were flattened: their product.

        None if it is of one field, or if its fields do not cross everywhere.
        """
        rows = [core(f).reshape(-1).numpy() for f in value.fields if varying(f) == (dim,)]
        if len(rows) < 2:
            return None
        classes = [np.unique(row, return_inverse=True) for row in rows]
        counts = [len(found) for found, _ in classes]
        places = np.ravel_multi_index(tuple(place for _, place in classes), counts)
        each = np.bincount(places, minlength=prod(counts))
        if not (each == each[0]).all():
            return None
        return prod((self.size(found) for found, _ in classes), start=int(each[0]))

    def tensor(self, path: str) -> tuple[Number, ...]:
        """Returns the shape of a parameter or buffer."""
        shape, axes = self.groups.program.tensor(path).shape, self.groups.axes_of(path)
        return tuple(
            n if axis is None else self.size(axis.ids) for n, axis in zip(shape, axes, strict=True)
        )

    def changed(self, sizes: Sequence[Number]) -> Number:
        """Returns 1 where any of these sizes is not what it was, else 0."""
        factors = {f for size in sizes if isinstance(size, Size) for p in size.terms for f in p}
        if not factors:
            return 0
        return Size({(self._number(Changed(tuple(sorted(factors)))),): 1})

    def stored(self, node: fx.Node) -> Number:
        """Returns 1 where a weight statistic is stored, because its tensors change; else 0."""
        values = map(self.groups.value_of, (node, *self.groups.constants.sources(node)))
        return self.changed([size for value in values for size in self.shape(value)])

    def gone(self, node: fx.Node) -> Number:
        """Returns 1 where all that a node computes from tensors alone is stored; else 0."""
        ends = self.groups.constants.purposes(node)
        return prod((self.stored(end) for end in ends), start=Size({(): 1})) if ends else 0

    def full(self, number: Number) -> Fraction:
        """Returns the value before anything is removed."""
        return sum(
            (Fraction(n) * prod(self._before(f) for f in p) for p, n in _terms(number)), Fraction(0)
        )

    def _before(self, factor: int) -> int:
        found = self.factors[factor]
        return found.full if isinstance(found, Affine) else 0

    def _number(self, factor: Affine | Changed) -> int:
        if factor not in self._numbers:
            self._numbers[factor] = len(self.factors)
            self.factors.append(factor)
        return self._numbers[factor]

    def _along(self, value: Labeled, dim: int) -> Ids | None:
        """Returns one label per index of a dimension; None if all of them always stay."""
        for labels in value.fields:
            if dim not in varying(labels):
                continue
            rows = core(labels).movedim(dim, 0).reshape(value.shape[dim], -1).numpy()
            classes = self._roots[rows]
            # heads by width: while any width is left, every head is
            if rows.shape[1] == 1 or not (classes == classes[0]).all():
                return np.asarray(rows[:, 0])
        return None
