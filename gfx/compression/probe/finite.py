"""Names the layer that first produces values that are not finite."""

from typing import Any

import torch
from torch import fx

from gfx.compression.probe.changes import Steps
from gfx.compression.probe.runs import Inputs, Runs
from gfx.errors import InputError
from gfx.ir.execute import floating

__all__ = ["check_finite"]


def check_finite(runs: Runs, batch: int, inputs: Inputs, steps: Steps, output: Any) -> None:
    """Raises InputError if an output is not finite, naming the layer that first does so.

    Values that are not finite but do not reach the output, as in an attention mask, are allowed.
    """
    if _finite(output):
        return
    spoilt: set[fx.Node] = set()

    def look(node: fx.Node, value: Any) -> None:
        if not _finite(value):
            spoilt.add(node)

    runs.whole(batch, inputs, steps, look)
    order = list(runs.program.graph.nodes)
    source = _source(spoilt, order)
    changed = "under a change, " if steps else ""
    if source.op == "placeholder":
        raise InputError(f"data: batch {batch}: {source.target} holds values that are not finite")
    where = source.target if source.op in ("call_module", "get_attr") else source.name
    raise InputError(
        f"{changed}the output is not finite on batch {batch}: {where} is the first to give values "
        "that are not; repair its weights, use a wider dtype, or other data"
    )


def _source(spoilt: set[fx.Node], order: list[fx.Node]) -> fx.Node:
    """Follows values that are not finite back from the output, and returns their first node."""
    found, waiting = {order[-1]}, [order[-1]]
    while waiting:
        new = [n for n in waiting.pop().all_input_nodes if n in spoilt and n not in found]
        found.update(new)
        waiting.extend(new)
    return next(node for node in order if node in found)


def _finite(value: Any) -> bool:
    return all(bool(torch.isfinite(x).all()) for x in floating(value))
