"""Nodes that change nothing and mark a place: what is distilled, what is penalised."""

from typing import Literal

from torch import Tensor, nn

__all__ = ["Penalty", "Tap"]


class Tap(nn.Module):
    """Returns its input: an activation to be distilled. Its name is the end of its path.

    Example:
        >>> import torch
        >>> Tap()(torch.ones(2))
        tensor([1., 1.])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Returns the input."""
        return x


class Penalty(nn.Module):
    """Returns its input; the weights of the layer that makes it are penalised in training.

    The term is strength · Σ|w|, over the scale of a norm (slimming) or the weights of a
    convolution (l1). With `proximal` the term is left out of the loss; w is shrunk towards zero
    after each step of the optimizer instead.

    Source: Liu et al. 2017, arXiv:1708.06519 (slimming); Li et al. 2017, arXiv:1608.08710 (l1);
    Wang et al. 2020, arXiv:2008.11062 (GAN Slimming, the proximal step).

    Example:
        >>> Penalty("slimming", strength=0.01)
        Penalty(slimming, strength=0.01)
    """

    def __init__(
        self,
        kind: Literal["slimming", "l1"] = "slimming",
        strength: float = 1e-4,
        proximal: bool = False,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.strength = strength
        self.proximal = proximal

    def forward(self, x: Tensor) -> Tensor:
        """Returns the input."""
        return x

    def extra_repr(self) -> str:
        """Writes the settings."""
        return f"{self.kind}, strength={self.strength}{', proximal' if self.proximal else ''}"
