"""Builds a program that returns the features at its taps beside its output."""

from copy import deepcopy
from typing import Any

from torch import fx, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from gfx.compression.taps.tap_nodes import replace_graph, taps
from gfx.errors import InputError
from gfx.ir.model_kinds import require_module
from gfx.ir.modules import ChannelMask, ChoiceLayer, MaskedLayer, Penalty, Tap
from gfx.ir.ops import is_inplace
from gfx.ir.program import Program
from gfx.objects.call_form import call_form, set_call_form
from gfx.objects.object_form import ObjectForm

__all__ = ["features_alone", "tapped"]

_WRAPPERS = (DistributedDataParallel, DataParallel)
_TAPPED = "gfx_tapped"  # marks the results of this file
_QUIET = (Tap, Penalty, ChannelMask, ChoiceLayer, MaskedLayer)  # none writes to its inputs


def tapped(model: nn.Module) -> nn.Module:
    """Returns a module that computes `(y, {tap: feature})` with the model's own parameters.

    y is what the model returns; the features come in the order in which they are computed, and each
    has its value at the tap, even if a later step overwrites it. Only such features are copied:
    training either module trains both, and train() and eval() act on the layers of both.

    Wrap the result rather than the model where you can, as in
    `torch.compile(gfx.tapped(model))`. Of a compiled model the original is taken; for one in
    DistributedDataParallel or DataParallel the result has the same wrapping, so that gradients are
    still reduced.

    Raises: InputError if the model has no taps.

    Example:
        >>> import gfx, torch
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 1))
        >>> recipe = {"passes": [{"distill_taps": {"layers": ["1"]}}]}
        >>> y, features = tapped(gfx.apply(recipe, model, torch.zeros(1, 3, 8, 8)))(
        ...     torch.zeros(1, 3, 8, 8))
        >>> {name: tuple(feature.shape) for name, feature in features.items()}
        {'1': (1, 8, 6, 6)}
    """
    require_module(model)
    compiled = getattr(model, "_orig_mod", None)
    if isinstance(compiled, nn.Module):
        return tapped(compiled)
    if isinstance(model, _WRAPPERS):
        return _around(model, tapped(model.module))
    if not isinstance(model, fx.GraphModule) or not taps(model):
        raise InputError(_no_taps(model))
    if model.meta.get(_TAPPED):
        return model
    graph = deepcopy(model.graph)
    program = replace_graph(Program(model, ()), graph)
    features = {name: _kept(program, tap) for name, tap in taps(program.module).items()}
    output = next(node for node in graph.nodes if node.op == "output")
    output.args = ((output.args[0], features),)
    called = call_form(graph)
    if called.output is not None:
        set_call_form(graph, called.inputs, ObjectForm(None, "inside", (), ((0, called.output),)))
    program.module.recompile()
    program.module.meta.update(model.meta, **{_TAPPED: True})
    return program.module


def features_alone(model: nn.Module) -> fx.GraphModule:
    """Returns a module that computes the features at the taps of a model, and nothing after them.

    It has the model's own parameters, as `tapped` has.

    Raises: InputError if the model has no taps.

    Example:
        >>> import gfx, torch
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 1))
        >>> recipe = {"passes": [{"distill_taps": {"layers": ["1"]}}]}
        >>> features = features_alone(gfx.apply(recipe, model, torch.zeros(1, 3, 8, 8)))
        >>> list(features(torch.zeros(1, 3, 8, 8))), len(features.graph.nodes)
        (['1'], 5)
    """
    whole = tapped(model)
    assert isinstance(whole, fx.GraphModule)
    graph = deepcopy(whole.graph)
    output = next(node for node in graph.nodes if node.op == "output")
    features = output.args[0][1]
    output.args = (features,)
    last = max(features.values(), key=list(graph.nodes).index)
    for node in reversed(list(graph.nodes)):
        if node is last:  # what comes before it has computed each feature as it is kept
            break
        if node is not output:
            graph.erase_node(node)
    called = call_form(graph)
    if called.output is not None:
        set_call_form(graph, called.inputs, None)
    program = replace_graph(Program(whole, ()), graph)
    assert isinstance(program.module, fx.GraphModule)
    return program.module


def _kept(program: Program, tap: fx.Node) -> fx.Node:
    """Returns the value at a tap; a copy, if a later step may overwrite it."""
    node = tap.next
    while node.op != "output":
        if _may_write(program, node):
            with program.graph.inserting_after(tap):
                return program.graph.call_method("clone", (tap,))
        node = node.next
    return tap


def _may_write(program: Program, node: fx.Node) -> bool:
    """Whether a step may write into memory that was there before it."""
    if node.op != "call_module":
        return is_inplace(node) or node.kwargs.get("out") is not None
    module = program.submodule(node)
    if getattr(module, "inplace", False):
        return True
    known = type(module).__module__.startswith("torch.nn.") or isinstance(module, _QUIET)
    return not known


def _around(wrapper: Any, module: nn.Module) -> nn.Module:
    """Wraps a module in the same way as another one that has the same parameters."""
    twin: nn.Module = object.__new__(type(wrapper))
    # not copy(), which would set up a second exchange of gradients over the same parameters
    twin.__dict__ = dict(vars(wrapper))
    twin._modules = {**wrapper._modules, "module": module}
    return twin


def _no_taps(model: nn.Module) -> str:
    """Says what to do about a model without taps."""
    part = next((path for path, m in model.named_modules() if path and _is_tapped(m)), None)
    if part is not None:
        return (
            f"{type(model).__name__} is no graph of gfx's, but its part {part} is and has taps; "
            f"call gfx.tapped on that"
        )
    return f"{type(model).__name__} has no taps; apply the pass distill_taps to it first"


def _is_tapped(module: nn.Module) -> bool:
    return isinstance(module, fx.GraphModule) and bool(taps(module))
