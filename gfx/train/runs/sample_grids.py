"""Pictures of a run: a row an example, input | teacher | student | difference | truth."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gfx.io.atomic_writes import write_files
from gfx.io.guards import writing
from gfx.pipeline.record.png import encode

__all__ = ["grid", "write_grid"]

_LARGEST = 256  # pixels a side of one picture
_TIMES = 10  # enlargement of the difference


def grid(columns: Sequence[Tensor | None], low: float = -1.0, high: float = 1.0) -> Tensor:
    """Puts columns of images side by side, (N, C, H, W) each, as one picture of 8 bits.

    Columns that are None are left out. Smaller images are enlarged to the largest, pixel by pixel.

    Shapes: -> (N · H, columns · W, 3), uint8.

    Example:
        >>> grid([torch.zeros(2, 3, 4, 4), torch.ones(2, 1, 2, 2)]).shape
        torch.Size([8, 8, 3])
    """
    shown = [_colours(c.detach().float().cpu()) for c in columns if c is not None and c.ndim == 4]
    height = min(_LARGEST, max(c.shape[2] for c in shown))
    width = min(_LARGEST, max(c.shape[3] for c in shown))
    sized = [torch.nn.functional.interpolate(c, (height, width), mode="nearest") for c in shown]
    whole = torch.cat([torch.cat(list(row), dim=2) for row in zip(*sized, strict=True)], dim=1)
    pixels = ((whole - low) / (high - low)).clamp(0, 1) * 255
    return pixels.round().to(torch.uint8).permute(1, 2, 0).contiguous()


def difference(one: Tensor, other: Tensor) -> Tensor:
    """Returns the difference of two images, ten times enlarged, around grey.

    Example:
        >>> float(difference(torch.tensor(0.1), torch.tensor(0.05)))
        0.5
    """
    return ((one - other) * _TIMES).clamp(-1, 1)


def write_grid(path: Path, pixels: Tensor) -> None:
    """Writes a picture as PNG; it appears whole or not at all."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    data = encode(np.ascontiguousarray(pixels.numpy()))
    write_files({path: lambda file: file.write(data)})


def _colours(images: Tensor) -> Tensor:
    """Returns three channels: of one the same three times, of more the first three."""
    if images.shape[1] in (1, 2):
        return images[:, :1].expand(-1, 3, -1, -1)
    return images[:, :3]
