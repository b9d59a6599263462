"""Finds installed kinds of players by the entry point `gfx.players`, and reads `kind:` of one."""

from typing import Any

from gfx.errors import RegistryError
from gfx.train.named_kinds import installed_kinds, read_named
from gfx.train.players.player_kind import Back, PlayerKind, Side
from gfx.train.terms.term import NEEDS

__all__ = ["players", "read_player"]

GROUP = "gfx.players"


def players() -> dict[str, type[PlayerKind]]:
    """Returns all installed kinds of players by name.

    Raises: RegistryError if a plugin cannot be loaded, two kinds share a name, or one is neither a
    side player nor a way back, or adds nothing or a name that terms use.

    Example:
        >>> sorted(players())
        ['back']
    """
    found: dict[str, type[PlayerKind]] = installed_kinds(GROUP, PlayerKind)
    for name, kind in found.items():
        if issubclass(kind, Back):
            continue
        if not issubclass(kind, Side):
            raise RegistryError(
                f"the kind of player {name} has nothing to build; derive it from "
                "gfx.train.players.Side"
            )
        if taken := NEEDS.intersection(kind.adds):
            raise RegistryError(
                f"the kind of player {name} adds {sorted(taken)[0]!r}, which steps have without "
                "it; call it otherwise"
            )
        if not kind.adds or len(set(kind.adds)) < len(kind.adds):
            raise RegistryError(
                f"the kind of player {name} has adds={kind.adds!r}; give the names of its outputs, "
                'each once, as adds: ClassVar[tuple[str, ...]] = ("latent",)'
            )
    return found


def read_player(data: Any) -> PlayerKind:
    """Reads `kind:`, the name of a kind of player, or one with its fields.

    Raises: RecipeError naming the kind, what was expected and what was found.

    Example:
        >>> read_player("back")
        Back()
    """
    made: PlayerKind = read_named(players(), data, "kind", "kind of player", "{back: {}}")
    return made
