"""Counts the MACs of a module call: one closed form per kind of torch.nn module.

Attributes give the weight's shape, not the weight: a parametrization would compute it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from gfx.costs import mac_formulas as formulas
from gfx.costs.cost import Macs
from gfx.ir.modules import ChannelMask, CsrLinear, SemiStructuredLinear, is_known
from gfx.ir.setting_hooks import setting_hooks

__all__ = ["module_macs"]

Rule = Callable[[Any, tuple[Any, ...], dict[str, Any], torch.Tensor], Macs]


def module_macs(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
) -> Macs | None:
    """Counts a call of a layer of torch.nn or gfx on fake tensors; None if there is no formula.

    There is none for a layer with hooks: what it is given and gives back may be anything.

    Example:
        >>> x, layer = torch.empty(1, 3, 8, 8), nn.Conv2d(3, 4, 1)
        >>> module_macs(layer, (x,), {}, layer(x))
        Macs(exact=768, output=768, output_norm=768)
    """
    if not is_known(module) or _hooked(module):
        return None
    for kinds, rule in _RULES:
        if isinstance(module, kinds):
            return rule(module, args, kwargs, _first(out))
    simple = not any(True for _ in module.children())
    return Macs() if simple and not any(True for _ in module.parameters()) else None


def _hooked(module: nn.Module) -> bool:
    """Says whether a hook stands between call and layer; one that only sets weights does not."""
    if not module._forward_pre_hooks and not module._forward_hooks:
        return False
    setting = {hook.key for hook in setting_hooks(module)}
    before = [
        hook
        for key, hook in module._forward_pre_hooks.items()
        if key not in setting and not isinstance(hook, SpectralNorm | WeightNorm)
    ]
    return bool(before or module._forward_hooks)


def _conv(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: torch.Tensor) -> Macs:
    x = _argument(args, kwargs, 0, "input")
    ends = (module.out_channels, module.in_channels)
    if module.transposed:
        ends = (module.in_channels, module.out_channels)
    weight = (ends[0], ends[1] // module.groups, *module.kernel_size)
    return formulas.conv(x.shape, weight, out.shape, transposed=module.transposed)


def _linear(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: torch.Tensor) -> Macs:
    return formulas.contraction(out.shape, module.in_features)


def _sparse(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: torch.Tensor) -> Macs:
    kept = module.nnz if isinstance(module, CsrLinear) else module.packed.numel()
    return formulas.contraction(out.shape[:-1], kept)


def _bilinear(
    module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: torch.Tensor
) -> Macs:
    return formulas.contraction(out.shape, module.in1_features * module.in2_features)


def _norm(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: torch.Tensor) -> Macs:
    return formulas.instance_norm(out.shape)


def _free(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: torch.Tensor) -> Macs:
    return Macs()


def _multihead(
    module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: torch.Tensor
) -> Macs:
    query, key, value = (
        _argument(args, kwargs, place, name).shape
        for place, name in enumerate(("query", "key", "value"))
    )
    extra = int(module.bias_k is not None) + int(module.add_zero_attn)
    return formulas.multihead(query, key, value, batch_first=module.batch_first, extra=extra)


def _recurrent(
    module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: torch.Tensor
) -> Macs:
    x = _argument(args, kwargs, 0, "input")
    x = x if isinstance(x, torch.Tensor) else x.data  # a PackedSequence
    return formulas.recurrent(x.shape, [p.shape for p in module.parameters() if p.dim() == 2])


_RULES: tuple[tuple[Any, Rule], ...] = (
    (nn.modules.conv._ConvNd, _conv),
    (nn.Linear, _linear),
    (CsrLinear | SemiStructuredLinear, _sparse),
    (nn.Bilinear, _bilinear),
    (nn.modules.instancenorm._InstanceNorm, _norm),
    (nn.MultiheadAttention, _multihead),
    (nn.modules.rnn.RNNBase | nn.modules.rnn.RNNCellBase, _recurrent),
    (nn.modules.batchnorm._NormBase, _free),
    (nn.LayerNorm | nn.GroupNorm | nn.RMSNorm, _free),
    (nn.Embedding | nn.EmbeddingBag | nn.PReLU | ChannelMask, _free),
)


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], place: int, name: str) -> Any:
    return args[place] if len(args) > place else kwargs[name]


def _first(out: Any) -> Any:
    """Returns the tensor of an output that may be a tuple."""
    return out[0] if isinstance(out, tuple) else out
