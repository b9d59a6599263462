"""Finds the channels that nothing needs: zeros, constants that readers can hold, what none reads.

A channel may go if each of its readers reads zero of it, or with weights of zero, or a constant
that the reader itself can hold: in its bias or, where borders of zeros make a constant an image, in
the weights for another constant channel, which then stays for all of them.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx
from torch.nn.modules.conv import _ConvTransposeNd

from gfx.compression.masks.fold import judge
from gfx.compression.masks.known_rules import along, linear_map, pads
from gfx.compression.masks.known_values import is_plain, see_known
from gfx.compression.masks.plain_layers import PlainLayers
from gfx.compression.masks.strip_masks import Zeroed
from gfx.compression.masks.writers import LAYERS
from gfx.coupling import Groups
from gfx.coupling.call import Read
from gfx.coupling.labels import Ids, Mask

__all__ = [
    "ConstantRead",
    "Needless",
    "constant_reads",
    "image_constants",
    "needless",
    "zeros_left",
]

Numbers = NDArray[np.float64]
_KEEPER = "one constant channel stays for all that are read with borders of zeros"


@dataclass(frozen=True)
class ConstantRead:
    """What a node reads along one dimension, whatever the inputs are."""

    read: Read
    roots: Ids  # by position: the class of its label
    numbers: Numbers  # by position: the constant that is read there; NaN: none
    layer: Any = None  # the convolution or linear layer that reads it, if it is one of torch
    writable: bool = False  # whether numbers may be written into that layer

    @cached_property
    def reads(self) -> Mask:
        """Whether an output has a weight for a position: (outputs, positions)."""
        matrix = linear_map(self.layer) != 0
        matrix = matrix.flatten(2).any(2) if matrix.ndim > 2 else matrix
        flat: Mask = matrix.cpu().numpy()
        return flat

    @cached_property
    def pads(self) -> bool:
        """Whether a constant gives other outputs at borders than inside."""
        return pads(self.layer)

    @cached_property
    def held(self) -> Mask:
        """By position, whether the layer can hold a constant that it reads, other than zero."""
        some = np.isfinite(self.numbers) & (self.numbers != 0)
        return some & self.reads.any(0) if self.writable else np.zeros_like(some)

    @cached_property
    def blocks(self) -> Ids:
        """By position, the group of the convolution that reads it."""
        size = len(self.numbers)
        return np.arange(size) * getattr(self.layer, "groups", 1) // size

    def closed(self, dead: Mask | None) -> Mask:
        """By position, whether this read does not need the channel; `dead` outputs read nothing."""
        zero: Mask = self.numbers == 0
        if self.layer is None:
            return zero
        reads = self.reads if dead is None else self.reads[~dead]
        return zero | ~reads.any(0) | self.held


@dataclass(frozen=True)
class Needless:
    """The channels that may go, and why others do not."""

    removed: Mask  # by class
    keepers: dict[tuple[int, int], int]  # by read and group of its convolution: what stays there
    why: dict[int, str]  # by class that stays


def constant_reads(groups: Groups) -> tuple[ConstantRead, ...]:
    """Lists what every reader of channels reads of them, in graph order."""
    program = groups.program
    numbers: dict[int, Numbers] = {}  # by identity of the read
    by_node: dict[fx.Node, list[Read]] = {}
    for read in groups.reads:
        by_node.setdefault(read.node, []).append(read)

    def at(node: fx.Node, known: Any) -> None:
        for read in by_node.get(node, ()):
            value = known(read.operand) if read.operand in node.all_input_nodes else None
            shape = read.operand.meta["val"].shape
            if value is None:
                value = torch.full([1] * len(shape), torch.nan)
            numbers[id(read)] = along(value, read.dim, shape[read.dim]).double().cpu().numpy()

    see_known(program, at)
    layers = PlainLayers(program, {})
    return tuple(_constant_read(groups, layers, read, numbers[id(read)]) for read in groups.reads)


def _constant_read(
    groups: Groups, layers: PlainLayers, read: Read, numbers: Numbers
) -> ConstantRead:
    roots = groups.roots[read.ids]
    node = read.node
    layer = groups.program.submodule(node) if node.op == "call_module" else None
    if not isinstance(layer, LAYERS) or not is_plain(layer):
        return ConstantRead(read, roots, numbers)
    writable = layers.plain(node, LAYERS, once=True) is not None
    return ConstantRead(read, roots, numbers, layer, writable)


def needless(groups: Groups, reads: Sequence[ConstantRead]) -> Needless:
    """Finds every channel that may go; at least one of each group stays.

    1. A channel goes if none of its reads needs it (`ConstantRead.closed`), its group is free and
       its removal exact.
    2. A filter that goes reads nothing: what only such filters read goes with them.
    3. Where borders of zeros are read, one constant channel stays for all others that are read in
       the same places.
    """
    keep = groups.none_removed()
    first, _ = _closure(groups, reads, keep)
    chosen, keepers = _keepers(reads, first)
    keep[chosen] = True
    while True:
        removed, why = _closure(groups, reads, keep)
        lost = [r.roots[p] for at, r, p in image_constants(reads, removed) if at not in keepers]
        if not lost:
            break
        keep[lost] = True
    why |= dict.fromkeys(chosen, _KEEPER)
    return Needless(removed, keepers, why)


Place = tuple[int, int]  # which read, and which group of the convolution


def image_constants(
    reads: Sequence[ConstantRead], removed: Mask
) -> Iterator[tuple[Place, ConstantRead, int]]:
    """Lists the constants that go and that borders of zeros make images of, by position."""
    for i, r in enumerate(reads):
        if r.layer is not None and r.pads:
            for p in np.flatnonzero(r.held & removed[r.roots]).tolist():
                yield (i, int(r.blocks[p])), r, p


def _closure(
    groups: Groups, reads: Sequence[ConstantRead], keep: Mask
) -> tuple[Mask, dict[int, str]]:
    """Applies rules 1 and 2 until nothing more goes."""
    removed = groups.none_removed()
    for step in range(len(groups) + 2):
        zeroed = []
        for r in reads:
            # filters of shared weights may depend on each other in a circle: then none is left out
            dead = _dead(groups, r, removed) if step <= len(groups) else None
            closed = r.closed(dead) & ~keep[r.roots]
            if closed.any():
                zeroed.append(Zeroed(r.read.node, r.read.operand, r.read.dim, closed, ()))
        before, verdict = removed, judge(groups, zeroed)
        removed = verdict.removed
        if np.array_equal(removed, before):
            break
    return removed, verdict.classes


def _dead(groups: Groups, read: ConstantRead, removed: Mask) -> Mask | None:
    """Returns which outputs of a layer go; None where that cannot be told output by output."""
    layer = read.layer
    if layer is None or getattr(layer, "groups", 1) > 1:
        return None
    axes = groups.axes_of(f"{read.read.node.target}.weight")
    axis = axes[1 if isinstance(layer, _ConvTransposeNd) else 0]
    return None if axis is None else removed[groups.roots[axis.ids]]


def _keepers(reads: Sequence[ConstantRead], removed: Mask) -> tuple[list[int], dict[Place, int]]:
    """Chooses the constant channels that stay for others (rule 3)."""
    places: dict[int, dict[Place, int]] = {}  # by class: the position that each place reads
    least: dict[int, float] = {}
    for place, r, p in image_constants(reads, removed):
        root = int(r.roots[p])
        places.setdefault(root, {})[place] = p
        least[root] = min(least.get(root, np.inf), abs(r.numbers[p]))
    chosen: list[int] = []
    # widest first: a channel may stand for those that are read in some of its places
    for root in sorted(places, key=lambda root: (-len(places[root]), -least[root])):
        if not any(places[root].keys() <= places[k].keys() for k in chosen):
            chosen.append(root)
    found: dict[Place, int] = {}
    for root in reversed(chosen):
        found |= places[root]
    return chosen, found


def zeros_left(
    groups: Groups, reads: Sequence[ConstantRead], found: Needless
) -> Iterator[tuple[str, int, str]]:
    """Lists layers whose filters of zeros stay: path, how many, and why."""
    for path, layer in groups.program.module.named_modules():
        if not isinstance(layer, LAYERS) or not is_plain(layer):
            continue
        axis = groups.axes_of(f"{path}.weight")[1 if isinstance(layer, _ConvTransposeNd) else 0]
        if axis is None or getattr(layer, "groups", 1) > 1:
            continue
        zero = ~linear_map(layer).flatten(1).any(1).cpu().numpy()
        roots = groups.roots[axis.ids]
        left = roots[zero & ~found.removed[roots]].tolist()
        reasons = Counter(_reason(reads, found, root) for root in left)
        yield from ((path, count, why) for why, count in reasons.items())


def _reason(reads: Sequence[ConstantRead], found: Needless, root: int) -> str:
    """Says why a channel stays: the first reader that needs it, else what forbids its removal."""
    for r in reads:
        at = np.flatnonzero((r.roots == root) & ~r.closed(None))
        if not len(at):
            continue
        who = str(r.read.node.target) if r.read.node.op == "call_module" else r.read.node.name
        if np.isnan(r.numbers[at[0]]):
            return f"{who} reads values there that depend on the input"
        return f"{who} reads a constant there, which it has no weights to hold"
    return found.why.get(root, "others write these channels too")
