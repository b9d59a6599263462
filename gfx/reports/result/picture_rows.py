"""Compares pictures: input, original output, compressed output and residual.

All are of 8 bits. The residual is ten times the absolute difference of the two outputs as shown,
pixel by pixel and colour by colour, cut at white.
"""

import base64
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

from gfx.errors import InputError
from gfx.ir.execute import on_meta, run
from gfx.ir.program import Program
from gfx.pipeline.record import Kept, OutputSample, Picture, Record
from gfx.pipeline.record.png import encode

__all__ = ["GAIN", "Compared", "compared", "residual", "uri"]

Pixels = NDArray[np.uint8]

GAIN = 10  # times that a residual is enlarged
_MISSING = (
    "This file keeps no picture of what the original gives: it was written before gfx kept one. "
    "Name the model that it was made from: --original MODEL."
)


@dataclass(frozen=True)
class Compared:
    """Holds the outputs of original and compressed program on one input.

    Units: pixel values from 0 to 255; `psnr` in dB, infinite where the pixels are the same.
    """

    input: Pixels | None  # None: no input is an image
    noise: str  # the kind of the inputs if none is an image
    original: Pixels
    compressed: Pixels
    residual: Pixels
    shown: Picture  # fixes size, black and white of the outputs
    origin: str  # where the input comes from
    mean: float  # of the absolute difference
    most: int
    psnr: float


def compared(program: Program, record: Record | None) -> Compared | str:
    """Runs the compressed program on the recorded input; says why if it cannot."""
    if record is None:
        return _MISSING
    if record.sample is None:
        return f"There are no pictures: {record.why}."
    if on_meta(program):
        return "There are no pictures: the model is on the meta device, without values."
    try:
        return _compared(program, record.sample)
    except InputError as error:
        return f"There are no pictures: {error}."
    except Exception as error:  # the model runs here: the page says why and shows the rest
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        return f"There are no pictures: it does not run on the input that was kept ({said})."


def residual(original: Pixels, compressed: Pixels) -> Pixels:
    """Returns ten times the absolute difference, cut at 255.

    Example:
        >>> residual(np.uint8([[10, 200]]), np.uint8([[13, 100]])).tolist()
        [[30, 255]]
    """
    gap = np.abs(original.astype(np.int32) - compressed.astype(np.int32))
    enlarged: Pixels = np.minimum(GAIN * gap, 255).astype(np.uint8)
    return enlarged


def uri(pixels: Pixels) -> str:
    """Encodes pixels as a data URI for an image in the page.

    Example:
        >>> uri(np.zeros((1, 1), np.uint8))[:22]
        'data:image/png;base64,'
    """
    return f"data:image/png;base64,{base64.b64encode(encode(pixels)).decode()}"


def _compared(program: Program, sample: OutputSample) -> Compared:
    like = [x for x in program.example_inputs if isinstance(x, Tensor)]
    if len(like) != len(sample.inputs):
        raise InputError(f"{len(sample.inputs)} inputs were kept, the program takes {len(like)}")
    given = [kept.tensor() for kept in sample.inputs]
    # the module may have been cast or moved since
    fitted = [
        x.to(own.device, own.dtype) if own.is_floating_point() else x.to(own.device)
        for x, own in zip(given, like, strict=True)
    ]
    leaves = pytree.tree_leaves(run(program, tuple(fitted)))
    if sample.place >= len(leaves) or not isinstance(leaves[sample.place], Tensor):
        raise InputError("its outputs are no longer those of the original")
    pixels = sample.output.pixels()
    shown = sample.output.shows(torch.nan_to_num(leaves[sample.place]))
    gap = np.abs(pixels.astype(np.float64) - shown)
    error = float(np.square(gap).mean())
    return Compared(
        input=next((p for p in map(_shown, sample.inputs, given) if p is not None), None),
        noise=", ".join(f"{k.dtype} {'x'.join(map(str, k.shape))}" for k in sample.inputs),
        original=pixels,
        compressed=shown,
        residual=residual(pixels, shown),
        shown=sample.output,
        origin=sample.told,
        mean=float(gap.mean()),
        most=int(gap.max()),
        psnr=10 * math.log10(255**2 / error) if error else math.inf,
    )


def _shown(kept: Kept, value: Tensor) -> Pixels | None:
    """Shows an input: an image as it is, a map of labels in a colour each."""
    if kept.picture is not None:
        return kept.picture.pixels()
    if not kept.labels:
        return None
    coloured: Pixels = _palette()[value[0].argmax(0).numpy() % 256]
    return coloured


def _palette() -> Pixels:
    """Returns distinct colours: steps of the golden ratio around each of three channels."""
    steps = np.arange(256)[:, None] * np.array([0.754877, 0.569840, 0.438579]) % 1  # R3 sequence
    colours: Pixels = (40 + 200 * steps).astype(np.uint8)
    return colours
