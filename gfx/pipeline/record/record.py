"""Keeps a record of the original for the report: its layers, and its output on one input.

1. The input is the first batch of the user's data, as many examples as the example input has,
   otherwise one that is synthetic (gfx/io/data/synthetic_inputs.py).
2. An image among the inputs is kept as a picture of its first example, and the original runs on
   that picture, for every example: so the output of the compressed program is comparable later.
   Maps of labels are kept as labels, everything else unchanged.
3. Where nothing can be shown, the record says why. No failure here stops a recipe.
"""

import base64
import contextlib
import io
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

from gfx.costs import Cost
from gfx.errors import InputError
from gfx.io.data import batches_of, synthetic
from gfx.ir.ambient_modes import shielded
from gfx.ir.execute import on_meta, run
from gfx.ir.program import Program
from gfx.ir.random_state import keep_random_state
from gfx.pipeline.record.images import Picture, is_image, picture
from gfx.pipeline.record.recorded_layers import RecordedLayer, layers_of

__all__ = ["Kept", "OutputSample", "Record", "record_of", "sample_of", "shown_in"]

_MOST = 64 * 1024  # bytes of an input that is no image
_LARGEST = 2**26  # elements of an input that is read back


@shielded
@dataclass(frozen=True)
class Kept:
    """One input, kept so that it can be restored (rule 2)."""

    shape: tuple[int, ...]
    dtype: str
    picture: Picture | None = None  # of an image
    labels: bool = False  # whether data holds the indices of a one-hot map
    data: str = ""  # base64 of zlib of its values or labels, if it is no image

    def tensor(self) -> Tensor:
        """Returns the input.

        Raises: InputError if the kept data are damaged.
        """
        kind = getattr(torch, self.dtype, None)
        if not isinstance(kind, torch.dtype) or not 0 < int(np.prod(self.shape)) <= _LARGEST:
            raise InputError(f"an input of shape {list(self.shape)}, {self.dtype} cannot be kept")
        if self.picture is not None:
            # in the usual memory layout: the model may ask for a view of it
            return _many(self.picture.values(), self.shape).to(kind).contiguous()
        if not self.labels:
            return _unpacked(self.data, self.shape, kind)
        count, channels, *places = self.shape
        labels = _unpacked(self.data, (count, *places), torch.uint8).long()
        if int(labels.max()) >= channels:
            raise InputError(f"a map of {channels} labels holds label {int(labels.max())}")
        return F.one_hot(labels, channels).movedim(-1, 1).to(kind).contiguous()


@dataclass(frozen=True)
class OutputSample:
    """The output of the original on one input."""

    inputs: tuple[Kept, ...]
    output: Picture
    place: int  # index of the tensor among the outputs
    told: str  # where the input comes from


@dataclass(frozen=True)
class Record:
    """The record of the original in a report.

    Example:
        >>> Record().sample is None
        True
    """

    layers: tuple[RecordedLayer, ...] = ()
    sample: OutputSample | None = None
    why: str = ""  # why there is no sample


def record_of(program: Program, cost: Cost | None = None, *, seed: int = 0) -> Record:
    """Records a program: its layers, and a sample on a synthetic input.

    Raises: InputError if the program does not run on its example inputs.

    Example:
        >>> import gfx
        >>> record = record_of(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> len(record.layers), record.sample.output.height
        (5, 64)
    """
    sample, why = sample_of(program, seed=seed)
    return Record(layers_of(program, cost), sample, why)


def sample_of(
    program: Program, data: Any = None, *, seed: int = 0
) -> tuple[OutputSample | None, str]:
    """Runs a program on the first batch of the data, or on a synthetic input (rule 1).

    Returns the sample, or None and why there is none (rule 3).
    """
    if on_meta(program):
        return None, "the model is on the meta device, without values"
    if not all(isinstance(x, Tensor) for x in program.example_inputs):
        return None, "an input is no tensor"
    try:
        with keep_random_state(seed=seed):
            return _sample(program, data, seed), ""
    except InputError as error:
        return None, str(error)
    except Exception as error:  # the user's data and model run here: the record keeps the reason
        return None, f"{type(error).__name__}: {error}".splitlines()[0]


def shown_in(output: Any) -> int | None:
    """Returns the index of the output tensor to show, the largest image; None if there is none.

    Example:
        >>> shown_in({"image": torch.zeros(1, 3, 8, 8), "score": torch.zeros(1, 1)})
        0
    """
    sizes = {i: x.numel() for i, x in enumerate(pytree.tree_leaves(output)) if is_image(x)}
    return max(sizes, key=lambda i: (sizes[i], -i)) if sizes else None


def _sample(program: Program, data: Any, seed: int) -> OutputSample:
    if data is None:
        given, origin = synthetic(program, 1, seed)[0], f"made up (seed {seed})"
    else:
        given, origin = _first(program, data), "the first batch of the data"
    inputs = tuple(_keep(x) for x in given)
    tensors = zip(inputs, given, strict=True)
    with contextlib.redirect_stderr(io.StringIO()):  # torch.fx prints where a forward stopped
        output = run(program, tuple(kept.tensor().to(x.device) for kept, x in tensors))
    place = shown_in(output)
    if place is None:
        raise InputError(f"its output is no image: {_kinds(output)}")
    image = pytree.tree_leaves(output)[place]
    if not bool(torch.isfinite(image).all()):
        raise InputError("its output holds values that are not finite")
    return OutputSample(inputs, picture(image), place, origin)


def _first(program: Program, data: Any) -> tuple[Tensor, ...]:
    """Takes the first batch of the data, cut to as many examples as the example input has."""
    (batch,) = batches_of(program, data, 1)
    sizes = {len(x) for x in batch if x.ndim}
    if len(sizes) != 1:
        return batch
    count = max((len(x) for x in program.example_inputs if x.ndim), default=1)
    return tuple(x[:count] if x.ndim else x for x in batch)


def _keep(value: Tensor) -> Kept:
    """Keeps one input (rule 2)."""
    value = value.detach()
    shape, dtype = tuple(value.shape), str(value.dtype).removeprefix("torch.")
    if is_image(value) and shape[1] != 4 and bool(torch.isfinite(value).all()):
        return Kept(shape, dtype, picture(value))
    labels = value.ndim == 4 and 1 < shape[1] <= 256 and _is_one_hot(value)
    data = _packed(value.argmax(1).to(torch.uint8) if labels else value)
    if len(data) > _MOST:
        raise InputError(f"its input of shape {'x'.join(map(str, shape))} is too large to keep")
    return Kept(shape, dtype, None, labels, data)


def _is_one_hot(x: Tensor) -> bool:
    binary = bool(((x == 0) | (x == 1)).all())
    return binary and bool((x.sum(1) == 1).all())


def _packed(value: Tensor) -> str:
    flat = value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return base64.b64encode(zlib.compress(flat.tobytes(), 9)).decode()


def _unpacked(data: str, shape: tuple[int, ...], kind: torch.dtype) -> Tensor:
    size = int(np.prod(shape)) * kind.itemsize
    try:
        raw = zlib.decompressobj().decompress(base64.b64decode(data, validate=True), size + 1)
    except (ValueError, zlib.error) as error:
        raise InputError(f"an input that was kept is damaged: {error}") from error
    if len(raw) != size:
        raise InputError(f"an input that was kept has {len(raw)} bytes, expected {size}")
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(kind).reshape(shape)


def _many(image: Tensor, shape: tuple[int, ...]) -> Tensor:
    if image.shape[1:] != shape[1:]:
        raise InputError(f"a picture of {list(image.shape)} was kept for {list(shape)}")
    return image.expand(shape)


def _kinds(output: Any) -> str:
    leaves = [x for x in pytree.tree_leaves(output) if isinstance(x, Tensor)]
    return ", ".join("x".join(map(str, x.shape)) or "a number" for x in leaves[:4]) or "nothing"
