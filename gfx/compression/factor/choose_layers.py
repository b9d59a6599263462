"""Chooses the form of each layer that a pass factorizes, and says why other layers stay."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from torch import nn

from gfx.compression.factor.factor_layers import no_gain, why_not
from gfx.compression.factor.forms import Form, Kind, full_rank
from gfx.compression.factor.layer_selectors import Names, Rank
from gfx.ir.layers import Layer, layers_of, unlayered
from gfx.ir.program import Program

__all__ = ["Chosen", "choose", "few_ranks", "form_options"]

_FILTERS = (1, 2, 3)  # per channel
_PARTS = (0.125, 0.25, 0.5)  # of the full rank


@dataclass
class Chosen:
    """Layers with their forms, and (name, reason) of those that stay."""

    forms: dict[Layer, Form] = field(default_factory=dict)
    skips: list[tuple[str, str]] = field(default_factory=list)


def choose(
    program: Program,
    names: Names,
    form_of: Callable[[Rank | None], Form],
    at_any_cost: bool = False,
) -> Chosen:
    """Sorts the layers of a program into those that get a form and those that stay.

    Args:
        program: it has shapes.
        names: what was asked for.
        form_of: returns the form of a rank. Without a rank, a form must make its layer cheaper.
        at_any_cost: take a form even if it is more expensive than the layer.
    """
    ranks = names.ranks(program)
    chosen = Chosen(skips=[(node.name, why) for node, why in unlayered(program)])
    for layer in layers_of(program):
        form = form_of(ranks[layer.path]) if layer.path in ranks else None
        why = names.unnamed if form is None else why_not(program, layer, form)
        if form is not None and not why and form.rank is None and not at_any_cost:
            why = no_gain(layer, form)
        if form is None or why:
            chosen.skips.append((layer.path, why))
        else:
            chosen.forms[layer] = form
    return chosen


def form_options(
    layers: Iterable[Layer], form_of: Callable[[Rank | None], Form], ranks: Sequence[Rank] = ()
) -> tuple[tuple[Layer, Form], ...]:
    """Lists the forms of layers at given ranks; without ranks, at a few small ones."""
    kind = form_of(None).kind
    return tuple(
        (layer, form_of(rank))
        for layer in layers
        for rank in ranks or few_ranks(layer.convolution, kind)
    )


def few_ranks(layer: nn.Conv2d | nn.ConvTranspose2d, kind: Kind) -> tuple[int | float, ...]:
    """Lists a few small ranks for a layer.

    Example:
        >>> few_ranks(nn.Conv2d(8, 8, (1, 3)), "depthwise_separable")
        (1, 2)
    """
    if kind != "depthwise_separable":
        return _PARTS
    return tuple(rank for rank in _FILTERS if rank < full_rank(layer, kind))
