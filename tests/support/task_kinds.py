"""One task of every kind over tensors, and how batches are compared."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gfx.train import tasks
from gfx.train.tasks import Batch, Task

__all__ = ["KINDS", "Noisy", "joined", "same_batch", "shown"]


def images(count: int, seed: int = 0, size: int = 8, channels: int = 3) -> Tensor:
    """Draws images of 8 bits."""
    drawn = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, size, size), generator=drawn, dtype=torch.uint8)


class Noisy(Dataset):
    """Pairs that torch's and Python's random numbers change at every reading."""

    def __init__(self, count: int) -> None:
        self.images = images(count).float()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        import random

        image = self.images[index]
        return image + torch.randn(()), image * random.random()


KINDS: dict[str, Callable[[int], Task]] = {
    "paired": lambda n: tasks.paired(images(n), images(n, 1, channels=1)),
    "cropped": lambda n: tasks.paired(images(n), images(n, 1), crop=6),
    "half labelled": lambda n: tasks.paired(images(n), images(n, 1)).with_labels(0.5, 0),
    "unlabelled": lambda n: tasks.paired(images(n), images(n, 1), images(3, 2)),
    "unpaired": lambda n: tasks.unpaired(images(n), images(n + 3, 1)),
    "latent": lambda n: tasks.latent(images(n), (5, 1, 1)),
    "super_resolution": lambda n: tasks.super_resolution(images(n), 2, crop=6),
    "self": lambda n: tasks.inputs(images(n)),
    "drawing": lambda n: tasks.paired(Noisy(n)),
}


def shown(batch: Batch) -> dict[str, bytes]:
    """Returns the bytes of a batch: NaN equals itself."""
    found = {name: t.contiguous().numpy().tobytes() for name, t in batch.tensors.items()}
    if batch.labelled is not None:
        found["labelled"] = batch.labelled.numpy().tobytes()
    return found


def same_batch(a: Batch, b: Batch) -> bool:
    """Whether two batches are equal, bit for bit."""
    keys = (a.keys, a.input_keys) == (b.keys, b.input_keys)
    return keys and shown(a) == shown(b)


def joined(batches: list[Batch]) -> Batch:
    """Puts the batches of all ranks together."""
    names = batches[0].tensors
    labelled = [b.labelled for b in batches if b.labelled is not None]
    return Batch(
        {name: torch.cat([b.tensors[name] for b in batches]) for name in names},
        tuple(key for b in batches for key in b.keys),
        torch.cat(labelled) if labelled else None,
        tuple(key for b in batches for key in b.input_keys),
    )
