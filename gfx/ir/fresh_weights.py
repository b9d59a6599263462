"""Draws the weights of layers anew."""

import torch
from torch import nn

from gfx.errors import InputError

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
    known = set(own) <= {"weight", "bias"}
    reset = getattr(module, "reset_parameters", None)
    if std is not None and known:
        for name, value in own.items():
            if name == "bias":
                value.zero_()
            else:
                value.normal_(float(value.ndim == 1), std)
        return
    if std is not None or not callable(reset):
        raise InputError(
            f"{path or 'the model'} ({type(module).__name__}) has the parameters "
            f"{', '.join(own)} and {'' if callable(reset) else 'no '}reset_parameters(): gfx "
            "does not know how to draw them anew"
        )
    drawn = {name: value for name, value in own.items() if value.ndim > 1}
    for value in drawn.values():
        value.fill_(float("nan"))
    reset()
    kept = [name for name, value in drawn.items() if value.isnan().any()]
    if kept:  # as where a hook computes the weight from what is stored
        raise InputError(
            f"{path or 'the model'} ({type(module).__name__}) keeps {kept[0]} when its "
            "reset_parameters() is called: gfx does not know how to draw it anew"
        )
