"""Identifies the modules whose code gfx knows: torch's own layers, and those of gfx."""

from torch import Tensor, nn

from gfx.ir.modules.channel_masks import ChannelMask, LearnedMask, is_index
from gfx.ir.modules.choice_layers import ChoiceLayer
from gfx.ir.modules.instance_norms import FAST
from gfx.ir.modules.masked_layers import MASKED
from gfx.ir.modules.size_rules import SizeRules
from gfx.ir.modules.sparse_linear import CsrLinear, SemiStructuredLinear
from gfx.ir.modules.tap_layers import Penalty, Tap

__all__ = ["OWN", "is_known", "is_own", "without_content"]

# by identity: neither a subclass nor a class that only claims to be of gfx counts
OWN: frozenset[type[nn.Module]] = frozenset(
    [
        *(ChannelMask, LearnedMask, Penalty, Tap, CsrLinear, SemiStructuredLinear),
        *(ChoiceLayer, SizeRules),
        *MASKED.values(),
        *FAST.values(),
    ]
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


def without_content(module: nn.Module) -> None:
    """Moves a module to the meta device, all but the indices of masks: shapes follow from them.

    Example:
        >>> import torch
        >>> mask = ChannelMask(2)
        >>> _ = mask.add_index(torch.tensor([0, 1, 1]))
        >>> without_content(mask)
        >>> mask.mask.device, mask.index_0
        (device(type='meta'), tensor([0, 1, 1]))
    """
    made: dict[int, tuple[Tensor, Tensor]] = {}  # by identity: what is shared stays shared
    for part in module.modules():
        for held in (part._parameters, part._buffers):
            for name, value in held.items():
                if value is None or (isinstance(part, ChannelMask) and is_index(name)):
                    continue
                if id(value) not in made:
                    empty = value.detach().to("meta")
                    if isinstance(value, nn.Parameter):
                        empty = nn.Parameter(empty, requires_grad=value.requires_grad)
                    made[id(value)] = (value, empty)
                held[name] = made[id(value)][1]  # type: ignore[assignment]
