"""Rewrites aten operations as a user of torch would spell them.

`aten.add.Tensor` becomes `operator.add`, `aten.view.default` the method `view`, `aten.conv2d` the
function `torch.conv2d`. An operation that has no such spelling stays as it is.
"""

import inspect
import operator
import types
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

__all__ = ["is_check", "respell"]

_Spelled = tuple[str, Any, tuple[Any, ...], dict[str, Any]]  # op, target, args, kwargs
_END = 2**63 - 1  # what torch writes for "to the end" of a slice

_CHECKS = ("_assert_", "sym_constrain_range", "_functional_assert", "_functional_sym_constrain")
_OPERATORS = MappingProxyType(
    {n: getattr(operator, n) for n in ("add", "sub", "mul", "eq", "ne", "lt", "le", "gt", "ge")}
    | {"div": operator.truediv, "neg": operator.neg, "pow": operator.pow}
)
# data movement and what else reads better as a method
_METHODS = frozenset(
    """view reshape permute transpose expand repeat contiguous flatten unflatten squeeze unsqueeze
    chunk split clone detach type_as to t narrow unfold size item copy_ masked_fill new_zeros
    new_ones new_full new_empty view_as expand_as index_put_""".split()
)
# the function takes the same arguments in the same order, as far as they are given
_FUNCTIONAL = frozenset(
    """leaky_relu elu hardtanh silu gelu softplus hardswish hardsigmoid mish glu relu6
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d pad dropout group_norm
    layer_norm""".split()
)
_LAST_INTERNAL = frozenset(["group_norm", "layer_norm"])  # their last argument is cudnn_enabled


def is_check(target: Any) -> bool:
    """Whether a call only checks something: a guard or an assert.

    Example:
        >>> is_check(torch.ops.aten._assert_scalar.default), is_check(torch.relu)
        (True, False)
    """
    if target is torch._assert:
        return True
    return isinstance(target, torch._ops.OpOverload) and _name(target).startswith(_CHECKS)


def respell(graph: fx.Graph, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Adds a call to the graph in its best spelling; returns the node, or an argument unchanged.

    Example:
        >>> graph = fx.Graph()
        >>> x = graph.placeholder("x")
        >>> respell(graph, torch.ops.aten.add.Tensor, (x, 1), {}).format_node()
        '%add : [num_users=0] = call_function[target=operator.add](args = (%x, 1), kwargs = {})'
    """
    if not isinstance(target, torch._ops.OpOverload):
        return graph.create_node("call_function", target, args, kwargs)
    if _is_identity(target, args):
        return args[0]
    op, new, args, kwargs = _spell(target, args, kwargs)
    return graph.create_node(op, new, args, kwargs)


def _is_identity(target: Any, args: tuple[Any, ...]) -> bool:
    name = _name(target)
    if name == "slice":
        return tuple(args[2:4]) in ((0, _END), (None, None)) and args[4:] in ((), (1,))
    if name == "detach_":  # torch.export writes it after each constant
        return isinstance(args[0], fx.Node) and args[0].target == "clone"
    return False


def _spell(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Spelled:
    name = _name(target)
    kwargs = {key: value for key, value in kwargs.items() if not _is_default(key, value)}
    if name in _SPECIAL:
        special = _SPECIAL[name](args, kwargs)
        if special is not None:
            return special
    if name in _OPERATORS and not kwargs and len(args) <= 2:
        return "call_function", _OPERATORS[name], args, {}
    has_method = _takes_self(target) and hasattr(torch.Tensor, name)
    if name in _FUNCTIONAL or (name.rstrip("_") in _FUNCTIONAL and not has_method):
        return _functional(name, args, kwargs)
    if has_method and not callable(getattr(torch.Tensor, name)):
        return "call_function", getattr, (args[0], name), {}  # x.mT
    if has_method and (name in _METHODS or name.endswith("_") or not hasattr(torch, name)):
        return "call_method", name, args, kwargs
    function = getattr(torch, name, None) or getattr(F, name, None)
    if isinstance(function, types.BuiltinFunctionType):  # generated from the same schema
        return "call_function", function, args, kwargs
    return "call_function", target, args, kwargs


def _functional(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Spelled:
    function = getattr(F, name.rstrip("_"))
    if name in _LAST_INTERNAL:
        args = args[: len(inspect.signature(function).parameters)]
    if name.endswith("_"):
        kwargs = {**kwargs, "inplace": True}
    return "call_function", function, args, kwargs


def _name(target: Any) -> str:
    return str(target._schema.name).rpartition("::")[2]


def _takes_self(target: Any) -> bool:
    arguments = target._schema.arguments
    return bool(arguments) and arguments[0].name == "self"


def _is_default(key: str, value: Any) -> bool:
    """Whether an argument only says what every plain tensor is anyway."""
    return (
        (key == "pin_memory" and not value)
        or (key == "layout" and value in (None, torch.strided))
        or (key == "memory_format" and value in (None, torch.preserve_format))
    )


_Rule = Callable[[tuple[Any, ...], dict[str, Any]], _Spelled | None]


def _call(function: Callable[..., Any], *order: int) -> _Rule:
    """Makes a rule that calls a function with the arguments in another order."""

    def rule(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Spelled | None:
        if kwargs or len(args) <= max(order):
            return None
        return "call_function", function, tuple(args[i] for i in order), {}

    return rule


def _method(name: str) -> _Rule:
    return lambda args, kwargs: ("call_method", name, args, kwargs)


def _index(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Spelled:
    where = tuple(slice(None) if index is None else index for index in args[1])
    return "call_function", operator.getitem, (args[0], where), {}


def _slice(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Spelled | None:
    defaults: list[Any] = [0, None, None, 1]
    tensor, dim, start, end, step = [*args, *defaults[len(args) - 1 :]]
    if not isinstance(dim, int) or dim < 0:
        return None
    piece = slice(start or None, None if end == _END else end, None if step == 1 else step)
    where = (*(slice(None),) * dim, piece)
    return "call_function", operator.getitem, (tensor, where), {}


def _rsub(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Spelled | None:
    if kwargs or len(args) != 2:
        return None
    return "call_function", operator.sub, (args[1], args[0]), {}


def _embedding(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Spelled | None:
    return "call_function", F.embedding, (args[1], args[0]), {}


def _einsum(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Spelled | None:
    return "call_function", torch.einsum, (args[0], *args[1]), {}


def _padded(mode: str) -> _Rule:
    def rule(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Spelled | None:
        return "call_function", F.pad, (args[0], args[1], mode, *args[2:]), kwargs

    return rule


def _resized(mode: str, corners: bool) -> _Rule:
    """Makes a rule for an upsampling with `.vec` arguments: (x, size, [corners], factors)."""

    def rule(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Spelled | None:
        if kwargs or len(args) != 3 + corners:
            return None
        said: dict[str, Any] = {"size": args[1], "scale_factor": args[-1], "mode": mode}
        if corners:
            said["align_corners"] = args[2]
        said = {key: value for key, value in said.items() if value is not None}
        return "call_function", F.interpolate, (args[0],), said

    return rule


_SPECIAL: Mapping[str, _Rule] = MappingProxyType(
    {
        "index": _index,
        "slice": _slice,
        "rsub": _rsub,
        "einsum": _einsum,
        "embedding": _embedding,
        "sym_size": _method("size"),
        "sym_numel": _method("numel"),
        "lift_fresh_copy": _method("clone"),
        "_to_copy": _method("to"),
        "split_with_sizes": _method("split"),
        "batch_norm": _call(F.batch_norm, 0, 3, 4, 1, 2, 5, 6, 7),
        "instance_norm": _call(F.instance_norm, 0, 3, 4, 1, 2, 5, 6, 7),
        "constant_pad_nd": _padded("constant"),
        **{f"reflection_pad{n}d": _padded("reflect") for n in (1, 2, 3)},
        **{f"replication_pad{n}d": _padded("replicate") for n in (1, 2, 3)},
        **{f"upsample_nearest{n}d": _resized("nearest", corners=False) for n in (1, 2, 3)},
        "upsample_linear1d": _resized("linear", corners=True),
        "upsample_bilinear2d": _resized("bilinear", corners=True),
        "upsample_bicubic2d": _resized("bicubic", corners=True),
        "upsample_trilinear3d": _resized("trilinear", corners=True),
    }
)
