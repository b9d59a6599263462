"""Chooses the subnets that a step of a supernet runs, in this process.

1. They are the sampler's for (seed, step): equal in every process, and after a resume.
2. All nets of a step see the same noise: each begins where the random streams stood before it.
3. Where they are spread, each process has its share of the nets, and every process the whole batch:
   the mean over all of them is the step of one process.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gfx.errors import InputError
from gfx.ir.random_state import keep_random_state
from gfx.train.loop.devices import Devices
from gfx.train.sampling import SampledNet, Sampler
from gfx.train.supernet import Supernet
from gfx.train.tasks import Batch, Task

__all__ = ["NetTurn", "SampledNets"]


@dataclass(frozen=True)
class NetTurn:
    """One net of a step: its share of the step's gradient, and of what is judged."""

    net: SampledNet | None  # None: the generator is no supernet
    share: float = 1.0
    judged: float = 1.0  # 0: its images do not go through the discriminator
    waits: bool = False  # whether another net of the step is judged after it


class SampledNets:
    """The nets of each step, one after the other.

    Args:
        net: the supernet; each turn sets its widths.
        sampler: which subnets a step has.
        spread: rule 3.
    """

    def __init__(
        self,
        net: Supernet,
        sampler: Sampler,
        task: Task,
        devices: Devices,
        seed: int,
        *,
        spread: bool = False,
    ) -> None:
        self.net, self.sampler, self.task = net, sampler, task
        self.devices, self.seed, self.spread = devices, seed, spread
        self._drawn: tuple[SampledNet, ...] = ()
        self._largest: list[tuple[Batch, Tensor]] = []  # images of the largest net, by batch

    def begin(self, step: int) -> None:
        """Draws the nets of a step (rule 1)."""
        self._drawn = self.sampler.subnets(self.net, self.seed, step)
        if not self._drawn:
            raise InputError(f"sample: {self.sampler.name} has drawn no subnet for step {step + 1}")
        self._largest = []
        for net in self._drawn:
            self.net.note_use(net.widths)

    def turns(self) -> Iterator[NetTurn]:
        """Iterates over the nets of the step for one batch, and sets the widths of each."""
        ranks = self.devices.ranks if self.spread else 1
        mine = self._drawn[self.devices.rank :: ranks] if self.spread else self._drawn
        judged = sum(net.judged for net in self._drawn)
        share = ranks / len(self._drawn)
        for number, net in enumerate(mine):
            waits = any(later.judged for later in mine[number + 1 :])
            turn = NetTurn(net, share, ranks / judged if net.judged else 0.0, waits)
            self.net.set(net.widths)
            if number == len(mine) - 1:
                yield turn
            else:
                with keep_random_state([self.devices.device], python=True):  # rule 2
                    yield turn

    def note(self, turn: NetTurn, batch: Batch, image: Tensor) -> None:
        """Keeps the image of the largest net."""
        if turn.net is not None and dict(turn.net.widths) == self.net.largest():
            self._largest.append((batch, image.detach()))

    def image_of_largest(self, batch: Batch) -> Tensor:
        """Returns what the largest net makes of a batch, without gradients."""
        for known, image in self._largest:
            if known is batch:
                return image
        widths = self.net.current
        self.net.set(self.net.largest())
        with torch.no_grad(), keep_random_state([self.devices.device], python=True):
            image = self.task.image(self.task.generate(self.net, batch))
        self.net.set(widths)
        self._largest.append((batch, image))
        return image

    def enter(self, turn: NetTurn) -> None:
        """Sets the widths of a turn again."""
        if turn.net is not None:
            self.net.set(turn.net.widths)
