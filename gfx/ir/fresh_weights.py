"""Draws the weights of layers anew."""

import torch
from torch import nn

from gfx.errors import InputError
from gfx.ir.computed_tensors import computed_tensors

__all__ = ["draw_anew", "holders"]


def holders(net: nn.Module) -> dict[str, nn.Module]:
    """Returns the modules that own parameters, by path.

    Example:
        >>> list(holders(nn.Sequential(nn.ReLU(), nn.Linear(2, 2))))
        ['1']
    """
    return {
        path: module
        for path, module in net.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    }


@torch.no_grad()
def draw_anew(path: str, module: nn.Module, std: float | None = None) -> None:
    """Draws the parameters of one module anew, from torch's random stream.

    None draws as the layer itself does when it is made. A number draws weights from a normal
    distribution around 0, those of norms around 1, and sets biases to 0.

    Raises: InputError if it has weights that it cannot draw.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> draw_anew("fc", layer, std=0.02)
        >>> layer.bias.tolist()
        [0.0, 0.0]
    """
    own = dict(module.named_parameters(recurse=False))
    name = f"{path or 'the model'} ({type(module).__name__})"
    if computed := computed_tensors(module):
        raise InputError(f"{name} computes its {next(iter(computed))}: it cannot be drawn anew")
    if std is not None:
        _draw_normal(name, own, std)
        return
    reset = getattr(module, "reset_parameters", None)
    if not callable(reset):
        raise InputError(
            f"{name} has the parameters {', '.join(own)} and no reset_parameters(): gfx does not "
            "know how to draw them anew"
        )
    for value in own.values():
        value.fill_(float("nan"))
    try:
        reset()
    except Exception as error:  # anyone's code
        raise InputError(
            f"{name}: its reset_parameters() fails: {type(error).__name__}: {str(error)[:200]}"
        ) from error
    kept = [key for key, value in own.items() if value.isnan().any()]
    if kept:  # as where a hook computes the weight from what is stored
        raise InputError(
            f"{name} keeps {kept[0]} when its reset_parameters() is called: gfx does not know how "
            "to draw it anew"
        )


def _draw_normal(name: str, own: dict[str, nn.Parameter], std: float) -> None:
    others = [key for key in own if key not in ("weight", "bias")]
    if others:
        raise InputError(
            f"{name} has the parameter {others[0]}: with std gfx draws weight and bias alone"
        )
    for key, value in own.items():
        if key == "bias":
            value.zero_()
        else:
            value.normal_(float(value.ndim == 1), std)
