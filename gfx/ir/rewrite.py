"""Replaces a layer by a chain of layers."""

from torch import Tensor, fx, nn

from gfx.ir.memory_format import in_format_of
from gfx.ir.node_origin import stands_for
from gfx.ir.program import Program

__all__ = ["split"]


def split(program: Program, path: str, parts: nn.Sequential) -> tuple[fx.Node, ...]:
    """Replaces every call of a module by calls of parts, one after the other, under its path.

    The parts take its train/eval mode, and the memory format of its weight. What gave the module's
    output is now the last part's. The graph is not cleaned up: call `program.recompile()` once all
    is done.

    Returns: for each call, the node of the last part.

    Example:
        >>> import gfx
        >>> program = gfx.trace(nn.Sequential(nn.Linear(4, 4)))
        >>> _ = split(program, "0", nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 4)))
        >>> program.recompile()
        >>> [str(node.target) for node in program.nodes() if node.op == "call_module"]
        ['0.0', '0.1']
    """
    module = program.module.get_submodule(path)
    parts.train(module.training)
    weight = getattr(module, "weight", None)
    if isinstance(weight, Tensor):
        for part in parts.parameters():
            part.data = in_format_of(part.data, weight)
    calls = [n for n in program.nodes() if n.op == "call_module"]
    calls = [n for n in calls if program.submodule(n) is module]
    for target in {str(node.target): None for node in calls}:
        program.module.set_submodule(target, parts)  # one module may have several paths
    names = [name for name, _ in parts.named_children()]
    return tuple(_chain(program, node, names) for node in calls)


def _chain(program: Program, node: fx.Node, names: list[str]) -> fx.Node:
    """Puts calls of the parts in the place of one call."""
    value = node.all_input_nodes[0]
    with program.graph.inserting_before(node):
        for name in names:
            value = program.graph.call_module(f"{node.target}.{name}", (value,))
            stands_for(value, None)  # what lies between is nothing of the original
    stands_for(value, node)
    node.replace_all_uses_with(value)
    program.graph.erase_node(node)
    return value
