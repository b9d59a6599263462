"""Makes curves of the rows of a log: a chart a term and a score, few points, smoothed.

1. The steps of all stages follow each other.
2. A value that is not finite is a gap in the line; it is counted.
3. Of many points the least and the largest of each stretch are kept, so that no peak is lost.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from gfx.reports.run.folder_files import number_of
from gfx.reports.run.run_facts import FolderFacts

__all__ = ["RunChart", "RunCurve", "charts_of"]

_MOST = 400  # points of a line
_SMOOTHED = 50  # points of a stage from which on a mean is drawn
_PARTS = 20  # of a stage; the mean is over one of them
_SPREAD = 30  # times that the values of a logarithmic chart are apart at least
_HUGE = 1e30  # what is larger is no value of a loss
_NO_TERMS = ("stage", "name", "step")
_HELD, _KEPT = "held.", "kept."

Point = tuple[float, float]  # step of the run, value


@dataclass(frozen=True)
class RunCurve:
    """One line of a chart: whose it is, and its points in pieces that are joined each."""

    name: str  # student, a teacher, held out, kept
    pieces: tuple[tuple[Point, ...], ...]
    means: tuple[tuple[Point, ...], ...] = ()  # of many points
    dots: bool = False  # evaluations: few, and each counts

    @property
    def values(self) -> Iterable[float]:
        """All values of the curve."""
        return (value for piece in self.pieces for _, value in piece)


@dataclass(frozen=True)
class RunChart:
    """The curves of one term, or of one score."""

    title: str
    curves: tuple[RunCurve, ...]
    stages: tuple[tuple[float, str], ...]  # the step at which each stage begins, and its name
    gaps: int = 0  # values that are not finite

    @property
    def log(self) -> bool:
        """Whether the values spread so far that their scale is logarithmic."""
        values = [value for curve in self.curves for value in curve.values]
        return bool(values) and min(values) > 0 and max(values) >= _SPREAD * min(values)


def charts_of(facts: FolderFacts) -> list[RunChart]:
    """Returns a chart of each score, of each term, and of the learning rate where it changes."""
    begins = _begins(facts)
    found: dict[str, dict[str, list[tuple[int, float, float]]]] = {}
    for row in facts.rows:
        at = begins.get(row["stage"], 0.0) + row["step"]
        for key, value in row.items():
            number = number_of(value)
            if key in _NO_TERMS or (number is None and value is not None):
                continue
            chart, curve = _place_of(str(key))
            points = found.setdefault(chart, {}).setdefault(curve, [])
            points.append((row["stage"], at, math.nan if number is None else number))
    for curves in found.values():
        if curves.keys() == {"student"}:  # nobody else has this term
            curves["value"] = curves.pop("student")
    charts = [_chart(title, curves, facts, begins) for title, curves in found.items()]
    # scores first, the rate last
    charts.sort(key=lambda chart: (not chart.title.startswith("held out"), _is_rate(chart)))
    return [
        c for c in charts if not _is_rate(c) or len({v for k in c.curves for v in k.values}) > 1
    ]


def _is_rate(chart: RunChart) -> bool:
    return chart.title == "learning rate, of the first"


def _place_of(key: str) -> tuple[str, str]:
    """Returns the title of the chart that a number belongs to, and the name of its curve.

    Example:
        >>> _place_of("held.l1"), _place_of("teacher given.gan"), _place_of("gan")
        (('held out: l1', 'held out'), ('gan', 'teacher given'), ('gan', 'student'))
    """
    if key == "rate":
        return "learning rate, of the first", "factor"
    for beginning, name in ((_HELD, "held out"), (_KEPT, "kept")):
        if key.startswith(beginning):
            return f"held out: {key.removeprefix(beginning)}", name
    player, _, term = key.rpartition(".")
    return term, player or "student"


def _begins(facts: FolderFacts) -> dict[int, float]:
    """Returns the step of the run at which each stage begins (rule 1)."""
    found, at = {}, 0.0
    for stage in facts.stages:
        found[stage.number] = at
        at += stage.taken if stage.ended or stage.steps is None else max(stage.steps, stage.taken)
    return found


def _chart(
    title: str,
    curves: dict[str, list[tuple[int, float, float]]],
    facts: FolderFacts,
    begins: dict[int, float],
) -> RunChart:
    made = []
    gaps = 0
    reached = 0.0
    for name, points in curves.items():
        dots = title.startswith("held out")
        pieces: list[tuple[Point, ...]] = []
        means: list[tuple[Point, ...]] = []
        stages = [list(each) for _, each in groupby(points, key=lambda point: point[0])]
        share = max(20, _MOST // len(stages))
        for each in stages:
            line = [(at, value) for _, at, value in each]
            reached = max(reached, *(at for at, _ in line))
            gaps += sum(1 for _, value in line if not _fits(value))
            pieces += _pieces(_thinned(line, share))
            if not dots and len(line) >= _SMOOTHED:
                means.append(_means(line, share))
        made.append(RunCurve(name, tuple(pieces), tuple(filter(None, means)), dots))
    shown = [
        (begins[stage.number], stage.name)
        for stage in facts.stages
        if begins[stage.number] < reached and stage.taken
    ]
    return RunChart(title, tuple(made), tuple(shown), gaps)


def _fits(value: float) -> bool:
    return abs(value) <= _HUGE  # False of NaN


def _pieces(line: Sequence[Point]) -> list[tuple[Point, ...]]:
    """Cuts a line where a value is not finite (rule 2)."""
    parts = groupby(line, key=lambda point: _fits(point[1]))
    return [tuple(points) for fits, points in parts if fits]


def _thinned(line: Sequence[Point], most: int) -> Sequence[Point]:
    """Keeps of each stretch the least and the largest, and what is not finite (rule 3)."""
    if len(line) <= most:
        return line
    size = math.ceil(2 * len(line) / most)
    kept: list[Point] = []
    for first in range(0, len(line), size):
        part = line[first : first + size]
        fitting = [point for point in part if _fits(point[1])]
        ends = {min(fitting, key=_value), max(fitting, key=_value)} if fitting else {part[0]}
        kept += sorted(ends)
    return kept


def _value(point: Point) -> float:
    return point[1]


def _means(line: Sequence[Point], most: int) -> tuple[Point, ...]:
    """Returns the mean around each point, over a part of the stage; few points."""
    fitting = [point for point in line if _fits(point[1])]
    half = max(2, len(line) // _PARTS // 2)
    sums = [0.0]
    for _, value in fitting:
        sums.append(sums[-1] + value)
    found = []
    every = max(1, len(fitting) // (most // 2))
    for number in range(0, len(fitting), every):
        first, last = max(0, number - half), min(len(fitting), number + half + 1)
        found.append((fitting[number][0], (sums[last] - sums[first]) / (last - first)))
    return tuple(found)
