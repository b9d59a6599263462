"""Lists the probes of a table, and measures their damage.

A layer that is decomposed is one probe; a group that is narrowed is one for each width, shared by
all layers that write it. Each probe is measured alone, so their order does not matter.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from gfx.compression.factor import Convolution, factor
from gfx.compression.probe import Narrowing, ProbeChange, Replacement, Replay
from gfx.coupling import Group
from gfx.errors import GfxError, InputError
from gfx.metrics import Metric
from gfx.sensitivity.inspected_layers import InspectedLayer, InspectedProgram
from gfx.sensitivity.rows import DECOMPOSE, Key

__all__ = ["Probe", "ProbeResult", "measure", "probes_for"]

Batches = Sequence[tuple[Any, ...]]
_LATE = "the time was over before it was measured"


@dataclass(frozen=True)
class Probe:
    """One change: a layer decomposed, or a group narrowed to a share."""

    key: Key
    place: InspectedLayer | None = None
    group: Group | None = None

    @property
    def name(self) -> tuple[str, Key]:
        """The layer's path or the group's name, and the key: plain data."""
        return (self.place.path if self.place else self.group.name if self.group else "", self.key)


@dataclass(frozen=True)
class ProbeResult:
    """The result of a probe: the metric and its damage, means over batches, or why it failed."""

    value: float | None = None
    damage: float | None = None
    why: str = ""


def probes_for(
    subject: InspectedProgram, places: Sequence[InspectedLayer], widths: Sequence[float]
) -> list[Probe]:
    """Lists the probes that the rows of some layers need, in the order of the program."""
    found: list[Probe] = []
    seen: set[tuple[str, Key]] = set()
    for place in places:
        if not subject.unfit(place):
            found.append(Probe(DECOMPOSE, place=place))
        group = subject.group(place)
        if group is None or subject.fixed(group):
            continue
        for width in widths:
            probe = Probe(width, group=group)
            if probe.name not in seen:
                seen.add(probe.name)
                found.append(probe)
    return found


def measure(
    subject: InspectedProgram,
    replay: Replay,
    probes: Sequence[Probe],
    metric: Metric,
    seed: int,
) -> dict[tuple[str, Key], ProbeResult]:
    """Measures each probe, averaged over the batches.

    A probe that fails by itself, as when its output is not finite, has the reason in `why`.
    """
    changes: dict[tuple[str, Key], ProbeChange] = {}
    failed: dict[tuple[str, Key], str] = {}
    for probe in probes:
        try:
            changes[probe.name] = _change(subject, probe, replay, seed)
        except GfxError as error:
            failed[probe.name] = str(error)
    names = list(changes)
    values: dict[tuple[str, Key], list[float]] = {name: [] for name in names}

    def use(number: int, batch: int, output: Any) -> None:
        try:
            values[names[number]].append(metric(replay.outputs[batch], output))
        except InputError as error:
            fail(number, error)

    def fail(number: int, error: InputError) -> None:
        failed.setdefault(names[number], str(error))

    replay.each(list(changes.values()), use, fail, [name for name, _ in names])
    return {
        probe.name: ProbeResult(why=failed[probe.name])
        if probe.name in failed
        else ProbeResult(why=_LATE)
        if not values[probe.name]
        else _averaged(values[probe.name], metric)
        for probe in probes
    }


def _averaged(values: Sequence[float], metric: Metric) -> ProbeResult:
    return ProbeResult(_mean(values), _mean([metric.cost(value) for value in values]))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _change(subject: InspectedProgram, probe: Probe, replay: Replay, seed: int) -> ProbeChange:
    if probe.place is None:
        assert probe.group is not None
        return Narrowing(subject.groups, subject.mask(probe.group, float(probe.key)))
    parts = decomposed(subject, probe.place, _Read(replay, probe.place), seed)
    return Replacement(dict.fromkeys(probe.place.calls, parts))


def decomposed(
    subject: InspectedProgram, place: InspectedLayer, inputs: Iterable[Tensor], seed: int
) -> nn.Module:
    """Factorizes a layer in the table's form; fitted to inputs where the form asks for that."""
    assert place.layer is not None
    return factor(
        cast(Convolution, place.layer.module),
        subject.form,
        inputs=inputs if subject.form.init == "data" else None,
        seed=seed,
        name=place.path,
    )


@dataclass(frozen=True)
class _Read:
    """Iterates over the inputs of a layer in all its calls, repeatedly."""

    replay: Replay
    place: InspectedLayer

    def __iter__(self) -> Iterator[Tensor]:
        return (value for node in self.place.calls for value in self.replay.inputs(node))
