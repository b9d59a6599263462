"""Corrects operations over several channels at once: means, norms, attention."""

import math
from typing import Any

import torch
from torch import fx

from gfx.coupling.removal.arguments import entry, numbers, put
from gfx.coupling.removal.new_sizes import Sizes
from gfx.ir.ops import argument

__all__ = ["attention", "group_norm", "layer_norm", "loss", "mean", "rms_norm"]


def mean(node: fx.Node, sizes: Sizes) -> None:
    """Corrects a mean over fewer channels: what is gone counts as zero."""
    if sizes.groups.averages(node):  # else it is of no channels, or of those that are left
        _averaged(node, sizes)


def _averaged(node: fx.Node, sizes: Sizes) -> None:
    """Multiplies an average by the share of the positions it is taken over that are left."""
    value = sizes.value_of(argument(node, 0, "input"))
    before, after = math.prod(value.shape), math.prod(sizes.shape(value))
    kept = math.prod(sizes.after[node].shape) / math.prod(node.meta["val"].shape)
    share = after / before / kept
    if share != 1:
        _scale(node, share, sizes)


def loss(node: fx.Node, sizes: Sizes) -> None:
    """Corrects a mean distance over fewer channels."""
    if argument(node, 2, "reduction", default="mean") in ("mean", 1):
        _averaged(node, sizes)


def _scale(node: fx.Node, factor: float, sizes: Sizes) -> None:
    """Multiplies the output of a node."""
    with node.graph.inserting_after(node):
        scaled = node.graph.call_function(torch.mul, (node, factor))
    sizes.stands_for(scaled, node)
    node.replace_all_uses_with(scaled, delete_user_cb=lambda user: user is not scaled)


def layer_norm(node: fx.Node, sizes: Sizes) -> None:
    """Repairs the shape that is normalised over."""
    old = argument(node, 1, "normalized_shape")
    if isinstance(old, fx.Node):
        return  # computed from the shape itself
    listed = [old] if isinstance(old, int | fx.Node) else old
    wanted = tuple(sizes.after[node].shape)[-len(listed) :]
    new = [entry(node, a, b, sizes) for a, b in zip(listed, wanted, strict=True)]
    put(node, 1, new, "normalized_shape")


def rms_norm(node: fx.Node, sizes: Sizes) -> None:
    """Corrects the mean of an RMSNorm: x / sqrt(s m + eps) = s^-½ x / sqrt(m + eps / s)."""
    x = argument(node, 0, "input")
    before, after = x.meta["val"].shape, tuple(sizes.after[x].shape)
    given: Any = argument(node, 1, "normalized_shape")
    if node.op == "call_module":
        module: Any = sizes.groups.program.submodule(node)
        given = module.normalized_shape
    else:
        layer_norm(node, sizes)
    dims = len(numbers(given))
    share = math.prod(after[-dims:]) / math.prod(before[-dims:])
    if share == 1:
        return
    least = torch.finfo(x.meta["val"].dtype).eps
    if node.op == "call_function":
        eps = argument(node, 3, "eps")
        put(node, 3, (least if eps is None else eps) / share, "eps")
    elif given != after[-dims:]:  # a module that is called twice is set once
        module.eps = (least if module.eps is None else module.eps) / share
        module.normalized_shape = after[-dims:]
    _scale(node, share**-0.5, sizes)


def group_norm(node: fx.Node, sizes: Sizes) -> None:
    """Repairs the number of groups; a group goes as a whole, so their size stays."""
    old = argument(node, 1, "num_groups")
    if sizes.groups.regroups(node):
        return
    members = sizes.value_of(argument(node, 0, "input")).shape[1] // numbers(old)
    put(node, 1, entry(node, old, sizes.after[node].shape[1] // members, sizes), "num_groups")


def attention(node: fx.Node, sizes: Sizes) -> None:
    """Writes out the scale 1 / sqrt(E), which would change with the width of the heads."""
    query = argument(node, 0, "query")
    before, after = query.meta["val"].shape[-1], sizes.after[query].shape[-1]
    if before != after and node.kwargs.get("scale") is None:
        node.update_kwarg("scale", 1 / math.sqrt(before))
