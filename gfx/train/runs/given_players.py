"""Opens the players that the user hands in: partners of the student, and their discriminators.

    players={"back": "runs/teacher/01-train.back.gfx", "back.discriminator": critic}

Each goes to the first stage that has a player of this name which inherits its weights.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from gfx.errors import InputError, did_you_mean
from gfx.io.archive import ModelPath, as_module
from gfx.pipeline import apply
from gfx.train.runs.nets import Nets
from gfx.train.systems import System

__all__ = ["given_players"]

_CRITIC = ".discriminator"


def given_players(
    players: Mapping[str, nn.Module | ModelPath] | None, system: System, nets: Nets
) -> dict[str, nn.Module]:
    """Puts players that were given among what stages inherit; returns their modules by name.

    Raises: InputError if the recipe has no such player, or none that begins with what is given.
    """
    inherits: dict[str, bool] = {}
    for stage in system.stages:
        for partner in () if stage.fit is None else stage.fit.players:
            for name, begins in (
                (partner.name, partner.begins),
                (partner.name + _CRITIC, partner.discriminator.begins),
            ):
                inherits[name] = inherits.get(name, False) or begins == "inherit"
    opened: dict[str, nn.Module] = {}
    for name, given in (players or {}).items():
        if name not in inherits:
            known = ", ".join(inherits) or "none"
            raise InputError(
                f"players: the recipe has no player {name!r} (it has {known})"
                f"{did_you_mean(name, inherits)}"
            )
        if not inherits[name]:
            raise InputError(
                f"players: {name} was given, and no stage begins with it: give it `begins: "
                "inherit` in the recipe, or leave it out"
            )
        opened[name] = as_module(given)
        if name.endswith(_CRITIC):
            nets.partner_critics[name.removesuffix(_CRITIC)] = opened[name]
        else:
            nets.partners[name] = _program(opened[name])
    return opened


def _program(module: nn.Module) -> Any:
    return apply({"passes": []}, module)
