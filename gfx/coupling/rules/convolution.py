"""Couples the channels of convolutions, linear layers and embeddings.

The contracted dimension of both operands is united (the consumer side); the free dimensions carry
on (the producer side). Groups follow from the layout of the weight itself.
"""

from typing import Any

import numpy as np
from torch import nn

from gfx.coupling.call import Call
from gfx.coupling.flow import Flow
from gfx.coupling.labelled_tensor import Labeled, core, varying
from gfx.coupling.labelled_tensor import field as make_field
from gfx.coupling.labels import Ids
from gfx.coupling.rules.matmul import FUNCTIONS as PRODUCTS

__all__ = ["FUNCTIONS", "MODULES"]


def conv(flow: Flow, call: Call) -> Labeled:
    """Couples a convolution of any rank."""
    return _conv(flow, call, transposed=False)


def conv_transpose(flow: Flow, call: Call) -> Labeled:
    """Couples a transposed convolution: its weight is laid out (in, out / groups, ...)."""
    return _conv(flow, call, transposed=True)


def aten_convolution(flow: Flow, call: Call) -> Labeled:
    """Couples aten.convolution, which says by an argument whether it is transposed."""
    return _conv(flow, call, transposed=bool(call.arg(6, "transposed")))


def _groups(call: Call, transposed: bool) -> int:
    if call.module is not None:
        return int(call.module.groups)  # type: ignore[arg-type]
    if call.name == "conv":  # aten.convolution
        return int(call.arg(8, "groups", 1))
    return int(call.arg(6, "groups", 1))


def _operands(flow: Flow, call: Call) -> tuple[Labeled, Labeled, Labeled | None]:
    x = call.arg(0, "input")
    if call.module is not None:
        weight = flow.member(call, "weight")
        assert weight is not None
        return x, weight, flow.member(call, "bias")
    return x, flow.long.weight(call.arg(1, "weight")), call.arg(2, "bias")


def _conv(flow: Flow, call: Call, *, transposed: bool) -> Labeled:
    x, weight, bias = _operands(flow, call)
    groups = _groups(call, transposed)
    ch = x.ndim - (weight.ndim - 2) - 1  # 1, or 0 for an unbatched input
    rows, cols = _sides(flow, weight)
    flow.prices(call, rows, cols)
    for labels in weight.fields:
        if all(d > 1 for d in varying(labels)):
            flow.fix(Labeled(weight.shape, (labels,)), f"{call.node.name} slides over it")
    out: Ids | None
    if groups == 1:
        into, out = (rows, cols) if transposed else (cols, rows)
        _roles(flow, into, out)
        _consume(flow, call, x, ch, into, weight.why)
    elif x.shape[ch] == groups:
        out = _per_channel(flow, x, ch, (rows, cols), groups, transposed, weight.why)
    else:
        out = _grouped(flow, call, x, ch, (rows, cols), groups, transposed, weight.why)
    if bias is not None and bias.shape[0] > 1:
        flow.connect((out, weight.why), (flow.along(bias, 0), bias.why))
    carried = flow.keep(x, range(ch), call.shape, f"{call.node.name} slides over it", read=[ch])
    fields = list(carried.fields)
    if out is not None and call.shape[ch] > 1:
        fields.append(make_field(out, ch, call.shape))
    return Labeled(call.shape, tuple(fields), _why(flow, out, weight, x))


def _why(flow: Flow, out: Ids | None, weight: Labeled, x: Labeled) -> str:
    """Says why a layer's output has dimensions without labels: its own, or what it carries."""
    own = weight.why if out is None else ""
    return flow.long.first(own, flow.long.only(x.why))


def _sides(flow: Flow, weight: Labeled) -> tuple[Ids | None, Ids | None]:
    """Reads the labels of a weight's rows and columns.

    Where one field varies on both, as in a kernel that a linear layer writes, rows are narrowed.
    """
    rows = flow.along(weight, 0)
    others = tuple(labels for labels in weight.fields if 0 not in varying(labels))
    return rows, flow.along(Labeled(weight.shape, others), 1)


def _consume(flow: Flow, call: Call, x: Labeled, dim: int, into: Ids | None, why: str = "") -> None:
    """Unites what a weight reads with the channels it reads."""
    ids = flow.along(x, dim)
    otherwise = f"{call.node.name} reads a fixed number of channels there"
    flow.connect((ids, x.why), (into, why), otherwise)
    flow.read(call, call.operand, dim, ids)


def _roles(flow: Flow, into: Ids | None, out: Ids | None) -> None:
    flow.role(into, "in")
    flow.role(out, "out")


def _per_channel(
    flow: Flow,
    x: Labeled,
    ch: int,
    sides: tuple[Ids | None, Ids | None],
    groups: int,
    transposed: bool,
    why: str,
) -> Ids | None:
    """Couples a depthwise convolution: its k outputs of one channel go with that channel."""
    rows, cols = sides
    ids = flow.along(x, ch)
    flow.pass_through(rows, groups / len(rows) if rows is not None else 1)
    if transposed:
        flow.connect((ids, x.why), (rows, why))
        flow.pin(cols, "it is the depth multiplier of a depthwise transposed convolution")
        return None if rows is None else np.repeat(rows, len(cols) if cols is not None else 1)
    if rows is not None and ids is not None:
        flow.labels.unite(ids[:, None], rows.reshape(groups, -1))
    else:
        flow.connect((ids, x.why), (rows, why))
    return rows


def _grouped(
    flow: Flow,
    call: Call,
    x: Labeled,
    ch: int,
    sides: tuple[Ids | None, Ids | None],
    groups: int,
    transposed: bool,
    why: str,
) -> Ids | None:
    """Couples a grouped convolution: every group loses the same relative channels."""
    rows, cols = sides
    if rows is not None:  # rows run over all groups, in the order of the channels
        parts = rows.reshape(groups, -1)
        flow.labels.unite(parts[:1], parts)
    tiled = None if cols is None else np.tile(cols, groups)  # columns are shared by the groups
    into, out = (rows, tiled) if transposed else (tiled, rows)
    _roles(flow, into, out)
    # a batch that is folded into the groups repeats the rows, and is no more channels
    folded = 1 if rows is None else len(rows) // len(np.unique(rows))
    flow.share(cols, groups // folded)
    if into is None:  # one channel a group is left, so there is nothing to narrow
        flow.fix(x, why or f"{call.node.name} reads one channel a group", [ch])
    else:
        _consume(flow, call, x, ch, into, why)
    return out


def linear(flow: Flow, call: Call) -> Labeled:
    """Couples a linear layer: weight (out, in), contracted with the last dimension."""
    x, weight, bias = _operands(flow, call)
    last = x.ndim - 1
    if weight.ndim == 1:
        _consume(flow, call, x, last, flow.along(weight, 0), weight.why)
        return flow.keep(x, range(last), call.shape, "", read=[last])
    out, cols = _sides(flow, weight)
    _roles(flow, cols, out)
    _consume(flow, call, x, last, cols, weight.why)
    if bias is not None and bias.shape[0] > 1:
        flow.connect((out, weight.why), (flow.along(bias, 0), bias.why))
    carried = [f for f in x.fields if varying(f) and last not in flow.over(f)]
    rows_of = [flow.along(x, d) for f in carried for d in flow.over(f)[:1]]
    flow.prices(call, out, cols, *rows_of)
    fields = [core(f).narrow(last, 0, 1).expand(call.shape) for f in carried]
    if out is not None:
        fields.append(make_field(out, last, call.shape))
    return Labeled(call.shape, tuple(fields), _why(flow, out, weight, x))


def embedding(flow: Flow, call: Call) -> Labeled:
    """Carries the width of an embedding table; its rows are looked up by position."""
    # not as a layer's own weight, whose every dimension may be channels: a table has many rows
    table = _table(call) if call.module is None else flow.tensor(f"{call.node.target}.weight")
    flow.fix(table, f"{call.node.name} looks its rows up by number", [0])
    given: Any = call.module.max_norm if call.module is not None else call.arg(3, "max_norm")
    if given is not None and not isinstance(given, bool):  # aten's fourth argument is another
        flow.fix(table, f"{call.node.name} limits the norm of its rows")
    ids = flow.along(table, 1)
    flow.role(ids, "out")
    looked_up = next((v for v in call.tensors if v is not table), None)
    # the numbers may be a buffer, laid out like what is looked up for them
    fields = [f.unsqueeze(-1).expand(call.shape) for f in getattr(looked_up, "fields", ())]
    if ids is not None:
        fields.append(make_field(ids, len(call.shape) - 1, call.shape))
    why = table.why if ids is None else ""
    return Labeled(call.shape, tuple(fields), flow.long.first(why, getattr(looked_up, "why", "")))


def _table(call: Call) -> Labeled:
    """Finds the table among (input, weight) of F.embedding or (weight, indices) of aten."""
    first, second = call.arg(0, "input"), call.arg(1, "weight")
    aten = not getattr(call.node.target, "__module__", "").startswith("torch.nn")
    table: Labeled = first if aten and first.ndim == 2 and second is not None else second
    return table


FUNCTIONS = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), conv),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), conv_transpose),
    "conv": aten_convolution,
    "linear": linear,
    "embedding": embedding,
    **PRODUCTS,
}
MODULES = {
    nn.modules.conv._ConvTransposeNd: conv_transpose,
    nn.modules.conv._ConvNd: conv,
    nn.Linear: linear,
    nn.Embedding: embedding,
}
