"""Lists by name what a graph in a file may call.

1. Functions: those torch lets a tensor override (pure tensor operations), a few that make tensors,
   torch.ops.aten overloads, arithmetic from `operator` and `math`, and a handful of builtins.
2. Methods: those of Tensor, less the ones that reach memory, files or callbacks.
3. Attributes: what `getattr` may read.

A name outside resolves to nothing. No name is ever imported or evaluated.
"""

import builtins
import functools
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import overrides

from gfx.errors import ArchiveError

__all__ = ["check_attribute", "check_method", "function_name", "resolve_function"]

_MAKERS = """arange as_strided as_tensor bartlett_window blackman_window empty empty_strided eye
full hamming_window hann_window kaiser_window linspace logspace normal ones rand rand_like randint
randint_like randn randn_like randperm range scalar_tensor tensor tril_indices triu_indices vander
zeros broadcast_shapes promote_types result_type sym_float sym_int sym_ite sym_max sym_min sym_not
sym_sum _assert"""
_ACTIVATIONS = "hardsigmoid hardswish sigmoid tanh upsample upsample_bilinear upsample_nearest"
_OPERATORS = """abs add and_ concat contains eq floordiv ge getitem gt iadd iand iconcat ifloordiv
ilshift imatmul imod imul index inv invert ior ipow irshift is_ is_not isub itruediv ixor le lshift
lt matmul mod mul ne neg not_ or_ pos pow rshift setitem sub truediv truth xor"""
_BUILTINS = "abs bool complex divmod float getattr int len max min pow round slice sum"
_ATTRIBUTES = """H T device dtype imag index indices is_complex is_cpu is_cuda is_floating_point
is_leaf is_meta is_mps is_nested is_quantized is_signed is_sparse is_xpu itemsize layout mH mT
nbytes ndim real requires_grad shape type values data
L LU P Q R S U V Vh eigenvalues eigenvectors hist bin_edges info LD logabsdet mode pivots rank
residuals sign singular_values solution"""
# they reach raw memory, run callbacks, or leave the tensor world
_FORBIDDEN_METHODS = """apply_ as_subclass backward const_data_ptr cuda data_ptr ipu is_shared map2_
map_ module_load mtia numpy
record_stream register_hook register_post_accumulate_grad_hook reinforce requires_grad_ retain_grad
set_ share_memory_ storage storage_type to_dlpack
untyped_storage xpu"""
_OWN_METHODS = """dim new_empty new_full new_ones new_tensor new_zeros numel size stride tolist type
unflatten"""
_FORBIDDEN_ATEN = {"from_file", "_print"}  # the first maps a file by name
_ARITHMETIC = re.compile(
    r"__[ri]?(add|sub|mul|div|truediv|floordiv|mod|pow|matmul|and|or|xor|lshift|rshift)__"
    r"|__(eq|ne|lt|le|gt|ge|neg|pos|abs|invert|getitem|setitem|len|contains)__"
)
_ATEN = re.compile(r"torch\.ops\.aten\.([A-Za-z_]\w*)\.([A-Za-z_]\w*)", re.ASCII)


def function_name(function: Callable[..., Any]) -> str:
    """Names a function that a file may call.

    Raises: ArchiveError if it is not in the allow-list.

    Example:
        >>> function_name(torch.relu), function_name(torch.ops.aten.relu.default)
        ('torch.relu', 'torch.ops.aten.relu.default')
    """
    if isinstance(function, torch._ops.OpOverload):
        name = f"torch.ops.{function}"
        if _aten(name) is function:
            return name
    elif function in _names():
        return _names()[function]
    raise ArchiveError(
        f"the graph calls {_full_name(function)}, which a .gfx file cannot hold: only torch "
        "functions, torch.ops.aten, operator and math can be named in it; save as .pt instead"
    )


def resolve_function(name: str) -> Callable[..., Any]:
    """Returns the function that a file names.

    Raises: ArchiveError if it is not in the allow-list.

    Example:
        >>> resolve_function("os.system")
        Traceback (most recent call last):
        gfx.errors.ArchiveError: the file calls os.system, which is not on the allow-list ...
    """
    function = functions().get(name) or _aten(name)
    if function is None:
        raise ArchiveError(
            f"the file calls {name}, which is not on the allow-list of gfx (or unknown to torch "
            f"{torch.__version__}); nothing was executed"
        )
    return function


def check_method(name: str) -> str:
    """Returns the name of a Tensor method that a file may call, unchanged.

    Raises: ArchiveError if it is not in the allow-list.
    """
    if name not in _methods():
        raise ArchiveError(
            f"the graph calls the method {name}, which is not on the allow-list of Tensor methods"
        )
    return name


def check_attribute(name: object) -> None:
    """Checks an attribute that `getattr` reads.

    Raises: ArchiveError if it is not in the allow-list.
    """
    if not isinstance(name, str) or name not in _ATTRIBUTES.split():
        raise ArchiveError(
            f"the graph reads the attribute {name!r}, which is not on the allow-list"
        )


@functools.cache
def functions() -> dict[str, Callable[..., Any]]:
    """Returns the allow-list of functions by name, aten overloads apart."""
    overridable = {f for group in overrides.get_overridable_functions().values() for f in group}
    table = {f"torch.{name}": getattr(torch, name, None) for name in _MAKERS.split()}
    namespaces = {
        "torch": torch,
        "torch.nn.functional": torch.nn.functional,
        "torch.linalg": torch.linalg,
        "torch.fft": torch.fft,
        "torch.special": torch.special,
    }
    for prefix, namespace in namespaces.items():
        for name in sorted(vars(namespace)):
            value = getattr(namespace, name)
            if callable(value) and not name.startswith("_") and value in overridable:
                table[f"{prefix}.{name}"] = value
    for name in _ACTIVATIONS.split():  # plain functions, not overridable ones
        table[f"torch.nn.functional.{name}"] = getattr(torch.nn.functional, name, None)
    table |= _inplace(table)
    table |= {f"operator.{name}": getattr(operator, name) for name in _OPERATORS.split()}
    table |= {f"builtins.{name}": getattr(builtins, name) for name in _BUILTINS.split()}
    table |= {f"math.{k}": v for k, v in sorted(vars(math).items()) if callable(v) and k[0] != "_"}
    table["torch.Size"] = torch.Size
    return {name: function for name, function in table.items() if function is not None}


def _inplace(table: Mapping[str, Callable[..., Any] | None]) -> dict[str, Callable[..., Any]]:
    """Returns the variants with a trailing underscore of allowed functions."""
    namespaces = {"torch.": torch, "torch.nn.functional.": torch.nn.functional}
    return {
        f"{prefix}{name}": getattr(namespace, name)
        for prefix, namespace in namespaces.items()
        for name in sorted(vars(namespace))
        if name.endswith("_") and f"{prefix}{name[:-1]}" in table
    }


@functools.cache
def _names() -> dict[Callable[..., Any], str]:
    """Inverts the allow-list; the first spelling wins."""
    return {function: name for name, function in reversed(functions().items())}


@functools.cache
def _methods() -> frozenset[str]:
    overridable = overrides.get_overridable_functions()[torch.Tensor]
    names = {getattr(method, "__name__", "_") for method in overridable}
    names |= set(_OWN_METHODS.split())
    public = {n for n in names if not n.startswith("_") or _ARITHMETIC.fullmatch(n)}
    return frozenset(public - set(_FORBIDDEN_METHODS.split()))


def _aten(name: str) -> Callable[..., Any] | None:
    """Returns the torch.ops.aten overload of a name, or None."""
    match = _ATEN.fullmatch(name)
    if match is None or match[1] in _FORBIDDEN_ATEN:
        return None
    packet = getattr(torch.ops.aten, match[1], None)
    if not isinstance(packet, torch._ops.OpOverloadPacket) or match[2] not in vars(packet):
        return None
    overload: Callable[..., Any] = getattr(packet, match[2])
    return overload if "Tensor" in str(overload._schema) else None  # type: ignore[attr-defined]


def _full_name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    module = getattr(function, "__module__", None)
    return f"{module}.{name}" if module else str(name)
