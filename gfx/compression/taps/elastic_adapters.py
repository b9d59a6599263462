"""Adapters that take the features of a supernet: a subnet's are the first channels of the whole's.

y = W[:, :n] x + b      for n channels of x, as many as the weight has columns or fewer
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ELASTIC", "ElasticConv1d", "ElasticConv2d", "ElasticConv3d", "ElasticLinear"]


class _FirstInputs:
    """Notes the most channels that it was given, with gradients, since the last step."""

    used: int = 0

    def first_columns(self, count: int) -> Tensor:
        """Returns the columns of the weight for so many channels."""
        assert isinstance(self, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
        if torch.is_grad_enabled():
            self.used = max(self.used, count)
        return self.weight[:, :count]


class ElasticConv1d(_FirstInputs, nn.Conv1d):
    """A convolution over the first channels, of sequences."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolves (N, n, L)."""
        return F.conv1d(input, self.first_columns(input.shape[1]), self.bias)


class ElasticConv2d(_FirstInputs, nn.Conv2d):
    """A convolution over the first channels, of images.

    Example:
        >>> layer = ElasticConv2d(8, 3, 1)
        >>> layer(torch.zeros(1, 5, 4, 4)).shape, layer.used
        (torch.Size([1, 3, 4, 4]), 5)
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolves (N, n, H, W)."""
        return F.conv2d(input, self.first_columns(input.shape[1]), self.bias)


class ElasticConv3d(_FirstInputs, nn.Conv3d):
    """A convolution over the first channels, of volumes."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolves (N, n, D, H, W)."""
        return F.conv3d(input, self.first_columns(input.shape[1]), self.bias)


class ElasticLinear(_FirstInputs, nn.Linear):
    """A linear layer over the first channels."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps (..., n)."""
        return F.linear(input, self.first_columns(input.shape[-1]), self.bias)


ELASTIC: dict[type[nn.Module], Any] = {
    nn.Conv1d: ElasticConv1d,
    nn.Conv2d: ElasticConv2d,
    nn.Conv3d: ElasticConv3d,
    nn.Linear: ElasticLinear,
}
