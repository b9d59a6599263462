"""What several passes may do under one budget, and the plan for all of them.

Narrowing a group changes what its layers cost in any form, and a layer in another form is narrowed
at another price. So passes that share a budget are planned together, and each gets its part.

What may be done about a program: every layer in some forms, every free group at some widths.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np
from torch import nn

from gfx.compression.factor import Form, full_rank
from gfx.compression.factor.forms import Kind
from gfx.compression.probe import Damages
from gfx.compression.selection import Bounds
from gfx.costs import Budget, LatencyTimer
from gfx.coupling import Group, Groups
from gfx.coupling.labels import Mask
from gfx.ir.layers import Layer, layers_of
from gfx.ir.program import Program
from gfx.search.choices import Choice, Option
from gfx.search.decision import Decision, decide

__all__ = ["SHARES", "Narrowed", "Offer", "few_ranks", "narrowings", "survey", "together"]

SHARES = (0.75, 0.5, 0.25, 0.125, 0.0625)  # of a group, at which its damage is measured
_GRID = 16  # widths of a group that are weighed: sixteenths of it,
_VECTORS = (8, 16)  # and multiples of what processors compute at a time

Narrow = Callable[[Group, int], Mask]


@dataclass(frozen=True)
class Narrowed:
    """Groups that may be narrowed, how far, and which channels then go."""

    groups: Groups
    among: tuple[Group, ...]
    narrow: Narrow  # marks what goes of a group, so that so many channels stay
    bounds: Bounds = field(default_factory=Bounds)


@dataclass(frozen=True)
class Offer:
    """What a pass may do under a budget that it shares with others."""

    settle: Callable[[Decision], Any]  # returns the pass with its part of the plan written out
    forms: tuple[tuple[Layer, Form], ...] = ()  # that layers may be written in
    narrowed: Narrowed | None = None
    batches: int = 1  # of the data: as many are looked at
    rounds: int = 3  # of the alternation between parts that are fitted to data


def narrowings(
    narrowed: Narrowed, damages: Damages, shares: Sequence[float] = SHARES
) -> list[Choice]:
    """Lists the widths that groups may have, and the damage of each alone, squared.

    Damage is measured at some shares of each group; between them it is taken to be linear in the
    width. The widths are sixteenths of a group and multiples of 8 or 16 channels; which of them
    are fast is for the prices to say.
    """
    measured = [
        (group, width)
        for group in narrowed.among
        for width in _rounded(narrowed.bounds, group, [share * group.size for share in shares])
    ]
    masks = [narrowed.narrow(group, width) for group, width in measured]
    found = damages.of_masks(narrowed.groups, masks)
    known: dict[str, dict[int, float]] = {}
    for (group, width), damage in zip(measured, found, strict=True):
        known.setdefault(group.name, {})[width] = damage
    return [
        _choice(group, known[group.name], narrowed.bounds)
        for group in narrowed.among
        if group.name in known
    ]


def together(
    program: Program,
    offers: Sequence[Offer],
    budgets: Sequence[Budget],
    *,
    data: Any = None,
    seed: int = 0,
    stopwatch: LatencyTimer | None = None,
    who: str = "the passes",
) -> tuple[Decision, str]:
    """Decides about what several passes offer, for the least damage within the budgets.

    Returns: the decision, and what damage was measured on if it is not the user's data.

    Raises: BudgetError that tells the least that can be reached; PreconditionError if the program
    has no values to measure damage with.
    """
    batches, rounds = max(o.batches for o in offers), max(o.rounds for o in offers)
    damages = Damages(program, data, batches, seed, rounds)
    choices: dict[tuple[str, str], Choice] = {}
    for narrowed in [o.narrowed for o in offers if o.narrowed is not None]:
        for choice in narrowings(narrowed, damages):
            choices.setdefault(("group", choice.name), choice)
    forms = list(dict.fromkeys(pair for offer in offers for pair in offer.forms))
    for (layer, form), damage in zip(forms, damages.of_forms(forms), strict=True):
        if isfinite(damage):
            old = choices.get(("layer", layer.path), Choice(layer.path, (Option(None, 0.0),)))
            more = Option(form, damage**2)
            choices["layer", layer.path] = Choice(layer.path, (*old.options, more))
    groups = next(o.narrowed.groups for o in offers if o.narrowed is not None)
    every = [choices[key] for key in sorted(choices)]  # whatever order the passes stand in
    found = decide(groups, layers_of(program), every, budgets, stopwatch, who)
    return found, damages.note


def _rounded(bounds: Bounds, group: Group, widths: Sequence[float]) -> list[int]:
    """Rounds widths up to those allowed, the widest first; the whole group is none."""
    sizes = np.full(len(widths), group.size, dtype=np.int64)
    kept = bounds.rounded(np.ceil(np.array(widths) - 1e-9).astype(np.int64), sizes)
    return sorted({width for width in kept.tolist() if width < group.size}, reverse=True)


def _choice(group: Group, known: dict[int, float], bounds: Bounds) -> Choice:
    """Lists the widths of a group that are no narrower than what was measured."""
    wanted = [group.size * k / _GRID for k in range(1, _GRID)]
    for step in _VECTORS:
        if group.size <= _GRID * step * 2:
            wanted += list(range(step, group.size, step))
    widths = sorted({*known, *_rounded(bounds, group, wanted)}, reverse=True)
    points = [(w, d) for w, d in sorted({**known, group.size: 0.0}.items()) if isfinite(d)]
    least = min(w for w, _ in points)
    guessed = np.interp(widths, [w for w, _ in points], [d for _, d in points]).tolist()
    options = [
        Option(width, known.get(width, damage) ** 2)
        for width, damage in zip(widths, guessed, strict=True)
        if width >= least and isfinite(known.get(width, damage))
    ]
    return Choice(group.name, (Option(None, 0.0), *options), "group")


_FILTERS = (1, 2, 3)  # per channel
_PARTS = (0.125, 0.25, 0.5)  # of the full rank


def survey(
    groups: Groups,
    forms: Sequence[tuple[Layer, Form]],
    shares: Sequence[float],
    damages: Damages,
) -> list[Choice]:
    """Measures the damage of each form and each width alone, squared, and lists the choices.

    Example:
        >>> import gfx
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> choices = survey(gfx.channels(program), [], [0.5], Damages(program, None, 1))
        >>> [(c.name, [o.value for o in c.options]) for c in choices][0]
        ('project.conv', [None, 16])
    """
    found: dict[tuple[str, str], list[Option]] = {}
    for (layer, form), damage in zip(forms, damages.of_forms(forms), strict=True):
        if isfinite(damage):
            found.setdefault(("layer", layer.path), []).append(Option(form, damage**2))
    pairs = [(group, share) for group in groups.free for share in shares]
    for (group, _), (width, damage) in zip(pairs, damages.of_shares(groups, pairs), strict=True):
        if width < group.size and isfinite(damage):  # of a small group, a large share is all
            found.setdefault(("group", group.name), []).append(Option(width, damage**2))
    return [
        Choice(name, (Option(None, 0.0), *options), "group" if kind == "group" else "layer")
        for (kind, name), options in found.items()
    ]


def few_ranks(layer: nn.Conv2d | nn.ConvTranspose2d, kind: Kind) -> tuple[int | float, ...]:
    """Lists a few small ranks at which a layer may be written.

    Example:
        >>> few_ranks(nn.Conv2d(8, 8, (1, 3)), "depthwise_separable")
        (1, 2)
    """
    if kind != "depthwise_separable":
        return _PARTS
    return tuple(rank for rank in _FILTERS if rank < full_rank(layer, kind))
