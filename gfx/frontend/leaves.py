"""Which modules stay whole in a graph."""

from collections.abc import Collection

from torch import nn
from torch.nn.utils import parametrize

from gfx.frontend.composite import is_composite
from gfx.modules import OWN

__all__ = ["is_leaf", "leaf_paths"]


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is one step of a graph: a layer of torch.nn, or one of gfx's own.

    Containers are not, nor are nn.Transformer and its parts. Neither are subclasses that users
    write: their forward is traced. Layers with hooks or parametrizations (spectral_norm,
    weight_norm) are leaves.

    Example:
        >>> is_leaf(nn.Conv2d(3, 8, 3)), is_leaf(nn.Sequential())
        (True, False)
    """
    kind = type(module)
    if parametrize.is_parametrized(module):
        kind = kind.__mro__[1]  # parametrize puts a class of its own in front
    if kind is nn.Module:
        return False  # a place for what lies below, as in a GraphModule
    if issubclass(kind, nn.Sequential | nn.ModuleList | nn.ModuleDict) or is_composite(module):
        return False
    return kind in OWN or kind.__module__.startswith(("torch.nn", "torch.ao.nn"))


def leaf_paths(model: nn.Module, opaque: Collection[str]) -> dict[str, nn.Module]:
    """Returns the outermost leaves of a model by path; a shared module counts once.

    `opaque` names more modules that must stay whole.
    """
    found: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        parts = path.split(".")
        inside = any(".".join(parts[:depth]) in found for depth in range(1, len(parts)))
        if path and not inside and (path in opaque or is_leaf(module)):
            found[path] = module
    return found
