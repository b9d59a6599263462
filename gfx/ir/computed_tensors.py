"""Tensors that a module computes before it runs: by a parametrization, or by a pre-hook.

Old-style norms (torch.nn.utils.spectral_norm and weight_norm) are pre-hooks that compute the weight
from weight_orig, weight_u, weight_v (or weight_g, weight_v).

Source: Miyato et al. 2018, arXiv:1802.05957, section 3.2; Salimans and Kingma 2016,
arXiv:1602.07868, equation 2.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from gfx.ir.memory_format import in_format_of
from gfx.ir.setting_hooks import hook_name, setting_hooks

__all__ = [
    "ComputedTensor",
    "computed_tensors",
    "computed_values",
    "fold_tensors",
    "folding",
    "store_tensor",
    "unknown_hooks",
]

_PARTS = {SpectralNorm: ("_orig", "_u", "_v"), WeightNorm: ("_g", "_v")}


@dataclass(frozen=True)
class ComputedTensor:
    """What computes a tensor of a module, and the tensors that it is computed from."""

    kind: str  # the name of a norm, or of the classes of a parametrization
    originals: tuple[torch.Tensor, ...]


def computed_tensors(module: nn.Module) -> dict[str, ComputedTensor]:
    """Maps each tensor that a module computes before it runs to how it is computed.

    Example:
        >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))
        >>> {name: tensor.kind for name, tensor in computed_tensors(layer).items()}
        {'weight': 'WeightNorm'}
    """
    found: dict[str, ComputedTensor] = {}
    for hook in _norm_hooks(module).values():
        parts = [getattr(module, f"{hook.name}{suffix}") for suffix in _PARTS[type(hook)]]
        kind = "spectral_norm" if isinstance(hook, SpectralNorm) else "weight_norm"
        found[hook.name] = ComputedTensor(kind, tuple(parts))
    for setting in setting_hooks(module):
        tensors = tuple(getattr(module, name) for name in setting.originals)
        found |= {name: ComputedTensor(setting.kind, tensors) for name in setting.sets}
    for name, steps in _parametrizations(module).items():
        kinds = [type(step).__name__.lstrip("_") for step in steps]
        originals = (*steps.parameters(), *steps.buffers())
        found[name] = ComputedTensor(", ".join(kinds), originals)
    return found


@torch.no_grad()
def computed_values(module: nn.Module) -> dict[str, torch.Tensor]:
    """Computes the tensors of a module as in eval mode: no power iteration, no noise."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    values: dict[str, torch.Tensor] = {}
    for hook in _norm_hooks(module).values():
        eval_mode = {"do_power_iteration": False} if isinstance(hook, SpectralNorm) else {}
        values[hook.name] = hook.compute_weight(module, **eval_mode)
    for setting in setting_hooks(module):
        module._forward_pre_hooks[setting.key](module, ())
        values |= {name: getattr(module, name) for name in setting.sets}
    values |= {name: steps() for name, steps in _parametrizations(module).items()}
    for owner, mode in modes:
        owner.training = mode
    return values


def fold_tensors(module: nn.Module) -> None:
    """Replaces every computed tensor of a module by its value in eval mode.

    Example:
        >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))
        >>> fold_tensors(layer)
        >>> [name for name, _ in layer.named_parameters()]
        ['weight', 'bias']
    """
    computed, values = computed_tensors(module), computed_values(module)
    for key, hook in _norm_hooks(module).items():
        _drop_hook(module, key, hook)
    for setting in setting_hooks(module):
        del module._forward_pre_hooks[setting.key]
        for name in setting.sets:
            vars(module).pop(name, None)
        for name in setting.originals:
            delattr(module, name)
    if _parametrizations(module):
        # not remove_parametrizations: it deletes the property from the class, which the user's own
        # module, of which this one is a copy, shares
        if is_parametrized(module):
            module.__class__ = type(module).__bases__[0]
        del module._modules["parametrizations"]
    for name, value in values.items():
        store_tensor(module, name, value, computed[name].originals)


def store_tensor(
    module: nn.Module, name: str, value: torch.Tensor, originals: tuple[torch.Tensor, ...]
) -> None:
    """Registers a tensor before the other parameters of a module, or as a buffer.

    It is a parameter if one of its originals is, and requires a gradient if one of them does.
    """
    value = value.detach().clone()
    for original in originals:
        value = in_format_of(value, original)
    if not any(isinstance(tensor, nn.Parameter) for tensor in originals):
        module.register_buffer(name, value)
        return
    grad = any(tensor.requires_grad for tensor in originals)
    others = dict(module._parameters)
    module._parameters.clear()
    module.register_parameter(name, nn.Parameter(value, requires_grad=grad))
    module._parameters.update(others)


def unknown_hooks(module: nn.Module) -> list[str]:
    """Names the pre-hooks of a module that do more than set tensors from its parameters.

    Example:
        >>> unknown_hooks(nn.utils.spectral_norm(nn.Linear(4, 2)))
        []
    """
    known = {setting.key for setting in setting_hooks(module)} | _norm_hooks(module).keys()
    return [hook_name(h) for key, h in module._forward_pre_hooks.items() if key not in known]


def folding(module: nn.Module, obstacle: str = "") -> str:
    """Says what to do about the hooks and parametrizations of a module: fold them, or why not.

    Args:
        module: one that has some.
        obstacle: what else keeps its computed tensors from being folded.

    Example:
        >>> folding(nn.utils.parametrizations.weight_norm(nn.Linear(4, 2)))
        'run fold_parametrizations before'
        >>> layer = nn.Linear(4, 2)
        >>> _ = layer.register_forward_hook(print)
        >>> folding(layer)
        'nothing folds its forward hook builtins.print'
    """
    if unknown := unknown_hooks(module):
        return f"nothing folds its pre-hook {unknown[0]}, which does more than set tensors"
    if hooks := list(module._forward_hooks.values()):
        return f"nothing folds its forward hook {hook_name(hooks[0])}"
    return f"it cannot be folded: {obstacle}" if obstacle else "run fold_parametrizations before"


def _norm_hooks(module: nn.Module) -> dict[int, Any]:
    """Returns the old-style norms of a module."""
    return {k: h for k, h in module._forward_pre_hooks.items() if type(h) in _PARTS}


def _parametrizations(module: nn.Module) -> dict[str, ParametrizationList]:
    """Returns the parametrizations of a module.

    A module that is never called, only read, is a plain container in the graph: it has them too.
    """
    box = module._modules.get("parametrizations")
    if box is None:
        return {}
    return {n: child for n, child in box.named_children() if isinstance(child, ParametrizationList)}


def _drop_hook(module: nn.Module, key: int, hook: Any) -> None:
    """Removes an old-style norm with everything it left on the module."""
    del module._forward_pre_hooks[key]
    module.__dict__.pop(hook.name, None)
    for suffix in _PARTS[type(hook)]:
        delattr(module, f"{hook.name}{suffix}")
    for hooks in (module._state_dict_hooks, module._load_state_dict_pre_hooks):
        for other_key, wrapped in list(hooks.items()):
            other = getattr(wrapped, "hook", wrapped)
            if getattr(getattr(other, "fn", None), "name", None) == hook.name:
                del hooks[other_key]
