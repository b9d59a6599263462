"""Kinds of players: who learns beside a student in the same step: `players: {back: {kind: back}}`.

Each is a frozen dataclass, found by the entry point `gfx.players` as terms are by `gfx.terms`.
"""

from gfx.train.players.player_kind import Back, PlayerKind, Side, SideSetting
from gfx.train.players.player_registry import players, read_player

PLAYERS = (Back,)

__all__ = ["PLAYERS", "Back", "PlayerKind", "Side", "SideSetting", "players", "read_player"]
