"""The parts that layers are written as, and how near they come."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from gfx.factoring import Form, compose, factor, rank_of
from gfx.planning.inputs import Inputs
from gfx.planning.layers import Layer
from gfx.program import Program

__all__ = ["kernel_error", "parts_of", "written_rank"]


def parts_of(
    program: Program,
    forms: Iterable[tuple[Layer, Form]],
    batches: Sequence[tuple[Any, ...]],
    seed: int = 0,
    rounds: int = 3,
) -> list[nn.Sequential]:
    """Computes the parts of each layer in its form; the program is left as it is.

    Args:
        program: the one the layers are of.
        forms: layers, each with the form it shall have.
        batches: inputs of the program, for forms that are fitted to what their layer reads.
        seed: of what is drawn at random.
        rounds: of the alternation between the parts, where they are fitted.

    Example:
        >>> import gfx
        >>> from gfx.planning.layers import layers_of
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> [list(p._modules) for p in parts_of(program, [(layers_of(program)[1], Form())], [])]
        [['depthwise', 'pointwise']]
    """
    return [
        factor(
            layer.convolution,
            form,
            inputs=Inputs(program, layer, batches, seed) if form.init == "data" else None,
            seed=seed + number,
            rounds=rounds,
            name=layer.path,
        )
        for number, (layer, form) in enumerate(forms)
    ]


def kernel_error(layer: nn.Conv2d | nn.ConvTranspose2d, parts: nn.Sequential) -> float | None:
    """Returns how far the parts' kernel is from a layer's, relative to the layer's (Frobenius).

    None if there is none: the parts have a norm, or the layer has no values.

    Example:
        >>> conv = nn.Conv2d(4, 4, 3)
        >>> (kernel_error(conv, factor(conv, Form(rank=4))) or 1) < 1e-6
        True
    """
    plain = all(isinstance(part, nn.Conv2d | nn.ConvTranspose2d) for part in parts)
    weight = layer.weight.detach().double()
    if not plain or weight.is_meta:
        return None
    gap = compose(parts).weight.detach().double() - weight
    return float(gap.norm() / weight.norm()) if bool(weight.any()) else float(gap.norm())


def written_rank(layer: Layer, form: Form) -> int | float | None:
    """Writes the rank of a form out as a number; what Tucker has two of is said as it was.

    Example:
        >>> import gfx
        >>> from gfx.planning.layers import layers_of
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> written_rank(layers_of(program)[1], Form("low_rank", rank=0.5))
        8
    """
    return form.rank if form.kind == "tucker" else rank_of(layer.convolution, form)
