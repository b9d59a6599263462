"""Stores statistics of weights, so that a removal does not change them.

Most go on learning (`learning_statistics`): only what is removed is stored. The value of the
others is stored; it is frozen, and a removal names it.
"""

from typing import Any

import torch
from torch import Tensor, fx, nn

from gfx.coupling.removal.learning_statistics import learn
from gfx.coupling.removal.masked_reference import fresh_name
from gfx.coupling.removal.new_sizes import Sizes
from gfx.ir.interpreter import Get, Interpreter, Values, ancestors, overlaid
from gfx.ir.program import Program, has_effect

__all__ = ["store"]


def store(program: Program, sizes: Sizes) -> tuple[str, ...]:
    """Keeps every weight statistic that the removal would change; names those that are frozen.

    The nodes that computed them are then dead. The tensors of the program are still whole.
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
    values = _evaluated(program, sizes, stored)
    frozen = []
    for node in stored:
        if learn(program, sizes, node, changed):
            continue
        frozen.append(node)
        if node in constants.own:
            _overwrite(program, node, values[node])
        else:
            _store(program, sizes, node, values[node])
    if any(not node.users and not has_effect(node) for node in program.graph.nodes):
        program.graph.eliminate_dead_code(has_effect)
    return tuple(node.name for node in frozen)


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
    constants = sizes.groups.constants
    if node in constants.weights - constants.learning:
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
