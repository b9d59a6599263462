"""Holds the figures of one model, or of two side by side, as data and as text."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gfx.costs import Cost, human
from gfx.costs.cost import CONVENTIONS
from gfx.deploy.bench.figures import Figures
from gfx.deploy.bench.memory import UNASKED, MemoryPeak
from gfx.deploy.bench.profile import NodeTime, Profile
from gfx.deploy.timing import Interval, Machine
from gfx.io.text_lines import display_width, padded
from gfx.ir.ambient_modes import shielded

__all__ = ["COLUMNS", "Bench", "rows", "summary"]

COLUMNS = ("layer", "kind", "output", "#ms", "#share", "#MACs exact", "#MACs/s", "")
_SLOW = "slow"
_SCREEN = 80  # columns; names that need more stand above the figures
# two copies of one model differ as much, by their places in memory
_ALIKE = 0.02


@shielded
@dataclass(frozen=True)
class Bench:
    """Holds the figures of a model, and of the one it is compared with.

    Example: `print(gfx.bench(small, against=large))`; `to_dict()` is the same as data.
    """

    model: Figures
    against: Figures | None
    speedup: Interval | None  # of the model against the other; above 1: the model is faster
    profile: Profile | str  # of the model; or why there is none
    machine: Machine
    backend: str
    threads: int
    device: str
    inputs: tuple[tuple[tuple[int, ...], str], ...]  # shape and dtype of each tensor
    rounds: int
    warmups: int
    protocol: str | None = None
    notes: tuple[str, ...] = ()  # sentences: the assumptions

    @property
    def margin(self) -> float:
        """The least share by which two models must differ, given how steady the times were."""
        samples = [f.latency for f in (self.model, self.against) if f is not None]
        return max([_ALIKE, *(s.error for s in samples if s.noisy)])

    @property
    def decided(self) -> bool:
        """Whether it is certain which of the two is faster."""
        return self.speedup is not None and self.speedup.decided(self.margin)

    @property
    def verdict(self) -> str:
        """Says which is faster and by how much, or why this machine cannot decide."""
        if self.speedup is None or self.against is None:
            return self._steadiness(self.model)
        found = f"{self.speedup}, 95 % interval over {self.rounds} rounds"
        if self.decided:
            faster = "faster" if self.speedup.value > 1 else "slower"
            return f"{self.model.name} is {faster} than {self.against.name}: {found}"
        return f"cannot tell on this machine: {found}; {self._doubt(self.speedup)}"

    def _doubt(self, interval: Interval) -> str:
        noisy = [f for f in (self.model, self.against) if f is not None and f.latency.noisy]
        if noisy:
            return (
                f"the times of {noisy[0].name} jump ({noisy[0].latency.noise()}); "
                "stop what else runs, or take more rounds"
            )
        if interval.decided():
            return f"less than {_ALIKE * 100:.0f} % may be where the models lie in memory"
        return "the interval holds 1; take more rounds, or the two are as fast"

    def _steadiness(self, figures: Figures) -> str:
        if not figures.latency.noisy:
            return ""
        return (
            f"this machine is too noisy to rely on the time of {figures.name} "
            f"({figures.latency.noise()}); stop what else runs, or take more rounds"
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns all of it as plain data.

        Units: milliseconds, images a second, bytes, multiply-accumulates.
        """
        speedup = self.speedup
        return {
            "machine": self.machine.to_dict(),
            "backend": self.backend,
            "threads": self.threads,
            "device": self.device,
            "inputs": [{"shape": list(shape), "dtype": dtype} for shape, dtype in self.inputs],
            "protocol": self.protocol,
            "warmups": self.warmups,
            "rounds": self.rounds,
            "model": self.model.to_dict(),
            "against": None if self.against is None else self.against.to_dict(),
            "speedup": None
            if speedup is None
            else {
                "value": speedup.value,
                "low": speedup.low,
                "high": speedup.high,
                "decided": self.decided,
            },
            "verdict": self.verdict,
            "profile": self.profile.to_dict() if isinstance(self.profile, Profile) else None,
            "not_profiled": self.profile if isinstance(self.profile, str) else None,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        return summary(self)


def summary(bench: Bench) -> str:
    """Writes the figures, side by side if there are two, the verdict, and where the time goes.

    Example: `print(summary(gfx.bench(model)))`.
    """
    subjects = [bench.model, *([bench.against] if bench.against is not None else [])]
    lines = [_conditions(bench), "", *_table(subjects, mean=bench.protocol is not None)]
    lines += [f"{f.name}: {how}" for f in subjects for how in _missing(f)]
    verdict = bench.verdict
    lines += ["", verdict] if verdict else []
    profile = str(bench.profile) if isinstance(bench.profile, Profile) else bench.profile
    lines += ["", profile] if profile else []
    return "\n".join([*lines, *bench.notes])


def rows(profile: Profile, top: int) -> list[tuple[str, ...]]:
    """Returns the rows of a profile for a table of COLUMNS: the slowest; all in order if top is 0.

    Example:
        >>> node = NodeTime("a", "stem", "Conv2d", (1, 8, 6, 6), 0.004, 8000, 1.0)
        >>> rows(Profile("eager", 5, (node,)), 10)
        [('stem', 'Conv2d', '1x8x6x6', '4.000', '100.0%', '8.00 K', '2.00 M', '')]
    """
    nodes = sorted(profile.nodes, key=lambda n: -n.seconds)[:top] if top else profile.nodes
    return [_row(node) for node in nodes]


def _row(node: NodeTime) -> tuple[str, ...]:
    return (
        node.layer,
        node.kind,
        "x".join(map(str, node.shape or ())),
        f"{1e3 * node.seconds:.3f}",
        f"{node.share:.1%}",
        "?" if node.macs is None else human(node.macs),
        "" if node.rate is None else human(round(node.rate)),
        _SLOW if node.slow else "",
    )


def _conditions(bench: Bench) -> str:
    """Writes the conditions: inputs, machine, rounds."""
    inputs = ", ".join("x".join(map(str, shape)) for shape, _ in bench.inputs)
    threads = "1 thread" if bench.threads == 1 else f"{bench.threads} threads"
    how = f"{bench.rounds} rounds after {bench.warmups} warm-ups"
    how += f" (protocol {bench.protocol})" if bench.protocol is not None else ""
    return f"{inputs} on {bench.device}, {bench.backend}, {threads}, {how}\n{bench.machine}"


def _table(subjects: list[Figures], *, mean: bool) -> list[str]:
    """Writes one line for each figure, one column for each model, long names above."""
    cells: list[tuple[str, Callable[[Figures], str]]] = [
        ("latency median", lambda f: _ms(f.latency.median)),
        ("latency p10", lambda f: _ms(f.latency.p10)),
        ("latency p90", lambda f: _ms(f.latency.p90)),
        ("throughput", lambda f: f"{f.throughput:.4g} images/s"),
        ("model memory", lambda f: human(f.model_bytes, "B")),
    ]
    if any(f.memory != UNASKED for f in subjects):
        cells.insert(4, ("peak memory", lambda f: _memory(f.memory)))
    if mean:
        cells.insert(1, ("latency mean", lambda f: _ms(f.latency.mean)))
    cells += [
        (f"MACs {name}", lambda f, at=at: _macs(f.cost, at))  # type: ignore[misc]
        for name, at in CONVENTIONS.items()
    ]
    rows = [(label, *(write(f) for f in subjects)) for label, write in cells]
    names = [f.name for f in subjects]
    lines = _aligned([("", *names), *rows])
    if max(map(display_width, lines)) <= _SCREEN:
        return lines
    short = ("model", "against")[: len(names)]
    said = [f"{key}: {name}" for key, name in zip(short, names, strict=True)]
    return [*said, "", *_aligned([("", *short), *rows])]


def _aligned(lines: list[tuple[str, ...]]) -> list[str]:
    widths = [max(display_width(line[at]) for line in lines) for at in range(len(lines[0]))]
    return [
        "  ".join(
            padded(cell, width, right=at > 0)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def _missing(figures: Figures) -> list[str]:
    """Says why something was not measured."""
    said = []
    if figures.memory.bytes is None and figures.memory != UNASKED:
        said.append(f"peak memory not measured: {figures.memory.how}")
    if isinstance(figures.cost, str):
        said.append(f"MACs not counted: {figures.cost}")
    return said


def _memory(memory: MemoryPeak) -> str:
    return "not measured" if memory.bytes is None else human(memory.bytes, "B")


def _macs(cost: Cost | str, attribute: str) -> str:
    return "not counted" if isinstance(cost, str) else human(getattr(cost.macs, attribute))


def _ms(seconds: float) -> str:
    return human(1e3 * seconds, "ms")
