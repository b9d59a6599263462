"""Holds real images to measure distances from; their features are computed once."""

import hashlib
import io
from collections.abc import Iterable, Iterator
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
    a `store` they are kept beyond the run, under a hash of the images and of the network.

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
        content = None if self._store is None else self._store.read(key)
        if content is not None:
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            if isinstance(found, Tensor) and found.ndim == 2 and len(found) == self.count:
                return found
        batches = batched(self._images, BATCH, "real images")
        found = torch.cat([extractor(batch) for batch in batches])
        if self._store is not None:
            buffer = io.BytesIO()
            torch.save(found, buffer)
            self._store.write(key, buffer.getvalue())
        return found

    def _hashed(self) -> tuple[str, int]:
        if self._read is None:
            found, count = hashlib.sha256(), 0
            for batch in batched(self._images, BATCH, "real images"):
                if not count:
                    found.update(f"{tuple(batch.shape[1:])}".encode())
                found.update(batch.float().contiguous().numpy().tobytes())
                count += len(batch)
            if not count:
                raise InputError("there are no real images; give some")
            self._read = found.hexdigest(), count
        return self._read
