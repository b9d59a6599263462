"""What the weights, as they are now, say of each entry of each mask."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gfx.errors import InputError
from gfx.masking import fours
from gfx.modules import ChannelMask, MaskedLayer
from gfx.scheduling.choosing import two_of_four
from gfx.scheduling.finding import Masked, Penalised, kind_of
from gfx.scheduling.sources import magnitudes, sources_of

__all__ = ["Ranks"]


class Ranks:
    """Scores the entries of masks; which weights are behind them is found once.

    Example:
        >>> import gfx
        >>> from torch import nn
        >>> from gfx.scheduling.finding import masked_in
        >>> model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 3, 1))
        >>> masks = list(masked_in(gfx.apply({"passes": ["mask"]}, model)))
        >>> Ranks(masks, []).scores(masks[0], 0).shape
        torch.Size([2])
    """

    def __init__(self, masks: Sequence[Masked], penalised: Sequence[Penalised]) -> None:
        ranked = [m for m in masks if isinstance(m.module, ChannelMask) and kind_of(m) != "ppcd"]
        self._sources = sources_of(ranked)
        self._penalised = penalised
        for mask in masks:
            if isinstance(mask.module, MaskedLayer):
                _check_pattern(mask.name, mask.module)

    def scores(self, mask: Masked, step: int) -> Tensor:
        """Scores the entries of a mask by magnitude: the lowest go first.

        Shapes: those of the mask.

        Raises: InputError if a weight is not finite; it names the step.
        """
        module = mask.module
        if isinstance(module, MaskedLayer):
            wide = torch.promote_types(module.weight.dtype, torch.float32)
            scores = module.weight.detach().abs().to(wide)
        else:
            device = module.mask.device
            scores = magnitudes(self._sources[mask.name], module.mask.numel(), device)
        if not bool(torch.isfinite(scores.sum())) and not bool(torch.isfinite(scores).all()):
            raise InputError(
                f"step {step}: weights behind {mask.name} are not finite, so nothing can be ranked "
                "by them; look for what made them so, or train with a lower learning rate"
            )
        if isinstance(module, MaskedLayer) and module.pattern == "2:4":
            return two_of_four(scores, fours(module)[0])
        return scores

    def worth(self, mask: Masked) -> Tensor:
        """Returns the largest |γ|, or mean |w|, that each channel has in a penalised layer.

        Shapes: those of the mask.
        """
        # the tensor that is penalised, not the shift or bias beside it
        penalised = {(id(p.weight.owner), p.weight.attribute) for p in self._penalised}
        size, device = mask.module.mask.numel(), mask.module.mask.device
        sources = self._sources[mask.name]
        own = [s for s in sources if (id(s.weight.owner), s.weight.attribute) in penalised]
        rows = [source.means(size).to(device) for source in own]
        return torch.stack(rows).amax(0) if rows else torch.ones(size, device=device)


def _check_pattern(name: str, layer: MaskedLayer) -> None:
    size = fours(layer)[1]
    if layer.pattern == "2:4" and size % 4:
        raise InputError(
            f"{name} is masked in fours (pattern=2:4) and has {size} inputs for each output now; "
            "mask after channels are removed, or remove them with round_to: 4"
        )
