"""Stores statistics of weights, so that a removal does not change them.

A sum goes on learning: what is left of it is computed, and only the rest is stored.
"""

from typing import Any

import torch
from torch import Tensor, fx, nn

from gfx.coupling.removal.masked_reference import fresh_name
from gfx.coupling.removal.new_sizes import Sizes
from gfx.ir.interpreter import Get, Interpreter, Values, ancestors, overlaid
from gfx.ir.ops import op_name
from gfx.ir.program import Program, has_effect

__all__ = ["store"]

_ELEMENTWISE = frozenset("pow square abs mul neg add sub exp".split())


def store(program: Program, sizes: Sizes) -> tuple[str, ...]:
    """Replaces every weight statistic that the removal would change by its value; names them.

    The nodes that computed it are then dead. The tensors of the program are still whole.
    """
    constants = sizes.groups.constants
    changed: set[fx.Node] = set()  # nodes whose value follows from a tensor that is cut
    for node in program.nodes():
        if node in constants.nodes:
            cut = node not in constants.hidden and sizes.changed(node)
            if cut or any(source in changed for source in node.all_input_nodes):
                changed.add(node)
    statistics = changed & constants.weight_statistics
    stored = [node for node in program.nodes() if node in statistics]
    sums = {node for node in stored if _is_sum(node, statistics, changed)}
    values = _evaluated(program, sizes, stored)
    frozen = [node for node in stored if node not in sums]
    for node in sums:
        _store_rest(program, sizes, node, values)
    for node in frozen:
        if node in constants.own:
            _overwrite(program, node, values[node])
        else:
            _store(program, sizes, node, values[node])
    if any(not node.users and not has_effect(node) for node in program.graph.nodes):
        program.graph.eliminate_dead_code(has_effect)
    return tuple(node.name for node in frozen)


def _is_sum(node: fx.Node, statistics: set[fx.Node], changed: set[fx.Node]) -> bool:
    """Whether a node sums what changes, element by element from tensors of the program."""
    if op_name(node) != "sum" or len(node.all_input_nodes) != 1:
        return False
    (source,) = node.all_input_nodes
    above = ancestors([source]) | {source}
    plain = all(n.op == "get_attr" or op_name(n) in _ELEMENTWISE for n in above)
    return plain and source in changed and not above & statistics


def _store_rest(program: Program, sizes: Sizes, node: fx.Node, values: Values) -> None:
    """Adds to a sum over what is left the sum over what is removed."""
    rest = values[node] - _of_what_is_left(program, sizes, node)
    for d in range(rest.ndim):
        alive = torch.from_numpy(sizes.alive(sizes.value_of(node), d).nonzero()[0])
        rest = rest.index_select(d, alive.to(rest.device))
    name = fresh_name(program.module, node.name)
    program.module.register_buffer(name, rest)
    with program.graph.inserting_after(node):
        stored = program.graph.get_attr(name)
    with program.graph.inserting_after(stored):
        whole = program.graph.call_function(torch.add, (node, stored))
    for new in (stored, whole):
        sizes.stands_for(new, node)
        new.meta["val"] = sizes.after[node]
    node.replace_all_uses_with(whole, delete_user_cb=lambda user: user is not whole)


def _of_what_is_left(program: Program, sizes: Sizes, node: fx.Node) -> Tensor:
    """Computes a sum from its tensors as they will be cut."""
    runner = Interpreter(program.module, only=ancestors([node]))
    found: Values = {}

    def see(each: fx.Node, get: Get) -> Any:
        value = runner.value(each, get)
        if each.op == "get_attr":
            value = value.detach()
            for d in range(value.ndim):
                alive = torch.from_numpy(sizes.alive(sizes.value_of(each), d).nonzero()[0])
                value = value.index_select(d, alive.to(value.device))
        if each is node:
            found[node] = value
        elif isinstance(value, Tensor):  # what constants have on the way is not predicted
            sizes.after[each] = torch.empty_like(value, device="meta")
        return value

    with torch.no_grad():
        runner.step_through({}, see=see)
    return found[node]  # type: ignore[no-any-return]


def _overwrite(program: Program, node: fx.Node, value: Tensor) -> None:
    """Puts a normalised weight in the place of the parameter; it is cut like any other later."""
    source = node.all_input_nodes[0]
    owner, _, name = str(source.target).rpartition(".")
    old = program.tensor(str(source.target))
    module = program.module.get_submodule(owner)
    if isinstance(old, nn.Parameter):
        value = nn.Parameter(value.clone(), requires_grad=old.requires_grad)
    setattr(module, name, value)
    node.replace_all_uses_with(source)
    del node.meta["val"]


def _store(program: Program, sizes: Sizes, node: fx.Node, value: Tensor) -> None:
    for d in range(value.ndim):
        alive = sizes.alive(sizes.value_of(node), d)
        if not alive.all():
            index = torch.from_numpy(alive.nonzero()[0]).to(value.device)
            value = value.index_select(d, index)
    name = fresh_name(program.module, node.name)
    if node in sizes.groups.constants.weights:
        program.module.register_parameter(name, nn.Parameter(value.clone()))
    else:
        program.module.register_buffer(name, value.clone())
    with program.graph.inserting_before(node):
        stored = program.graph.get_attr(name)
    sizes.stands_for(stored, node)
    stored.meta["val"] = sizes.after[node]  # it has its new size already
    node.replace_all_uses_with(stored)
    del node.meta["val"]  # no shape is predicted for a dead node


def _evaluated(program: Program, sizes: Sizes, wanted: list[fx.Node]) -> Values:
    """Computes nodes from the program's tensors; products of two read removed channels as zero."""
    runner = Interpreter(program.module, only=ancestors(wanted))
    found: Values = {}

    def see(node: fx.Node, get: Get) -> Any:
        value = runner.value(node, overlaid(get, _masked(sizes, node, get)))
        value = value.detach() if node.op == "get_attr" else value
        if node in wanted:
            found[node] = value
        return value

    with torch.no_grad():
        runner.step_through({}, see=see)
    return found


def _masked(sizes: Sizes, node: fx.Node, get: Get) -> Values:
    """Zeroes removed channels in the operands of a node that contracts weights."""
    found: Values = {}
    for read in sizes.groups.reads:
        stay = sizes.kept[read.ids]
        if read.node is node and not stay.all():
            value = overlaid(get, found)(read.operand)
            view = [-1 if d == read.dim else 1 for d in range(value.ndim)]
            mask = torch.from_numpy(stay).to(value)
            found[read.operand] = value * mask.view(view)
    return found
