"""Follows context managers of a forward, which a graph of torch.fx has no place for.

1. What runs without gradients (`no_grad`, `inference_mode`, `set_grad_enabled(False)`, also as a
   decorator) is marked on its nodes while they are made. Where a value leaves such a region, the
   graph detaches it: values and gradients are those of the model.
2. `autocast` decides dtypes by what its caller does, and `enable_grad` needs no gradients outside
   to matter. Neither can be told from values, so entering them is a Refusal that names them; the
   module that does can still stay whole.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, fx
from torch.autograd import grad_mode
from torch.utils import _pytree as pytree

from gfx.frontend.refusal import Refusal
from gfx.ir.ops import is_inplace

__all__ = ["cut_gradients", "has_regions", "mark", "mark_region", "refused_contexts", "same_region"]

_MARK = "gfx_without_gradients"
_DECORATORS = frozenset(
    ["torch.utils._contextlib", "torch.amp.autocast_mode", "torch.cuda.amp.autocast_mode"]
)
_QUIET = ("torch.", "gfx.")  # these restore what they change


def mark(node: fx.Node) -> fx.Node:
    """Marks a node that is made where gradients are off (rule 1)."""
    if not torch.is_grad_enabled() and node.op.startswith("call"):
        node.meta[_MARK] = True
    return node


def mark_region(node: fx.Node) -> None:
    """Marks a node as computed without gradients, whatever the mode is now."""
    if node.op.startswith("call"):
        node.meta[_MARK] = True


def same_region(node: fx.Node, new: Any) -> None:
    """Marks what replaces a node as the node was."""
    if _MARK in node.meta and isinstance(new, fx.Node):
        mark_region(new)


def has_regions(module: fx.GraphModule) -> bool:
    """Returns whether a graph has nodes that are computed without gradients."""
    return any(_MARK in node.meta for node in module.graph.nodes)


def cut_gradients(module: fx.GraphModule) -> None:
    """Detaches what leaves a region without gradients; the nodes have their values in `meta`.

    Raises: Refusal where a value leaves in a container that is not taken apart, or where the region
    writes to a tensor of outside.
    """
    for node in list(module.graph.nodes):
        if _MARK not in node.meta:
            continue
        if is_inplace(node) and any(_MARK not in n.meta for n in node.all_input_nodes[:1]):
            raise Refusal("forward writes to a tensor in place under torch.no_grad()")
        outside = [user for user in node.users if _MARK not in user.meta]
        if not outside:
            continue
        value = node.meta.get("val")
        if isinstance(value, Tensor):
            if value.is_floating_point() or value.is_complex():
                _detach(module.graph, node, outside)
        elif any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(value)):
            for user in outside:
                if user.op != "call_function" or "getitem" not in str(user.target):
                    raise Refusal("several values leave torch.no_grad() together")
                user.meta[_MARK] = True  # it comes later, and is detached in its turn


def _detach(graph: fx.Graph, node: fx.Node, outside: list[fx.Node]) -> None:
    with graph.inserting_after(node):
        cut = graph.call_method("detach", (node,))
    cut.meta["val"] = node.meta["val"]
    node.replace_all_uses_with(cut, delete_user_cb=lambda user: user in outside)


@contextmanager
def refused_contexts() -> Iterator[None]:
    """Refuses contexts that a graph cannot keep (rule 2), by their name."""
    with ExitStack() as patches:
        for owner, name, said in (
            (torch.autocast, "__enter__", "torch.autocast"),
            (grad_mode.enable_grad, "__enter__", "torch.enable_grad()"),
            (grad_mode.set_grad_enabled, "__init__", "torch.set_grad_enabled(True)"),
        ):
            entered = _refusing(getattr(owner, name), said)
            patches.enter_context(patch.object(owner, name, entered))
        yield


def _refusing(original: Callable[..., Any], said: str) -> Callable[..., Any]:
    def entered(self: Any, *args: Any, **kwargs: Any) -> Any:
        on = said != "torch.set_grad_enabled(True)" or bool(args[0] if args else kwargs["mode"])
        if on and not _caller().startswith(_QUIET):
            raise Refusal(f"forward enters {said}, whose effect depends on how the model is called")
        return original(self, *args, **kwargs)

    return entered


def _caller() -> str:
    """Returns the name of the python module that enters a context, by itself or as a decorator."""
    frame = inspect.currentframe()
    frame = frame.f_back.f_back if frame and frame.f_back else None
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name not in _DECORATORS:
            return f"{name}."
        frame = frame.f_back
    return ""
