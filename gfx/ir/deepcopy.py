"""Copies modules as `copy.deepcopy` does, several times faster.

A torch.nn layer is a dozen empty dictionaries around two tensors, and `copy.deepcopy` takes its
general path through each. Anything but plain modules and tensors takes that path here too.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["deepcopy", "flat", "held_tensors"]

Kind = TypeVar("Kind", bound=nn.Module)

_ATOMS = frozenset((type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device))
_MAPPINGS = (dict, OrderedDict)
# a class that defines one of these has a copy protocol of its own
_SAY = (
    "__new__",
    "__deepcopy__",
    "__reduce__",
    "__reduce_ex__",
    "__getstate__",
    "__slots__",
)
# these add what old pickles lack, and nothing to a module that is there
_COMPLETES = tuple(
    kind.__setstate__
    for kind in (nn.Module, nn.modules.conv._ConvNd, nn.Upsample, nn.Softmax, nn.MultiheadAttention)
)


def deepcopy(
    module: Kind,
    memo: dict[Any, Any] | None = None,
    *,
    clone: Callable[[Tensor], Tensor] = Tensor.clone,
) -> Kind:
    """Copies a module with its tensors; what is shared inside it stays shared.

    `memo` maps the identities of objects to their copies; `clone` copies the
    tensors that are plain data.

    Example:
        >>> layer = nn.Conv2d(3, 8, 3)
        >>> twin = deepcopy(layer)
        >>> torch.equal(twin.weight, layer.weight), twin.weight is layer.weight
        (True, False)
    """
    memo = {} if memo is None else memo
    memo.update(_histories(module, memo))
    for part in module.modules():
        if _known_plain(type(part), memo):
            _copied(part, memo, clone)
    return copy.deepcopy(module, memo)


def flat(value: Any) -> Iterator[Any]:
    """Iterates over a value, and one level into lists, tuples and dictionaries.

    Example:
        >>> list(flat({"a": 1, "b": [2]})), list(flat(3))
        ([1, [2]], [3])
    """
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, (list, tuple)):
        yield from value
    else:
        yield value


def held_tensors(module: nn.Module) -> Iterator[Tensor]:
    """Iterates over the tensors among the attributes of a module, and one level into containers."""
    for value in vars(module).values():
        if type(value) in _ATOMS or (isinstance(value, (dict, list, tuple)) and not value):
            continue  # most are: numbers, and dictionaries for hooks
        yield from (item for item in flat(value) if isinstance(item, Tensor))


def _histories(module: nn.Module, memo: dict[Any, Any]) -> dict[int, Tensor]:
    """Copies tensors with a history (the weight of an old spectral_norm): they refuse deepcopy."""
    return {
        id(value): value.detach().clone()
        for part in module.modules()
        for value in held_tensors(part)
        if value.grad_fn is not None and id(value) not in memo
    }


def _is_plain(kind: type[nn.Module]) -> bool:
    """Whether copying the attributes of a module copies it."""
    if getattr(kind, "__setstate__", None) not in _COMPLETES:
        return False
    return all(getattr(kind, name, None) is getattr(nn.Module, name, None) for name in _SAY)


def _known_plain(kind: type[nn.Module], memo: dict[Any, Any]) -> bool:
    """Asks `_is_plain` once for each class in one copy."""
    known = memo.setdefault(_is_plain, {})
    if kind not in known:
        known[kind] = _is_plain(kind)
    return bool(known[kind])


def _copied(module: nn.Module, memo: dict[Any, Any], clone: Callable[[Tensor], Tensor]) -> Any:
    """Copies a module of a plain kind, once."""
    if id(module) in memo:
        return memo[id(module)]
    twin = memo[id(module)] = object.__new__(type(module))
    attributes = vars(twin)
    for name, value in vars(module).items():
        attributes[name] = value if type(value) in _ATOMS else _value(value, memo, clone)
    return twin


def _value(value: Any, memo: dict[Any, Any], clone: Callable[[Tensor], Tensor]) -> Any:
    """Copies an attribute."""
    kind = type(value)
    if kind in _ATOMS:
        return value
    if id(value) in memo:
        return memo[id(value)]
    if kind in _MAPPINGS:
        twin = memo[id(value)] = kind()
        for key, item in value.items():
            twin[_value(key, memo, clone)] = _value(item, memo, clone)
        return twin
    if kind is set and not value:
        return memo.setdefault(id(value), set())
    if kind is tuple and all(type(item) in _ATOMS for item in value):
        return value
    if kind is nn.Parameter and _is_whole(value.data):
        memo[id(value)] = nn.Parameter(_cloned(value.data, clone), value.requires_grad)
        return memo[id(value)]
    if kind is Tensor and _is_whole(value, memo):
        return _tensor(value, memo, clone)
    if isinstance(value, nn.Module) and _known_plain(kind, memo):
        return _copied(value, memo, clone)
    return copy.deepcopy(value, memo)


def _is_whole(tensor: Tensor, memo: dict[Any, Any] | None = None) -> bool:
    """Whether a tensor is plain data with a memory of its own, none that `memo` has copied."""
    if tensor.layout != torch.strided or tensor.device.type not in ("cpu", "cuda"):
        return False
    if tensor.requires_grad or tensor.is_quantized or tensor.grad is not None or vars(tensor):
        return False
    if tensor.is_conj() or tensor.is_neg() or tensor.is_inference():
        return False
    storage = tensor.untyped_storage()
    all_of_it = storage.nbytes() == tensor.nbytes and tensor.is_contiguous()
    return all_of_it and storage._cdata not in (memo or {}).get("torch", {})


def _cloned(tensor: Tensor, clone: Callable[[Tensor], Tensor]) -> Tensor:
    with torch.no_grad():
        return clone(tensor)


def _tensor(tensor: Tensor, memo: dict[Any, Any], clone: Callable[[Tensor], Tensor]) -> Tensor:
    """Copies a buffer, and notes its memory where torch's own copying looks for it."""
    twin = _cloned(tensor, clone)
    memo[id(tensor)] = twin
    memo.setdefault("torch", {})[tensor.untyped_storage()._cdata] = twin.untyped_storage()
    return twin
