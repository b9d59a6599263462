"""What the examples that train have in common: pictures, and figures of several seeds."""

import statistics
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

try:
    from PIL import Image
except ImportError as error:  # before anything is trained
    raise SystemExit(
        "pictures need the package pillow, which the extra examples installs:\n"
        "    pip install 'gfx-compiler[examples]'"
    ) from error

__all__ = ["picture", "spread"]


def picture(rows: Iterable[Tensor]) -> Image.Image:
    """Draws rows of images in [-1, 1], each (N, 3, H, W)."""
    grid = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
    pixels = ((grid.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def spread(values: Sequence[float], digits: int) -> str:
    """Writes the mean of several seeds, and their standard deviation if there are several.

    Example:
        >>> spread([1.0, 2.0, 3.0], 2)
        '2.00 ± 1.00'
    """
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean
