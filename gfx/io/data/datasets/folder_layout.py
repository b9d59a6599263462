"""Tells how a folder holds a data set.

1. `train/` holds the examples, `val/` or `test/` beside it those to judge with.
2. `A/` and `B/`, also `trainA/` and `trainB/`, are two sets of pictures; `testA/` and `testB/`, and
   `A/train` and `A/test`, are found as well.
3. Pictures and a table of attributes belong together.
4. Folders of pictures, at least two, without pictures beside them, are classes.
5. Pictures that are all twice as wide as high and do not go on across their middle are A|B.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from gfx.errors import InputError
from gfx.io.data.datasets.picture_set import NAMED, listed
from gfx.io.data.picture_pairs import first_pair
from gfx.io.data.picture_paths import SUFFIXES, check_folder, picture_paths
from gfx.io.guards import printable

__all__ = ["LAYOUTS", "FolderLayout", "find_layout", "layout_error"]

Kind = Literal["side by side", "two folders", "attributes", "classes", "pictures"]

LAYOUTS = """understood are:
  paired            pictures A|B side by side, or A/ and B/ (trainA/, trainB/) with equal names
  unpaired          A/ and B/ (trainA/, trainB/)
  class             one folder a class
  labels            pictures and a table of attributes (.csv, list_attr_celeba.txt)
  latent, self, super_resolution   a folder of pictures
each also in train/, with val/ or test/ beside it"""

_TRAIN = ("train", "training")
_HELD = ("val", "valid", "validation", "test", "testing")
_TABLES = (".csv", ".tsv", ".txt")
_LEFT_BEHIND = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found")
_LOOKED_AT = 32  # pictures whose form tells pairs


@dataclass(frozen=True)
class FolderLayout:
    """How a folder holds a data set.

    `folders` are those with pictures: two sets, the classes, or one.
    """

    kind: Kind
    root: Path
    folders: tuple[Path, ...]
    table: Path | None = None
    held_out: "FolderLayout | None" = None

    @property
    def sentence(self) -> str:
        """States what was found."""
        names = [f"{folder.relative_to(self.root).as_posix()}/" for folder in self.folders]
        where = printable(self.root)
        said = {
            "side by side": f"{where} holds pictures A|B side by side",
            "two folders": f"{where} holds {' and '.join(names)}",
            "classes": f"{where} holds {len(names)} classes: {listed(names)}",
            "attributes": f"{where} holds pictures and a table, {self.table and self.table.name}",
            "pictures": f"{where} is a folder of pictures",
        }[self.kind]
        held = self.held_out
        return said if held is None else f"{said}; {printable(held.root)} is held out"


def find_layout(folder: str | os.PathLike[str]) -> FolderLayout:
    """Finds the layout of a folder (rules 1 to 5).

    Raises: InputError if there is no such folder, or it holds no pictures.
    """
    check_folder(folder)
    root = Path(folder)
    below = _folders(root)
    train = _first(below, _TRAIN)
    if train is None:
        return _layout(root)
    found, held = _layout(train), _first(below, _HELD)
    if held is None:
        return found
    other = _layout(held)
    if other.kind != found.kind and "pictures" not in (found.kind, other.kind):
        raise InputError(f"{found.sentence}, but {other.sentence}; both are to be alike\n{LAYOUTS}")
    return replace(found, held_out=replace(other, kind=found.kind))


def layout_error(root: str | os.PathLike[str], task: str) -> InputError:
    """Makes the error of a folder that is none for a task: what was found, and what is understood.

    Example:
        >>> import tempfile
        >>> print(str(layout_error(tempfile.gettempdir() + "/none", "paired")).splitlines()[1])
        understood are:
    """
    what = f"{printable(root)} is no data for the task {task}; it holds {_found(Path(root))}"
    return InputError(f"{what}\n{LAYOUTS}")


def _layout(root: Path) -> FolderLayout:
    below = _folders(root)
    two = _two_folders(root, below)
    if two is not None:
        return two
    table = _table(root)
    if table is not None:
        return FolderLayout("attributes", root, (root,), table)
    if not _pictures_in(root):
        classes = [path for path in below.values() if _holds_pictures(path)]
        if len(classes) > 1:
            return FolderLayout("classes", root, tuple(classes))
        if not classes:
            raise InputError(
                f"{printable(root)} holds no pictures; it holds {_found(root)}\n{LAYOUTS}"
            )
    paths = picture_paths(root)
    pairs = first_pair(paths[:_LOOKED_AT], 1) is not None
    return FolderLayout("side by side" if pairs else "pictures", root, (root,))


def _two_folders(root: Path, below: dict[str, Path]) -> FolderLayout | None:
    """Finds two sets, and those to judge with (rule 2)."""
    for start in ("", "train"):
        a, b = below.get(f"{start}a"), below.get(f"{start}b")
        if a is None or b is None or _others(below):
            continue
        inner = [_first(_folders(folder), _TRAIN) for folder in (a, b)]
        found = FolderLayout("two folders", root, (a, b))
        held = [(below.get(f"{name}a"), below.get(f"{name}b")) for name in _HELD]
        if inner[0] is not None and inner[1] is not None:
            found = replace(found, folders=(inner[0], inner[1]))
            held = [(_folders(a).get(name), _folders(b).get(name)) for name in _HELD]
        for one, other in held:
            if one is not None and other is not None:
                part = FolderLayout("two folders", root, (one, other))
                return replace(found, held_out=part)
        return found
    return None


def _others(below: dict[str, Path]) -> bool:
    """Whether there are folders of pictures beside two sets: a, b and c are classes."""
    known = {f"{start}{end}" for start in ("", *_TRAIN, *_HELD) for end in ("a", "b")}
    return any(name not in known and _holds_pictures(path) for name, path in below.items())


def _table(root: Path) -> Path | None:
    """Finds the table of attributes beside pictures; a text of another kind is none."""
    files = sorted(p for p in root.iterdir() if p.suffix.lower() in _TABLES and p.name[0] != ".")
    named = [p for p in files if p.suffix.lower() != ".txt" or "attr" in p.name.lower()]
    return named[0] if named and _holds_pictures(root) else None


def _folders(root: Path) -> dict[str, Path]:
    """Lists folders by their names in lower case."""
    paths = sorted(p for p in root.iterdir() if p.name[0] != "." and p.name not in _LEFT_BEHIND)
    return {p.name.lower(): p for p in paths if p.is_dir()}


def _first(below: dict[str, Path], names: tuple[str, ...]) -> Path | None:
    return next((below[name] for name in names if name in below), None)


def _pictures_in(root: Path) -> list[Path]:
    return [p for p in root.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != "."]


def _holds_pictures(folder: Path) -> bool:
    for _, folders, names in os.walk(folder, followlinks=False):
        folders[:] = [name for name in folders if name[0] != "."]
        if any(Path(n).suffix.lower() in SUFFIXES and n[0] != "." for n in names):
            return True
    return False


def _found(root: Path) -> str:
    """Describes what a folder holds."""
    if not root.is_dir():
        return "nothing"
    entries = sorted(p for p in root.iterdir() if p.name[0] != ".")
    folders = [f"{p.name}/" for p in entries if p.is_dir()]
    pictures = [p.name for p in entries if p.suffix.lower() in SUFFIXES]
    others = [p.name for p in entries if p.is_file() and p.suffix.lower() not in SUFFIXES]
    named = {"folder": folders, "picture": pictures, "other file": others}
    said = [
        f"{len(names)} {what}{'s' if len(names) > 1 else ''} ({listed(names, NAMED)})"
        for what, names in named.items()
        if names
    ]
    return ", ".join(said) or "nothing"
