"""Reads input and output widths off layers that have them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from gfx.ir.ops import op_name

__all__ = ["Reader", "first_reader", "reader_of", "width_after"]


@dataclass(frozen=True)
class Reader:
    """A layer that fixes the width of what it reads.

    `kind` is image (N, width, and `dims` sizes), map (the same, small), vector (N, width),
    sequence (N, length, width) or index (N whole numbers).
    """

    kind: str
    width: int
    dims: int
    why: str


def reader_of(node: fx.Node, model: nn.Module) -> Reader | None:
    """Describes a node that fixes the width of its first argument, or returns None."""
    if node.op == "call_module":
        path = str(node.target)
        return _module_reader(path, model.get_submodule(path))
    name = op_name(node)
    if name == "one_hot":
        return Reader("index", 0, 0, "it is turned into one-hot vectors")
    weight = _weight(node, model) if name.startswith("conv") or name == "linear" else None
    if weight is None:
        return None
    if name == "linear":
        return Reader("vector", weight.shape[1], 0, f"a linear takes {weight.shape[1]} features")
    transposed = "transpose" in name
    groups = node.kwargs.get("groups") or (node.args[6] if len(node.args) > 6 else 1)
    width = weight.shape[0] if transposed else weight.shape[1] * int(str(groups))
    kind = "map" if transposed else "image"
    return Reader(kind, width, weight.dim() - 2, f"a convolution takes {width} channels")


def first_reader(model: nn.Module) -> Reader | None:
    """Describes the first layer, in the order they were made, that fixes a width."""
    readers = (_module_reader(path, module) for path, module in model.named_modules())
    return next((r for r in readers if r is not None and r.kind != "index"), None)


def width_after(node: fx.Node, model: nn.Module) -> int | None:
    """Returns the number of channels or features of a value, where its layers say it."""
    if node.op == "get_attr":
        tensor = _attribute(model, str(node.target))
        return tensor.shape[1] if tensor is not None and tensor.dim() > 1 else None
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        names = ("out_channels", "out_features", "embedding_dim", "num_features", "num_channels")
        width = next((getattr(module, n) for n in names if hasattr(module, n)), None)
        if isinstance(width, int):
            return width
    if op_name(node) == "cat":
        parts = [width_after(part, model) for part in node.all_input_nodes]
        return sum(p for p in parts if p) if all(parts) else None
    if node.op in ("call_module", "call_function", "call_method") and node.all_input_nodes:
        same = op_name(node) not in ("view", "reshape", "getitem", "size", "chunk", "split", "mean")
        return width_after(node.all_input_nodes[0], model) if same else None
    return None


def _module_reader(path: str, module: nn.Module) -> Reader | None:
    what = f"{type(module).__name__.removeprefix('Parametrized')} '{path}'"
    if isinstance(module, nn.Embedding):
        return Reader("index", 0, 0, f"{what} looks up numbers")
    if isinstance(module, nn.modules.conv._ConvNd):
        width, kind = module.in_channels, "map" if module.transposed else "image"
        return Reader(kind, width, len(module.kernel_size), f"{what} takes {width} channels")
    if isinstance(module, nn.Linear):
        width = module.in_features
        return Reader("vector", width, 0, f"{what} takes {width} features")
    if isinstance(module, nn.modules.batchnorm._NormBase):
        dims = {"1d": 0, "2d": 2, "3d": 3}.get(type(module).__name__[-2:], 2)
        kind, width = "image" if dims else "vector", module.num_features
        return Reader(kind, width, dims, f"{what} takes {width} channels")
    if isinstance(module, nn.GroupNorm):
        width = module.num_channels
        return Reader("image", width, 2, f"{what} takes {width} channels")
    if isinstance(module, nn.MultiheadAttention):
        return Reader("sequence", module.embed_dim, 0, f"{what} takes {module.embed_dim} features")
    if isinstance(module, nn.RNNBase):
        width = module.input_size
        return Reader("sequence", width, 0, f"{what} takes {width} features")
    return None


def _weight(node: fx.Node, model: nn.Module) -> torch.Tensor | None:
    """Finds the parameter that a convolution or linear is computed with, scaled or not."""
    source: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("weight")
    while isinstance(source, fx.Node) and source.op != "get_attr":
        source = source.all_input_nodes[0] if source.all_input_nodes else None
    return _attribute(model, str(source.target)) if isinstance(source, fx.Node) else None


def _attribute(model: nn.Module, path: str) -> torch.Tensor | None:
    owner, _, name = path.rpartition(".")
    value = getattr(model.get_submodule(owner), name, None)
    return value if isinstance(value, torch.Tensor) else None
