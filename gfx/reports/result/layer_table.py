"""Pairs the layers of a compressed program with those of the original."""

from collections.abc import Sequence
from dataclasses import dataclass

from gfx.costs import Cost, Macs
from gfx.ir.stages import STAGES
from gfx.pipeline.record import RecordedLayer

__all__ = ["OTHER", "Pair", "StageCost", "by_stage", "paired"]

OTHER = "other"  # not in a layer: attention's products, opaque parts


@dataclass(frozen=True)
class Pair:
    """One layer of the compressed program, and its original."""

    now: RecordedLayer
    was: RecordedLayer | None  # None: there was no such layer, or it is unknown
    part_of: str | None  # path of the original layer that this is a part of
    stage: str


@dataclass(frozen=True)
class StageCost:
    """The cost of the layers of one stage, before and after.

    Units: multiply-accumulates, parameter elements.
    """

    stage: str
    layers: tuple[int | None, int]  # None: not known
    macs: tuple[Macs | None, Macs]
    params: tuple[int | None, int]


def paired(now: Sequence[RecordedLayer], was: Sequence[RecordedLayer]) -> list[Pair]:
    """Pairs layers by path and by number of the call; parts go with the layer they replace.

    Example:
        >>> before = RecordedLayer("c", "c", "Conv2d", "up", 3, 8, (), Macs(), 0)
        >>> part = RecordedLayer("c_0", "c.0", "Conv2d", "body", 3, 4, (), Macs(), 0)
        >>> [(pair.part_of, pair.stage) for pair in paired([part], [before])]
        [('c', 'up')]
    """
    known = {key: layer for key, layer in zip(_keys(was), was, strict=True)}
    stages = {layer.path: layer.stage for layer in was}
    pairs = []
    for key, layer in zip(_keys(now), now, strict=True):
        old = known.get(key)
        whole = next((p for p in _above(layer.path) if p in stages), None) if not old else None
        stage = old.stage if old else stages.get(whole or layer.path, layer.stage)
        pairs.append(Pair(layer, old, whole, stage))
    return pairs


def by_stage(
    pairs: Sequence[Pair], was: Sequence[RecordedLayer], before: Cost | None, after: Cost
) -> list[StageCost]:
    """Sums up the stages that have layers, from stem to head, then everything outside of layers.

    The values before are None if the original's layers are unknown.
    """
    found = []
    for stage in STAGES:
        old = [layer for layer in was if layer.stage == stage]
        new = [pair.now for pair in pairs if pair.stage == stage]
        if old or new:
            found.append(
                StageCost(
                    stage,
                    (len(old) if was else None, len(new)),
                    (_macs(old) if was else None, _macs(new)),
                    (sum(x.params for x in old) if was else None, sum(x.params for x in new)),
                )
            )
    rest = _rest(was, [pair.now for pair in pairs], before, after)
    return [*found, rest] if _counts(rest) else found


def _rest(
    was: Sequence[RecordedLayer], now: Sequence[RecordedLayer], before: Cost | None, after: Cost
) -> StageCost:
    """Counts the cost outside of layers."""
    known = before if was else None
    return StageCost(
        OTHER,
        (None, 0),
        (None if known is None else _less(known.macs, was), _less(after.macs, now)),
        (
            None if known is None else max(known.params - sum(x.params for x in was), 0),
            max(after.params - sum(x.params for x in now), 0),
        ),
    )


def _counts(stage: StageCost) -> bool:
    costs = [m.exact for m in stage.macs if m is not None] + [p for p in stage.params if p]
    return any(costs)


def _less(macs: Macs, layers: Sequence[RecordedLayer]) -> Macs:
    sum_ = _macs(layers)
    return Macs(
        macs.exact - sum_.exact, macs.output - sum_.output, macs.output_norm - sum_.output_norm
    )


def _macs(layers: Sequence[RecordedLayer]) -> Macs:
    return sum((layer.macs for layer in layers), Macs())


def _keys(layers: Sequence[RecordedLayer]) -> list[tuple[str, int]]:
    calls: dict[str, int] = {}
    keys = []
    for layer in layers:
        calls[layer.path] = calls.get(layer.path, 0) + 1
        keys.append((layer.path, calls[layer.path]))
    return keys


def _above(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:i]) for i in range(len(parts) - 1, 0, -1)]
