"""Why a layer is not written in a form."""

from gfx.factoring import Form, rank_of, refusal
from gfx.planning.layers import Layer, obstacle, price
from gfx.program import Program

__all__ = ["no_gain", "why_not"]


def why_not(program: Program, layer: Layer, form: Form) -> str:
    """Says why a layer cannot be written in a form; "" if it can.

    Example:
        >>> import gfx
        >>> from gfx.planning.layers import layers_of
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> why_not(program, layers_of(program)[0], Form(norm="instance"))
        ''
    """
    return obstacle(program, layer) or refusal(layer.module, form) or _too_small(layer, form)


def no_gain(layer: Layer, form: Form) -> str:
    """Says that a layer would not get cheaper in a form; "" if it would.

    Cheaper means fewer exact MACs, and no more parameters.
    """
    old, new = price(layer), price(layer, form)
    if new.macs.exact < old.macs.exact and new.params <= old.params:
        return ""
    return (
        f"at rank {rank_of(layer.convolution, form)} it would have {new.macs.exact:,} MACs and "
        f"{new.params:,} parameters in the place of {old.macs.exact:,} and {old.params:,}"
    )


def _too_small(layer: Layer, form: Form) -> str:
    """Says that a norm between the parts would have nothing to look at."""
    for node in layer.calls:
        shape = node.meta["val"].shape
        if form.norm != "none" and len(shape) != 4:
            return f"it reads no batch: {form.norm} norm between the parts needs (N, C, H, W)"
        if form.norm == "instance" and shape[2:].numel() == 1:
            return "its output is a single position, which an instance norm would erase"
    return ""
