"""Keeps fakes of earlier steps for the discriminator: it does not forget what it has seen.

1. Until the pool is full each fake enters it, and is shown. Then each is shown as it is, or, half
   of the time, one of the pool is shown and it takes its place.
2. What is drawn is a function of the seed and of how many fakes came before. Fakes of all processes
   pass one after the other, so that the pool is the same in each, and as in one process that has
   the whole batch.

Source: Shrivastava et al. 2017, arXiv:1612.07828, section 2.3; Zhu et al. 2017, arXiv:1703.10593,
section 4.
"""

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gfx.train.loop.devices import Devices

__all__ = ["ImagePool"]

Row = tuple[Tensor, ...]  # what a discriminator is called with, for one fake


class ImagePool:
    """A pool of `size` fakes.

    Example:
        >>> pool = ImagePool(1, seed=0, devices=Devices("cpu"))
        >>> shown = [pool.shown([torch.full((1, 1), float(n))])[0].item() for n in range(6)]
        >>> shown[0], len(pool.rows), set(shown) <= {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}
        (0.0, 1, True)
    """

    def __init__(self, size: int, seed: int, devices: Devices) -> None:
        self.size, self.seed, self.devices = size, seed, devices
        self.rows: list[Row] = []
        self.seen = 0

    @torch.no_grad()
    def shown(self, fakes: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Returns what the discriminator sees in the place of fakes, and takes some of them.

        Shapes: those of `fakes`, the arguments of the discriminator, (N, ...) each.
        """
        everyone = [self.devices.gather(fake.detach()) for fake in fakes]
        count = len(fakes[0])
        first = self.devices.rank * count
        found = [
            self._one(tuple(each[n].clone() for each in everyone)) for n in range(len(everyone[0]))
        ]
        mine = found[first : first + count]
        return tuple(torch.stack(column) for column in zip(*mine, strict=True))

    def _one(self, fake: Row) -> Row:
        """Returns what is shown in the place of one fake (rules 1 and 2)."""
        dice = random.Random(f"pool {self.seed} {self.seen}")
        self.seen += 1
        if len(self.rows) < self.size:
            self.rows.append(fake)
            return fake
        if dice.random() < 0.5:
            return fake
        place = dice.randrange(self.size)
        earlier, self.rows[place] = self.rows[place], fake
        return earlier

    def state_dict(self) -> dict[str, Any]:
        """Returns the pool as plain data and tensors."""
        return {"seen": self.seen, "rows": [list(row) for row in self.rows]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a state."""
        device = self.devices.device
        self.seen = state["seen"]
        self.rows = [tuple(x.to(device) for x in row) for row in state["rows"]]
