"""Draws synthetic inputs where there is no data: smooth images, and noise for other inputs."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

from gfx.errors import InputError
from gfx.io.data.value_range import Range, find_range, written
from gfx.ir.execute import draw, tensors
from gfx.ir.program import Program

__all__ = ["synthetic", "synthetic_note"]

_MOST_BATCHES, _MOST_BYTES = 4096, 4 << 30  # that are made up
_LEAST = 8  # pixels: smaller maps are no images
_CELLS, _OCTAVES = 4, 2  # cells of noise across an image; then twice as many of half the height


def synthetic(program: Program, count: int, seed: int = 0) -> list[tuple[Any, ...]]:
    """Draws batches in the shapes of the example inputs.

    An image (N, C, H, W of more than 8 pixels) is smooth: noise of low frequencies, in the range
    of the example, or where that is constant or itself normal noise in the range that the program
    tells, see gfx/io/data/value_range.py, else in [-1, 1]. A one-hot map of
    labels stays one, with smooth regions. Other floating inputs are noise: normal if the example
    looks so, else as `gfx.ir.execute.draw` has it. Integers and truth values are the example's.

    Raises: InputError if they would be too many to hold.

    Example:
        >>> import gfx
        >>> program = gfx.trace(torch.nn.Conv2d(3, 3, 3), torch.randn(1, 3, 64, 64))
        >>> [(tuple(x.shape), bool(x.abs().max() <= 1)) for x, in synthetic(program, 1)]
        [((1, 3, 64, 64), True)]
    """
    _check_count(program, count)
    found, usual = [], find_range(program)
    for number in range(count):
        generator = torch.Generator().manual_seed(seed + number)
        leaves, spec = pytree.tree_flatten(draw(program, seed + number))
        examples = pytree.tree_leaves(program.example_inputs)
        fresh = [
            _fresh(example, leaf, generator, (usual.low, usual.high))
            for leaf, example in zip(leaves, examples, strict=True)
        ]
        found.append(pytree.tree_unflatten(fresh, spec))
    return found


def synthetic_note(program: Program, count: int, seed: int = 0) -> str:
    """Describes in a sentence what `synthetic` draws.

    Example:
        >>> import gfx
        >>> synthetic_note(gfx.trace(gfx.zoo.build("dcgan", ngf=4)), 2)
        'no data was given: 2 batches of noise were made up (seed 0)'
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3), torch.nn.Sigmoid())
        >>> synthetic_note(gfx.trace(net, torch.zeros(1, 3, 32, 32)), 1).partition("; ")[2]
        "images are scaled to [0, 1], as the Sigmoid at the model's end tells"
    """
    kinds = {_kind(x) for x in tensors(program.example_inputs)}
    named = " and ".join(sorted(kinds, reverse=True)) or "the example inputs"
    plural = "batch" if count == 1 else "batches"
    said = f"no data was given: {count} {plural} of {named} were made up (seed {seed})"
    silent = [x for x in tensors(program.example_inputs) if _is_image(x) and not _tells_range(x)]
    if not any(not _is_one_hot(x) for x in silent):
        return said
    found = find_range(program)
    told = found.sentence if found.why else f"images in {written((found.low, found.high))}, assumed"
    return f"{said}; {told}"


def _check_count(program: Program, count: int) -> None:
    each = sum(x.numel() * x.element_size() for x in tensors(program.example_inputs))
    if count > _MOST_BATCHES or count * each > _MOST_BYTES:
        fit = max(min(_MOST_BATCHES, _MOST_BYTES // max(each, 1)), 1)
        raise InputError(
            f"batches={count} of noise would be {count * each / 2**30:,.1f} GiB, all made up; ask "
            f"for at most {fit}, or give data, which is read as it is needed"
        )


def _kind(example: Tensor) -> str:
    if not _is_image(example):
        return "noise" if example.is_floating_point() else "the example's own integers"
    return "smooth maps of labels" if _is_one_hot(example) else "smooth random images"


def _is_image(x: Any) -> bool:
    if not isinstance(x, Tensor) or x.ndim != 4 or not x.is_floating_point() or x.is_meta:
        return False
    return min(x.shape[2:]) > _LEAST and x.numel() > 0


def _is_one_hot(x: Tensor) -> bool:
    binary = bool(((x == 0) | (x == 1)).all())
    return x.shape[1] > 1 and binary and bool((x.sum(1) == 1).all())


def _fresh(example: Any, drawn: Any, generator: torch.Generator, usual: Range) -> Any:
    """Draws one input; `drawn` is uniform in the range of the example."""
    if not isinstance(example, Tensor) or not example.is_floating_point() or not example.numel():
        return drawn
    if _is_image(example):
        return _smooth(example, generator, usual)
    if example.is_meta or not _is_normal(example):
        return drawn
    return torch.randn(example.shape, generator=generator).to(example.device, example.dtype)


def _smooth(example: Tensor, generator: torch.Generator, usual: Range) -> Tensor:
    """Draws an image of low frequencies like an example, or a map of labels."""
    count, channels, height, width = example.shape
    image = torch.zeros(example.shape, dtype=torch.float64)
    for octave in range(_OCTAVES):
        cells = _CELLS << octave
        noise = torch.randn(count, channels, cells, cells, generator=generator, dtype=torch.float64)
        size = (height, width)
        image += F.interpolate(noise, size, mode="bicubic", align_corners=False) / 2**octave
    if _is_one_hot(example):
        image = F.one_hot(image.argmax(1), channels).movedim(-1, 1)
        return image.to(example.device, example.dtype)
    low, high = usual
    if _tells_range(example):
        low, high = float(example.min()), float(example.max())
    image = low + (high - low) * torch.sigmoid(2 * image)
    return image.to(example.device, example.dtype).clamp(low, high)


def _tells_range(example: Tensor) -> bool:
    """Whether an example's own range is that of images: it is neither constant nor normal noise."""
    return bool(example.min() < example.max()) and not _is_normal(example)


def _is_normal(example: Tensor) -> bool:
    """Whether an example looks like normal noise, which stands for any input."""
    return bool(example.min() < -1.5 and example.max() > 1.5 and 0.8 < example.std() < 1.2)
