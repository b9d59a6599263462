"""What may be done about a program: every layer in some forms, every free group at some widths."""

from collections.abc import Sequence
from math import isfinite

from torch import nn

from gfx.coupling import Groups
from gfx.factoring import Form, full_rank
from gfx.factoring.forms import Kind
from gfx.planning.layers import Layer
from gfx.planning.measure import Damages
from gfx.planning.options import Choice, Option

__all__ = ["few_ranks", "survey"]

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
