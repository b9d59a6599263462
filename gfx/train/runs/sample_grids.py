"""Pictures of a run: a row an example, input | teacher | student | difference | truth.

What the columns are called, and the size of one image, is written into the PNG.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gfx.io.atomic_writes import write_files
from gfx.io.guards import writing
from gfx.io.plain_data import coerce
from gfx.pipeline.record.png import encode, size_and_texts

__all__ = ["TIMES", "GridLayout", "SampleGrid", "difference", "grid", "layout_of", "write_grid"]

_KEY = "gfx grid"  # of the text in the PNG

_LARGEST = 256  # pixels a side of one picture
TIMES = 10  # enlargement of the difference


@dataclass(frozen=True)
class GridLayout:
    """Says what stands where in a grid: the names of the columns, the size of one image."""

    columns: tuple[str, ...]
    height: int  # pixels, of one image
    width: int


@dataclass(frozen=True)
class SampleGrid:
    """A picture of examples, one a row, and how it is laid out.

    Shapes: pixels (examples · height, columns · width, 3), uint8.
    """

    pixels: Tensor
    layout: GridLayout


def grid(columns: Mapping[str, Tensor | None], low: float = -1.0, high: float = 1.0) -> SampleGrid:
    """Puts columns of images side by side, (N, C, H, W) each, as one picture of 8 bits.

    Columns that are None are left out. Smaller images are enlarged to the largest, pixel by pixel.

    Example:
        >>> made = grid({"teacher": torch.zeros(2, 3, 4, 4), "student": torch.ones(2, 1, 2, 2)})
        >>> made.pixels.shape, made.layout
        (torch.Size([8, 8, 3]), GridLayout(columns=('teacher', 'student'), height=4, width=4))
    """
    kept = {name: c for name, c in columns.items() if c is not None and c.ndim == 4}
    shown = [_colours(c.detach().float().cpu()) for c in kept.values()]
    height = min(_LARGEST, max(c.shape[2] for c in shown))
    width = min(_LARGEST, max(c.shape[3] for c in shown))
    sized = [torch.nn.functional.interpolate(c, (height, width), mode="nearest") for c in shown]
    whole = torch.cat([torch.cat(list(row), dim=2) for row in zip(*sized, strict=True)], dim=1)
    values = ((whole - low) / (high - low)).clamp(0, 1) * 255
    pixels = values.round().to(torch.uint8).permute(1, 2, 0).contiguous()
    return SampleGrid(pixels, GridLayout(tuple(kept), height, width))


def difference(one: Tensor, other: Tensor) -> Tensor:
    """Returns the difference of two images, ten times enlarged, around grey.

    Example:
        >>> float(difference(torch.tensor(0.1), torch.tensor(0.05)))
        0.5
    """
    return ((one - other) * TIMES).clamp(-1, 1)


def write_grid(path: Path, made: SampleGrid) -> None:
    """Writes a picture as PNG; it appears whole or not at all."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    texts = {_KEY: json.dumps(asdict(made.layout))}
    data = encode(np.ascontiguousarray(made.pixels.numpy()), texts)
    write_files({path: lambda file: file.write(data)})


def layout_of(data: bytes) -> GridLayout | None:
    """Reads the layout from a PNG; None if it has none, or none that fits the picture.

    Raises: InputError if it is no PNG.
    """
    height, width, texts = size_and_texts(data)
    try:
        found = coerce(json.loads(texts.get(_KEY, "null")), GridLayout)
    except (ValueError, TypeError, RecursionError):
        return None
    assert isinstance(found, GridLayout)
    if min(found.height, found.width) < 1 or not found.columns:
        return None
    fits = width == found.width * len(found.columns) and height % found.height == 0
    return found if fits else None


def _colours(images: Tensor) -> Tensor:
    """Returns three channels: of one the same three times, of more the first three."""
    if images.shape[1] in (1, 2):
        return images[:, :1].expand(-1, 3, -1, -1)
    return images[:, :3]
