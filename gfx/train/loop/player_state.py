"""Writes and reads all that a step of a player changes: plain data and tensors."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from gfx.errors import VerificationError

__all__ = ["load_player_state", "player_state"]

Optimizers = Mapping[str, torch.optim.Optimizer]


def player_state(
    parts: Mapping[str, Any], objectives: nn.ModuleList, optimizers: Optimizers
) -> dict[str, Any]:
    """Returns the state of a player.

    Args:
        parts: what holds a state, by name; None: there is none.
        objectives: of its terms.
        optimizers: by player.
    """
    found = {n: None if part is None else part.state_dict() for n, part in parts.items()}
    return {
        **found,
        "objectives": [objective.state_dict() for objective in objectives],
        "optimizers": {name: o.state_dict() for name, o in optimizers.items()},
    }


def load_player_state(
    player: str,
    state: Mapping[str, Any],
    parts: Mapping[str, Any],
    objectives: nn.ModuleList,
    optimizers: Optimizers,
) -> None:
    """Gives a player a state that `player_state` returned.

    Raises: VerificationError if the state is of another player.
    """
    try:
        for name, part in parts.items():
            if part is not None:
                part.load_state_dict(state[name])
        for objective, each in zip(objectives, state["objectives"], strict=True):
            objective.load_state_dict(each)
        for name, optimizer in optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise VerificationError(
            f"the checkpoint does not fit {player}: {str(error)[:300]}; the model or the recipe "
            "has changed since: give another run folder"
        ) from error
