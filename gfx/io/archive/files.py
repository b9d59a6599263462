"""Writes files atomically (the old file or the new one, never half); reads zips within bounds."""

import errno
import os
import secrets
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from gfx.errors import ArchiveError

__all__ = ["check_writable", "read_zip", "regular_file", "unreachable", "write_atomic", "write_zip"]

_EPOCH = (1980, 1, 1, 0, 0, 0)  # one fixed time, so that the same content gives the same bytes
TEXT_LIMIT = 64 * 2**20  # bytes; the graph of a generator with 10 000 nodes takes about 3 MB


def check_writable(path: str | os.PathLike[str]) -> Path:
    """Checks that a file can be written at a path, and returns the path with links followed.

    Call it before long work. It creates and removes an empty file beside the path.

    Raises: ArchiveError if the folder is missing or not writable, or the path is no plain file.

    Example:
        >>> check_writable("/no/such/folder/small.gfx")
        Traceback (most recent call last):
        gfx.errors.ArchiveError: cannot write /no/such/folder/small.gfx: there is no folder ...
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise ArchiveError(
            f"cannot write {path}: there is no folder {target.parent}; create it first"
        )
    if target.is_dir():
        raise ArchiveError(f"cannot write {path}: it is a folder; name a file in it")
    if target.exists() and not target.is_file():
        raise ArchiveError(f"cannot write {path}: it is a device or a pipe; name a plain file")
    probe = _temporary(target)
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise _write_error(path, error) from error
    return target


def write_atomic(path: str | os.PathLike[str], write: Callable[[BinaryIO], None]) -> None:
    """Writes a file under a temporary name in the same folder, then renames it.

    On any failure, a full disk too, nothing is left behind and an older file keeps its content.

    Raises: ArchiveError if the operating system refuses.
    """
    target = check_writable(path)
    temporary = _temporary(target)
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise _write_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


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
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            _check_members(path, infos, required, optional)
            return {info.filename: archive.read(info) for info in infos}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError) as error:
        raise ArchiveError(
            f"{path} is truncated or damaged ({error}); write it again or fetch it again"
        ) from error


def regular_file(path: str | os.PathLike[str]) -> Path:
    """Returns the path of a file that exists.

    Raises: ArchiveError if nothing is there, or a folder, or an empty file, saying which.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise ArchiveError(f"{path} {unreachable(path, error)}") from error
    if stat.S_ISDIR(status.st_mode):
        raise ArchiveError(f"{path} is a folder; name a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise ArchiveError(f"{path} is a device or a pipe; name a plain file")
    if not os.access(path, os.R_OK):
        raise ArchiveError(f"{path} cannot be read: permission denied")
    if status.st_size == 0:
        raise ArchiveError(f"{path} is empty")
    return Path(path)


def unreachable(path: str | os.PathLike[str], error: OSError | ValueError) -> str:
    """Writes why a path leads nowhere; "does not exist" only of what does not exist.

    Example:
        >>> unreachable("model.pt", FileNotFoundError(errno.ENOENT, ""))
        'does not exist; check the path'
    """
    if isinstance(error, ValueError):
        return f"is no path ({error})"
    if error.errno == errno.ENOENT and os.path.islink(path):
        return f"is a link to {os.readlink(path)}, which does not exist"
    if error.errno == errno.ENOENT:
        return "does not exist; check the path"
    reasons = {
        errno.EACCES: "cannot be read: permission denied",
        errno.EPERM: "cannot be read: permission denied",
        errno.ELOOP: "is a link that leads back to itself",
        errno.ENAMETOOLONG: "does not exist: its name is longer than the system allows",
        errno.ENOTDIR: "does not exist: a part of the path is a file, not a folder",
    }
    said = error.strerror or str(error)
    return reasons.get(error.errno or 0, f"cannot be read: {said.lower()}")


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


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name[:200]}.{secrets.token_hex(6)}.tmp")


def _write_error(path: str | os.PathLike[str], error: OSError) -> ArchiveError:
    if error.errno == errno.ENOSPC:
        return ArchiveError(f"cannot write {path}: the disk is full; nothing was written")
    reason = error.strerror or str(error)
    return ArchiveError(f"cannot write {path}: {reason.lower()}; nothing was written")
