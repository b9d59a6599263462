"""Finds which tensors the nodes of a graph with choices read, and which taps choices may hide."""

from collections.abc import Mapping

from torch import fx

from gfx.compression.taps.tap_nodes import taps
from gfx.errors import InputError
from gfx.ir.choice_nodes import ALWAYS, choices_of, when_alive

__all__ = ["refuse_hidden_taps", "tensors_read"]


def tensors_read(code: fx.GraphModule, paths: Mapping[str, str]) -> dict[fx.Node, frozenset[str]]:
    """Returns the tensors that each node reads.

    Args:
        code: whose layers hold their tensors.
        paths: of every tensor, the one that stands for all that are the same.
    """
    held = dict(code.named_parameters(remove_duplicate=False))
    held |= dict(code.named_buffers(remove_duplicate=False))  # type: ignore[arg-type]
    known = {id(value): paths.get(path, path) for path, value in held.items()}
    found: dict[fx.Node, frozenset[str]] = {}
    for node in code.graph.nodes:
        if node.op == "call_module":
            layer = code.get_submodule(str(node.target))
            own = [*layer.parameters(), *layer.buffers()]
            found[node] = frozenset(known[id(value)] for value in own)
        elif node.op == "get_attr" and str(node.target) in held:
            found[node] = frozenset([known[id(held[str(node.target)])]])
    return found


def refuse_hidden_taps(code: fx.GraphModule) -> None:
    """Refuses taps that some subnets do not come by.

    Raises: InputError that names the first, and the choices that may hide it.
    """
    names = [choice.name for choice in choices_of(code).values()]
    if not names:
        return
    when = when_alive(code)
    for tap, node in taps(code).items():
        if when[node] != ALWAYS:
            hiding = sorted({names[number] for term in when[node] for number, _ in term})
            raise InputError(
                f"the tap {tap} is not in every subnet: {', '.join(hiding)} may leave it out; tap "
                "what lies behind, or give this part no choice"
            )
