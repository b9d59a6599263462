"""Finds, inserts and removes taps in a graph."""

from collections import Counter
from copy import deepcopy

from torch import fx, nn

from gfx.ir.modules import ChannelMask, ChoiceLayer, Penalty, Tap
from gfx.ir.program import Program, has_effect

__all__ = ["holders", "insert", "is_tap", "plain", "strip", "taps"]

_HOLDER = "taps"


def is_tap(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node is a tap."""
    return node.op == "call_module" and isinstance(module.get_submodule(str(node.target)), Tap)


def taps(module: fx.GraphModule) -> dict[str, fx.Node]:
    """Returns the taps of a graph by name, in the order in which they run.

    Example:
        >>> taps(fx.symbolic_trace(nn.ReLU()))
        {}
    """
    found = {str(node.target): node for node in module.graph.nodes if is_tap(module, node)}
    ends = Counter(path.rpartition(".")[2] for path in found)
    return {_name(path, ends): node for path, node in found.items()}


def _name(path: str, ends: Counter[str]) -> str:
    """Names a tap by the end of its path; more of it where several tapped parts share an end."""
    owner, _, end = path.rpartition(".")
    outer = owner.rpartition(".")[0]
    return end if ends[end] == 1 or not outer else f"{outer.replace('.', '_')}_{end}"


def holders(program: Program) -> list[str]:
    """Returns the paths of the modules that hold taps and nothing else."""
    found = taps(program.module).values()
    return sorted({str(node.target).rpartition(".")[0] for node in found})


def insert(program: Program, node: fx.Node, path: str) -> str:
    """Inserts a tap after a node, before all its readers. Returns its name.

    The name is the path with dots as `_`, and a number where that is taken. Where the value has a
    choice, as the output of a layer of several forms, the tap is behind the choice.
    """
    module, node = program.module, _chosen(program, node)
    known = holders(program)
    holder = known[0] if known else _free(module, _HOLDER)
    owner = module.get_submodule(holder) if known else nn.Module()
    name = _free(owner, path.replace(".", "_"))
    module.add_submodule(f"{holder}.{name}", Tap())
    for made in (module.get_submodule(holder), module.get_submodule(f"{holder}.{name}")):
        made.training = module.training
    with program.graph.inserting_after(node):
        tap = program.graph.call_module(f"{holder}.{name}", (node,))
    node.replace_all_uses_with(tap, delete_user_cb=lambda user: user is not tap)
    return name


def _chosen(program: Program, node: fx.Node) -> fx.Node:
    """Returns the choice that takes a value in the largest subnet; without one, the value."""
    for user in node.users:
        if user.args[-1:] == (node,) and _is_choice(program, user):
            return _chosen(program, user)
    return node


def _is_choice(program: Program, node: fx.Node) -> bool:
    called = node.op == "call_module"
    return called and isinstance(program.submodule(node), ChoiceLayer)


def strip(program: Program, tap: fx.Node) -> None:
    """Removes a tap: its readers read its operand."""
    tap.replace_all_uses_with(tap.all_input_nodes[0])
    program.graph.erase_node(tap)


def plain(program: Program) -> Program:
    """Returns the program without taps, masks, penalties and choices; its layers are the same.

    Nodes keep their names. So a search for places to tap finds the same ones, whatever was
    inserted into the graph before.
    """
    graph = deepcopy(program.graph)
    twin = replace_graph(program, graph)
    for node in list(graph.nodes):
        marks = node.op == "call_module" and isinstance(
            program.submodule(node), Tap | Penalty | ChannelMask | ChoiceLayer
        )
        if marks:
            taken = -1 if isinstance(program.submodule(node), ChoiceLayer) else 0
            node.replace_all_uses_with(node.all_input_nodes[taken])
            graph.erase_node(node)
    graph.eliminate_dead_code(has_effect)  # what only a mask read, and other forms
    return twin


def replace_graph(program: Program, graph: fx.Graph) -> Program:
    """Builds a program of another graph over the same modules and tensors."""
    module = fx.GraphModule(program.module, graph, type(program.module).__name__)
    keep_flags(program.module, module)
    return Program(module, program.example_inputs, program.provenance)


def keep_flags(old: nn.Module, new: nn.Module) -> None:
    """Copies the modes and non-persistent buffers of containers to those that torch rebuilt."""
    olds = dict(old.named_modules(remove_duplicate=False))
    for path, part in new.named_modules():
        original = olds.get(path)
        if original is not None and original is not part:
            part.training = original.training
            hidden = original._non_persistent_buffers_set & set(part._buffers)
            part._non_persistent_buffers_set |= hidden


def _free(owner: nn.Module, name: str) -> str:
    """Returns a name that a module has no use for yet."""
    stem, count = name, 1
    while hasattr(owner, name) or hasattr(nn.ModuleDict, name):
        count += 1
        name = f"{stem}_{count}"
    return name
