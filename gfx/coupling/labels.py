"""Labels: one number for each index of each dimension, and a vectorised union-find over them.

Two labels in one class are one channel: they are kept or removed together.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LONGEST", "Axis", "Ids", "Labels", "Mask", "Reasons"]

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]
# a dimension with more indices is one of positions, such as a table's rows or a sound's samples:
# it gets labels only where a layer writes or reads it, or channels meet it
LONGEST = 1 << 16


@dataclass(frozen=True)
class Axis:
    """One labelled dimension of a tensor.

    `tensor` is a dotted path, or "" where the dimension belongs to no tensor of the program: an
    input, or a constant that the graph makes. `at` then names the node.
    """

    tensor: str
    dim: int
    start: int  # its labels are start … start + size - 1
    size: int
    at: str = ""

    @property
    def ids(self) -> Ids:
        """The labels, one per index of the dimension."""
        return np.arange(self.start, self.start + self.size, dtype=np.int64)


@dataclass(frozen=True)
class Reasons:
    """Holds a reason for some classes of labels, as one number each: labels may be millions.

    Example:
        >>> reasons = Reasons(np.array([0, 1, 0], dtype=np.int32), ("it is an output",))
        >>> reasons.of(1), reasons.of(2)
        ('it is an output', None)
    """

    numbers: NDArray[np.int32]  # by representative: 0 for none, else a text's place from 1 on
    texts: tuple[str, ...]

    def of(self, root: int) -> str | None:
        """Returns the reason of the class with this representative; None if it has none."""
        number = int(self.numbers[root])
        return self.texts[number - 1] if number else None


class Labels:
    """Allocates labels, unites them, and records why some may not be removed.

    Example:
        >>> labels = Labels()
        >>> conv, norm = labels.axis("conv.weight", 0, 4), labels.axis("norm.weight", 0, 4)
        >>> labels.unite(conv.ids, norm.ids)
        >>> labels.find(norm.ids).tolist()
        [0, 1, 2, 3]
    """

    def __init__(self, *, record: bool = False) -> None:
        self.axes: list[Axis] = []
        self.starts: list[int] = []
        self.unions: list[tuple[Ids, Ids]] | None = [] if record else None  # of labels, in pairs
        self._parent: Ids = np.arange(1024, dtype=np.int64)
        self._count = 0
        self._pins: list[tuple[Ids, str]] = []
        self._marks: list[tuple[Ids, str]] = []

    def __len__(self) -> int:
        return self._count

    def axis(self, tensor: str, dim: int, size: int, at: str = "") -> Axis:
        """Labels one dimension with fresh labels."""
        axis = Axis(tensor, dim, self._count, size, at)
        self.axes.append(axis)
        self.starts.append(self._count)
        self._count += size
        if self._count > len(self._parent):
            old = len(self._parent)
            grown = np.arange(max(2 * old, self._count), dtype=np.int64)
            grown[:old] = self._parent
            self._parent = grown
        return axis

    def find(self, ids: Ids) -> Ids:
        """Returns the representative of each label: the smallest of its class."""
        if ids.size > self._count:  # a flattened image: look each label up once
            every = np.arange(self._count, dtype=np.int64)
            return np.asarray(self.find(every)[ids])
        roots, above = ids, self._parent[ids]
        known = True
        while True:
            roots, above = above, self._parent[above]
            if (above == roots).all():
                break
            known = False
        if not known:
            self._parent[ids] = roots
        return roots

    def distinct(self, ids: Ids) -> Ids:
        """Lists the labels that occur, in order; np.unique would sort a flattened image."""
        if ids.size < self._count:
            return np.unique(ids)
        there = np.zeros(self._count, dtype=np.bool_)
        there[ids] = True
        return np.flatnonzero(there)

    def unite(self, a: Ids, b: Ids) -> None:
        """Makes `a[i]` and `b[i]` one channel, for every i; the shapes broadcast."""
        if a.shape != b.shape:
            a, b = np.broadcast_arrays(a, b)
        a, b = a.ravel(), b.ravel()
        if self.unions is not None:
            self.unions.append((a, b))
        while True:
            a, b = self.find(a), self.find(b)
            apart = a != b
            if not apart.any():
                return
            a, b = a[apart], b[apart]
            # the larger root points to the smaller, so no cycle; of several writes to one root
            # a single one lasts, and the next round unites the others
            self._parent[np.maximum(a, b)] = np.minimum(a, b)

    def pin(self, ids: Ids, why: str) -> None:
        """Forbids the removal of these labels' channels."""
        if ids.size:
            self._pins.append((self.distinct(ids), why))

    def mark(self, ids: Ids, why: str) -> None:
        """Notes that the removal of these labels' channels is not exact."""
        if ids.size:
            self._marks.append((self.distinct(ids), why))

    def roots(self) -> Ids:
        """Returns the representative of every label, in label order."""
        return self.find(np.arange(self._count, dtype=np.int64))

    def pins(self) -> Reasons:
        """Returns the first reason that each pinned class was given."""
        return self._reasons(self._pins)

    def reason(self, ids: Ids) -> str:
        """Returns the first reason why any of these labels' channels may not go; "" if none."""
        roots = np.unique(self.find(ids))
        for pinned, why in self._pins:
            if np.isin(self.find(pinned), roots).any():
                return why
        return ""

    def pinned(self, ids: Ids) -> bool:
        """Whether none of these labels' channels may go."""
        left = np.unique(self.find(ids))
        for pinned, _ in self._pins:
            left = left[np.isin(left, self.find(pinned), invert=True)]
            if not left.size:
                return True
        return not left.size

    def marks(self) -> Reasons:
        """Returns the first reason why each class is not exact."""
        return self._reasons(self._marks)

    def _reasons(self, given: list[tuple[Ids, str]]) -> Reasons:
        texts = tuple(dict.fromkeys(why for _, why in given))
        numbers = np.zeros(self._count, dtype=np.int32)
        for ids, why in reversed(given):  # the first is written last
            numbers[self.find(ids)] = texts.index(why) + 1
        return Reasons(numbers, texts)
