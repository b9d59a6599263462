"""Scores the images of a generator against the images that were wanted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gfx.errors import InputError, did_you_mean

__all__ = ["IMAGE_SCORES", "Score", "evaluate"]


@dataclass(frozen=True)
class Score:
    """The value of a metric, over so many images.

    Example:
        >>> print(Score("l1", 0.1429, 200))
        l1 0.1429 (200 images)
    """

    name: str
    value: float
    images: int
    higher_is_better: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.value:.4g} ({self.images:,} images)"


def _l1(made: Tensor, wanted: Tensor) -> float:
    return float((made - wanted).abs().mean(dtype=torch.float64))


def _psnr(made: Tensor, wanted: Tensor) -> float:
    """Returns the mean over the images, of values from -1 to 1."""
    error = (made.double() - wanted.double()).square().flatten(1).mean(1).clamp_min(1e-12)
    return float((10 * torch.log10(4 / error)).mean())


IMAGE_SCORES: dict[str, tuple[Callable[[Tensor, Tensor], float], bool]] = {
    "l1": (_l1, False),
    "psnr": (_psnr, True),
}


def evaluate(
    metrics: Sequence[str],
    made: Tensor,
    *,
    reals: Tensor | None = None,
    targets: Tensor | None = None,
) -> dict[str, Score]:
    """Scores images; `targets` are those that were wanted, one for each.

    Shapes: (N, C, H, W) each. Units: values from -1 to 1.

    Raises: InputError for an unknown metric, or one that lacks what it compares with.

    Example:
        >>> image = torch.zeros(1, 3, 4, 4)
        >>> {name: score.value for name, score in evaluate(["l1"], image, targets=image + 0.5).items()}
        {'l1': 0.5}
    """
    found = {}
    for name in metrics:
        if name not in IMAGE_SCORES:
            raise InputError(f"there is no metric {name!r}{did_you_mean(name, IMAGE_SCORES)}")
        if targets is None:
            raise InputError(
                f"metric {name} compares each image with the one that was wanted, and the task has "
                "neither a ground truth nor a teacher; give the fit a teacher"
            )
        measure, higher = IMAGE_SCORES[name]
        found[name] = Score(name, measure(made, targets), len(made), higher)
    return found
