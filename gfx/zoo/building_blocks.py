"""Layers that several generators of the zoo share."""

from collections import OrderedDict

from torch import Tensor, nn


def sequence(**modules: nn.Module) -> nn.Sequential:
    """Chains modules under readable names, in the order given.

    Example:
        >>> [name for name, _ in sequence(conv=nn.Conv2d(3, 8, 1), act=nn.ReLU()).named_children()]
        ['conv', 'act']
    """
    return nn.Sequential(OrderedDict(modules))


class SeparableConv2d(nn.Module):
    """Convolves each channel by itself, normalises, then mixes channels by a 1x1 convolution.

    Shapes: (N, inputs, H, W) -> (N, outputs, H', W'), as the dense convolution it replaces.
    Source: Li et al. 2020, arXiv:2003.08936, section 3.3 (convolution decomposition).

    Example:
        >>> import torch
        >>> SeparableConv2d(nn.Conv2d(8, 16, 3, padding=1))(torch.zeros(1, 8, 4, 4)).shape
        torch.Size([1, 16, 4, 4])
    """

    def __init__(self, dense: nn.Conv2d | nn.ConvTranspose2d) -> None:
        super().__init__()
        self.depthwise = _depthwise_like(dense)
        self.norm = nn.InstanceNorm2d(dense.in_channels)
        self.pointwise = nn.Conv2d(dense.in_channels, dense.out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Decomposes one convolution into two."""
        y: Tensor = self.pointwise(self.norm(self.depthwise(x)))
        return y


def _depthwise_like(dense: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    channels = dense.in_channels
    kernel, stride = (dense.kernel_size[0], dense.stride[0])
    padding = int(dense.padding[0])
    if isinstance(dense, nn.ConvTranspose2d):
        extra = dense.output_padding[0]
        return nn.ConvTranspose2d(
            channels, channels, kernel, stride, padding, extra, groups=channels
        )
    return nn.Conv2d(channels, channels, kernel, stride, padding, groups=channels)
