"""Seals what a run writes, so that it takes back nothing else: damaged, or of another run."""

import hashlib
from pathlib import Path

from gfx.errors import ArchiveError
from gfx.io.regular_files import read_regular

__all__ = ["NET", "read_sealed", "seal", "seal_path"]

NET = 2**40  # bytes of a file of weights
_SEAL = 1000  # bytes of a file with a hash


def seal(key: str, content: bytes | memoryview) -> str:
    """Returns the hash of a content, and of the run whose key it is.

    Example:
        >>> seal("one", b"net") == seal("one", b"net"), seal("one", b"net") == seal("other", b"net")
        (True, False)
    """
    digest = hashlib.sha256(key.encode())
    digest.update(content)
    return digest.hexdigest()


def seal_path(path: Path) -> Path:
    """Returns where the seal of a file is: beside it."""
    return path.with_suffix(".sha256")


def read_sealed(path: Path, key: str) -> bytes | None:
    """Returns the content of a file that the run wrote; None if it is gone, or another's."""
    try:
        content, known = read_regular(path, NET), read_regular(seal_path(path), _SEAL)
    except ArchiveError:  # one of them is gone, or no file
        return None
    return content if seal(key, content).encode() == known else None
