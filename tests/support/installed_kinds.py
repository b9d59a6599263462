"""Installs kinds of terms, filters and players for a test, as a plugin's entry points do."""

import itertools
import sys
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

import pytest

__all__ = ["install"]

_NUMBERS = itertools.count()


def install(monkeypatch: pytest.MonkeyPatch, **kinds: tuple[Any, ...]) -> None:
    """Installs kinds by the end of their group: `filters=(Clear,)` under gfx.filters."""
    # a name of its own: what an entry point has loaded is kept
    module = ModuleType(f"acme_training_{next(_NUMBERS)}")
    for name, offered in kinds.items():
        setattr(module, name, offered)
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def points(group: str) -> Any:
        name = group.removeprefix("gfx.")
        mine = [EntryPoint("acme", f"{module.__name__}:{name}", group)] if name in kinds else []
        return [*entry_points(group=group), *mine]

    monkeypatch.setattr("gfx.train.named_kinds.entry_points", points)
