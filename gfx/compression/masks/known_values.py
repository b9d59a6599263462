"""Finds the numbers that a program computes whatever its inputs are: zeros above all.

A filter of zeros gives its bias, which an activation or a norm maps to another constant. Each node
gets a tensor with the numbers that are known and NaN for the others, see known_rules.py; an
operation that no rule knows gives NaN.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils import _pytree as pytree

from gfx.compression.masks.known_rules import (
    MOVES,
    POINTWISE,
    SPATIAL,
    along,
    blocks_of,
    contraction,
    gated,
    has_borders,
    layer_output,
    norm,
    product,
    quotient,
    transformed,
)
from gfx.compression.masks.known_tensors import (
    all_float,
    fitted,
    full,
    is_float,
    small,
    unknown,
    unknown_like,
    zeros_only,
)
from gfx.compression.masks.overwritten_values import overwritten
from gfx.coupling.removal.arguments import numbers
from gfx.coupling.rules.concat import TRANSFORMS, transformed_dims
from gfx.ir.interpreter import Get, Interpreter
from gfx.ir.ops import argument, norm_places, op_name
from gfx.ir.program import Program

__all__ = ["is_plain", "see_known"]

_LAYERS = (_ConvNd, nn.Linear)
_CONTRACTIONS = ("linear", *(f"conv{t}{n}d" for t in ("", "_transpose") for n in (1, 2, 3)))
_PRODUCTS = ("matmul", "mm", "bmm", "mv", "outer", "ger", "einsum", "tensordot")
_IDENTITY = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_KINDS: dict[type[nn.Module], frozenset[str]] = {
    **dict.fromkeys(
        (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish,
         nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Softplus, nn.Softsign,
         nn.LogSigmoid, nn.PReLU, nn.Tanhshrink, nn.Softshrink, nn.Identity), POINTWISE),
    **dict.fromkeys(
        (nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle,
         nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d, nn.ReflectionPad1d,
         nn.ReflectionPad2d, nn.ReflectionPad3d, nn.ReplicationPad1d, nn.ReplicationPad2d,
         nn.ReplicationPad3d, nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d, nn.MaxPool1d,
         nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d,
         nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d), MOVES),
    **dict.fromkeys(
        (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d),
        SPATIAL),
}  # fmt: skip


def see_known(program: Program, at: Callable[[fx.Node, Callable[[fx.Node], Any]], None]) -> None:
    """Runs a program on what is known, and shows each node what is known of the nodes it reads.

    Args:
        program: one with shapes; nothing of it is changed.
        at: called with each node in turn, and a function that gives what is known of a node that it
            reads: a tensor that broadcasts to the node's shape, or None.

    Example:
        >>> import gfx
        >>> from gfx.ir.shapes.propagate import propagate
        >>> layer = nn.Conv2d(1, 2, 1)
        >>> layer.weight.data[0], layer.bias.data[0] = 0, 0
        >>> found = {}
        >>> def keep(node, known):
        ...     found[node.op] = [known(n) for n in node.all_input_nodes]
        >>> program = gfx.trace(nn.Sequential(layer, nn.ReLU()), torch.zeros(1, 1, 4, 4))
        >>> propagate(program)
        >>> see_known(program, keep)
        >>> found["output"][0].flatten().tolist()
        [0.0, nan]
    """
    runner = Interpreter(program.module)
    rules = _Rules(program, runner)
    unsure = overwritten(program)

    def see(node: fx.Node, get: Get) -> Any:
        at(node, get)
        if node in unsure or node.op in ("placeholder", "output"):
            return unknown(node)
        return rules.value(node, get)

    with torch.no_grad():
        runner.step_through({}, see=see)


class _Rules:
    """Chooses the rule of each node, and keeps every result small."""

    def __init__(self, program: Program, runner: Interpreter) -> None:
        self.program = program
        self.runner = runner

    def value(self, node: fx.Node, get: Get) -> Any:
        """Returns what is known of a node's value; NaN where no rule says anything."""
        wanted = node.meta["val"]
        if node.op == "get_attr":
            held = self.program.tensor(str(node.target))
            return small(held.detach()) if is_float(held) else held
        if not pytree.tree_leaves(wanted) or not all_float(wanted):
            return unknown(node)
        if (rows := self._rows(node, get)) is not None:
            return fitted(_same_in_all(rows), node)
        read = [get(n) for n in node.all_input_nodes]
        if any(value is None for value in read):
            return unknown(node)
        found = self._module(node, read) if node.op == "call_module" else self._call(node, get)
        return unknown(node) if found is None else fitted(found, node)

    def _rows(self, node: fx.Node, get: Get) -> Tensor | None:
        """Returns what is known of the rows that an embedding chooses among."""
        if node.op == "call_module":
            layer = self.program.submodule(node)
            if not isinstance(layer, nn.Embedding) or not is_plain(layer) or layer.max_norm:
                return None
            return layer.weight.detach()
        weight = argument(node, 1, "weight") if op_name(node) == "embedding" else None
        if not isinstance(weight, fx.Node) or argument(node, 3, "max_norm") is not None:
            return None
        found: Tensor = full(weight, get)
        return found

    def _module(self, node: fx.Node, read: list[Any]) -> Any:
        layer: Any = self.program.submodule(node)
        known, source = read[0], node.all_input_nodes[0].meta["val"]
        if len(read) != 1 or not is_plain(layer) or not isinstance(source, Tensor):
            return None
        if source.is_complex():
            return None
        if isinstance(layer, _LAYERS):
            dim = source.ndim - 1
            if isinstance(layer, _ConvNd):
                dim -= len(layer.kernel_size)
            found = layer_output(layer, along(known, dim, source.shape[dim]))
            return found.view(-1, *[1] * (source.ndim - 1 - dim))
        if isinstance(layer, nn.GLU):
            return gated(known.expand(source.shape), layer.dim)
        if isinstance(layer, _IDENTITY):
            return known if not layer.training else zeros_only(known)
        made = norm(layer, known, source.ndim) if source.ndim > 1 else None
        kind = _KINDS.get(type(layer))
        if made is not None or kind is None:
            return made
        if kind is SPATIAL:
            known = zeros_only(known)
        # one slope for each channel, or a window: it wants the shape; else small is quicker
        as_it_is = kind is POINTWISE and not isinstance(layer, nn.PReLU)
        return layer(known.clone() if as_it_is else known.expand(source.shape).contiguous())

    def _call(self, node: fx.Node, get: Get) -> Any:
        name = op_name(node)
        if name in ("zeros", "zeros_like", "new_zeros"):
            return torch.zeros((), dtype=node.meta["val"].dtype, device=node.meta["val"].device)
        if name in _CONTRACTIONS:
            return self._function(node, get, name)
        if name == "batch_norm":
            return self._batch_norm(node, get)
        if name in _PRODUCTS:
            return self._product(node, get)
        if name == "glu":
            return gated(full(node.all_input_nodes[0], get), argument(node, 1, "dim", default=-1))
        if name == "scaled_dot_product_attention":
            return _attention(node, get)
        if name in TRANSFORMS:
            return _transform(node, name, get)
        if name == "getattr" and node.args[1] in ("real", "imag"):
            return getattr(get(node.all_input_nodes[0]), str(node.args[1]))
        if name not in POINTWISE | MOVES | SPATIAL or node.kwargs.get("out") is not None:
            return None

        def given(n: fx.Node) -> Any:
            value = get(n)
            if name in POINTWISE and name != "prelu":
                return value.clone() if isinstance(value, Tensor) else value
            return pytree.tree_map(zeros_only, full(n, get)) if name in SPATIAL else full(n, get)

        made: Any = fx.node.map_arg((node.args, node.kwargs), given)
        args, kwargs = made
        if name == "pad" and argument(node, 3, "value"):
            return None
        if name == "mul" and len(args) == 2:
            return product(*args)
        if name == "div" and len(args) == 2 and not kwargs:
            return quotient(*args)
        if name == "view":
            return args[0].reshape(*args[1:], **kwargs)
        return self.runner.call(node, args, kwargs)

    def _product(self, node: fx.Node, get: Get) -> Any:
        """Finds the sums of products in each of which a factor is zero."""

        def counted(n: fx.Node) -> Any:
            value = full(n, get)
            return (value != 0).to(value.dtype) if isinstance(value, Tensor) else value

        args, kwargs = fx.node.map_arg((node.args, node.kwargs), counted)
        meets = self.runner.call(node, args, kwargs)
        return torch.where(meets == 0, meets, unknown_like(meets))

    def _function(self, node: fx.Node, get: Get, name: str) -> Any:
        """Finds what a function of a weight that the graph reads or computes makes."""
        x, weight = node.args[:2]
        bias, turned = argument(node, 2, "bias"), "transpose" in name
        if not isinstance(x, fx.Node) or not isinstance(weight, fx.Node):
            return None
        if x.meta["val"].is_complex():
            return None
        ndim, kernel = x.meta["val"].ndim, weight.meta["val"].shape[2:]
        dim = ndim - 1 - len(kernel)
        padding = numbers(argument(node, 4, "padding", default=0))
        groups = numbers(argument(node, 6, "groups", default=1))
        known = along(get(x), dim, x.meta["val"].shape[dim])
        shift = None if bias is None else full(bias, get)
        parts = blocks_of(full(weight, get), int(groups), turned)
        pads = len(kernel) > 0 and (turned or has_borders(padding, kernel))
        return contraction(parts, known, shift, pads).view(-1, *[1] * (ndim - 1 - dim))

    def _batch_norm(self, node: fx.Node, get: Get) -> Any:
        """Reads the function as the layer that it is."""
        x = argument(node, 0, "input")
        if not isinstance(x, fx.Node) or argument(node, 5, "training", default=False):
            return None
        vectors = {name: argument(node, i, name) for name, i in norm_places(node).items()}
        like = x.meta["val"]
        layer = nn.BatchNorm1d(like.shape[1], argument(node, 7, "eps", default=1e-5)).eval()
        held = {name: None if v is None else full(v, get) for name, v in vectors.items()}
        layer.running_mean, layer.running_var = held.pop("running_mean"), held.pop("running_var")
        layer._parameters.update(held)
        return norm(layer, get(x), like.ndim)


def is_plain(layer: nn.Module) -> bool:
    """Whether a module is a layer of torch.nn whose tensors are what runs."""
    hooked = layer._forward_hooks or layer._forward_pre_hooks or hasattr(layer, "parametrizations")
    return type(layer).__module__.startswith("torch.nn.") and not hooked


def _same_in_all(rows: Tensor) -> Tensor:
    """Returns the numbers that all rows of a matrix share; NaN for the others."""
    return torch.where((rows == rows[:1]).all(0), rows[0], torch.full_like(rows[0], torch.nan))


def _attention(node: fx.Node, get: Get) -> Any:
    """Finds what is zero of all values, of which attention gives weighted means."""
    value = argument(node, 2, "value")
    if not isinstance(value, fx.Node) or node.kwargs.get("enable_gqa"):
        return None
    known = zeros_only(get(value))
    return torch.where((known == 0).all(-2, keepdim=True), known[..., :1, :], unknown_like(known))


def _transform(node: fx.Node, name: str, get: Get) -> Any:
    """Finds what a Fourier transform makes of what is known of its input."""
    x = argument(node, 0, "input")
    if not isinstance(x, fx.Node):
        return None
    given = argument(node, 1 if "shift" in name else 2, "dim")
    dims = transformed_dims(name, x.meta["val"].ndim, given)
    return transformed(get(x), sorted(dims), node.meta["val"])
