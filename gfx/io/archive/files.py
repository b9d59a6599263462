"""Reads zip archives within bounds, and writes them; finds the files that are to be read."""

import os
import stat
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from gfx.errors import ArchiveError
from gfx.io.guards import printable, reading_file, unreachable
from gfx.io.write_journal import recover

__all__ = ["members_of", "read_zip", "regular_file", "write_zip"]

_EPOCH = (1980, 1, 1, 0, 0, 0)  # one fixed time, so that the same content gives the same bytes
_GRAPH = "graph.json"
_SWELLS = 16  # times the size of a zip file that its members may have; torch packs nothing
TEXT_LIMIT = 64 * 2**20  # bytes; the graph of a generator with 10 000 nodes takes about 3 MB


def write_zip(file: BinaryIO, members: dict[str, bytes]) -> None:
    """Writes members uncompressed and without times, so that equal members give equal bytes."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, date_time=_EPOCH)
            info.create_system = 3  # the same bytes on every platform
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)


def read_zip(path: Path, required: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, bytes]:
    """Reads the members of an archive that `write_zip` wrote.

    Members must be stored uncompressed, so that a small file can never expand into a large one.

    Raises: ArchiveError if the file is damaged, lacks a member or holds one too many.
    """
    again = "write it again or fetch it again"
    with reading_file(path, again), zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        _check_members(path, infos, required, optional)
        return {info.filename: archive.read(info) for info in infos}


def members_of(path: Path) -> list[str]:
    """Lists the members of a zip file.

    Raises: ArchiveError if it is damaged, or would swell when it is read.
    """
    with reading_file(path), zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
    _check_size(path, infos)
    return [info.filename for info in infos]


def regular_file(path: str | os.PathLike[str]) -> Path:
    """Returns the path of a file that exists and can be read.

    What a killed process left beside it is undone first.

    Raises: ArchiveError if nothing is there, or a folder, a device, an empty file.
    """
    said = printable(path)
    with suppress(ValueError):  # a name that no file can have
        recover(Path(path).absolute().parent)
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        raise ArchiveError(f"{said} {unreachable(path, error)}") from error
    if stat.S_ISDIR(found.st_mode):
        raise ArchiveError(f"{said} is a folder; name a file in it")
    if not stat.S_ISREG(found.st_mode):
        raise ArchiveError(f"{said} is a device or a pipe; copy what it gives into a file")
    if not os.access(path, os.R_OK):
        raise ArchiveError(f"{said} cannot be read: permission denied")
    if found.st_size == 0:
        raise ArchiveError(f"{said} is empty")
    return Path(path)


def _check_size(path: Path, infos: Sequence[zipfile.ZipInfo]) -> None:
    """Refuses a file that a reader would unpack into a far larger one."""
    if any(info.filename == _GRAPH for info in infos):
        return  # an archive of gfx, which `read_zip` bounds
    packed, whole = path.stat().st_size, sum(info.file_size for info in infos)
    if whole > _SWELLS * packed:
        raise ArchiveError(
            f"{path} has {packed:,} bytes and would be unpacked into {whole:,}; torch.save packs "
            "nothing, so it is damaged or meant to fill the memory; save the model again"
        )


def _check_members(
    path: Path,
    infos: list[zipfile.ZipInfo],
    required: tuple[str, ...],
    optional: tuple[str, ...],
) -> None:
    names = [info.filename for info in infos]
    missing = [name for name in required if name not in names]
    surplus = sorted({name for name in names if name not in required + optional})
    if missing or surplus or len(names) != len(set(names)):
        parts = [f"lacks {', '.join(missing)}"] if missing else []
        parts += [f"holds {', '.join(surplus)}"] if surplus else []
        raise ArchiveError(f"{path} is no gfx archive: it {' and '.join(parts) or 'repeats names'}")
    for info in infos:
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise ArchiveError(
                f"{path} holds {info.filename} compressed or encrypted; gfx writes it plain and "
                "reads nothing else, so that a file cannot expand"
            )
        if info.filename.endswith(".json") and info.file_size > TEXT_LIMIT:
            raise ArchiveError(
                f"{path} holds {info.filename} of {info.file_size} bytes; the limit is {TEXT_LIMIT}"
            )
