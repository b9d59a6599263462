"""What a measurement looks like on the screen."""

from collections.abc import Callable

from gfx.costs import Cost, human
from gfx.costs.cost import CONVENTIONS
from gfx.deploy.bench.figures import Bench, Figures
from gfx.deploy.bench.memory import UNASKED, MemoryPeak
from gfx.deploy.bench.profile import NodeTime, Profile

__all__ = ["COLUMNS", "rows", "summary"]

COLUMNS = ("layer", "kind", "output", "#ms", "#share", "#MACs exact", "#MACs/s", "")
_SLOW = "slow"


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
    """Says what was run, where and how often."""
    inputs = ", ".join("x".join(map(str, shape)) for shape, _ in bench.inputs)
    threads = "1 thread" if bench.threads == 1 else f"{bench.threads} threads"
    how = f"{bench.rounds} rounds after {bench.warmups} warm-ups"
    how += f" (protocol {bench.protocol})" if bench.protocol is not None else ""
    return f"{inputs} on {bench.device}, {bench.backend}, {threads}, {how}\n{bench.machine}"


def _table(subjects: list[Figures], *, mean: bool) -> list[str]:
    """Writes one line for each figure, one column for each model."""
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
    lines = [("", *(f.name for f in subjects))]
    lines += [(label, *(write(f) for f in subjects)) for label, write in cells]
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    return [
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
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
