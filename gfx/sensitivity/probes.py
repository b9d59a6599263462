"""The changes that a table asks for, each once, and their damage.

A layer that is decomposed is one change; a group that is narrowed is one for each width, shared by
all layers that write it. What a change does is measured alone, so no order matters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, cast

from torch import nn

from gfx.coupling import Group
from gfx.errors import GfxError, InputError
from gfx.factoring import factor
from gfx.factoring.forms import Layer as Convolution
from gfx.metrics import Metric
from gfx.planning import Inputs
from gfx.probing import Change, Narrowing, Replacement, Replay
from gfx.sensitivity.rows import DECOMPOSE, Key
from gfx.sensitivity.subject import Place, Subject

__all__ = ["Found", "Probe", "Progress", "measure", "probes_for"]

Batches = Sequence[tuple[Any, ...]]
Progress = Callable[[int, int, str], None]  # how many are done, of how many, which


@dataclass(frozen=True)
class Probe:
    """One change: a layer decomposed, or a group narrowed to a share."""

    key: Key
    place: Place | None = None
    group: Group | None = None

    @property
    def name(self) -> tuple[str, Key]:
        """The layer's path or the group's name, and the key: plain data."""
        return (self.place.path if self.place else self.group.name if self.group else "", self.key)


@dataclass(frozen=True)
class Found:
    """What a probe gave: the metric and its cost, means over batches, or why there is none."""

    value: float | None = None
    damage: float | None = None
    why: str = ""


def probes_for(subject: Subject, places: Sequence[Place], widths: Sequence[float]) -> list[Probe]:
    """Lists the probes that the rows of some layers need, in the order of the program."""
    found: list[Probe] = []
    seen: set[tuple[str, Key]] = set()
    for place in places:
        if not subject.unfit(place):
            found.append(Probe(DECOMPOSE, place=place))
        group = subject.group(place)
        if group is None or not group.free:
            continue
        for width in widths:
            probe = Probe(width, group=group)
            if probe.name not in seen:
                seen.add(probe.name)
                found.append(probe)
    return found


def measure(
    subject: Subject,
    replay: Replay,
    probes: Sequence[Probe],
    metric: Metric,
    seed: int,
    progress: Progress | None = None,
) -> dict[tuple[str, Key], Found]:
    """Measures each probe, averaged over the batches.

    A probe that fails for itself, as when its output is not finite, is told in its `why`.
    """
    changes: dict[tuple[str, Key], Change] = {}
    found: dict[tuple[str, Key], Found] = {}
    for probe in probes:
        try:
            changes[probe.name] = _change(subject, probe, replay.batches, seed)
        except GfxError as error:
            found[probe.name] = Found(why=str(error))
    try:
        found |= _run(replay, changes, metric, progress)
    except InputError:  # one of them: the others are good
        for name, change in changes.items():
            try:
                found |= _run(replay, {name: change}, metric, progress)
            except InputError as error:
                found[name] = Found(why=str(error))
    return found


def _run(
    replay: Replay,
    changes: dict[tuple[str, Key], Change],
    metric: Metric,
    progress: Progress | None,
) -> dict[tuple[str, Key], Found]:
    names = list(changes)
    values: list[list[float]] = [[0.0] * len(replay.batches) for _ in names]
    done = count(1)

    def use(number: int, batch: int, output: Any) -> None:
        values[number][batch] = metric(replay.outputs[batch], output)
        if progress is not None:
            progress(next(done), len(names) * len(replay.batches), names[number][0])

    replay.each(list(changes.values()), use)
    return {
        name: Found(_mean(each), _mean([metric.cost(value) for value in each]))
        for name, each in zip(names, values, strict=True)
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _change(subject: Subject, probe: Probe, batches: Batches, seed: int) -> Change:
    if probe.place is None:
        assert probe.group is not None
        return Narrowing(subject.groups, subject.mask(probe.group, float(probe.key)))
    return Replacement(dict.fromkeys(probe.place.calls, decomposed(subject, probe, batches, seed)))


def decomposed(subject: Subject, probe: Probe, batches: Batches, seed: int) -> nn.Module:
    """Writes a layer in the table's form."""
    assert probe.place is not None
    assert probe.place.layer is not None
    layer = probe.place.layer
    inputs = None
    if subject.form.init == "data":
        inputs = Inputs(subject.program, layer, batches, seed)
    return factor(
        cast(Convolution, layer.module), subject.form, inputs=inputs, seed=seed, name=layer.path
    )
