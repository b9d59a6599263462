"""Defines the options of layers and groups, and the damage of each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from gfx.planning.multiple_choice import Numbers, Plans, Price

__all__ = ["Choice", "Option", "monotone"]


@dataclass(frozen=True)
class Option:
    """One option of a choice.

    Example:
        >>> Option(48, 0.01).damage
        0.01
    """

    value: Any  # a Form or a width; None: unchanged
    damage: float  # at least 0, of a kind that adds up, such as squared errors


@dataclass(frozen=True)
class Choice:
    """The options of one layer or group, of which a plan takes one; the first is unchanged."""

    name: str  # the layer's path, or the group's name
    options: tuple[Option, ...]
    kind: Literal["layer", "group"] = "layer"


def monotone(choices: Sequence[Choice], price: Price) -> tuple[Choice, ...]:
    """Drops every option that is no cheaper than one with at most its damage.

    Each option is priced with everything else unchanged; along the options that stay, the price
    falls and the damage rises.

    Example:
        >>> choice = Choice("conv", (Option(None, 0.0), Option(2, 0.3), Option(1, 0.2)))
        >>> (left,) = monotone([choice], lambda plans: np.array([9.0, 5.0, 3.0])[plans])
        >>> [option.value for option in left.options]
        [None, 1]
    """
    found = []
    for place, choice in enumerate(choices):
        plans: Plans = np.zeros((len(choice.options), len(choices)), dtype=np.int64)
        plans[:, place] = np.arange(len(choice.options))
        prices = price(plans)
        left = _undominated([option.damage for option in choice.options], prices)
        found.append(replace(choice, options=tuple(choice.options[i] for i in left)))
    return tuple(found)


def _undominated(damages: Sequence[float], prices: Numbers) -> list[int]:
    """Lists the options that no other beats in every price and in damage, by rising damage.

    The first option always stays: a plan begins with it.
    """
    order = sorted(range(len(damages)), key=lambda i: (i != 0, damages[i], prices[i].sum()))
    kept: list[int] = []
    for i in order:
        if not any((prices[j] <= prices[i]).all() and damages[j] <= damages[i] for j in kept):
            kept.append(i)
    return kept
