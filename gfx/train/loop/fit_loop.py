"""Runs the steps of one fit: the only training loop that there is.

1. What step t computes is a function of (seed, stage, t, rank), the data of step t and the weights:
   all streams of random numbers are seeded at each step.
2. A step that gives no finite number ends the run, with the term and what to lower.
"""

import hashlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from gfx.errors import GfxError, InputError
from gfx.ir.random_state import seed_all
from gfx.progress import step as counted_step
from gfx.train.loop.devices import Devices
from gfx.train.loop.joint_step import JointStep
from gfx.train.loop.player import Player
from gfx.train.systems.run_length import StepCount
from gfx.train.tasks import Batch

__all__ = ["FitLoop", "StepLog", "step_seed"]

Logged = dict[str, Tensor]
_COLLAPSED, _PATIENCE = 1e-3, 300  # the discriminator's loss, and for how many steps
_RATE_OVER = 20  # steps that the speed is measured over


def step_seed(seed: int, stage: int, step: int, rank: int) -> int:
    """Returns the seed of the random numbers of one step on one device (rule 1).

    Example:
        >>> step_seed(0, 0, 0, 0) == step_seed(0, 0, 0, 0) != step_seed(0, 0, 1, 0)
        True
    """
    text = f"{seed} {stage} {step} {rank}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big")


@dataclass(frozen=True)
class StepLog:
    """What a step had to say: the number of steps taken, and the terms of each player."""

    step: int
    rate: float  # factor of the learning rates
    terms: Mapping[str, Logged]  # by player


class FitLoop:
    """Trains the players of one stage; the last is the student, teachers that learn come first.

    Partners of the student, which lead back or stand beside it, are players too, and step with it.

    `stream(start)` gives the batches of each step from a step on.
    """

    def __init__(
        self,
        name: str,
        players: Sequence[Player],
        stream: Callable[[int], Generator[Sequence[Batch]]],
        steps: StepCount,
        devices: Devices,
        *,
        seed: int = 0,
        stage: int = 0,
    ) -> None:
        self.name, self.players, self.steps = name, tuple(players), steps
        self.stream, self.devices = stream, devices
        self.seed, self.stage = seed, stage
        self.low = 0  # steps for which the discriminator has been right
        self.warnings: list[str] = []

    def run(self, start: int, after: Callable[[StepLog], bool]) -> int:
        """Takes the steps from `start` on; stops early where `after` says so.

        Returns how many steps are taken in all. Raises: InputError if a step has no finite result.
        """
        taken = start
        with counted_step(f"training {self.name}", self.steps.total) as counted:
            counted.advance(start)
            began, first = perf_counter(), start
            with closing(self.stream(start)) as batches:  # its threads end with it
                for number in range(start, self.steps.total):
                    log = self.take(number, next(batches))
                    taken = number + 1
                    if taken % _RATE_OVER == 0:
                        now = perf_counter()
                        speed, began, first = (taken - first) / (now - began), now, taken
                        counted.advance(0, self._said(log, speed))
                    counted.advance()
                    if not after(log):
                        break
        return taken

    def take(self, number: int, batches: Sequence[Batch]) -> StepLog:
        """Takes one step; `number` counts from 0.

        Raises: InputError if it has no finite result.
        """
        nets = self.players[-1].nets
        # where nets are spread, all processes see the same batch, with the same noise
        rank = 0 if nets is not None and nets.spread else self.devices.rank
        seed_all(step_seed(self.seed, self.stage, number, rank))  # rule 1
        rate = self.steps.rate(number)
        here = [batch.to(self.devices.device) for batch in batches]
        terms: dict[str, Logged] = {}
        student = self.players[-1]
        alone = [p for p in self.players[:-1] if p not in student.partners.values()]
        for player in (*alone, student):
            step = JointStep(player)
            try:
                terms |= step.update(here, number, rate)
            except GfxError as error:
                raise type(error)(self._told(step, number, error)) from error
        self._watch(terms[self.players[-1].name])
        return StepLog(number + 1, rate, terms)

    def _told(self, taken: JointStep, number: int, error: GfxError) -> str:
        """Says where a term failed, and what to lower (rule 2)."""
        said = f"stage {self.name}, step {number + 1}: {error}"
        if not isinstance(error, InputError) or (
            "NaN" not in str(error) and "inf" not in str(error)
        ):
            return said
        rates = ", ".join(
            f"{'' if player is taken.student else player.name + ' '}{name} {group['lr']:g}"
            for player in taken.players
            for name, optimizer in player.optimizers.items()
            for group in optimizer.param_groups[:1]
        )
        return f"{said} (learning rates now: {rates}); or give `clip: 1`"

    def _watch(self, terms: Logged) -> None:
        """Warns once of a discriminator that is right all the time."""
        loss = terms.get("discriminator")
        if loss is None or self.warnings:
            return
        self.low = self.low + 1 if float(loss) < _COLLAPSED else 0
        if self.low == _PATIENCE:
            self.warnings.append(
                f"the discriminator's loss has been below {_COLLAPSED} for {_PATIENCE} steps: it "
                "is right all the time, and its gradient teaches little; the papers lower its "
                "learning rate (lr_discriminator), let it step less often "
                "(every: {discriminator: 2}), or take spectral normalisation and the hinge loss"
            )

    def _said(self, log: StepLog, speed: float) -> str:
        terms = log.terms[self.players[-1].name]
        losses = " ".join(f"{name} {float(value):.3g}" for name, value in terms.items())
        return f"training {self.name} · {losses} · {speed:.1f} steps/s"


def finite(players: Sequence[Player]) -> bool:
    """Whether all weights of the players are finite: only such a state is worth a checkpoint."""
    held: list[Any] = [p for player in players for p in player.net.parameters()]
    held += [p for player in players if player.critic for p in player.critic.parameters()]
    return all(bool(torch.isfinite(p).all()) for p in held)
