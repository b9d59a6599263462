"""Reads tables of attributes: one row a picture, one column an attribute.

1. A table with commas, semicolons or tabs has a header; its first column names the pictures.
2. CelebA's list_attr_celeba.txt has the number of rows first, then the names, then rows whose
   columns are parted by spaces.
3. Attributes are 0 and 1, -1 and 1, or true and false. A single column of words names classes, each
   of which becomes an attribute.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gfx.errors import InputError, did_you_mean
from gfx.io.data.datasets.picture_set import listed
from gfx.io.guards import printable

__all__ = ["AttributeTable", "read_table"]

_TRUTH = {"1": 1.0, "0": 0.0, "-1": 0.0, "true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}
_MOST_CLASSES = 1000


@dataclass(frozen=True)
class AttributeTable:
    """The attributes of pictures.

    Example:
        >>> table = AttributeTable("t.csv", ("young", "smiling"), {"1.png": (1.0, 0.0)})
        >>> table.rows_of([Path("faces/1.png")], Path("faces")), table.chosen(["smiling"]).names
        (tensor([[1., 0.]]), ('smiling',))
    """

    file: str
    names: tuple[str, ...]
    rows: dict[str, tuple[float, ...]]

    def chosen(self, names: Sequence[str]) -> "AttributeTable":
        """Returns the table with some of the attributes, in the order given.

        Raises: InputError for one that there is not.
        """
        for name in names:
            if name not in self.names:
                near = did_you_mean(name, self.names, otherwise="")
                raise InputError(
                    f"{printable(self.file)} has no attribute {name!r}{near}; it has "
                    f"{listed(self.names, 40)}"
                )
        places = [self.names.index(name) for name in names]
        rows = {file: tuple(row[p] for p in places) for file, row in self.rows.items()}
        return AttributeTable(self.file, tuple(names), rows)

    def rows_of(self, paths: Sequence[Path], root: Path) -> Tensor:
        """Returns the attributes of pictures, by path below the root, by name, or without suffix.

        Shapes: (N, attributes).
        Raises: InputError naming pictures that have no row.
        """
        stems = {Path(name).with_suffix("").as_posix(): row for name, row in self.rows.items()}
        found, missing = [], []
        for path in paths:
            below = path.relative_to(root).as_posix()
            row = self.rows.get(below) or self.rows.get(path.name) or stems.get(path.stem)
            if row is None:
                missing.append(path.name)
            else:
                found.append(row)
        if missing:
            raise InputError(
                f"{len(missing)} of {len(paths)} pictures have no row in {printable(self.file)}: "
                f"{listed(missing)}; its rows are named {listed(list(self.rows), 2)}; the first "
                "column names the pictures"
            )
        return torch.tensor(found)


def read_table(path: Path) -> AttributeTable:
    """Reads a table of attributes (rules 1 to 3).

    Raises: InputError naming the file, the row and what is wrong with it.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{printable(path)} cannot be read as a table: {error}") from error
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 2 and lines[0].strip().isdigit():  # rule 2
        header, rows = ["", *lines[1].split()], [line.split() for line in lines[2:]]
    else:
        mark = max(",;\t", key=lambda m: lines[0].count(m)) if lines else ","
        header, *rows = list(csv.reader(lines, delimiter=mark)) or [[""]]
    if len(header) < 2 or not rows:
        raise InputError(
            f"{printable(path)} is no table of attributes; write a header, as "
            "'file,smiling,young', and a row for each picture, as '1.png,0,1'"
        )
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise InputError(
                f"{printable(path)}: row {number} ({printable(row[0])}) has {len(row)} columns, "
                f"and the header {len(header)}"
            )
    names = tuple(name.strip() for name in header[1:])
    if len(names) == 1 and not all(row[1].strip().lower() in _TRUTH for row in rows):
        return _classes(path, rows)
    truths = {row[0].strip(): _truth(path, row, names) for row in rows}
    return AttributeTable(str(path), names, truths)


def _truth(path: Path, row: list[str], names: Sequence[str]) -> tuple[float, ...]:
    values = []
    for name, text in zip(names, row[1:], strict=True):
        value = _TRUTH.get(text.strip().lower().removesuffix(".0"))
        if value is None:
            raise InputError(
                f"{printable(path)}: {name} of {printable(row[0])} is {printable(text)!r}; "
                "attributes are 0 and 1, -1 and 1, or true and false; take that column out"
            )
        values.append(value)
    return tuple(values)


def _classes(path: Path, rows: list[list[str]]) -> AttributeTable:
    words = sorted({row[1].strip() for row in rows})
    if len(words) > _MOST_CLASSES:
        raise InputError(
            f"{printable(path)} names {len(words):,} classes for {len(rows):,} pictures; "
            "attributes are 0 and 1, or one of a few words"
        )
    one_hot = {word: tuple(float(word == other) for other in words) for word in words}
    hot = {row[0].strip(): one_hot[row[1].strip()] for row in rows}
    return AttributeTable(str(path), tuple(words), hot)
