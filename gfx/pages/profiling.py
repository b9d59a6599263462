"""Measures where the time of a compressed program goes, for its page."""

from typing import Any

from torch import fx, nn

from gfx.benching import Bench, Profile, bench
from gfx.costing import human
from gfx.pages.measured import Latency, Timed

__all__ = ["latency_of", "profiled"]

_ROUNDS, _WARMUPS = 11, 2


def profiled(
    module: fx.GraphModule, *, original: nn.Module | None = None, inputs: Any = None
) -> Latency | str:
    """Measures a module on this machine, node by node, and against the original if it is given.

    Raises: GfxError if it cannot be run.

    Example: `page(small, latency=profiled(small))`.
    """
    measured = bench(
        module,
        inputs if original is not None else None,
        against=original,
        rounds=_ROUNDS,
        warmups=_WARMUPS,
        memory=False,
        names=("the compressed program", "the original"),
    )
    return latency_of(measured)


def latency_of(measured: Bench) -> Latency | str:
    """Writes down what was measured as a page shows it; why not, if there is no profile."""
    found = measured.profile
    if not isinstance(found, Profile):
        return f"Not measured: {found}."
    rows = tuple(
        Timed(node.layer, node.kind, 1e3 * node.seconds, node.share, node.rate)
        for node in found.nodes
    )
    sample = measured.model.latency
    middle, low, high = (human(1e3 * t, "ms") for t in (sample.median, sample.p10, sample.p90))
    threads = "1 thread" if measured.threads == 1 else f"{measured.threads} threads"
    told = [
        f"{middle} a run (median; 10 % take {low} or less, "
        f"10 % {high} or more), by {measured.backend} on {threads}, "
        f"{measured.rounds} rounds; {measured.machine}",
        measured.verdict,
        str(found),
    ]
    return Latency(rows, tuple(line for text in told for line in text.splitlines() if line))
