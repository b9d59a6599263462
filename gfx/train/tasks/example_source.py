"""Rows of data by number, and how they are put side by side and one after another.

A row is a tuple of columns: an image; an input and its target; an image and its label.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

__all__ = ["Concatenated", "ExampleSource", "FirstColumn", "Row", "Zipped"]

Row = tuple[Any, ...]


class ExampleSource(ABC):
    """Rows by number.

    Example:
        >>> import torch
        >>> from gfx.train.tasks.open_rows import open_rows
        >>> source = open_rows(torch.zeros(5, 3, 8, 8))
        >>> len(source), source.read(0)[0].shape
        (5, torch.Size([3, 8, 8]))
    """

    draws: bool = False  # whether reading draws random numbers

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int, seed: int = 0) -> Row:
        """Returns a row; `seed` begins the streams of a source that draws."""

    def key(self, index: int) -> str:
        """Returns what tells a row from all others of the task; "" if it never comes again."""
        return "" if self.draws else str(index)

    def name(self, index: int) -> str:
        """Names a row in messages."""
        return f"example {index}"

    def part(self, indices: Sequence[int]) -> "ExampleSource":
        """Returns some of the rows, in that order; their keys stay."""
        return _PartOfSource(self, list(indices))

    def keep_decoded(self, most: int) -> None:
        """Keeps decoded pictures, up to so many bytes."""
        return


class _PartOfSource(ExampleSource):
    def __init__(self, whole: ExampleSource, indices: list[int]) -> None:
        self.whole, self.indices, self.draws = whole, indices, whole.draws

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int, seed: int = 0) -> Row:
        return self.whole.read(self.indices[index], seed)

    def key(self, index: int) -> str:
        return self.whole.key(self.indices[index])

    def name(self, index: int) -> str:
        return self.whole.name(self.indices[index])

    def keep_decoded(self, most: int) -> None:
        self.whole.keep_decoded(most)


class Zipped(ExampleSource):
    """Columns side by side: the rows of several sources, equally long."""

    def __init__(self, *sources: ExampleSource) -> None:
        self.sources = sources
        self.draws = any(source.draws for source in sources)

    def __len__(self) -> int:
        return len(self.sources[0])

    def read(self, index: int, seed: int = 0) -> Row:
        """Returns the first column of each source, in order."""
        return tuple(source.read(index, seed)[0] for source in self.sources)

    def key(self, index: int) -> str:
        """Returns the key of the first source's row, if none draws."""
        return "" if self.draws else self.sources[0].key(index)

    def name(self, index: int) -> str:
        """Returns the name of the first source's row."""
        return self.sources[0].name(index)

    def keep_decoded(self, most: int) -> None:
        """Keeps decoded pictures, up to so many bytes in all."""
        for source in self.sources:
            source.keep_decoded(most // len(self.sources))


class Concatenated(ExampleSource):
    """The rows of several sources one after another; they may have unequal columns."""

    def __init__(self, *sources: ExampleSource) -> None:
        self.sources = sources
        self.draws = any(source.draws for source in sources)
        self._places = [(n, i) for n, source in enumerate(sources) for i in range(len(source))]

    def __len__(self) -> int:
        return len(self._places)

    def read(self, index: int, seed: int = 0) -> Row:
        """Returns a row of one of them."""
        number, place = self._places[index]
        return self.sources[number].read(place, seed)

    def key(self, index: int) -> str:
        """Returns the number of the source and the key in it."""
        number, place = self._places[index]
        key = self.sources[number].key(place)
        return f"{number}:{key}" if key and number else key

    def name(self, index: int) -> str:
        """Names the row as its source does."""
        number, place = self._places[index]
        return self.sources[number].name(place)

    def keep_decoded(self, most: int) -> None:
        """Keeps decoded pictures, up to so many bytes in all."""
        for source in self.sources:
            source.keep_decoded(most // len(self.sources))


class FirstColumn(ExampleSource):
    """The first column of a source, as inputs without targets."""

    def __init__(self, whole: ExampleSource) -> None:
        self.whole, self.draws = whole, whole.draws

    def __len__(self) -> int:
        return len(self.whole)

    def read(self, index: int, seed: int = 0) -> Row:
        """Returns the first column of a row."""
        return self.whole.read(index, seed)[:1]

    def key(self, index: int) -> str:
        """Returns the key of the row."""
        return self.whole.key(index)

    def name(self, index: int) -> str:
        """Names the row as its source does."""
        return self.whole.name(index)

    def keep_decoded(self, most: int) -> None:
        """Keeps decoded pictures, up to so many bytes."""
        self.whole.keep_decoded(most)
