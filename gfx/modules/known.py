"""Which modules gfx knows from inside: torch's own layers, and these."""

from torch import nn

from gfx.modules.layers import MASKED
from gfx.modules.marks import Penalty, Tap
from gfx.modules.masks import ChannelMask, LearnedMask

__all__ = ["OWN", "is_known", "is_own"]

# by identity: a class that only says it is of gfx is none of them, nor is a subclass
OWN: frozenset[type[nn.Module]] = frozenset(
    (ChannelMask, LearnedMask, Penalty, Tap, *MASKED.values())
)


def is_own(module: nn.Module) -> bool:
    """Whether a module is one of gfx's layers.

    Example:
        >>> is_own(Tap()), is_own(nn.ReLU())
        (True, False)
    """
    return type(module) in OWN


def is_known(module: nn.Module) -> bool:
    """Whether a module is a layer of torch.nn or of gfx, whose code does what is known of it.

    Example:
        >>> is_known(Tap()), is_known(nn.ReLU()), is_known(type("Net", (nn.Module,), {})())
        (True, True, False)
    """
    return is_own(module) or type(module).__module__.startswith("torch.nn.")
