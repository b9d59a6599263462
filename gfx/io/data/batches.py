"""Brings the user's data into batches of a program's inputs.

1. Data is an iterable of batches: a DataLoader, a dataset, a list. A tensor or a dict is one batch,
   and so is a tuple of as many tensors as the program has inputs, if it has several. A path, or an
   ImageFolder, is a folder of images (gfx/io/data/image_folder.py says how they are read).
2. A batch is a tensor, a tuple or list of tensors in the order of the inputs, or a dict by name.
   What comes after the inputs, such as labels, is left out. Where an input is a container or an
   object, so is its batch.
3. A single example without its batch dimension gets one.
4. Batch and image sizes may differ from those of the example inputs; channels may not.
"""

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import Dataset

from gfx.errors import InputError
from gfx.io.data.image_folder import ImageFolder
from gfx.io.guards import printable
from gfx.ir.program import Program
from gfx.objects.take_apart import plain
from gfx.progress import step

__all__ = ["batches_of", "each_of", "replayable"]


def batches_of(program: Program, data: Any, count: int) -> list[tuple[Any, ...]]:
    """Takes at most `count` batches from the data and returns them as inputs of the program.

    Dtypes and devices become those of the example inputs.

    Raises: InputError naming the batch, what was expected and what came.

    Example:
        >>> import gfx
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> [z.shape for z, in batches_of(program, [torch.zeros(2, 100, 1, 1)] * 3, 2)]
        [torch.Size([2, 100, 1, 1]), torch.Size([2, 100, 1, 1])]
    """
    found = []
    with step("reading batches of the data", count) as counted:
        for batch in islice(each_of(program, data), count):
            found.append(batch)
            counted.advance()
    return found


def each_of(program: Program, data: Any) -> Iterator[tuple[Any, ...]]:
    """Iterates over all batches of the data, as `batches_of` returns them.

    Raises: InputError naming the batch, what was expected and what came.

    Example:
        >>> import gfx
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> len(list(each_of(program, [torch.zeros(2, 100, 1, 1)] * 3)))
        3
    """
    wanted = _Wanted(program)
    number = -1
    for number, batch in enumerate(_each(data, wanted)):
        yield wanted.inputs(batch, number)
    if number < 0:
        raise InputError(
            "data gives no batch: it is empty, or an iterator that was read before; "
            "give a list or a DataLoader"
        )


def replayable(data: Any) -> Any:
    """Returns data that can be read several times: items of an iterator are kept.

    Example:
        >>> data = replayable(iter([1, 2, 3]))
        >>> next(iter(data)), list(data), list(data)
        (1, [1, 2, 3], [1, 2, 3])
    """
    return _Replay(data) if isinstance(data, Iterator) else data


class _Replay:
    """Reads an iterator no further than was asked for, and each item once."""

    def __init__(self, source: Iterator[Any]) -> None:
        self.source = source
        self.seen: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        position = 0
        while True:
            if position == len(self.seen):
                try:
                    self.seen.append(next(self.source))
                except StopIteration:
                    return
            yield self.seen[position]
            position += 1


def _each(data: Any, wanted: "_Wanted") -> Iterator[Any]:
    """Iterates over batches (rule 1)."""
    if isinstance(data, str | os.PathLike):
        data = ImageFolder(data)
    if isinstance(data, ImageFolder):
        if len(wanted.names) != 1:
            raise InputError(
                f"{printable(data.path)} is a folder of images, and the model has "
                f"{len(wanted.names)} inputs ({wanted.shapes}); give data= in Python"
            )
        folder, _ = data.ranged(wanted.program)
        return folder.batches(wanted.examples[0])
    several = len(wanted.names) > 1
    whole = several and isinstance(data, tuple) and len(data) == len(wanted.names)
    if isinstance(data, Tensor | np.ndarray | Mapping) or (
        whole and all(isinstance(x, Tensor) for x in data)
    ):
        return iter([data])
    if isinstance(data, Dataset) and not hasattr(data, "__iter__") and hasattr(data, "__len__"):
        return (data[i] for i in range(len(data)))  # it need not raise IndexError at its end
    try:
        return iter(data)
    except TypeError as error:
        raise InputError(
            f"data is a {type(data).__name__}; give an iterable of batches, such as a DataLoader "
            f"or a list of tensors of shape {wanted.shapes}"
        ) from error


class _Wanted:
    """Holds the tensors among a program's inputs, with their names."""

    def __init__(self, program: Program) -> None:
        self.program = program
        leaves, self.spec = pytree.tree_flatten(program.example_inputs)
        self.leaves = leaves
        self.places = [i for i, x in enumerate(leaves) if isinstance(x, Tensor)]
        self.examples: list[Tensor] = [leaves[i] for i in self.places]
        names = [str(n.target) for n in program.graph.nodes if n.op == "placeholder"]
        self.flat = len(names) == len(leaves)
        self.names = [names[i] if self.flat else f"input {i}" for i in self.places]

    @property
    def shapes(self) -> str:
        """The shapes of the example inputs, for messages."""
        return ", ".join(_shape(x) for x in self.examples)

    def inputs(self, batch: Any, number: int) -> tuple[Any, ...]:
        """Returns one batch as the program's inputs (rules 2 to 4)."""
        given = self._pick(batch, f"data: batch {number}")
        pairs = zip(self.names, given, self.examples, strict=True)
        fitted = [
            _fitted(value, example, f"data: batch {number}: {name}")
            for name, value, example in pairs
        ]
        leaves = list(self.leaves)
        for place, value in zip(self.places, fitted, strict=True):
            leaves[place] = value
        inputs: tuple[Any, ...] = pytree.tree_unflatten(leaves, self.spec)
        return inputs

    def _pick(self, batch: Any, who: str) -> list[Any]:
        """Picks the inputs out of a batch (rule 2)."""
        named = ", ".join(
            f"{n} {_shape(x)}" for n, x in zip(self.names, self.examples, strict=True)
        )
        if not self.flat and not isinstance(batch, Tensor):
            batch = [x for x in pytree.tree_leaves(plain(batch)) if isinstance(x, Tensor)]
        if isinstance(batch, Mapping):
            missing = [name for name in self.names if name not in batch]
            if missing:
                keys = ", ".join(map(str, batch))
                raise InputError(f"{who} has no {missing[0]!r} (it has {keys}); expected {named}")
            return [batch[name] for name in self.names]
        given = list(batch) if isinstance(batch, tuple | list) else [batch]
        if len(given) < len(self.names):
            raise InputError(
                f"{who} gives {len(given)} of {len(self.names)} inputs; expected {named}, as a "
                "tuple in this order or a dict"
            )
        return given[: len(self.names)]


def _fitted(value: Any, example: Tensor, who: str) -> Tensor:
    """Returns a value in the dtype and on the device of an example, or says what is wrong."""
    expected = f"expected {_kind(example.dtype)} of shape {_shape(example)}"
    if isinstance(value, np.ndarray | int | float) and not isinstance(value, bool):
        value = torch.as_tensor(value)
    if not isinstance(value, Tensor):
        raise InputError(f"{who} is a {type(value).__name__}; {expected}")
    value = value.detach()
    if value.ndim == example.ndim - 1:
        value = value[None]  # rule 3
    if value.dtype.is_floating_point != example.dtype.is_floating_point:
        raise InputError(
            f"{who} has dtype {_kind(value.dtype)}; {expected}; convert it as for the training of "
            "the model (images are often scaled to [-1, 1] or [0, 1])"
        )
    # three dimensions may be (N, C, L) or (N, L, C): the program's run decides
    channels = slice(1, 2) if example.ndim != 3 else slice(0)
    if value.ndim != example.ndim or value.shape[channels] != example.shape[channels]:
        raise InputError(
            f"{who} has shape {_shape(value)}; {expected}, where the sizes of batch and image may "
            "differ"
        )
    if not value.numel():
        raise InputError(f"{who} is empty, of shape {_shape(value)}; {expected}")
    fitted: Tensor = value.to(example.device, example.dtype)
    return fitted


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "()"


def _kind(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
