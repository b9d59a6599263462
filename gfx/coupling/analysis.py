"""Finds the channel groups of a program by running every node on labels."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from gfx.coupling.call import Call
from gfx.coupling.flow import Attention, Flow, GroupNorms
from gfx.coupling.form_groups import collect
from gfx.coupling.groups import Groups
from gfx.coupling.labelled_tensor import Labeled, core, expand_constant, tensors, varying
from gfx.coupling.labels import Labels
from gfx.coupling.long_dimensions import LongDimensions
from gfx.coupling.normalised_weights import normalised
from gfx.coupling.rules import function_rule, module_rule
from gfx.coupling.rules.movement import unknown, unlabelled
from gfx.coupling.rules.reductions import centre
from gfx.coupling.weight_statistics import find_constants
from gfx.ir.ops import op_name
from gfx.ir.parametrizations import folding_in
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate

__all__ = ["analyse", "analyse_like"]


def analyse(
    program: Program,
    *,
    attention: Attention = "width",
    group_norm: GroupNorms = "auto",
    unions: bool = False,
) -> Groups:
    """Finds the coupled channel groups of a program.

    Every index of every parameter's dimensions gets a label; the labels run through the graph in
    the place of the numbers. Reads shapes only: the cost does not depend on the image size.

    Args:
        program: a traced program; its shapes are propagated.
        attention: what of multi-head attention is one channel: a "width" index of all heads, or
            one of the "heads" as a whole.
        group_norm: what may go of a GroupNorm: a "whole" group of channels, which is exact, or as
            many channels of each ("regroup"), which is approximate. "auto" regroups those that
            could lose nothing else, as where the groups of several norms overlap.
        unions: whether `Groups.unions` keeps what was united.

    Example:
        >>> import gfx
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> groups = gfx.channels(program)
        >>> sum(group.size for group in groups.free)
        60
    """
    propagate(program)
    flow = _run(Flow(program, attention, group_norm, labels=Labels(record=unions)))
    while True:
        stuck = _stuck(flow) if group_norm == "auto" else set()
        met = flow.long.met(flow.labels.pins().texts)
        if not stuck and not met:
            return collect(flow)
        long, regrouped = LongDimensions(flow.long.labelled | met), flow.regrouped | stuck
        labels = Labels(record=unions)
        flow = _run(Flow(program, attention, group_norm, regrouped, long, labels))


def analyse_like(groups: Groups, program: Program, *, unions: bool = False) -> Groups:
    """Finds the groups of another program with the settings that some groups were found with."""
    found = groups._flow
    return analyse(program, attention=found.attention, group_norm=found.group_norm, unions=unions)


def _run(flow: Flow) -> Flow:
    flow.constants = find_constants(flow.program)
    for node in flow.program.graph.nodes:
        flow.values[node] = _value(flow, node)
    _straighten(flow)
    centre(flow)
    return flow


def _stuck(flow: Flow) -> set[fx.Node]:
    """Finds the GroupNorms whose channels can go only all together."""
    if not flow.norms:
        return set()
    pins = flow.labels.pins()
    found = set()
    for node, ids in flow.norms.items():
        classes = np.unique(flow.labels.find(ids)).tolist()
        if len(classes) == 1 and pins.of(classes[0]) is None:
            found.add(node)
    modules = {node.target for node in found if node.op == "call_module"}
    return found | {node for node in flow.norms if node.target in modules}  # of a shared module


def _value(flow: Flow, node: fx.Node) -> Any:
    value: Any = node.meta.get("val")
    if node in flow.constants.hidden:
        return unlabelled(value, "")
    if node in flow.constants.weights:
        return _normalised(flow, node)
    if node in flow.constants.weight_statistics:
        return flow.made(node, range(value.ndim), tuple(value.shape))
    return _OPS[node.op](flow, node)


def _normalised(flow: Flow, node: fx.Node) -> Labeled:
    """Labels a weight that is normalised as a whole: each element is where it was."""
    x: Labeled = flow.values[node.all_input_nodes[0]]
    what = normalised(node)
    for vector in what.vectors if what is not None else ():
        if vector is not None and what is not None:
            v: Labeled = flow.values[vector]
            for i in range(v.ndim):
                mine = flow.along(x, what.first + i)
                flow.connect((mine, x.why), (flow.along(v, i), v.why))
    return Labeled(x.shape, x.fields, x.why)


def _placeholder(flow: Flow, node: fx.Node) -> Any:
    return _given(flow, node, node.meta["val"])


def _given(flow: Flow, node: fx.Node, value: Any) -> Any:
    """Labels the tensors of an input, which may be a container of some."""
    if isinstance(value, dict):
        return {key: _given(flow, node, part) for key, part in value.items()}
    if isinstance(value, list | tuple) and not isinstance(value, torch.Size):
        return tuple(_given(flow, node, part) for part in value)
    if not isinstance(value, Tensor):
        return value
    shape = tuple(value.shape)
    dims = [1] if len(shape) != 3 else [1, 2]  # (N, C, ...), and (N, L, C) for tokens
    why = f"its channels are those of the model's input {node.name}"
    out = flow.made(node, [d for d in dims if d < len(shape)], shape)
    flow.fix(out, why)
    return Labeled(shape, out.fields, why)


def _get_attr(flow: Flow, node: fx.Node) -> Any:
    value = node.meta["val"]
    return flow.tensor(str(node.target)) if isinstance(value, Tensor) else value


def _call_module(flow: Flow, node: fx.Node) -> Any:
    module = flow.program.submodule(node)
    call = _call(flow, node, type(module).__name__, module)
    why = _not_plain(flow.program, module, str(node.target))
    if why:
        flow.refused[str(node.target)] = why
    rule = None if why else module_rule(module)
    if rule is not None:
        try:
            return rule(flow, call)
        except _GIVES_UP as error:
            why = _not_followed(call, error)
    out = unknown(flow, call, why)
    for name, _ in [*module.named_parameters(), *module.named_buffers()]:
        tensor = flow.tensor(f"{node.target}.{name}")  # may be tied to another module's
        flow.fix(tensor, out.why if isinstance(out, Labeled) else why or f"{node.name} reads it")
    if not isinstance(out, Labeled) or out.ndim < 2:
        return out
    # pinned labels, so that what follows the module is one group and not one for each vector
    made = flow.made(node, [1], out.shape)
    flow.fix(made, out.why)
    return Labeled(out.shape, made.fields, out.why)


def _not_plain(program: Program, module: nn.Module, path: str) -> str | None:
    """Says why the parameters of a module are not what they seem."""
    if any(_holds(module, name) for name in ("parametrizations", "weight_orig", "weight_g")):
        return f"a parametrization computes the weight of {path}; {folding_in(program, path)}"
    if module._forward_hooks or module._forward_pre_hooks:
        return f"{path} has hooks, which may do anything to its channels"
    return None


def _holds(module: nn.Module, name: str) -> bool:
    """Whether a module has an attribute; `hasattr` takes long to find that it has not."""
    places = (module._parameters, module._modules, module._buffers, vars(module))
    return any(name in place for place in places) or hasattr(type(module), name)


def _call_function(flow: Flow, node: fx.Node) -> Any:
    value = node.meta["val"]
    if value is not None and not _has_tensor(value):
        return value  # sizes, dtypes, arithmetic on them
    call = _call(flow, node, op_name(node), None)
    return _followed(function_rule(call.name) or unknown, flow, call)


def _followed(rule: Callable[[Flow, Call], Any], flow: Flow, call: Call) -> Any:
    """Applies a rule; a call in a form that the rule does not handle pins what enters it.

    What the rule united before it gave up stays united, which is coarser and never wrong.
    """
    try:
        return rule(flow, call)
    except _GIVES_UP as error:
        return unknown(flow, call, _not_followed(call, error))


_GIVES_UP = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def _not_followed(call: Call, error: Exception) -> str:
    what = f"{call.name} at {call.node.name}"
    return f"gfx cannot follow {what} ({type(error).__name__}: {error})"


def _output(flow: Flow, node: fx.Node) -> None:
    for value in tensors(_resolved(flow, node.args)):
        flow.fix(value, "its channels are the model's output")


_OPS = {
    "placeholder": _placeholder,
    "get_attr": _get_attr,
    "call_module": _call_module,
    "call_function": _call_function,
    "call_method": _call_function,
    "output": _output,
}


def _has_tensor(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(_has_tensor(v) for v in value)
    return isinstance(value, Tensor)


def _call(flow: Flow, node: fx.Node, name: str, module: nn.Module | None) -> Call:
    return Call(node, name, _resolved(flow, node.args), _resolved(flow, node.kwargs), module)


def _resolved(flow: Flow, argument: Any) -> Any:
    return fx.node.map_arg(argument, lambda n: flow.values[n])


def _straighten(flow: Flow) -> None:
    """Makes every field vary on one dimension, so that what is kept is always a rectangle.

    Where a channel dimension was split in two (heads and width, groups and members), one of the
    two is narrowed: the last, or the first where whole heads are asked for.
    """
    for value in flow.values.values():
        for labeled in tensors(value):
            for labels in labeled.fields:
                over = varying(labels)
                if len(over) > 1:
                    _straighten_field(flow, labels, over)
    for node, value in flow.values.items():
        flow.values[node] = _straight(flow, value)


def _straight(flow: Flow, value: Any) -> Any:
    """Leaves each field constant where all that it has there is one class.

    The positions of a latent's map are one channel: they stay, also where all channels of a part
    are gone.
    """
    if isinstance(value, (tuple, list)):
        return type(value)(_straight(flow, one) for one in value)
    if isinstance(value, dict):
        return {key: _straight(flow, one) for key, one in value.items()}
    if not isinstance(value, Labeled) or all(len(varying(f)) < 2 for f in value.fields):
        return value
    return replace(value, fields=tuple(_on_one(flow, labels) for labels in value.fields))


def _on_one(flow: Flow, labels: Tensor) -> Tensor:
    """Leaves a field varying on the one dimension that its classes vary on."""
    dims = varying(labels)
    if len(dims) < 2:
        return labels
    stay = flow.over(labels)[0]  # of one class alone the first, as channels are before positions
    cut = core(labels)
    for d in dims:
        cut = cut if d == stay else cut.narrow(d, 0, 1)
    return cut.expand(labels.shape)


def _straighten_field(flow: Flow, labels: Tensor, over: tuple[int, ...]) -> None:
    cut = core(labels)
    found = expand_constant(torch.from_numpy(flow.labels.find(cut.numpy().copy())))
    over = varying(found)
    if len(over) < 2:
        return
    stay = over[-1] if flow.attention == "width" else over[0]
    rows = cut.movedim(stay, 0).reshape(cut.shape[stay], -1).numpy()
    flow.labels.unite(rows[:, :1], rows[:, 1:])
