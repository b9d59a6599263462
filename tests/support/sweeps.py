"""Chooses the cases of a sweep: every second one in CI, all with GFX_SLOW."""

import os
from collections.abc import Iterable
from typing import TypeVar

__all__ = ["some"]

T = TypeVar("T")


def some(cases: Iterable[T], first: int = 0) -> list[T]:
    """Returns the cases from a place on, every second one; all of them with GFX_SLOW."""
    found = list(cases)
    return found if os.environ.get("GFX_SLOW") else found[first::2]
