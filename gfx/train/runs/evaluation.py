"""Judges a generator on held-out examples while it trains; training does not notice.

1. Examples, noise and their order are the same at each evaluation.
2. Where there is a ground truth, images are compared with it; else with the teacher's for the same
   input. Distances of distributions compare with real images.
3. Modes, random streams and buffers are what they were.
4. Images are judged batch by batch: whatever their size, few are in memory at once. Where there
   is no ground truth, the teacher's are kept.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice

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
        self._theirs: list[Tensor] = []  # by batch; the first alone where there is a truth

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
        truths = self.held.truths
        if not self._theirs:
            with self._images(self.teacher) as theirs:
                self._theirs = list(theirs if truths is None else islice(theirs, 1))
        wanted = self._theirs if truths is None else truths
        with self._images(net) as images:
            if not self._is_of_images:
                return Judged(_of_outputs(torch.cat(list(images)), torch.cat(wanted)), None)
            first = next(images)
            scores = evaluate(
                self.metrics,
                map(self._unit, chain([first], images)),
                reals=self.held.reals if self._asks_for_reals else None,
                targets=map(self._unit, wanted),
                fid_weights=self.fid_weights,
            )
        return Judged(scores, self._picture(first))

    @property
    def _asks_for_reals(self) -> bool:
        """Whether a metric compares with real images."""
        return any(map(_is_of_sets, self.metrics))

    @property
    def _is_of_images(self) -> bool:
        """Whether what is made are images, and not outputs of any kind and range."""
        made = self._theirs[0]
        return (
            made.ndim == 4
            and made.shape[1] in (1, 3)
            and (
                self.held.task.name != "self"
                or all(float(each.abs().max()) <= 1.0 for each in self._theirs)
            )
        )

    def _picture(self, images: Tensor) -> SampleGrid:
        """Draws the first examples: input | teacher | student | difference | truth."""
        count = min(_SHOWN, len(self.held.batches[0]))
        given = self.held.task.inputs(self.held.batches[0])[0]
        is_image = isinstance(given, Tensor) and given.ndim == 4 and given.shape[1] in (1, 3, 4)
        theirs, ours = self._unit(self._theirs[0][:count]), self._unit(images[:count])
        of_inputs = getattr(self.held.task, "range", (-1.0, 1.0))
        truths = self.held.truths
        columns = {
            "input": unit(given[:count], of_inputs) if is_image else None,
            "teacher": theirs,
            "student": ours,
            f"difference ×{TIMES}": difference(ours, theirs),  # noqa: RUF001 - as it is read
            "truth": None if truths is None else self._unit(truths[0][:count]),
        }
        return grid(columns)

    def _unit(self, images: Tensor) -> Tensor:
        return unit(images, image_range(self.held.task))

    @contextmanager
    def _images(self, net: nn.Module) -> Iterator[Iterator[Tensor]]:
        """Runs a net on the held-out examples, batch by batch (rules 1, 3 and 4)."""
        batches = self.held.batches
        with torch.no_grad(), preserved(net), keep_random_state(seed=0, python=True):
            net.eval()
            outputs = (
                self.held.task.generate(net, batch.to(self.devices.device)) for batch in batches
            )
            yield (self.held.task.image(output).float().cpu() for output in outputs)


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
