"""Judges a generator on held-out examples while it trains; training does not notice.

1. Examples, noise and their order are the same at each evaluation.
2. Where there is a ground truth, images are compared with it; else with the teacher's for the same
   input. Distances of distributions compare with real images.
3. Modes, random streams and buffers are what they were.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gfx.ir.preserve import preserved
from gfx.ir.random_state import keep_random_state
from gfx.metrics import Score, check_metrics, evaluate
from gfx.train.loop.devices import Devices
from gfx.train.runs.held_out_set import HeldOutSet, unit
from gfx.train.runs.real_images import image_range, real_images
from gfx.train.runs.sample_grids import TIMES, SampleGrid, difference, grid

__all__ = ["DEFAULT_METRICS", "Evaluation"]

_SHOWN = 4  # examples in a picture
_NOISE = 8  # images of noise that tell whether a metric can be had
DEFAULT_METRICS = ("l1", "psnr")  # need no extra package


@dataclass(frozen=True)
class Judged:
    """The scores of a generator by metric, and a picture."""

    scores: dict[str, Score]
    picture: SampleGrid | None


class Evaluation:
    """Judges generators on held-out examples.

    `teacher` is the net that outputs are compared with where there is no truth; shown in pictures.
    """

    def __init__(
        self,
        held: HeldOutSet,
        metrics: Sequence[str],
        teacher: nn.Module,
        devices: Devices,
        *,
        fid_weights: str | None = None,
    ) -> None:
        self.held, self.metrics, self.teacher = held, tuple(metrics), teacher
        self.devices, self.fid_weights = devices, fid_weights
        self._theirs: Tensor | None = None

    def check(self) -> None:
        """Checks that the metrics can be had: names, packages, weights, images of the task.

        Raises: InputError naming what is missing.
        """
        real = real_images(self.held.task, self.held.batches[0])
        check_metrics(self.metrics, reals=real is not None, targets=True)
        if self._asks_for_reals:
            features = [name for name in self.metrics if _is_of_sets(name)]
            noise = torch.rand(2, _NOISE, 3, 32, 32) * 2 - 1
            evaluate(features, noise[0], reals=noise[1], fid_weights=self.fid_weights)

    def judge(self, net: nn.Module) -> Judged:
        """Returns the scores of a net, and a picture of the first examples."""
        images = self._images(net)
        if self._theirs is None:
            self._theirs = self._images(self.teacher)
        truth = self.held.truth
        wanted = self._theirs if truth is None else truth
        if self._is_of_images:
            ours, targets = self._unit(images), self._unit(wanted)
            scores = evaluate(
                self.metrics,
                ours,
                reals=self.held.reals if self._asks_for_reals else None,
                targets=targets,
                fid_weights=self.fid_weights,
            )
            return Judged(scores, self._picture(images))
        return Judged(_of_outputs(images, wanted), None)

    @property
    def _asks_for_reals(self) -> bool:
        """Whether a metric compares with real images."""
        return any(map(_is_of_sets, self.metrics))

    @property
    def _is_of_images(self) -> bool:
        """Whether what is made are images, and not outputs of any kind and range."""
        assert self._theirs is not None
        made = self._theirs
        return (
            made.ndim == 4
            and made.shape[1] in (1, 3)
            and (self.held.task.name != "self" or float(made.abs().max()) <= 1.0)
        )

    def _picture(self, images: Tensor) -> SampleGrid:
        """Draws the first examples: input | teacher | student | difference | truth."""
        count = min(_SHOWN, len(self.held.batches[0]))
        given = self.held.task.inputs(self.held.batches[0])[0]
        is_image = isinstance(given, Tensor) and given.ndim == 4 and given.shape[1] in (1, 3, 4)
        assert self._theirs is not None
        theirs, ours = self._unit(self._theirs[:count]), self._unit(images[:count])
        of_inputs = getattr(self.held.task, "range", (-1.0, 1.0))
        truth = self.held.truth
        columns = {
            "input": unit(given[:count], of_inputs) if is_image else None,
            "teacher": theirs,
            "student": ours,
            f"difference ×{TIMES}": difference(ours, theirs),  # noqa: RUF001 - as it is read
            "truth": None if truth is None else self._unit(truth[:count]),
        }
        return grid(columns)

    def _unit(self, images: Tensor) -> Tensor:
        return unit(images, image_range(self.held.task))

    @torch.no_grad()
    def _images(self, net: nn.Module) -> Tensor:
        """Runs a net on the held-out examples (rules 1 and 3)."""
        found = []
        with preserved(net), keep_random_state(seed=0, python=True):
            net.eval()
            for batch in self.held.batches:
                here = batch.to(self.devices.device)
                output = self.held.task.generate(net, here)
                found.append(self.held.task.image(output).float().cpu())
        return torch.cat(found)


def _is_of_sets(metric: str) -> bool:
    """Whether a metric compares features of sets, which it names: fd[...]."""
    return "[" in metric


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
