"""Keeps leaf modules whole, as single operations, while torch.export captures a model.

torch.export sees through modules down to aten operations. Here each leaf is made to call one
custom operation instead, whose fake implementation runs the leaf itself. So the exported graph has
one node per leaf call, and putting the module back needs no guessing which nodes were its own.
"""

import functools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.utils import _pytree as pytree

from gfx.frontend.transformer_forwards import is_composite
from gfx.ir.modules import OWN, SizeRules

__all__ = ["Calls", "LeafCall", "is_leaf", "leaf_paths", "leaves_as_operations"]


@dataclass(frozen=True)
class Slot:
    """The place of a tensor (or of a size that is not fixed) in the arguments of a call."""

    kind: str  # tensor or size
    index: int


@dataclass
class LeafCall:
    """One call of a leaf: where it is, what it was given, what it returned."""

    path: str
    module: nn.Module
    kind: type[nn.Module]  # the class before it was swapped
    arguments: Any  # (args, kwargs) with Slots
    number: int = 0  # how many calls of this module came before
    result: Any = None  # with Slots; known after the fake run

    def filled(self, tensors: Any, sizes: Any) -> Any:
        """Returns (args, kwargs) with values in the Slots."""
        return fill(self.arguments, tensors, sizes)


@dataclass
class Calls:
    """All leaf calls of one export, by key."""

    by_key: dict[str, LeafCall] = field(default_factory=dict)
    recorded: Mapping[str, list[Any]] = field(default_factory=dict)  # results of opaque leaves
    numbers: Counter[str] = field(default_factory=Counter)  # of calls, by path

    def add(self, path: str, module: nn.Module, kind: type[nn.Module], arguments: Any) -> str:
        """Notes a call and returns its key."""
        number = self.numbers[path]
        self.numbers[path] += 1
        key = f"{path}@{number}"
        self.by_key[key] = LeafCall(path, module, kind, arguments, number)
        return key


_CALLS: ContextVar[Calls] = ContextVar("gfx_leaf_calls")


@contextmanager
def leaves_as_operations(
    leaves: Mapping[str, nn.Module], recorded: Mapping[str, list[Any]]
) -> Iterator[Calls]:
    """Swaps the classes of leaves for ones that call the operation; puts them back on leaving.

    `recorded` holds, for opaque leaves, results of earlier calls: they may refuse fake tensors.
    """
    _operations()
    calls = Calls(recorded=recorded)
    kinds = {path: type(module) for path, module in leaves.items()}
    token = _CALLS.set(calls)
    try:
        for path, module in leaves.items():
            module.__class__ = _calling_class(path, kinds[path])
        yield calls
    finally:
        for path, module in leaves.items():
            module.__class__ = kinds[path]
        _CALLS.reset(token)


def fill(template: Any, tensors: Any, sizes: Any = ()) -> Any:
    """Puts values in the Slots of a template."""

    def put(leaf: Any) -> Any:
        if not isinstance(leaf, Slot):
            return leaf
        return tensors[leaf.index] if leaf.kind == "tensor" else sizes[leaf.index]

    return pytree.tree_map(put, template)


def _slots(value: Any) -> tuple[Any, list[torch.Tensor], list[Any]]:
    """Takes tensors and symbolic sizes out of nested values."""
    tensors: list[torch.Tensor] = []
    sizes: list[Any] = []

    def take(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            tensors.append(leaf)
            return Slot("tensor", len(tensors) - 1)
        if isinstance(leaf, torch.SymInt):
            sizes.append(leaf)
            return Slot("size", len(sizes) - 1)
        return leaf

    return pytree.tree_map(take, value), tensors, sizes


def _calling_class(path: str, kind: type[nn.Module]) -> type[nn.Module]:
    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        leaf, leaf_inplace = _operations()
        template, tensors, sizes = _slots((args, kwargs))
        key = _CALLS.get().add(path, self, kind, template)
        if getattr(self, "inplace", False) and len(tensors) == 1:
            leaf_inplace(tensors[0], key)
            return tensors[0]
        results = leaf(tensors, sizes, key)
        return fill(_CALLS.get().by_key[key].result, results)

    return type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})


@functools.cache
def _operations() -> tuple[Any, Any]:
    """Registers the two operations with torch, once."""
    leaf = torch.library.custom_op("gfx_frontend::leaf", _never, mutates_args=(), schema=_LEAF)
    leaf.register_fake(_fake)
    inplace = torch.library.custom_op(
        "gfx_frontend::leaf_", _never, mutates_args=("x",), schema=_LEAF_INPLACE
    )
    inplace.register_fake(_never_mind)
    return leaf, inplace


_LEAF = "(Tensor[] tensors, SymInt[] sizes, str key) -> Tensor[]"
_LEAF_INPLACE = "(Tensor(a!) x, str key) -> ()"


def _never(*args: Any) -> Any:
    raise AssertionError("the operations of a front end are for tracing, not for running")


def _never_mind(x: torch.Tensor, key: str) -> None:
    """Does nothing: an in-place layer keeps shape and dtype."""


def _fake(tensors: list[torch.Tensor], sizes: list[Any], key: str) -> list[torch.Tensor]:
    calls = _CALLS.get()
    call = calls.by_key[key]
    if call.path in calls.recorded:
        value = calls.recorded[call.path][call.number]
    else:
        args, kwargs = call.filled(tensors, sizes)
        value = call.kind.__call__(call.module, *args, **kwargs)
    call.result, results, _ = _slots(value)
    # new tensors: an operation may not return its input, as Identity and Flatten do
    return [
        torch.empty_strided(r.shape, r.stride(), dtype=r.dtype, device=r.device) for r in results
    ]


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is one step of a graph: a layer of torch.nn, or one of gfx's own.

    Containers are not, nor are nn.Transformer and its parts. Neither are subclasses that users
    write, nor layers whose forward was replaced: it is traced. Layers with hooks or
    parametrizations (spectral_norm, weight_norm) are leaves.

    Example:
        >>> is_leaf(nn.Conv2d(3, 8, 3)), is_leaf(nn.Sequential())
        (True, False)
    """
    kind = type(module)
    if parametrize.is_parametrized(module):
        kind = kind.__mro__[1]  # parametrize puts a class of its own in front
    if "forward" in vars(module):
        return False  # a forward of its own, which may do anything
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
        followed = isinstance(module, SizeRules)  # its code asks again of the sizes, and is noted
        if path and not inside and not followed and (path in opaque or is_leaf(module)):
            found[path] = module
    return found
