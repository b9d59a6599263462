"""Takes one step of generators that learn from each other.

All gradients are added before any weight changes, as one optimizer over all of them would do it: a
term of one generator, as `cycle`, differentiates the other too.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from gfx.errors import GfxError
from gfx.train.loop.player import Player
from gfx.train.tasks import Batch

__all__ = ["JointStep"]

Logged = dict[str, Tensor]


class JointStep:
    """A student with its partners; of a player without partners, its own step.

    One step is `begin`, `loss` for each batch, `step`.
    """

    def __init__(self, student: Player) -> None:
        self.student = student
        # side players see what the student has made
        self.players = (*student.back.values(), student, *student.sides.values())

    def update(self, batches: Sequence[Batch], step: int, rate: float) -> dict[str, Logged]:
        """Takes a step on some batches, whose gradients are averaged; returns terms by player."""
        logged = self.begin(step, rate)
        for batch in batches:
            self.loss(batch, 1 / len(batches), logged)
        self.step(logged)
        return logged

    def begin(self, step: int, rate: float) -> dict[str, Logged]:
        """Begins step number `step`, at a factor of the learning rates; returns what logs it."""
        for player in self.players:
            player.begin(step, rate)
        return {player.name: {} for player in self.players}

    def loss(self, batch: Batch, share: float, logged: dict[str, Logged]) -> None:
        """Adds the gradients of all players for a batch, times its share of the step.

        Of a supernet each subnet of the step takes its turn: all players see the same one.
        """
        for turn in self.student.turns():
            for player in self.players:
                with self._naming(player):
                    player.loss(batch, share, logged[player.name], turn)

    def step(self, logged: dict[str, Logged]) -> None:
        """Changes the weights: of discriminators, then of generators."""
        for player in self.players:
            player.step_discriminator()
        for player in self.players:
            with self._naming(player):
                player.fool_again(logged[player.name])
        for player in self.players:
            player.step_generator()

    @contextmanager
    def _naming(self, player: Player) -> Iterator[None]:
        """Says which partner something went wrong with."""
        try:
            yield
        except GfxError as error:
            if player is self.student:
                raise
            raise type(error)(f"{player.name}: {error}") from error
