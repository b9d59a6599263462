"""Holds the state of one analysis, and the operations that rules apply to labels.

Rules (gfx/coupling/rules) never compute an index: they read labels along a dimension, unite what
meets, pin what may not be narrowed, and run the operation itself on labels.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, fx

from gfx.coupling.call import Call, Read, Statistic
from gfx.coupling.labelled_tensor import (
    Labeled,
    core,
    expand_constant,
    rows_of,
    spread,
    varying,
)
from gfx.coupling.labelled_tensor import field as make_field
from gfx.coupling.labels import LONGEST, Axis, Ids, Labels
from gfx.coupling.long_dimensions import LongDimensions
from gfx.coupling.weight_statistics import Constants
from gfx.ir.execute import tensors as tensors_in
from gfx.ir.program import Program

__all__ = ["Attention", "Flow", "GroupNorms"]

Attention = Literal["width", "heads"]
GroupNorms = Literal["auto", "whole", "regroup"]

# the labels along one dimension, and why there are none if there are none
Side = tuple[Ids | None, str]
UNKNOWN = "its size is set by something that gfx does not follow"


@dataclass
class Flow:
    """Holds what one analysis has found."""

    program: Program
    attention: Attention = "width"
    group_norm: GroupNorms = "auto"
    regrouped: set[fx.Node] = field(default_factory=set)  # GroupNorms that keep all their groups
    long: LongDimensions = field(default_factory=LongDimensions)
    labels: Labels = field(default_factory=Labels)
    constants: Constants = field(default_factory=Constants)
    values: dict[fx.Node, Any] = field(default_factory=dict)
    axes: dict[str, tuple[Axis | None, ...]] = field(default_factory=dict)  # by tensor path
    paths: dict[int, str] = field(default_factory=dict)  # tensor identity → first path
    held: list[Tensor] = field(default_factory=list)  # a computed one's identity must not be reused
    reads: list[Read] = field(default_factory=list)
    statistics: list[Statistic] = field(default_factory=list)
    norms: dict[fx.Node, Ids] = field(default_factory=dict)  # GroupNorms that lose whole groups
    means: dict[fx.Node, Statistic] = field(default_factory=dict)
    centred: list[tuple[fx.Node, Labeled]] = field(default_factory=list)  # a mean, and of what
    roles: dict[tuple[str, int], str] = field(default_factory=dict)  # (tensor, dim) → out | in
    # (tensor, dim) → how many channels of a grouped convolution one index is
    shared: dict[tuple[str, int], int] = field(default_factory=dict)
    # (tensor, dim) of a depthwise convolution → how many channels it reads for each index
    through: dict[tuple[str, int], float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)  # module: why it is not followed
    factors: dict[fx.Node, list[Ids]] = field(default_factory=dict)  # labelled sizes in its MACs

    def tensor(self, path: str, dims: Collection[int] | None = None) -> Labeled:
        """Labels a parameter or buffer of the program; tied tensors share their labels.

        `dims` names the dimensions that are channels, where that is known. By default all are
        that are no longer than channels usually are (`LONGEST`).
        """
        value = self.program.tensor(path)
        self.held.append(value)
        path = self.paths.setdefault(id(value), path)
        if not value.numel():
            dims = ()  # a layer of width 0 has nothing to remove
        if path not in self.axes:
            self.axes[path] = tuple(
                self.labels.axis(path, d, n)
                if n > 1 and (self._may_be_channels(path, n) if dims is None else d in dims)
                else None
                for d, n in enumerate(value.shape)
            )
        shape = tuple(value.shape)
        fields = [make_field(a.ids, a.dim, shape) for a in self.axes[path] if a]
        left = [n for n, a in zip(shape, self.axes[path], strict=True) if a is None]
        return Labeled(shape, tuple(fields), self._too_long(path, left))

    def _may_be_channels(self, name: str, size: int) -> bool:
        return size <= LONGEST or name in self.long.labelled

    def _too_long(self, name: str, sizes: Iterable[int]) -> str:
        """Says which dimension has no labels for its length, and notes it; "" if none has."""
        longest = max(sizes, default=0)
        return "" if self._may_be_channels(name, longest) else self.long.note(name, longest)

    def member(self, call: Call, name: str) -> Labeled | None:
        """Labels a tensor of the module that is called, or returns None if it has none."""
        if getattr(call.module, name, None) is None:
            return None
        # what a module calls a weight is (out, in, kernel...) or a vector
        return self.tensor(f"{call.node.target}.{name}", dims=(0, 1))

    def along(self, value: Labeled, dim: int) -> Ids | None:
        """Returns one label per index of a dimension, or None where it has none.

        Whatever else a field varies on is united first: an index of this dimension can then only
        go as a whole. A field that was united along this dimension before has none there.
        """
        dim %= value.ndim
        found: Ids | None = None
        for labels in self.deciding(value):
            if dim not in self.over(labels):
                continue
            rows = rows_of(labels, dim)
            if rows.shape[1] > 1:
                self.labels.unite(rows[:, :1], rows[:, 1:])
            first = rows[:, 0]
            if found is not None:
                self.labels.unite(found, first)
            found = first if found is None else found
        return found

    def deciding(self, value: Labeled) -> list[Tensor]:
        """Lists the fields that decide which positions there are.

        Where channels are laid out along with something pinned, as all tokens of an input in one
        row, the channels alone decide: what is pinned is always there.
        """
        left = list(value.fields)
        if len(left) < 2:
            return left
        several = Counter(d for labels in left for d in self.over(labels))
        for labels in value.fields:
            dims = self.over(labels)
            shared = bool(dims) and all(several[d] > 1 for d in dims)
            if shared and self.labels.pinned(core(labels).numpy()):
                left = [other for other in left if other is not labels]
                several.subtract(dims)
        return left

    def over(self, labels: Tensor) -> tuple[int, ...]:
        """Returns the dimensions on which a field still varies, after all that was united."""
        dims = varying(labels)
        if len(dims) < 2:
            return dims
        found = self.labels.find(core(labels).numpy().copy())
        return varying(expand_constant(torch.from_numpy(found))) or dims

    def pin(self, ids: Ids | None, why: str) -> None:
        """Forbids the removal of these labels' channels."""
        if ids is not None:
            self.labels.pin(ids, why or UNKNOWN)

    def fix(self, value: Labeled, why: str, dims: Iterable[int] | None = None) -> None:
        """Fixes the size of these dimensions (all by default): pins the labels that vary there.

        A field that varies on others too is united along these: it may go as a whole.
        """
        wanted = set(range(value.ndim)) if dims is None else {d % value.ndim for d in dims}
        for labels in value.fields:
            over = self.over(labels)
            if not wanted.intersection(over):
                continue
            if wanted.issuperset(over):
                self.pin(core(labels).numpy().ravel(), why)
                continue
            cut = core(labels)
            for d in wanted.intersection(over):
                self.labels.unite(cut.narrow(d, 0, 1).numpy(), cut.numpy())

    def connect(self, a: Side, b: Side, otherwise: str = UNKNOWN) -> None:
        """Unites two sides of a dimension; if one has no labels the other cannot be narrowed.

        The reason is that of the side without labels, or `otherwise` if it has none.
        """
        (one, lacking_one), (other, lacking_other) = a, b
        if one is not None and other is not None:
            self.labels.unite(one, other)
        elif one is None:
            self.pin(other, lacking_one or otherwise)
        else:
            self.pin(one, lacking_other or otherwise)

    def keep(
        self,
        value: Labeled,
        dims: Sequence[int],
        shape: tuple[int, ...],
        why: str,
        read: Sequence[int] = (),
    ) -> Labeled:
        """Carries the labels of some dimensions into an output of the given shape.

        Those dimensions keep their place; those in `read` were consumed. A field that varies only
        on others is pinned, and that is why they have no labels from here on.
        """
        # a dimension that was split in two (heads and width) is carried as it is
        split = [f for f in value.fields if len(varying(f)) > 1 and {*dims} >= {*varying(f)}]
        fields = [core(labels).expand(shape) for labels in split]
        met = {d for labels in split for d in varying(labels)}
        for d in dims:
            ids = None if d in met else self.along(value, d)
            if ids is not None:
                fields.append(make_field(ids, d, shape))
        kept, lost = {*dims, *read}, ""
        for labels in value.fields:
            over = self.over(labels)
            if over and not kept.intersection(over):
                lost = self.long.first(value.why, why)
                self.pin(core(labels).numpy().ravel(), lost)
        return Labeled(shape, tuple(fields), self.long.first(value.why, lost))

    def meet(self, values: Sequence[Labeled], shape: tuple[int, ...]) -> Labeled:
        """Combines broadcast values elementwise: labels that meet at a position are one channel."""
        given = [[spread(f, shape) for f in self.deciding(value)] for value in values]
        given = self._once(given)
        merged = _alone(given)
        fields = [f for each in given for f in each if not any(f is own for own in merged)]
        # those that vary on few dimensions first: a field over a split dimension then joins them
        for labels in sorted(fields, key=lambda f: (len(varying(f)), varying(f))):
            self._merge(merged, labels)
        why = self.long.first(*(v.why for v in values))
        left = []
        for labels in merged:
            if not any([self._check_sized(labels, value, len(shape)) for value in values]):
                left.append(labels)
            else:  # what is pinned here needs no labels any more: they would pin what they meet
                why = why or self.labels.reason(core(labels).numpy().ravel())
        return Labeled(shape, tuple(left), why)

    def _once(self, given: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
        """Leaves out the fields of a value that are, one by one, those of an earlier one."""
        left: list[list[Tensor]] = []
        for fields in given:
            known = len(fields) > 1 and any(self._same(fields, before) for before in left)
            left.append([] if known else list(fields))
        return left

    def _same(self, fields: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
        fields, others = sorted(fields, key=varying), sorted(others, key=varying)
        if [varying(f) for f in fields] != [varying(f) for f in others]:
            return False
        pairs = zip(map(core, fields), map(core, others), strict=True)
        find = self.labels.find
        return all(np.array_equal(find(a.numpy().copy()), find(b.numpy().copy())) for a, b in pairs)

    def _merge(self, merged: list[Tensor], labels: Tensor) -> None:
        """Adds a field to those of an output, or unites it with the first that it overlaps.

        It is then constant along every other dimension it varied on, so what others have there
        keeps its size.
        """
        over = set(varying(labels))
        if not over:
            return
        met = [f for f in merged if over.intersection(varying(f))]
        if not met:
            merged.append(labels)
            return
        first, *others = met
        self.labels.unite(core(labels).numpy(), core(first).numpy())
        for other in others:
            self.pin(core(other).numpy().ravel(), "it meets channels that are laid out across it")

    def _check_sized(self, labels: Tensor, value: Labeled, ndim: int) -> bool:
        """Fixes a field where it meets a dimension of that size without labels.

        Returns whether that pins it.
        """
        offset = ndim - value.ndim
        for d in varying(labels):
            own = d - offset
            over = self.over(labels)
            if own < 0 or value.shape[own] == 1 or d not in over:
                continue  # it broadcasts: nothing is coupled
            if not any(own in varying(f) for f in value.fields):
                why = value.why or "it meets a fixed size, as that of an image or of heads"
                self.fix(Labeled(tuple(labels.shape), (labels,)), why, [d])
                if over == (d,):
                    return True
        return False

    def made(self, node: fx.Node, dims: Iterable[int], shape: tuple[int, ...]) -> Labeled:
        """Labels some dimensions of a tensor that the graph itself makes."""
        wide = [d for d in dims if shape[d] > 1]
        may = [d for d in wide if self._may_be_channels(node.name, shape[d])]
        axes = [self.labels.axis("", d, shape[d], at=node.name) for d in may]
        why = self._too_long(node.name, [shape[d] for d in wide])
        return Labeled(shape, tuple(make_field(a.ids, a.dim, shape) for a in axes), why)

    def read(self, call: Call, operand: fx.Node, dim: int, ids: Ids | None) -> None:
        """Records that a contraction consumes channels."""
        if ids is not None:
            ids = np.asarray(ids)
            self.reads.append(Read(call.node, operand, dim, ids, self._one(operand, dim, ids)))

    def _one(self, operand: fx.Node, dim: int, ids: Ids) -> int:
        """Counts the positions that are one example's where the batch is folded into channels."""
        shape = operand.meta["val"].shape
        if dim % len(shape) == 0 or shape[0] != 1:
            return len(ids)
        firsts = {x.shape[0] for x in tensors_in(self.program.example_inputs) if x.ndim}
        one = len(ids) // firsts.pop() if len(firsts) == 1 else len(ids)
        repeats = one and len(ids) % one == 0 and bool((ids.reshape(-1, one) == ids[:one]).all())
        return one if repeats else len(ids)

    def look(self, call: Call, dims: Iterable[int], x: Labeled, why: str, *, carries: bool) -> None:
        """Records that a statistic looks at channels, whose removal is then approximate."""
        ids = {d: found for d in dims if (found := self.along(x, d)) is not None}
        if not ids:
            return
        for found in ids.values():
            self.labels.mark(found, why)
        self.statistics.append(Statistic(call.node, call.operand, ids, carries))

    def role(self, ids: Ids | None, role: str) -> None:
        """Records that the dimensions these labels are of write ("out") or read ("in") channels."""
        for axis in self._dimensions(ids):
            self.roles.setdefault((axis.tensor, axis.dim), role)

    def share(self, ids: Ids | None, count: int) -> None:
        """Records that each index of the dimensions these labels are of is so many channels."""
        for axis in self._dimensions(ids):
            self.shared.setdefault((axis.tensor, axis.dim), count)

    def pass_through(self, ids: Ids | None, share: float) -> None:
        """Records that a depthwise convolution reads so many channels for each of these indices."""
        for axis in self._dimensions(ids):
            self.through.setdefault((axis.tensor, axis.dim), share)

    def _dimensions(self, ids: Ids | None) -> list[Axis]:
        """Lists the dimensions of tensors of the program that the ends of some labels are of."""
        if ids is None:
            return []
        starts = self.labels.starts
        ends = {bisect_right(starts, int(i)) - 1 for i in (ids.min(), ids.max())}
        return [axis for i in sorted(ends) if (axis := self.labels.axes[i]).tensor]

    def prices(self, call: Call, *sizes: Ids | None) -> None:
        """Records the labelled sizes whose product the node's MACs are proportional to."""
        self.factors[call.node] = [ids for ids in sizes if ids is not None]


def _alone(given: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Lists the fields of dimensions on which one value varies alone, as a weight in rows does.

    Several of them may lie along one dimension; they do not meet.
    """
    over = [{d for labels in fields for d in varying(labels)} for fields in given]
    found = []
    for i, fields in enumerate(given):
        others = set().union(*over[:i], *over[i + 1 :])
        found += [labels for labels in fields if others.isdisjoint(varying(labels))]
    return found
