"""Keeps the features of real images beyond a run, by the content of the images.

1. A file is known by a hash of its content, of its name and of torch's version. One that is cut,
   damaged, or stands under another's name counts as none, and is written anew.
2. What a file holds is compared with the network before it is believed (gfx/metrics/reference.py).
3. A folder that cannot be written, as on a full disk, costs time alone: the run goes on.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

from gfx.errors import ArchiveError
from gfx.io.atomic_writes import write_files
from gfx.io.cache_folder import cache_folder
from gfx.train.runs.sealed_files import read_sealed, seal, seal_path

__all__ = ["FeatureCache"]

_FORMAT = "gfx features 1"
_BYTES = 1 << 30  # of all files; beyond, those that were used last long ago are removed


class FeatureCache:
    """A `gfx.metrics.FeatureStore` in a folder; None is the user's cache, or GFX_CACHE.

    Example:
        >>> import tempfile
        >>> cache = FeatureCache(Path(tempfile.mkdtemp()))
        >>> cache.write("reals-net", b"numbers")
        >>> cache.read("reals-net"), cache.read("others-net")
        (b'numbers', None)
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_folder("features") if folder is None else folder

    def read(self, key: str) -> bytes | None:
        """Returns what was written under a key, or None (rule 1)."""
        path = self._path(key)
        content = read_sealed(path, _seal_key(key))
        if content is not None:
            with suppress(OSError):
                path.touch()  # used now
        return content

    def write(self, key: str, content: bytes) -> None:
        """Keeps content under a key, if it can (rule 3)."""
        if len(content) > _BYTES:
            return
        path = self._path(key)
        digest = seal(_seal_key(key), content)
        with suppress(ArchiveError, OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_files(
                {
                    seal_path(path): lambda file: file.write(digest.encode()),
                    path: lambda file: file.write(content),
                }
            )
            self._bound()

    def _bound(self) -> None:
        """Removes the files that were used last long ago, beyond what is kept."""
        held = 0
        for _, size, path in sorted(self._files(), reverse=True):
            held += size
            if held > _BYTES:
                path.unlink(missing_ok=True)
                seal_path(path).unlink(missing_ok=True)

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Lists when files were used last, their bytes, and where they are."""
        for path in self.folder.glob("*.features"):
            with suppress(OSError):  # another process removed it
                found = path.stat()
                yield found.st_mtime, found.st_size, path

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.features"


def _seal_key(key: str) -> str:
    return f"{_FORMAT} {torch.__version__} {key}"
