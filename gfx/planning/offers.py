"""Collects what passes offer under a shared budget, and decides on one plan for all of them.

Narrowing a group changes the cost of its layers in any form, and the form of a layer changes the
price of narrowing. So passes that share a budget are planned together, and each gets its part.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, isnan
from typing import Any

import numpy as np

from gfx.compression.factor import Form
from gfx.compression.probe import Damages
from gfx.compression.selection import Bounds, removal
from gfx.coupling import Group, Groups, analyse
from gfx.coupling.channel_names import stays
from gfx.coupling.labels import Mask
from gfx.ir.layers import Layer, layers_of
from gfx.ir.program import Program
from gfx.planning.budget_limits import Limits
from gfx.planning.choices import Choice, Option
from gfx.planning.decision import decide
from gfx.planning.plan import Decision
from gfx.progress import part_of_time

__all__ = ["SHARES", "Narrowed", "Offer", "choices_of", "decide_alone", "decide_offers"]

SHARES = (0.75, 0.5, 0.25, 0.125, 0.0625)  # of a group, for which damage is measured
_UNKNOWN = 1.0  # damage of a change that there was no time to measure
_FOR_DAMAGE = 0.4  # share of the time for measuring the damage of changes
_GRID = 16  # widths of a group to consider: sixteenths of it,
_VECTORS = (8, 16)  # and multiples of the channels that processors compute at a time
_LEFT = "the plan of least damage leaves it as it is"

Narrow = Callable[[Group, int], Mask]


@dataclass(frozen=True)
class Narrowed:
    """Holds the groups that may be narrowed, how far, and which channels are removed."""

    groups: Groups
    among: tuple[Group, ...]
    narrow: Narrow  # marks the channels to remove so that a number of channels stays
    bounds: Bounds = field(default_factory=Bounds)
    shares: Sequence[float] = SHARES  # of a group, for which damage is measured
    between: bool = True  # whether widths between these are options too

    @staticmethod
    def weakest(
        groups: Groups,
        shares: Sequence[float],
        finer: bool = False,
        bounds: Bounds = Bounds(),  # noqa: B008 - immutable
    ) -> "Narrowed":
        """Narrows every free group by its weakest channels in L1, down to some shares of it.

        Finer: down to a quarter of the smallest share, and to widths between.
        """
        fewer = [min(shares) / k for k in (2, 4)] if finer and shares else []

        def narrow(group: Group, width: int) -> Mask:
            return removal(groups, {group.name: width})

        return Narrowed(groups, groups.free, narrow, bounds, (*shares, *fewer), finer)


@dataclass(frozen=True)
class Offer:
    """Holds what a pass offers under a budget."""

    resolve: Callable[[Decision], Any]  # returns the pass with its part of the plan written out
    forms: tuple[tuple[Layer, Form], ...] = ()  # options of layers
    narrowed: Narrowed | None = None
    batches: int = 1  # of the data: how many to use
    rounds: int = 3  # alternations between parts that are fitted to data


def decide_offers(
    program: Program, offers: Sequence[Offer], limits: Limits, *, data: Any = None, seed: int = 0
) -> tuple[Decision, dict[str, Any]]:
    """Decides on the offers of passes, for the least damage within the budgets.

    Returns: the decision, and for the report the `requested` and `achieved` value of each budget,
    the `damage`, and the `inputs` it was measured on if they are not the user's data.

    Raises: BudgetError with the least cost that can be reached; PreconditionError if the program
    has no values to measure damage with.
    """
    batches, rounds = max(o.batches for o in offers), max(o.rounds for o in offers)
    damages = Damages(program, data, batches, seed, rounds, smaller=True)
    narrowed = [offer.narrowed for offer in offers if offer.narrowed is not None]
    groups = narrowed[0].groups if narrowed else analyse(program)
    forms = list(dict.fromkeys(pair for offer in offers for pair in offer.forms))
    with part_of_time(_FOR_DAMAGE):
        choices = choices_of(forms, narrowed, damages)
    found = decide(groups, layers_of(program), choices, limits.budgets, limits.meter)
    details = {
        "requested": limits.requested,
        "achieved": {b.name: b.value(found.cost) for b in limits.budgets if not b.timed},
        "damage": found.damage**0.5,
        **({"inputs": damages.note} if damages.note else {}),
    }
    return found, details


def decide_alone(
    program: Program,
    offer: Offer,
    shares: Sequence[float],
    limits: Limits,
    *,
    bounds: Bounds = Bounds(),  # noqa: B008 - immutable
    data: Any = None,
    seed: int = 0,
) -> tuple[Decision, dict[str, tuple[int, ...]], dict[str, Any], list[tuple[str, str]]]:
    """Decides on the layers that one pass offers to rewrite, and on all free groups.

    Args:
        program: the program, which exceeds the budgets.
        offer: the layers and their forms.
        shares: shares of a group that may stay; the weakest channels by L1 are removed.
        limits: the limits to keep.
        bounds: of what a group keeps.
        data: the user's batches, to measure damage on.
        seed: seeds all random numbers.

    Returns: the decision; the channels that stay, by module; details for the report; and (name,
    reason) of each layer or group that stays unchanged.

    Raises: BudgetError and PreconditionError as `decide_offers` does.
    """
    groups = analyse(program)
    narrowed = Narrowed.weakest(groups, shares, limits.timed, bounds)
    offer = replace(offer, narrowed=narrowed)
    found, details = decide_offers(program, [offer], limits, data=data, seed=seed)
    paths = dict.fromkeys(layer.path for layer, _ in offer.forms)
    left = [(path, _LEFT) for path in paths if path not in found.forms]
    left += [(group.name, group.pinned) for group in groups if group.pinned]
    whole = bounds.of(groups.free).whole
    left += [(group.name, why) for group in groups.free if (why := whole(group))]
    stay = stays(groups, removal(groups, found.widths))
    kept = {name: tuple(indices) for name, (_, indices) in stay.items()}
    widths = {name: count * groups[name].takes[0] for name, count in found.widths.items()}
    return found, kept, {**details, "widths": widths}, left


def choices_of(
    forms: Sequence[tuple[Layer, Form]], narrowed: Sequence[Narrowed], damages: Damages
) -> list[Choice]:
    """Measures the damage of each form and each width alone, squared, and lists the choices.

    They are sorted: the order in which passes offer them does not matter. Where several passes
    may narrow a group, the first says how.

    Example:
        >>> import gfx
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> halves = Narrowed.weakest(gfx.channels(program), [0.5])
        >>> choices = choices_of([], [halves], Damages(program, None, 1))
        >>> [(c.name, [o.value for o in c.options]) for c in choices][0]
        ('project.conv', [None, 16])
    """
    found: dict[tuple[str, str], Choice] = {}
    for each in narrowed:
        for choice in _widths(each, damages):
            found.setdefault(("group", choice.name), choice)
    for (layer, form), damage in zip(forms, damages.of_forms(forms), strict=True):
        damage = _UNKNOWN if isnan(damage) else damage
        if isfinite(damage):
            old = found.get(("layer", layer.path), Choice(layer.path, (Option(None, 0.0),)))
            more = Option(form, damage**2)
            found["layer", layer.path] = Choice(layer.path, (*old.options, more))
    return [found[key] for key in sorted(found)]


def _widths(narrowed: Narrowed, damages: Damages) -> list[Choice]:
    """Lists the possible widths of groups, and the damage of each alone, squared.

    Damage is measured at some shares of each group; between them it is interpolated linearly in the
    width. The widths between are sixteenths of a group and multiples of 8 or 16 channels; the
    prices show which of them are fast.
    """
    measured = [
        (group, width)
        for group in narrowed.among
        for width in _rounded(
            narrowed.bounds, group, [share * group.size for share in narrowed.shares]
        )
    ]
    masks = [narrowed.narrow(group, width) for group, width in measured]
    found = damages.of_masks(narrowed.groups, masks)
    known: dict[str, dict[int, float]] = {}
    for (group, width), damage in zip(measured, found, strict=True):
        guess = _UNKNOWN * (1 - width / group.size)
        known.setdefault(group.name, {})[width] = guess if isnan(damage) else damage
    return [
        _choice(group, known[group.name], narrowed)
        for group in narrowed.among
        if group.name in known
    ]


def _rounded(bounds: Bounds, group: Group, widths: Sequence[float]) -> list[int]:
    """Rounds widths up to allowed ones, the widest first; leaves out the whole group."""
    wanted = np.ceil(np.array(widths) - 1e-9).astype(np.int64)
    kept = bounds.of([group]).rounded(wanted[:, None])[:, 0]
    return sorted({width for width in kept.tolist() if width < group.size}, reverse=True)


def _choice(group: Group, known: dict[int, float], narrowed: Narrowed) -> Choice:
    """Lists the widths of a group that are no narrower than those that were measured."""
    between = _between(group, narrowed.bounds) if narrowed.between else []
    widths = sorted({*known, *between}, reverse=True)
    points = [(w, d) for w, d in sorted({**known, group.size: 0.0}.items()) if isfinite(d)]
    least = min(w for w, _ in points)
    guessed = np.interp(widths, [w for w, _ in points], [d for _, d in points]).tolist()
    options = [
        Option(width, known.get(width, damage) ** 2)
        for width, damage in zip(widths, guessed, strict=True)
        if width >= least and isfinite(known.get(width, damage))
    ]
    return Choice(group.name, (Option(None, 0.0), *options), "group")


def _between(group: Group, bounds: Bounds) -> list[int]:
    wanted = [group.size * k / _GRID for k in range(1, _GRID)]
    for step in _VECTORS:
        if group.width <= _GRID * step * 2:
            wanted += [width / group.takes[0] for width in range(step, group.width, step)]
    return _rounded(bounds, group, wanted)
