"""Finds the layers of a graph, and what other nodes do to the size of a map."""

from math import prod
from typing import Any, Literal

import torch
from torch import fx, nn

from gfx.ir.modules import is_known
from gfx.ir.ops import op_name
from gfx.ir.program import Program

__all__ = ["conv_stride", "is_layer", "layer_path", "layers", "places", "sort_of", "tensors_in"]

Sort = Literal["layer", "shuffle", "resize", "pad", "reduce", "spread", "move", "product", "other"]

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_FUNCTIONS = frozenset(f"{name}{n}d" for name in ("conv", "conv_transpose") for n in (1, 2, 3)) | {
    "conv",
    "linear",
}
_SHUFFLES = frozenset({"pixel_shuffle", "PixelShuffle"})
_RESIZES = ("pool", "Pool", "interpolate", "upsample", "Upsample", "pixel_un", "PixelUn")
_PADS = ("Pad1d", "Pad2d", "Pad3d")
_REDUCES = frozenset({"mean", "sum", "amax", "amin", "max", "min", "std", "var", "norm"})
_SPREADS = frozenset({"expand", "expand_as", "broadcast_to", "repeat", "tile"})
_MOVES = frozenset(
    "view reshape flatten unflatten permute transpose movedim squeeze unsqueeze getitem chunk split"
    " stack unbind contiguous t mT rearrange index_select narrow slice select".split()
)
_PRODUCTS = frozenset(
    {"matmul", "bmm", "mm", "baddbmm", "einsum", "scaled_dot_product_attention", "tensordot"}
)


def is_layer(program: Program, node: fx.Node) -> bool:
    """Whether a node calls a convolution, a transposed convolution or a linear.

    Example:
        >>> import gfx
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> sum(is_layer(program, node) for node in program.nodes())
        5
    """
    if node.op == "call_module":
        return isinstance(program.submodule(node), (*_CONVS, *_TRANSPOSED, nn.Linear))
    return op_name(node) in _FUNCTIONS


def layers(program: Program) -> list[fx.Node]:
    """Lists the nodes that are layers, in the order in which they run."""
    return [node for node in program.nodes() if is_layer(program, node)]


def layer_path(node: fx.Node) -> str:
    """Names a layer: its module path, for a functional call that of its weight.

    Where the weight is computed it is the nearest tensor that it is computed from, and where that
    is none, the name of the node.

    Example: `conv2d(x, self.block.weight)` → `block`.
    """
    if node.op == "call_module":
        return str(node.target)
    weight = _argument(node, 1, "weight")
    near = [weight] if isinstance(weight, fx.Node) else []
    for source in near:
        if source.op == "get_attr" and getattr(source.meta.get("val"), "ndim", 2) > 1:
            owner, _, name = str(source.target).rpartition(".")
            return owner or name
        if source.op in ("call_function", "call_method"):
            near += [n for n in source.all_input_nodes if n not in near]
    return node.name


def sort_of(program: Program, node: fx.Node) -> Sort:
    """Classifies what a node does to the size of its input."""
    if is_layer(program, node):
        return "layer"
    name = op_name(node)
    if node.op == "call_module":
        module = program.submodule(node)
        if not is_known(module):
            return "resize"  # an opaque leaf: its shapes decide
        name = type(module).__name__
    if name in _SHUFFLES:
        return "shuffle"
    if name.startswith(_RESIZES) or any(text in name for text in _RESIZES[:2]):
        return "resize"
    if name == "repeat_interleave":
        return "resize"
    if name == "pad" or name.endswith(_PADS) or _crops(node):
        return "pad"
    sets: tuple[tuple[frozenset[str], Sort], ...] = (
        (_REDUCES, "reduce"),
        (_SPREADS, "spread"),
        (_MOVES | {"Flatten", "Unflatten"}, "move"),
        (_PRODUCTS, "product"),
    )
    return next((sort for names, sort in sets if name in names), "other")


def conv_stride(program: Program, node: fx.Node) -> tuple[int, bool]:
    """Returns how many times fewer (or, True, more) places a layer writes than it reads."""
    if node.op == "call_module":
        module: Any = program.submodule(node)
        if isinstance(module, nn.Linear):
            return 1, False
        return prod(module.stride), isinstance(module, _TRANSPOSED)
    name = op_name(node)
    if name == "linear":
        return 1, False
    transposed = name.startswith("conv_transpose") or bool(
        name == "conv" and _argument(node, 6, "transposed")
    )
    stride = _argument(node, 3, "stride") or 1
    source = _argument(node, 0, "input")
    dims = source.meta["val"].ndim - 2 if isinstance(source, fx.Node) else 2
    if isinstance(stride, int):
        return stride**dims, transposed
    sizes = [s for s in stride if isinstance(s, int)]
    return prod(sizes) ** (dims if len(sizes) == 1 else 1), transposed


def places(program: Program, node: fx.Node, value: Any, batch: int) -> float:
    """Counts the places of one example in a value that a layer or a resize reads or writes.

    A map has height times width, tokens their number, a vector one.
    """
    shape = tuple(value.shape)
    linear = op_name(node) == "linear"
    if node.op == "call_module":
        linear = isinstance(program.submodule(node), nn.Linear)
    if linear:
        return float(max(prod(shape[:-1]) / batch, 1))
    times = shape[0] // batch if shape and shape[0] > batch and shape[0] % batch == 0 else 1
    return float(max(prod(shape[2:]) * times, 1))


def tensors_in(node: fx.Node) -> list[fx.Node]:
    """Lists the nodes whose tensors a node reads; sizes and numbers are none."""
    return [n for n in node.all_input_nodes if _holds_tensor(n.meta.get("val"))]


def _crops(node: fx.Node) -> bool:
    """Whether a node cuts a border off a map, or fills one: a slice without a step."""
    if op_name(node) != "getitem" or not isinstance(node.args[1], tuple):
        return False
    before, after = (n.meta.get("val") for n in (node.all_input_nodes[0], node))
    if not (isinstance(before, torch.Tensor) and isinstance(after, torch.Tensor)):
        return False
    steps = [i.step for i in node.args[1] if isinstance(i, slice)]
    return before.ndim == after.ndim >= 4 and not any(s not in (None, 1) for s in steps)


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(map(_holds_tensor, value)) and not isinstance(value, torch.Size)
    return isinstance(value, torch.Tensor)


def _argument(node: fx.Node, position: int, name: str) -> Any:
    return node.args[position] if position < len(node.args) else node.kwargs.get(name)
