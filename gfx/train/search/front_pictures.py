"""Draws what the nets of a front make of a few examples: input | original | subnet."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from gfx.train.runs.held_out_set import unit
from gfx.train.runs.sample_grids import SampleGrid, grid
from gfx.train.search.judge_protocol import Widths
from gfx.train.search.judged_examples import JudgedExamples
from gfx.train.tasks import Batch

__all__ = ["front_pictures"]

_SHOWN = 4  # examples in a picture


class _Shows(Protocol):
    """A judge that shows what its nets make."""

    on: JudgedExamples

    def images(self, widths: Widths, batch: Batch) -> Tensor:
        """Returns what a net makes of some examples."""


def front_pictures(judge: _Shows, nets: Sequence[Widths], whole: Widths) -> list[SampleGrid | None]:
    """Returns a picture of each net, on the first examples of a judge; None: no images are made.

    `whole` is the largest net, that they are shown beside.
    """
    on = judge.on
    batch = on.batches[0].rows(slice(0, _SHOWN))
    original = judge.images(whole, batch)
    if original.ndim != 4 or original.shape[1] not in (1, 3):
        return [None] * len(nets)
    given = on.task.inputs(batch)[0]
    shows = isinstance(given, Tensor) and given.ndim == 4 and given.shape[1] in (1, 3, 4)
    of_inputs = getattr(on.task, "range", (-1.0, 1.0))
    low, high = min(-1.0, float(original.min())), max(1.0, float(original.max()))
    columns: dict[str, Tensor | None] = {
        "input": unit(torch.as_tensor(given), of_inputs) * high if shows else None,
        "original": original,
    }
    return [grid({**columns, "subnet": judge.images(net, batch)}, low, high) for net in nets]
