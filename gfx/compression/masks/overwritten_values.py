"""Finds the values of a graph that are written to after they were computed, through a view."""

from collections.abc import Iterable

from torch import fx, nn

from gfx.compression.masks.known_rules import POINTWISE
from gfx.ir.ops import is_inplace, is_inplace_module, op_name
from gfx.ir.program import Program

__all__ = ["overwritten"]

# what surely makes a tensor of its own; all else may return a view of what it reads
_FRESH = (POINTWISE | {"matmul", "mm", "bmm", "linear", "cat", "stack"}) - set(
    "contiguous detach to float double half bfloat16 identity".split()
)
_SAME = (nn.Identity, nn.Flatten, nn.Unflatten)
_DROPS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def overwritten(program: Program) -> set[fx.Node]:
    """Collects nodes whose memory is written to through another view of it.

    What reads an overwritten tensor itself reads the result of that write: every graph is made so.
    """
    found: set[fx.Node] = set()
    for node in program.nodes():
        module = program.submodule(node) if node.op == "call_module" else None
        writes = is_inplace(node) or (module is not None and is_inplace_module(module))
        if writes and node.all_input_nodes:
            views = _views(program, node.all_input_nodes[0], node)
            held = any(n.op == "get_attr" for n in views)  # the next call finds what is written
            alone = len(views) == 1 and not held and op_name(node) != "setitem"
            found |= set() if alone else {*views, node}
    return found


def _views(program: Program, node: fx.Node, writer: fx.Node) -> set[fx.Node]:
    """Collects the nodes that may share memory with one, which a later node writes to."""

    def alias(n: fx.Node) -> bool:
        if n.op == "call_module":
            module = program.submodule(n)
            plain = type(module).__module__.startswith("torch.nn.")
            return not plain or isinstance(module, (*_SAME, *_DROPS))
        return (
            n.op.startswith("call")
            and not op_name(n).startswith("conv")
            and (op_name(n) not in _FRESH)
        )

    seen, waiting = {node}, [node]
    while waiting:
        now = waiting.pop()
        near: Iterable[fx.Node] = [u for u in now.users if u is not writer and alias(u)]
        near = [*near, *(now.all_input_nodes[:1] if alias(now) else ())]
        waiting += [n for n in near if n not in seen]
        seen.update(near)
    return seen
