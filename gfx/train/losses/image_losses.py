"""Compares images of the student with a reference."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from gfx.errors import InputError
from gfx.metrics import image_metrics
from gfx.train.losses.base import Loss
from gfx.train.losses.checks import floating, same_device, size, wide, widely

__all__ = ["OutputLoss", "ReconstructionLoss", "SSIMLoss", "TotalVariationLoss"]

_WINDOW = 11  # pixels: SSIM looks at squares of this size


class _ImageLoss(Loss):
    """Compares an image with another, which gets no gradient."""

    other: str = "the teacher's output"

    def forward(self, output: Tensor, reference: Tensor) -> Tensor:
        """Returns the distance of the two.

        Raises: InputError if the sizes differ, or something is not finite.
        """
        floating(self.name, "the output", output)
        floating(self.name, self.other, reference)
        if output.shape != reference.shape:
            raise InputError(
                f"{self.name}: the output is {size(output)} and {self.other} {size(reference)}; "
                "give images of one size"
            )
        same_device(self.name, "image", output, reference)
        given = {"the output": output, self.other: reference}
        ours, theirs = wide(output), wide(reference.detach()).to(wide(output).dtype)
        with widely(ours):
            return self.sound(self.distance(ours, theirs), given)

    def distance(self, output: Tensor, reference: Tensor) -> Tensor:
        """Compares two images."""
        raise NotImplementedError


class ReconstructionLoss(_ImageLoss):
    """Takes the mean absolute error to the target, or without pairs to the teacher's output.

    L_recon = E ‖G(x) - y‖₁  if paired,  E ‖G(x) - G'(x)‖₁  if not

    with the mean over all elements, as the authors' code has it.

    Shapes: `output` and `reference` of one shape. The reference is y if `paired`, else G'(x).
    Raises: InputError if the sizes differ, or something is not finite.

    Source: Li et al. 2020, arXiv:2003.08936 (GAN Compression), equation 1.

    Example:
        >>> import torch
        >>> float(ReconstructionLoss()(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), -0.5)))
        0.5
    """

    def __init__(self, paired: bool = True, name: str | None = None) -> None:
        super().__init__(name)
        self.paired = paired
        self.other = "the target" if paired else "the teacher's output"

    def distance(self, output: Tensor, reference: Tensor) -> Tensor:
        """Returns the mean absolute error."""
        return F.l1_loss(output, reference)

    def extra_repr(self) -> str:
        """Writes the kind of reference."""
        return "paired" if self.paired else "unpaired"


class OutputLoss(_ImageLoss):
    """Takes the error of the student's image to the teacher's for the same latent.

    mse  E (G'(z) - G(z))²        l1  E |G'(z) - G(z)|

    Their joint loss mixes this with the loss of the generator: add both, weighted, as by
    `Weighted`. Alone it makes blurred images of large faces.

    Shapes: `output` and `reference` of one shape.
    Raises: InputError if the sizes differ, or something is not finite.

    Source: Aguinaldo et al. 2019, arXiv:1902.00159 (mse). l1 is what others use instead.

    Example:
        >>> import torch
        >>> float(OutputLoss()(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), -0.5)))
        0.25
    """

    def __init__(self, kind: Literal["mse", "l1"] = "mse", name: str | None = None) -> None:
        super().__init__(name)
        if kind not in ("mse", "l1"):
            raise InputError(f"{self.name}: there is no kind {kind!r}; give 'mse' or 'l1'")
        self.kind = kind

    def distance(self, output: Tensor, reference: Tensor) -> Tensor:
        """Returns the mean error."""
        return (F.mse_loss if self.kind == "mse" else F.l1_loss)(output, reference)

    def extra_repr(self) -> str:
        """Writes the kind."""
        return self.kind


class SSIMLoss(_ImageLoss):
    """Takes one minus the structural similarity of the student's image and the teacher's.

    L_SSIM = 1 - SSIM(G(x), G'(x))

    by torchmetrics, with Gaussian windows of 11 pixels.

    Shapes: (N, C, H, W), at least 11 pixels high and wide. Units: `data_range` is the range of the
    images, 2 for images from -1 to 1.
    Raises: InputError if the sizes differ or are too small, something is not finite, or
    torchmetrics is not installed.

    Source: Ren et al. 2021, arXiv:2108.06908 (OMGD); Wang et al. 2004 (SSIM).

    Example:
        >>> import torch
        >>> image = torch.linspace(-1, 1, 256).view(1, 1, 16, 16)
        >>> round(float(SSIMLoss()(image, image)), 4), round(float(SSIMLoss()(-image, image)), 4)
        (0.0, 0.1567)
    """

    def __init__(self, data_range: float = 2.0, name: str | None = None) -> None:
        super().__init__(name)
        if not data_range > 0:
            raise InputError(f"{self.name}: data_range={data_range}; images from -1 to 1 have 2")
        self.data_range = data_range

    def distance(self, output: Tensor, reference: Tensor) -> Tensor:
        """Returns one minus the similarity."""
        _is_image(self.name, output, _WINDOW)
        similarity = image_metrics(self.name).structural_similarity_index_measure
        value: Tensor = 1 - similarity(output, reference, data_range=self.data_range)
        return value

    def extra_repr(self) -> str:
        """Writes the range."""
        return f"data_range={self.data_range}"


class TotalVariationLoss(Loss):
    """Takes the differences of neighbouring pixels: noise costs, smooth areas do not.

    L_TV = Σ |x[h + 1, w] - x[h, w]| + |x[h, w + 1] - x[h, w]|

    by torchmetrics: the sum over all images, or with `reduction="mean"` the mean over the images of
    their sums. OMGD gives it the weight 1e-5.

    Shapes: (N, C, H, W).
    Raises: InputError if it is no image, not finite, or torchmetrics is not installed.

    Source: Ren et al. 2021, arXiv:2108.06908 (OMGD); Rudin et al. 1992.

    Example:
        >>> import torch
        >>> float(TotalVariationLoss()(torch.tensor([[0.0, 1.0], [0.0, 3.0]]).view(1, 1, 2, 2)))
        6.0
    """

    def __init__(self, reduction: Literal["sum", "mean"] = "sum", name: str | None = None) -> None:
        super().__init__(name)
        if reduction not in ("sum", "mean"):
            raise InputError(f"{self.name}: reduction={reduction!r}; give 'sum' or 'mean'")
        self.reduction = reduction

    def forward(self, output: Tensor) -> Tensor:
        """Returns the total variation.

        Raises: InputError if it is no image, or not finite.
        """
        floating(self.name, "the output", output)
        _is_image(self.name, output, 1)
        variation = image_metrics(self.name).total_variation
        with widely(output):
            value: Tensor = variation(wide(output), reduction=self.reduction)
        return self.sound(value, {"the output": output}, [output])  # a single pixel has none


def _is_image(loss: str, value: Tensor, least: int) -> None:
    if value.dim() != 4:
        raise InputError(f"{loss}: the output is {size(value)}; give images (N, C, H, W)")
    if min(value.shape[2:]) < least:
        raise InputError(
            f"{loss}: images of at least {least} pixels are needed, and the output is {size(value)}"
        )
