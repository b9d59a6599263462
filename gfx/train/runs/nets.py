"""Holds what the stages of a run have left."""

from dataclasses import dataclass, field

from torch import fx, nn

from gfx.train.loop.player import Player
from gfx.train.systems.player_fields import GIVEN

__all__ = ["Nets"]


@dataclass
class Nets:
    """What stages have left: generators and discriminators by the name of the stage.

    Partners of students are kept by their own name: the last stage that had it.
    """

    generators: dict[str, fx.GraphModule]
    critics: dict[str, nn.Module]
    last: str = GIVEN  # the stage that was last
    partners: dict[str, fx.GraphModule] = field(default_factory=dict)
    partner_critics: dict[str, nn.Module] = field(default_factory=dict)

    @property
    def student(self) -> fx.GraphModule:
        """The generator that the next stage begins with."""
        return self.generators[self.last]

    def copy(self) -> "Nets":
        """Returns the same nets in tables of their own."""
        return Nets(
            dict(self.generators),
            dict(self.critics),
            self.last,
            dict(self.partners),
            dict(self.partner_critics),
        )

    def take_partners(self, student: Player) -> None:
        """Takes the partners of a student as they are, with their discriminators."""
        for name, player in student.partners.items():
            assert isinstance(player.net, fx.GraphModule)
            self.partners[name] = player.net
            if player.critic is not None:
                self.partner_critics[name] = player.critic
