"""Converts images among inputs and outputs to small 8-bit pictures, stored as PNG.

1. A tensor is an image if it is (N, C, H, W) of 1, 3 or 4 channels and at least 8 pixels a side;
   the first of the batch and its first three channels are shown.
2. Black and white are -1 and 1 or 0 and 1 if the values lie there and span them; else the extremes.
3. An image is shrunk, each pixel the mean of a square, until it is no larger than 256 pixels a
   side and its file no larger than 128 KiB.
"""

import base64
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gfx.errors import InputError
from gfx.ir.ambient_modes import shielded
from gfx.pipeline.record.png import decode, encode

__all__ = ["MOST_BYTES", "Picture", "is_image", "picture"]

Pixels = NDArray[np.uint8]

MOST_BYTES = 128 * 1024  # of one file
_SIDE, _LEAST = 256, 8  # pixels
_SIZES = (256, 192, 128, 64, 32)  # of the longer side, largest first
_USED = 0.25  # share of a usual range below which values are stretched


@shielded
@dataclass(frozen=True)
class Picture:
    """One image of 8 bits a channel.

    Units: `low` and `high` are the values that are shown black and white.
    """

    png: str  # base64
    low: float
    high: float
    height: int  # of the tensor that it shows
    width: int

    def pixels(self) -> Pixels:
        """Returns its pixels: (height, width) if grey, else (height, width, 3).

        Raises: InputError if it holds no picture that gfx wrote.
        """
        try:
            data = base64.b64decode(self.png, validate=True)
        except ValueError as error:
            raise InputError(f"this is no picture that gfx wrote: {error}") from error
        return decode(data)

    def values(self) -> Tensor:
        """Returns the image as values: (1, C, height, width), enlarged if it was shrunk.

        Example:
            >>> picture(torch.linspace(-1, 1, 256).view(1, 1, 16, 16)).values()[0, 0, 0, :2]
            tensor([-1.0000, -0.9922])
        """
        pixels = torch.from_numpy(self.pixels().copy())
        planes = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
        image = planes[None].double() / 255
        size = (self.height, self.width)
        if image.shape[2:] != size:
            image = F.interpolate(image, size, mode="bilinear", align_corners=False)
        return (self.low + (self.high - self.low) * image).float()

    def shows(self, image: Tensor) -> Pixels:
        """Converts another image in the same way: at this size, with this black and white.

        Shapes: that of the original tensor of this picture.

        Raises: InputError if the image has another size.
        """
        if not is_image(image) or tuple(image.shape[2:]) != (self.height, self.width):
            raise InputError(
                f"{'x'.join(map(str, image.shape))} cannot be shown beside a picture of "
                f"{self.width}x{self.height} pixels"
            )
        pixels = self.pixels()  # (H, W) or (H, W, 3)
        found = _bytes(_shrunk(image, max(pixels.shape[:2])), self.low, self.high)
        if found.shape != pixels.shape:
            raise InputError("a grey image and one of colours cannot be shown side by side")
        return found


def is_image(value: object) -> bool:
    """Whether a value is an image (rule 1).

    Example:
        >>> is_image(torch.zeros(1, 3, 64, 64)), is_image(torch.zeros(1, 100, 1, 1))
        (True, False)
    """
    if not isinstance(value, Tensor) or value.ndim != 4 or not value.is_floating_point():
        return False
    return value.shape[1] in (1, 3, 4) and min(value.shape[2:]) >= _LEAST and len(value) > 0


def picture(image: Tensor) -> Picture:
    """Builds the picture of an image (rules 2 and 3).

    Shapes: (N, C, H, W) of finite values.

    Example:
        >>> shown = picture(torch.rand(1, 3, 512, 512))
        >>> shown.low, shown.high, shown.pixels().shape
        (0.0, 1.0, (192, 192, 3))
    """
    low, high = _range(image[:1, :3])
    height, width = image.shape[2:]
    for side in (min(max(height, width), _SIDE), *_SIZES):
        data = encode(_bytes(_shrunk(image, side), low, high))
        if len(data) <= MOST_BYTES:
            break
    return Picture(base64.b64encode(data).decode(), low, high, int(height), int(width))


def _range(image: Tensor) -> tuple[float, float]:
    """Returns the values that are black and white (rule 2)."""
    low, high = float(image.min()), float(image.max())
    for usual in ((0.0, 1.0), (-1.0, 1.0)):
        slack = 1e-3 * (usual[1] - usual[0])
        inside = usual[0] - slack <= low and high <= usual[1] + slack
        if inside and high - low >= _USED * (usual[1] - usual[0]):
            return usual
    return (low, high) if low < high else (low - 1.0, low + 1.0)


def _shrunk(image: Tensor, side: int) -> Tensor:
    """Shrinks an image until its longer side is no longer than `side` (rule 3)."""
    image = image.detach()[:1, : 3 if image.shape[1] > 1 else 1].double().cpu()
    height, width = image.shape[2:]
    share = side / max(height, width)
    if share >= 1:
        return image
    size = (max(round(height * share), 1), max(round(width * share), 1))
    return F.interpolate(image, size, mode="area")


def _bytes(image: Tensor, low: float, high: float) -> Pixels:
    shares = ((image[0] - low) / (high - low)).clamp(0, 1).mul(255).round().to(torch.uint8)
    pixels: Pixels = shares.permute(1, 2, 0).contiguous().numpy()
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
