"""Opens whatever holds rows: pictures, tensors, a Dataset, a DataLoader, a list.

1. A map-style Dataset is read by number. A DataLoader over one is read past the loader: the order
   is the task's. Whatever else can be iterated is iterated once and held.
2. A Dataset that draws random numbers gets streams that the example's own dice seed.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from gfx.errors import InputError
from gfx.io.data.datasets import PictureSet
from gfx.io.guards import running
from gfx.ir.random_state import drawn_in_python, drawn_in_torch, keep_random_state, seed_all
from gfx.train.tasks.example_source import ExampleSource, Row

__all__ = ["Items", "PictureRows", "Rows", "open_rows"]

_MOST_HELD = 8 << 30  # bytes of what can only be iterated
_ASKED = 3  # items of a Dataset that are tried for random numbers


class PictureRows(ExampleSource):
    """Pictures of files, each with the labels given; `mark` begins the keys."""

    def __init__(
        self, pictures: PictureSet, labels: Sequence[Tensor] | None = None, mark: str = ""
    ) -> None:
        self.pictures, self.labels, self.mark = pictures, labels, mark

    def __len__(self) -> int:
        return len(self.pictures)

    def read(self, index: int, seed: int = 0) -> Row:
        """Returns the picture, and its label."""
        more = () if self.labels is None else (self.labels[index],)
        return (self.pictures[index], *more)

    def key(self, index: int) -> str:
        """Returns the number of the file."""
        return f"{self.mark}{index}"

    def name(self, index: int) -> str:
        """Returns the name of the file."""
        return self.pictures.paths[index].name

    def keep_decoded(self, most: int) -> None:
        """Keeps decoded pictures, up to so many bytes."""
        self.pictures.keep = most


class Rows(ExampleSource):
    """Columns of tensors, equally long."""

    def __init__(self, *columns: Tensor, mark: str = "") -> None:
        lengths = {len(column) if column.ndim else 0 for column in columns}
        if len(lengths) != 1 or lengths == {0}:
            counts = " and ".join(str(len(c) if c.ndim else 0) for c in columns)
            raise InputError(
                f"data holds {counts} examples; give tensors (N, …) of equally many, at least 1"
            )
        self.columns, self.mark = columns, mark

    def __len__(self) -> int:
        return len(self.columns[0])

    def read(self, index: int, seed: int = 0) -> Row:
        """Returns a row of every column."""
        return tuple(column[index] for column in self.columns)

    def key(self, index: int) -> str:
        """Returns the number of the row."""
        return f"{self.mark}{index}"


class Items(ExampleSource):
    """Items of a map-style Dataset, or of a list (rules 1 and 2)."""

    def __init__(self, items: Any, mark: str = "") -> None:
        self.items, self.mark = items, mark
        if not len(items):
            raise InputError("data is empty; give at least one example")
        self.draws = not isinstance(items, list) and _draws(items)

    def __len__(self) -> int:
        return len(self.items)

    def read(self, index: int, seed: int = 0) -> Row:
        """Returns an item as a row."""
        with running(f"reading example {index} of the {type(self.items).__name__}"):
            if not self.draws:
                return as_row(self.items[index])
            with keep_random_state(python=True):
                seed_all(seed % 2**32)
                return as_row(self.items[index])

    def labels(self) -> Tensor | None:
        """Returns the labels that a Dataset states, as `targets`: no image is read for them."""
        stated = getattr(self.items, "targets", None)
        tensors: Sequence[Any] = getattr(self.items, "tensors", ())
        if stated is None and len(tensors) > 1:
            stated = tensors[1]
        known = isinstance(stated, Tensor | list) and len(stated) == len(self)
        return torch.as_tensor(stated) if known else None

    def key(self, index: int) -> str:
        """Returns the number of the item."""
        return "" if self.draws else f"{self.mark}{index}"


def open_rows(data: Any) -> ExampleSource:
    """Opens a tensor, several, a Dataset, a DataLoader, or an iterable of examples or batches.

    Raises: InputError if it is none of these, or is empty.
    """
    if isinstance(data, ExampleSource):
        return data
    if isinstance(data, np.ndarray):
        data = torch.from_numpy(data)
    if isinstance(data, Tensor):
        return Rows(data.detach())
    if isinstance(data, Mapping) and data and all(isinstance(x, Tensor) for x in data.values()):
        data = tuple(data.values())
    if isinstance(data, tuple) and data and all(isinstance(x, Tensor) for x in data):
        return Rows(*(x.detach() for x in data))
    if isinstance(data, DataLoader) and _is_plain(data):
        data = data.dataset
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        if hasattr(data, "__len__"):
            return Items(data)
        raise InputError(
            f"data is a {type(data).__name__} without a length; give it __len__, or a list"
        )
    if isinstance(data, Iterable) and not isinstance(data, str | bytes | os.PathLike):
        return Items(_held(data))
    raise InputError(
        f"data is a {type(data).__name__}; give a folder, a tensor (N, …), a Dataset, a DataLoader "
        "or a list of examples"
    )


def as_row(item: Any) -> Row:
    """Returns an item as a row: a tuple as it is, a dict by its values, else one column.

    Of a dict, strings and lists of them are left out: they are names, as of files.
    """
    if isinstance(item, Mapping):
        return tuple(value for value in item.values() if not _is_name(value))
    return tuple(item) if isinstance(item, tuple | list) else (item,)


def _is_name(value: Any) -> bool:
    several = value if isinstance(value, list | tuple) and value else [value]
    return all(isinstance(each, str | bytes | os.PathLike) for each in several)


def _is_plain(loader: DataLoader[Any]) -> bool:
    """Whether a loader only stacks the items of a map-style Dataset."""
    plain = loader.collate_fn is default_collate
    return plain and not isinstance(loader.dataset, IterableDataset)


def _held(data: Iterable[Any]) -> list[Row]:
    """Iterates once, and holds the rows of what comes: examples, or batches (N, C, H, W)."""
    rows: list[Row] = []
    left = _MOST_HELD
    with keep_random_state(seed=0, python=True):
        for item in data:
            for row in _unbatched(as_row(item)):
                rows.append(row)
                left -= sum(x.nbytes for x in row if isinstance(x, Tensor | np.ndarray))
                if left < 0:
                    raise InputError(
                        f"data can only be iterated, and holds more than {_MOST_HELD >> 30} GiB; "
                        "give a Dataset with __len__ and __getitem__, which is read by number"
                    )
    return rows


def _unbatched(row: Row) -> Iterator[Row]:
    """Splits a batch of images into rows; a row of single images stays."""
    first = row[0]
    if not (isinstance(first, Tensor) and first.ndim == 4):
        yield row
        return
    for place in range(len(first)):  # a batch
        yield tuple(column[place] for column in row)


def _draws(items: Any) -> bool:
    """Whether reading the first items draws random numbers."""
    with keep_random_state(python=True), drawn_in_torch() as torchs, drawn_in_python() as pythons:
        for index in range(min(_ASKED, len(items))):
            with running(f"reading example {index} of the {type(items).__name__}"):
                _ = items[index]
    return torchs[0] or pythons[0]
