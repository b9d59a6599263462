"""Judges a generator on held-out examples while it trains; training does not notice.

1. Examples, noise and their order are the same at each evaluation.
2. Where there is a ground truth, images are compared with it; else with the teacher's for the same
   input. Distances of distributions compare with real images.
3. Modes, random streams and buffers are what they were.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gfx.ir.preserve import preserved
from gfx.ir.random_state import keep_random_state
from gfx.metrics import Score, evaluate
from gfx.train.feeding import Loader
from gfx.train.loop.devices import Devices
from gfx.train.runs.sample_grids import difference, grid
from gfx.train.tasks import Batch, Task

__all__ = ["Evaluation", "default_metrics"]

_SHOWN = 4  # examples in a picture
_MOST = 200  # held-out examples that are judged


def default_metrics(task: Task) -> tuple[str, ...]:
    """Returns what a task is judged by where nothing is asked for: needs no extra package."""
    return ("l1", "psnr")


@dataclass(frozen=True)
class Judged:
    """The scores of a generator by metric, and a picture."""

    scores: dict[str, Score]
    picture: Tensor | None


class Evaluation:
    """Judges generators on the held-out examples of a task.

    `teacher` is the net that outputs are compared with where there is no truth; shown in pictures.
    """

    def __init__(
        self,
        task: Task,
        metrics: Sequence[str],
        teacher: nn.Module | None,
        devices: Devices,
        *,
        batch: int = 16,
        seed: int = 0,
    ) -> None:
        self.task, self.metrics, self.teacher = task, tuple(metrics), teacher
        self.devices = devices
        held = task.held_out or task
        count = min(_MOST, held.length)
        self._batch = min(batch, count)
        self._loader = Loader(held, self._batch, seed)
        self._batches = [self._loader.at(n) for n in range(max(1, count // self._batch))]
        self._held = held
        self._theirs: Tensor | None = None

    def judge(self, net: nn.Module) -> Judged:
        """Returns the scores of a net, and a picture of the first examples."""
        images = self._images(net)
        if self._theirs is None and self.teacher is not None:
            self._theirs = self._images(self.teacher)
        truths = [self._held.target(batch) for batch in self._batches]
        truth = None if any(t is None for t in truths) else torch.cat([t for t in truths if t is not None])
        wanted = truth if truth is not None else self._theirs
        reals = self._reals()
        scores = evaluate(self.metrics, images, reals=reals, targets=wanted)
        first = self._batches[0]
        shown = _SHOWN if _SHOWN <= self._batch else self._batch
        given = self._held.inputs(first)[0]
        columns: list[Tensor | None] = [
            given[:shown] if isinstance(given, Tensor) and given.ndim == 4 and given.shape[1] in (1, 3, 4) else None,
            None if self._theirs is None else self._theirs[:shown],
            images[:shown],
            None if self._theirs is None else difference(images[:shown], self._theirs[:shown]),
            None if truth is None else truth[:shown],
        ]
        picture = grid(columns) if images.ndim == 4 else None
        return Judged(scores, picture)

    @torch.no_grad()
    def _images(self, net: nn.Module) -> Tensor:
        """Runs a net on the held-out examples (rules 1 and 3)."""
        found = []
        with preserved(net), keep_random_state(seed=0, python=True):
            net.eval()
            for batch in self._batches:
                here = batch.to(self.devices.device)
                output: Any = net(*self._held.inputs(here))
                found.append(self._held.image(output).float().cpu())
        return torch.cat(found)

    def _reals(self) -> Tensor | None:
        """Returns real images of the training set, where a metric asks for them."""
        if not any("[" in name for name in self.metrics):
            return None
        loader = Loader(self.task, self._batch, 0)
        count = min(self.task.length, 2000) // self._batch
        batches: list[Batch] = [loader.at(n) for n in range(max(1, count))]
        return torch.cat([self.task.real(batch) for batch in batches])
