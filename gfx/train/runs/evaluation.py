"""Judges a generator on held-out examples while it trains; training does not notice.

1. Examples, noise and their order are the same at each evaluation.
2. Where there is a ground truth, images are compared with it; else with the teacher's for the same
   input. Distances of distributions compare with real images.
3. Modes, random streams and buffers are what they were.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gfx.ir.preserve import preserved
from gfx.ir.random_state import keep_random_state
from gfx.metrics import Reference, Score, check_metrics, evaluate
from gfx.train.loop.devices import Devices
from gfx.train.runs.real_images import image_range, real_images
from gfx.train.runs.sample_grids import TIMES, SampleGrid, difference, grid
from gfx.train.tasks import Batch, Task

__all__ = ["Evaluation", "default_metrics"]

_BATCH = 16
_SHOWN = 4  # examples in a picture
_MOST = 200  # held-out examples that are judged
_NOISE = 8  # images of noise that tell whether a metric can be had
_REALS = 2000  # real images that sets are compared with


def default_metrics(task: Task) -> tuple[str, ...]:
    """Returns what a task is judged by where nothing is asked for: needs no extra package."""
    return ("l1", "psnr")


@dataclass(frozen=True)
class Judged:
    """The scores of a generator by metric, and a picture."""

    scores: dict[str, Score]
    picture: SampleGrid | None


class Evaluation:
    """Judges generators on the held-out examples of a task.

    `teacher` is the net that outputs are compared with where there is no truth; shown in pictures.
    """

    def __init__(
        self,
        task: Task,
        metrics: Sequence[str],
        teacher: nn.Module,
        devices: Devices,
        *,
        batch: int = _BATCH,
        seed: int = 0,
        fid_weights: str | None = None,
    ) -> None:
        self.fid_weights = fid_weights
        self.task, self.metrics, self.teacher = task, tuple(metrics), teacher
        self.devices = devices
        held = task.for_judging() if task.held_out is None else task.held_out
        self._held = held
        self._batches = _batches(held, batch, seed)
        truths = [held.target(batch) for batch in self._batches]
        known = [truth for truth in truths if truth is not None]
        self._truth = torch.cat(known) if len(known) == len(truths) else None
        self._theirs: Tensor | None = None
        self._real: Reference | None = None

    def check(self) -> None:
        """Checks that the metrics can be had: names, packages, weights, images of the task.

        Raises: InputError naming what is missing.
        """
        real = real_images(self._held, self._batches[0])
        check_metrics(self.metrics, reals=real is not None, targets=True)
        features = [name for name in self.metrics if "[" in name]
        if features:
            noise = torch.rand(2, _NOISE, 3, 32, 32) * 2 - 1
            evaluate(features, noise[0], reals=noise[1], fid_weights=self.fid_weights)

    def judge(self, net: nn.Module) -> Judged:
        """Returns the scores of a net, and a picture of the first examples."""
        images = self._images(net)
        if self._theirs is None:
            self._theirs = self._images(self.teacher)
        truth = self._truth
        wanted = self._theirs if truth is None else truth
        if self._is_of_images:
            ours, targets = self._unit(images), self._unit(wanted)
            scores = evaluate(
                self.metrics,
                ours,
                reals=self._reals(),
                targets=targets,
                fid_weights=self.fid_weights,
            )
            return Judged(scores, self._picture(images))
        return Judged(_of_outputs(images, wanted), None)

    @property
    def _is_of_images(self) -> bool:
        """Whether what is made are images, and not outputs of any kind and range."""
        assert self._theirs is not None
        made = self._theirs
        return (
            made.ndim == 4
            and made.shape[1] in (1, 3)
            and (self._held.name != "self" or float(made.abs().max()) <= 1.0)
        )

    def _picture(self, images: Tensor) -> SampleGrid:
        """Draws the first examples: input | teacher | student | difference | truth."""
        count = min(_SHOWN, len(self._batches[0]))
        given = self._held.inputs(self._batches[0])[0]
        is_image = isinstance(given, Tensor) and given.ndim == 4 and given.shape[1] in (1, 3, 4)
        assert self._theirs is not None
        theirs, ours = self._unit(self._theirs[:count]), self._unit(images[:count])
        low, high = getattr(self._held, "range", (-1.0, 1.0))
        columns = {
            "input": (given[:count] - low) / (high - low) * 2 - 1 if is_image else None,
            "teacher": theirs,
            "student": ours,
            f"difference ×{TIMES}": difference(ours, theirs),  # noqa: RUF001 - as it is read
            "truth": None if self._truth is None else self._unit(self._truth[:count]),
        }
        return grid(columns)

    def _unit(self, images: Tensor) -> Tensor:
        """Scales images from the task's range to [-1, 1]; what is beyond white is white."""
        low, high = image_range(self._held)
        return ((images - low) / (high - low) * 2 - 1).clamp(-1, 1)

    @torch.no_grad()
    def _images(self, net: nn.Module) -> Tensor:
        """Runs a net on the held-out examples (rules 1 and 3)."""
        found = []
        with preserved(net), keep_random_state(seed=0, python=True):
            net.eval()
            for batch in self._batches:
                here = batch.to(self.devices.device)
                output = self._held.generate(net, here)
                found.append(self._held.image(output).float().cpu())
        return torch.cat(found)

    def _reals(self) -> Reference | None:
        """Returns real images of the training set, where a metric asks for them."""
        if not any("[" in name for name in self.metrics):
            return None
        if self._real is None:
            seen = self.task.for_judging()
            found = [real_images(seen, batch) for batch in _batches(seen, _BATCH, 0, _REALS)]
            held = [self._unit(images) for images in found if images is not None]
            self._real = Reference(torch.cat(held)) if held else None
        return self._real


def _batches(task: Task, size: int, seed: int, most: int = _MOST) -> list[Batch]:
    """Makes batches of the examples of a task, each once; of many, some by the seed."""
    indices = list(range(task.length))
    if len(indices) > most:
        indices = sorted(random.Random(seed).sample(indices, most))
    made = [task.example(index, random.Random(f"{seed} {index}")) for index in indices]
    return [Batch.of(made[first : first + size]) for first in range(0, len(made), size)]


def _of_outputs(ours: Tensor, wanted: Tensor) -> dict[str, Score]:
    """Compares outputs that are no images: the range is that of what is wanted."""
    error = ours.double() - wanted.double()
    spread = float(wanted.max() - wanted.min()) or 1.0
    squared = float((error / spread).square().mean())
    psnr = float("inf") if squared == 0 else -10 * math.log10(squared)
    return {
        "l1": Score("l1", float(error.abs().mean()), False, fakes=len(ours)),
        "psnr": Score("psnr", psnr, True, fakes=len(ours)),
    }
