"""Runs InstanceNorms by quicker kernels while a net trains; what is kept has torch's own."""

from collections.abc import Iterable

from torch import nn

from gfx.ir.modules import FAST
from gfx.train.loop.synced_norms import plain_class

__all__ = ["quicken", "restore"]

_PLAIN: dict[type[nn.Module], type[nn.Module]] = {quick: plain for plain, quick in FAST.items()}


def quicken(net: nn.Module) -> tuple[str, ...]:
    """Lets the InstanceNorms of a net compute quickly; returns their paths.

    A norm of a class of its own, with running statistics, hooks or parametrizations stays.

    Example:
        >>> net = nn.Sequential(nn.InstanceNorm2d(3))
        >>> paths = quicken(net)
        >>> paths, type(net[0]).__name__
        (('0',), 'FastInstanceNorm2d')
        >>> restore(net, paths)
        >>> type(net[0]).__name__
        'InstanceNorm2d'
    """
    found = []
    for path, module in net.named_modules():
        if type(module) in FAST and not module.track_running_stats and not _hooked(module):
            # the same object under another class: it may be registered under several names
            module.__class__ = FAST[type(module)]
            found.append(path)
    return tuple(found)


def restore(net: nn.Module, paths: Iterable[str]) -> None:
    """Gives the norms at these paths torch's own class again."""
    for path in paths:
        module = net.get_submodule(path)
        kind = type(module)
        module.__class__ = _PLAIN.get(kind) or plain_class(kind) or kind


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks) or hasattr(
        module, "parametrizations"
    )
