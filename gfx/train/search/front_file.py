"""Writes a front to a folder, and reads it again.

    front.json       the front; written last: where it is, all the others are
    nets/01.gfx      the nets of the front, the cheapest first
    samples/01.png   what they make: input | largest net | subnet

The nets are known by their hashes, and the front by its seal, the hash of all else in it: another
file in their place is refused, and so is one that was damaged or written to.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import fx

from gfx.errors import ArchiveError
from gfx.io.archive import load, save
from gfx.io.atomic_writes import write_files
from gfx.io.guards import printable, reading_file, writing
from gfx.io.plain_data import canonical, coerce, plain
from gfx.io.regular_files import read_regular
from gfx.train.runs.sample_grids import SampleGrid, write_grid
from gfx.train.runs.sealed_files import seal
from gfx.train.search.front import MEASURES, Front, FrontNet, SearchedNet

__all__ = ["FRONT", "front_seal", "has_its_nets", "net_of", "read_front", "write_front"]

FRONT = "front.json"
_KIND = "gfx front 1"
_MOST = 256 * 2**20  # bytes of a front
_NET = 2**40  # bytes of a net
_AGAIN = "put back what the search wrote, or delete it and give the search again"


def write_front(
    folder: str | os.PathLike[str],
    front: Front,
    nets: Sequence[fx.GraphModule],
    pictures: Sequence[SampleGrid | None] = (),
) -> Front:
    """Writes a front, its nets and their pictures; front.json appears last, whole or not at all.

    Args:
        folder: made if it is not there.
        front: the front.
        nets: of the front, in its order.
        pictures: of the nets, in their order; None or left out: there is none.

    Returns: the front, which knows its files.
    Raises: ArchiveError if something cannot be written.
    """
    root, known = Path(folder), []
    with writing(root):
        (root / "nets").mkdir(parents=True, exist_ok=True)
    shown = [*pictures, *[None] * (len(front.nets) - len(pictures))]
    for number, (each, net, picture) in enumerate(zip(front.nets, nets, shown, strict=True), 1):
        file, image = f"nets/{number:02d}.gfx", f"samples/{number:02d}.png"
        save(net, root / file)
        digest = _digest(root / file)
        if picture is not None:
            write_grid(root / image, picture)
        known.append(
            replace(each, file=file, sha256=digest, picture="" if picture is None else image)
        )
    made = replace(front, nets=tuple(known))
    data = {"kind": _KIND, **plain(made)}
    text = json.dumps({**data, "seal": front_seal(data)}, indent=1)
    write_files({root / FRONT: lambda file: file.write(text.encode())})
    _remove_others(root, made)
    return made


def read_front(folder: str | os.PathLike[str]) -> Front:
    """Reads the front of a folder, or of a front.json.

    Raises: ArchiveError if there is none, or the file is none that gfx wrote.
    """
    path = Path(folder)
    path = path / FRONT if path.is_dir() else path
    with reading_file(path, _AGAIN):
        data = json.loads(read_regular(path, _MOST, _AGAIN))
        if not isinstance(data, dict) or data.get("kind") != _KIND:
            raise ArchiveError(f"{printable(path)} is no front of gfx search; {_AGAIN}")
        if data.pop("seal", None) != front_seal(data):
            raise ArchiveError(
                f"{printable(path)} is not as the search wrote it: it was damaged, or written to; "
                f"{_AGAIN}"
            )
        del data["kind"]
        try:
            found: Front = coerce(data, Front)
        except TypeError as error:
            raise ArchiveError(
                f"{printable(path)} is no front of gfx search ({printable(error)}); {_AGAIN}"
            ) from error
    _check(found, path)
    return found


def front_seal(data: Mapping[str, Any]) -> str:
    """Returns the hash of a front as plain data, without its seal.

    Example:
        >>> front_seal({"nets": [], "kind": "x"}) == front_seal({"kind": "x", "nets": []})
        True
    """
    return seal("", canonical(data))


def net_of(folder: str | os.PathLike[str], net: FrontNet) -> fx.GraphModule:
    """Opens a net of a front, as it was judged.

    Raises: ArchiveError if the file is gone, or is another.
    """
    path = Path(folder) / net.file
    if not net.file:
        raise ArchiveError(f"{printable(folder)}: the front holds no nets; {_AGAIN}")
    if _digest(path) != net.sha256:
        raise ArchiveError(f"{printable(path)} is not the net that was judged; {_AGAIN}")
    return load(path)  # type: ignore[return-value]


def has_its_nets(folder: str | os.PathLike[str], front: Front) -> bool:
    """Whether the nets of a front are there, as they were judged."""
    try:
        return all(_digest(Path(folder) / net.file) == net.sha256 for net in front.nets)
    except ArchiveError:
        return False


def _digest(path: Path) -> str:
    return hashlib.sha256(read_regular(path, _NET, _AGAIN)).hexdigest()


def _remove_others(root: Path, front: Front) -> None:
    """Removes nets and pictures of an earlier front, which had more of them."""
    held = {name for net in front.nets for name in (net.file, net.picture)}
    for pattern in ("nets/[0-9][0-9].gfx", "samples/[0-9][0-9].png"):
        for path in root.glob(pattern):
            if str(path.relative_to(root).as_posix()) not in held:
                path.unlink(missing_ok=True)


def _check(front: Front, path: Path) -> None:
    """Checks what a page and a pick rely on."""
    said = f"{printable(path)} is no front of gfx search"
    if front.measure not in MEASURES:
        raise ArchiveError(f"{said}: its measure is {printable(front.measure)}; {_AGAIN}")
    held: list[FrontNet | SearchedNet] = [*front.nets, front.whole, *front.searched]
    for net in held:
        missing = [name for name in MEASURES if name not in net.prices]
        if missing or any(price < 0 for price in net.prices.values()):
            raise ArchiveError(f"{said}: a net has no price {missing[:1] or 'above 0'}; {_AGAIN}")
        if math.isnan(net.value):
            raise ArchiveError(f"{said}: a value is no number; {_AGAIN}")
    for each in front.nets:
        for name in (each.file, each.picture):
            if name and (Path(name).is_absolute() or ".." in Path(name).parts):
                raise ArchiveError(f"{said}: {printable(name)} is no file of the folder; {_AGAIN}")
        if len(each.better) not in (0, 3):
            raise ArchiveError(f"{said}: a difference has {len(each.better)} numbers; {_AGAIN}")
