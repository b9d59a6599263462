"""Holds real images to measure distances from; their features are computed once."""

import hashlib
import secrets
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from gfx.errors import InputError
from gfx.metrics.extractors import BATCH, Extractor
from gfx.metrics.image_batches import Images, batched

__all__ = ["FeatureStore", "Reference"]


class FeatureStore(Protocol):
    """Keeps bytes by name, as on a disk: what it reads is what was written whole, or None."""

    def read(self, key: str) -> bytes | None:
        """Returns what was written under a name, or None."""

    def write(self, key: str, content: bytes) -> None:
        """Keeps content under a name."""


class Reference:
    """Real images, and their features by the network that makes them.

    Hand the same reference to every `evaluate` of a run: the features are then computed once. With
    a `store` they are kept beyond the run, under a hash of the images and of the network, and
    believed if one batch of them is made anew to the last bit.

    Raises: InputError if the images are an iterator, which can be read once only.

    Example:
        >>> reference = Reference(torch.zeros(4, 3, 8, 8))
        >>> reference.count, len(reference.digest)
        (4, 64)
    """

    def __init__(self, images: Images, store: FeatureStore | None = None) -> None:
        if isinstance(images, Iterator) or not isinstance(images, Tensor | Iterable):
            raise InputError(
                f"the real images are a {type(images).__name__}, which can not be read several "
                "times; give a tensor, a list of batches or a DataLoader"
            )
        self._images = images
        self._store = store
        self._features: dict[str, Tensor] = {}
        self._axes: dict[tuple[str, int], Tensor] = {}
        self._read: tuple[str, int] | None = None

    @property
    def digest(self) -> str:
        """Returns a hash of the images, whatever the batches that they come in."""
        return self._hashed()[0]

    @property
    def count(self) -> int:
        """Counts the images."""
        return self._hashed()[1]

    def features(self, extractor: Extractor) -> Tensor:
        """Returns the features of the images, (N, d): remembered, stored, or computed.

        Raises: InputError if they cannot be computed.
        """
        if extractor.identity not in self._features:
            name = hashlib.sha256(extractor.identity.encode()).hexdigest()
            key = f"{self.digest[:32]}-{name[:32]}"
            self._features[extractor.identity] = self._stored(key, extractor)
        return self._features[extractor.identity]

    def axes(self, extractor: Extractor) -> Tensor | None:
        """Returns the axes along which the features spread most, (d, axes); None for all.

        Raises: InputError if the features cannot be computed.
        """
        features = self.features(extractor)
        if not extractor.axes or extractor.axes >= features.shape[1]:
            return None
        key = extractor.identity, extractor.axes
        if key not in self._axes:
            # of the covariance, d x d, whatever the number of images
            vectors = torch.linalg.eigh(torch.cov(features.T)).eigenvectors
            self._axes[key] = vectors[:, -extractor.axes :]
        return self._axes[key]

    def _stored(self, key: str, extractor: Extractor) -> Tensor:
        held = None if self._store is None else _decoded(self._store.read(key), self.count)
        if held is not None and self._agrees(held, extractor):
            return held
        found = torch.cat([extractor(batch) for batch in self._batches()])
        if self._store is not None:
            self._store.write(key, found.numpy().tobytes())
        return found

    def _agrees(self, held: Tensor, extractor: Extractor) -> bool:
        """Whether features are those that the network makes, of one batch: any may be asked.

        So what another machine has made, or a file that someone has written, is not believed.
        """
        number = secrets.randbelow(-(-self.count // BATCH))
        batch = next(islice(self._batches(), number, None))
        return torch.equal(extractor(batch), held[number * BATCH :][:BATCH])

    def _batches(self) -> Iterator[Tensor]:
        return batched(self._images, BATCH, "real images")

    def _hashed(self) -> tuple[str, int]:
        if self._read is None:
            found, count = hashlib.sha256(), 0
            for batch in self._batches():
                if not count:
                    found.update(f"{tuple(batch.shape[1:])}".encode())
                found.update(batch.float().contiguous().numpy().tobytes())
                count += len(batch)
            if not count:
                raise InputError("there are no real images; give some")
            self._read = found.hexdigest(), count
        return self._read


def _decoded(content: bytes | None, count: int) -> Tensor | None:
    """Returns the features of so many images from their bytes; None if these are no such features.

    Example:
        >>> _decoded(torch.ones(2, 3).double().numpy().tobytes(), 2).shape
        torch.Size([2, 3])
    """
    if not content or len(content) % (8 * count):
        return None
    found = torch.frombuffer(bytearray(content), dtype=torch.double).view(count, -1)
    return found if bool(found.isfinite().all()) else None
