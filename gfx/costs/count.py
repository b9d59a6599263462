"""Counts what a program costs, node by node."""

from typing import Any

from torch import fx, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from gfx.costs.activation_memory import measure
from gfx.costs.cost import Cost, Macs, NodeCost
from gfx.costs.function_macs import function_macs
from gfx.costs.module_macs import module_macs
from gfx.costs.torch_counter import counted_macs
from gfx.ir.ops import op_name
from gfx.ir.program import Program
from gfx.ir.shapes import propagate

__all__ = ["cost_of"]


def cost_of(program: Program) -> Cost:
    """Counts MACs, parameters and bytes from shapes alone, at the batch of the example inputs.

    A module called twice counts its MACs twice and its parameters once. Reparametrized modules
    (spectral_norm, weight_norm) count as the module they are. Opaque leaves are run on fake
    tensors under torch's counter.

    Raises: InputError if the program does not run on its example inputs.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        >>> cost = cost_of(Program(fx.symbolic_trace(net), (torch.empty(1, 3, 256, 256),)))
        >>> cost.macs.exact, cost.params, cost.peak_activation_bytes
        (14155776, 224, 4194304)
    """
    propagate.propagate(program)
    memory = measure(program)
    seen: set[int] = set()
    rows = []
    for node, new, live in zip(program.nodes(), memory.new, memory.live, strict=True):
        if node.op == "output":
            continue
        parameters = [p for p in _parameters(program, node) if id(p) not in seen]
        seen.update(id(p) for p in parameters)
        rows.append(
            NodeCost(
                node=node.name,
                target=op_name(node) or str(node.target),
                kind=_kind(program, node),
                shape=_shape(node.meta["val"]),
                macs=_macs(program, node),
                params=sum(p.numel() for p in parameters),
                param_bytes=_bytes(parameters),
                activation_bytes=new,
                peak_activation_bytes=live,
            )
        )
    everything = list(program.module.parameters())
    return Cost(
        macs=sum((row.macs for row in rows), Macs()),
        params=sum(p.numel() for p in everything),
        param_bytes=_bytes(everything),
        peak_activation_bytes=memory.peak,
        nodes=tuple(rows),
    )


def _macs(program: Program, node: fx.Node) -> Macs:
    """Counts one node: in closed form where there is one, else by torch's counter."""
    if node.op not in ("call_module", "call_function", "call_method"):
        return Macs()
    args = fx.node.map_arg(node.args, lambda n: n.meta["val"])
    kwargs = fx.node.map_arg(node.kwargs, lambda n: n.meta["val"])
    value = node.meta["val"]
    if node.op == "call_module":
        macs = module_macs(program.submodule(node), args, kwargs, value)
    else:
        macs = function_macs(node, args, kwargs, value)
    return counted_macs(program, node) if macs is None else macs


def _parameters(program: Program, node: fx.Node) -> list[nn.Parameter]:
    if node.op == "call_module":
        module = program.submodule(node)
        if module._modules:
            return list(module.parameters())
        return [*{id(p): p for p in module._parameters.values() if p is not None}.values()]
    if node.op == "get_attr":
        owner, _, name = str(node.target).rpartition(".")
        value = getattr(program.module.get_submodule(owner), name)
        return [value] if isinstance(value, nn.Parameter) else []
    return []


def _kind(program: Program, node: fx.Node) -> str:
    if node.op != "call_module":
        return node.op
    return type_before_parametrizations(program.submodule(node)).__name__


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if hasattr(value, "shape") else None


def _bytes(parameters: list[nn.Parameter]) -> int:
    return sum(p.numel() * p.element_size() for p in parameters)
