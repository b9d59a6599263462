"""Couples lookups by index tensors: `x[i, j]`, gather, index_select.

The operation runs on the labels with all numbers zero: what it does to the dimensions that it does
not pick from is read off, those it picks from keep their size.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from gfx.coupling.call import Call
from gfx.coupling.flow import Flow
from gfx.coupling.labelled_tensor import Labeled, core, expand_constant, varying

__all__ = ["FUNCTIONS", "picked"]


def picked(flow: Flow, call: Call) -> Labeled:
    """Carries what `x[...]` with tensors of numbers does not pick from."""
    x, index = call.args
    items = index if isinstance(index, tuple | list) else (index,)
    why = f"{call.node.name} picks from it by number"
    given = fx.node.map_aggregate(call.node.args[1], _value)
    if any(t.dtype == torch.bool for t in _tensors(given)):
        why = f"{call.node.name} picks from it where a mask says so"
        for value in call.tensors:
            flow.fix(value, why)
        return Labeled(call.shape, (), why)
    for item in items:
        if isinstance(item, Labeled):
            flow.fix(item, why)
    numbers = fx.node.map_aggregate(given, lambda a: _zeros(a) if isinstance(a, Tensor) else a)
    return _read(flow, call, x, lambda labels: labels[numbers], why)


def index_select(flow: Flow, call: Call) -> Labeled:
    """Carries the dimensions that index_select does not pick from."""
    x, dim, index = call.arg(0, "input"), call.arg(1, "dim"), call.arg(2, "index")
    why = f"{call.node.name} picks from it by number"
    flow.fix(index, why)
    numbers = _zeros(index)
    return _read(flow, call, x, lambda labels: labels.index_select(dim, numbers), why)


def gather(flow: Flow, call: Call) -> Labeled:
    """Couples gather and take_along_dim: the numbers lie beside the labels of other dimensions."""
    x = call.arg(0, "input")
    names = ("index", 2) if call.name == "gather" else ("indices", 1)
    index = call.arg(names[1], names[0])
    dim = call.arg(1, "dim") if call.name == "gather" else call.arg(2, "dim")
    why = f"{call.node.name} picks from it by number"
    flow.fix(x, why, None if dim is None else [dim])
    if dim is None or any(a != b for d, (a, b) in enumerate(zip(x.shape, index.shape, strict=True))
                          if d != dim % x.ndim):  # fmt: skip
        flow.fix(x, why)
        flow.fix(index, why)
        return Labeled(call.shape, (), why)
    flow.fix(index, why, [dim])
    beside = [f for f in x.fields if dim % x.ndim not in varying(f)]
    carried = Labeled(call.shape, tuple(core(f).expand(call.shape) for f in beside), x.why)
    return flow.meet([carried, index], call.shape)


def _read(flow: Flow, call: Call, x: Labeled, run: Any, why: str) -> Labeled:
    """Runs a lookup at position zero on each field; pins those that vary where it picks."""
    fields = []
    for labels in x.fields:
        out = expand_constant(run(labels))
        # the labels that are left are all there were, else it picks some of them
        if varying(out) and _count(out) == _count(labels):
            fields.append(out)
        else:
            flow.pin(core(labels).numpy().ravel(), why)
    return Labeled(call.shape, tuple(fields), x.why)


def _count(labels: Tensor) -> int:
    return int(np.unique(core(labels).numpy()).size)


def _value(argument: Any) -> Any:
    return argument.meta["val"] if isinstance(argument, fx.Node) else argument


def _tensors(given: Any) -> list[Tensor]:
    found: list[Tensor] = []
    fx.node.map_aggregate(given, lambda a: found.append(a) if isinstance(a, Tensor) else a)
    return found


def _zeros(index: Tensor | Labeled) -> Tensor:
    return torch.zeros(tuple(index.shape), dtype=torch.long)


FUNCTIONS = {"index_select": index_select, "gather": gather, "take_along_dim": gather}
