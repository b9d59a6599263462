"""Finds pre-hooks that only set tensors of their module from its own parameters and buffers.

The equalized learning rate of the StyleGAN ports and the masks of torch.nn.utils.prune work so.
Such a hook is tried on a copy of its module, with an input that cannot be read: it must set the
same tensors twice, change nothing else and return nothing.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from gfx.ir.deepcopy import deepcopy

__all__ = ["SettingHook", "hook_name", "setting_hooks"]


@dataclass(frozen=True)
class SettingHook:
    """What a pre-hook sets, and from what."""

    key: int  # of the hook among those of its module
    kind: str
    sets: tuple[str, ...]  # attributes
    originals: tuple[str, ...]  # parameters and buffers, which nothing needs once it is folded


class _Unreadable:
    """Stands for the input of a module: a hook that looks at it fails."""

    __slots__ = ()


def setting_hooks(module: nn.Module) -> list[SettingHook]:
    """Lists the pre-hooks of a torch.nn layer that only set tensors.

    Example:
        >>> from torch.nn.utils import prune
        >>> layer = prune.l1_unstructured(nn.Linear(4, 2), "weight", 0.5)
        >>> (hook,) = setting_hooks(layer)
        >>> hook.sets, hook.originals
        (('weight',), ('weight_orig', 'weight_mask'))
    """
    hooks = module._forward_pre_hooks
    if not hooks or not type(module).__module__.startswith("torch.nn.modules"):
        return []
    kwargs = module._forward_pre_hooks_with_kwargs
    known = (SpectralNorm, WeightNorm)  # gfx.ir.computed_tensors knows them by their kind
    tried = {k: h for k, h in hooks.items() if k not in kwargs and not isinstance(h, known)}
    found = [_tried(module, key, hook) for key, hook in tried.items()]
    return [hook for hook in found if hook is not None]


def hook_name(hook: Any) -> str:
    """Returns the qualified name of a hook's function, or of its class.

    Example:
        >>> from torch.nn.utils import prune
        >>> hook_name(prune.RandomUnstructured(0.5))
        'torch.nn.utils.prune.RandomUnstructured'
    """
    named = hook if hasattr(hook, "__qualname__") else type(hook)
    return f"{named.__module__}.{named.__qualname__}"


def _tried(module: nn.Module, key: int, hook: Any) -> SettingHook | None:
    try:
        twin = deepcopy(module).eval()
        before = _held(twin)
        with torch.enable_grad():
            first, second = ((hook(twin, (_Unreadable(),)), _set(twin, before)) for _ in range(2))
    except Exception:  # it looks at the input, or at what only a running model has
        return None
    names = tuple(first[1])
    if first[0] is not None or second[0] is not None or not names or names != tuple(second[1]):
        return None
    if not all(_same(first[1][name], second[1][name]) for name in names):
        return None
    after = _held(twin)
    if before.keys() - set(names) != after.keys() - set(names):
        return None
    if any(not _same(before[n][1], after[n][0]) for n in before.keys() - set(names)):
        return None
    originals = [n for n, _ in _own(twin) if any(n.startswith(f"{name}_") for name in names)]
    return SettingHook(key, hook_name(hook), names, tuple(originals)) if originals else None


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal; without values, whether they are alike."""
    if a.is_meta or b.is_meta or hasattr(a, "fake_mode") or hasattr(b, "fake_mode"):
        return a.shape == b.shape and a.dtype == b.dtype
    return torch.equal(a, b)


def _own(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]


def _held(module: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """Maps every tensor of a module, by attribute, to it and to its value."""
    plain = {n: v for n, v in vars(module).items() if isinstance(v, Tensor)}
    return {n: (v, v.detach().clone()) for n, v in (*plain.items(), *_own(module))}


def _set(module: nn.Module, before: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Returns the plain attributes that are other tensors than before."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, Tensor) and (name not in before or value is not before[name][0])
    }
