"""Compares images with their ground truth: L1, PSNR, SSIM, as means over the images."""

import math
from typing import Final

import torch
from torch import Tensor

from gfx.errors import InputError
from gfx.metrics.output_distance import image_metrics

__all__ = ["PairedMeans"]

_RANGE: Final = 2.0  # of images in [-1, 1]
_WINDOW: Final = 11  # pixels: SSIM looks at squares of this size


class PairedMeans:
    """Adds up a metric over batches of images and their targets, all in [-1, 1].

    l1 is the mean absolute difference, as a training loss has it. psnr and ssim are means over
    images, of a range of 2: an image equal to its target has an infinite psnr.

    Raises: InputError if ssim is asked for and torchmetrics is not installed.
    Source: Wang et al. 2004, Image quality assessment (SSIM).

    Example:
        >>> means = PairedMeans("l1")
        >>> means.add(torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.5))
        >>> means.value()
        0.5
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._sum, self._count = 0.0, 0
        if kind == "ssim":
            self._similarity = image_metrics("metric ssim").structural_similarity_index_measure

    def add(self, fakes: Tensor, targets: Tensor) -> None:
        """Adds a batch.

        Raises: InputError if the images are too small for ssim.
        """
        self._sum += self.of_each(fakes, targets).sum().item()
        self._count += len(fakes)

    def value(self) -> float:
        """Returns the mean over all images."""
        return self._sum / self._count

    def of_each(self, fakes: Tensor, targets: Tensor) -> Tensor:
        """Returns the metric of each image, (N,) in double precision.

        Raises: InputError if the images are too small for ssim.
        """
        a, b = fakes.double(), targets.double()
        if self.kind == "l1":
            return (a - b).abs().mean(dim=(1, 2, 3))
        if self.kind == "psnr":
            error = (a - b).square().mean(dim=(1, 2, 3))
            return 10 * torch.log10(_RANGE**2 / error)
        if min(a.shape[2:]) < _WINDOW:
            raise InputError(
                f"metric ssim needs images of at least {_WINDOW} pixels, and these have "
                f"{min(a.shape[2:])}; use l1 or psnr"
            )
        found = self._similarity(a, b, data_range=_RANGE, reduction="none")
        each: Tensor = found.view(len(a))
        if not math.isfinite(each.sum().item()):
            raise InputError("metric ssim is not finite")
        return each
