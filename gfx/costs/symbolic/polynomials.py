"""Evaluates many polynomials at many configurations, a few thousand configurations at a time."""

from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfx.costs.symbolic.sizes import Affine, Changed, Coefficient, Number, Product, Size, Symbols

__all__ = ["Terms"]

Table = NDArray[Any]
_CELLS = 1 << 16  # numbers of one intermediate result: it stays in the cache of a core
_EXACT = 1 << 53  # integers up to here are exact in float64


class Terms:
    """Holds polynomials in the widths of groups, ready to be evaluated.

    Products that several of them share are computed once.
    """

    def __init__(self, symbols: Symbols, polynomials: Sequence[Number]) -> None:
        sums = [p.terms if isinstance(p, Size) else {(): p} for p in polynomials]
        products = sorted({p for terms in sums for p in terms if p}, key=lambda p: (-len(p), p))
        column = {p: i for i, p in enumerate(products)}
        rows: list[list[Coefficient]] = [[0] * len(products) for _ in sums]
        for row, terms in zip(rows, sums, strict=True):
            for p, n in terms.items():
                if p:
                    row[column[p]] = n
        fixed = [terms.get((), 0) for terms in sums]
        self._compile(symbols, products)
        self.dtype = _dtype(symbols, products, rows, fixed)
        exact = float if self.dtype is np.float64 else int
        numbers = [[exact(n) for n in row] for row in rows]
        self.weights = np.array(numbers, dtype=self.dtype).reshape(len(sums), len(products))
        self.fixed = np.array([exact(n) for n in fixed], dtype=self.dtype)

    def _compile(self, symbols: Symbols, products: Sequence[Product]) -> None:
        """Numbers the factors that are needed, and lists the products by them."""
        needed = {f for p in products for f in p}
        for f in tuple(needed):
            found = symbols.factors[f]
            needed |= set(found.factors if isinstance(found, Changed) else ())
        affine = [f for f in sorted(needed) if isinstance(symbols.factors[f], Affine)]
        changed = [f for f in sorted(needed) if isinstance(symbols.factors[f], Changed)]
        place = {f: i for i, f in enumerate(affine + changed)}
        self.affine = [symbols.factors[f] for f in affine]
        self.changed = [[place[g] for g in symbols.factors[f].factors] for f in changed]  # type: ignore[union-attr]
        self.depth = max((len(p) for p in products), default=0)
        self.products = [[place[f] for f in p] for p in products]  # the longest first
        self.groups = len(symbols.free)

    @cached_property
    def _at(self) -> list[tuple[int, NDArray[np.int64]]]:
        """For each position in a product: how many products are that long, and their factors."""
        found = []
        for d in range(self.depth):
            at = [p[d] for p in self.products if len(p) > d]
            found.append((len(at), np.array(at, dtype=np.int64)))
        return found

    @cached_property
    def _slopes(self) -> tuple[Table, Table, Table]:
        slopes = np.zeros((len(self.affine), self.groups), dtype=self.dtype)
        for row, factor in zip(slopes, self.affine, strict=True):
            for group, slope in factor.slopes:  # type: ignore[union-attr]
                row[group] = float(slope)
        constant = np.array([f.constant for f in self.affine], dtype=self.dtype)  # type: ignore[union-attr]
        full = np.array([f.full for f in self.affine], dtype=self.dtype)  # type: ignore[union-attr]
        return slopes, constant[:, None], full[:, None]

    def factors(self, widths: Table) -> Table:
        """Evaluates the factors at some configurations.

        Shapes: widths (groups, configurations); returns (factors, configurations).
        """
        slopes, constant, full = self._slopes
        if (np.count_nonzero(slopes, axis=1) == 1).all() and not constant.any():
            group = slopes.argmax(axis=1)
            values = widths[group]
            if not (slopes.max(axis=1) == 1).all():
                values *= slopes.max(axis=1)[:, None]
        else:
            values = slopes @ widths + constant
        if not self.changed:
            return np.asarray(values)
        other = values != full
        flags = np.stack([other[list(group)].any(axis=0) for group in self.changed])
        return np.concatenate([values, flags.astype(self.dtype)])

    def __call__(self, widths: Table, reduce: Any = None) -> NDArray[np.int64]:
        """Evaluates the polynomials.

        Args:
            widths: (configurations, groups), kept channels.
            reduce: np.maximum, for the largest of the polynomials alone; None for all of them.

        Returns: (polynomials, configurations), or (configurations,) if reduced.
        """
        count = len(widths)
        shape = (count,) if reduce is not None else (len(self.fixed), count)
        out = np.empty(shape, dtype=np.int64)
        step = max(1, _CELLS // max(1, len(self.products), len(self.fixed) // 4))
        for start in range(0, count, step):
            part = np.ascontiguousarray(widths[start : start + step].T, dtype=self.dtype)
            totals = self.weights @ self._products(part) + self.fixed[:, None]
            if reduce is not None:
                totals = reduce.reduce(totals, axis=0)
            out[..., start : start + step] = np.rint(totals)
        return out

    def keep_largest(self) -> "Terms":
        """Drops every polynomial that another one is never below; for use with np.maximum."""
        rows = np.concatenate([self.weights, self.fixed[:, None]], axis=1)
        kept: list[int] = []
        for i in np.argsort(-rows.sum(axis=1), kind="stable").tolist():
            if not (rows[kept] >= rows[i]).all(axis=1).any():
                kept.append(i)
        self.weights, self.fixed = self.weights[kept], self.fixed[kept]
        return self

    def _products(self, widths: Table) -> Table:
        if not self.products:
            return np.empty((0, widths.shape[1]), dtype=self.dtype)
        values = self.factors(widths)
        products = values[self._at[0][1]]
        for count, at in self._at[1:]:
            products[:count] *= values[at]
        return np.asarray(products)


def _dtype(
    symbols: Symbols,
    products: Sequence[Product],
    rows: Sequence[Sequence[Coefficient]],
    fixed: Sequence[Coefficient],
) -> type[np.float64] | type[np.int64]:
    """Chooses float64 while every sum is exact in it, else int64."""
    most = [prod(_most(symbols, f) for f in p) for p in products]
    for row, number in zip(rows, fixed, strict=True):
        if any(Fraction(n).denominator > 1 for n in (*row, number)):
            return np.float64
        total = sum((Fraction(n) * m for n, m in zip(row, most, strict=True)), Fraction(number))
        if total >= _EXACT:
            return np.int64
    return np.float64


def _most(symbols: Symbols, factor: int) -> int:
    found = symbols.factors[factor]
    return found.full if isinstance(found, Affine) else 1
