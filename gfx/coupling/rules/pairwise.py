"""Couples sums over a dimension of two activations: similarity, distance, bilinear.

Where both operands are zero they add nothing, so removed channels read as zero.
"""

from collections.abc import Callable
from string import ascii_letters
from typing import Any

import torch
from torch import fx, nn

from gfx.coupling.call import Call
from gfx.coupling.flow import Flow
from gfx.coupling.labelled_tensor import Labeled
from gfx.coupling.labelled_tensor import field as make_field
from gfx.coupling.labels import Ids
from gfx.coupling.rules.matmul import contract
from gfx.coupling.rules.movement import unknown

__all__ = ["FUNCTIONS", "MODULES"]


def _nodes(call: Call, *names: str) -> list[fx.Node]:
    given = (*call.node.args[: len(names)], *(call.node.kwargs.get(n) for n in names))
    return [n for n in given if isinstance(n, fx.Node)]


def cosine_similarity(flow: Flow, call: Call) -> Any:
    """Couples a cosine similarity: both sides are read along one dimension."""
    x, y = call.arg(0, "x1"), call.arg(1, "x2")
    given: Any = call.module.dim if call.module is not None else call.arg(2, "dim", 1)
    if x.ndim != y.ndim or x.shape[given] != y.shape[given]:
        return unknown(flow, call)
    dim = given % x.ndim
    shape = tuple(max(sizes) for sizes in zip(x.shape, y.shape, strict=True))
    met = flow.meet([x, y], shape)
    for node, value in zip(_nodes(call, "x1", "x2"), (x, y), strict=True):
        flow.read(call, node, dim, flow.along(value, dim))
    fields = []
    for d in range(len(shape)):
        ids = flow.along(met, d)
        if d != dim and ids is not None:
            fields.append(make_field(ids, d - (d > dim), call.shape))
    return Labeled(call.shape, tuple(fields), met.why)


def cdist(flow: Flow, call: Call) -> Any:
    """Couples the distances between two sets of points: both are read along the last dimension."""
    x, y = call.arg(0, "x1"), call.arg(1, "x2")
    if x.ndim != y.ndim or not call.arg(2, "p", 2.0) > 0:
        return unknown(flow, call)
    lead = ascii_letters[: x.ndim - 2]
    one, two = _nodes(call, "x1", "x2")
    flow.read(call, two, y.ndim - 1, flow.along(y, -1))  # a product would read zero from one side
    return contract(flow, call, [(x, one, lead + "PM"), (y, two, lead + "RM")], lead + "PR")


def bilinear(flow: Flow, call: Call) -> Any:
    """Couples a bilinear layer: weight (out, in1, in2), contracted with both inputs."""
    x, y = call.arg(0, "input1"), call.arg(1, "input2")
    if call.module is not None:
        weight = flow.tensor(f"{call.node.target}.weight", dims=(0, 1, 2))
        bias = flow.member(call, "bias")
    else:
        weight, bias = call.arg(2, "weight"), call.arg(3, "bias")
    last = x.ndim - 1
    rows, *columns = (flow.along(weight, d) for d in range(3))
    flow.role(rows, "out")
    for node, value, into in zip(_nodes(call, "input1", "input2"), (x, y), columns, strict=True):
        ids = flow.along(value, last)
        flow.role(into, "in")
        flow.connect((ids, value.why), (into, weight.why))
        flow.read(call, node, last, ids)
    if isinstance(bias, Labeled):
        flow.connect((rows, weight.why), (flow.along(bias, 0), bias.why))
    flow.prices(call, rows, *columns)
    for d in range(last):
        flow.connect((flow.along(x, d), x.why), (flow.along(y, d), y.why))
    out = flow.keep(x, range(last), call.shape, "", read=[last])
    why = flow.long.first(weight.why if rows is None else "", flow.long.only(x.why, y.why))
    return Labeled(call.shape, (*out.fields, *_field(rows, last, call.shape)), why)


def _field(ids: Ids | None, dim: int, shape: tuple[int, ...]) -> list[torch.Tensor]:
    return [] if ids is None or shape[dim] == 1 else [make_field(ids, dim, shape)]


def embedding_bag(flow: Flow, call: Call) -> Any:
    """Carries the width of a table whose rows are summed; they are looked up by number."""
    held = flow.member(call, "weight") if call.module is not None else call.arg(1, "weight")
    assert held is not None
    why = f"{call.node.name} looks rows up by number"
    for value in call.tensors:
        flow.fix(value, why, None if value is not held else [0])
    flow.fix(held, why, [0])
    limit: Any = call.module.max_norm if call.module is not None else call.arg(3, "max_norm")
    if limit is not None:
        flow.fix(held, f"{call.node.name} limits the norm of its rows")
    ids = flow.along(held, 1)
    flow.role(ids, "out")
    return Labeled(call.shape, tuple(_field(ids, 1, call.shape)), held.why if ids is None else "")


FUNCTIONS = {
    "cosine_similarity": cosine_similarity,
    "cdist": cdist,
    "bilinear": bilinear,
    "embedding_bag": embedding_bag,
}
MODULES: dict[type[nn.Module], Callable[[Flow, Call], Any]] = {
    nn.CosineSimilarity: cosine_similarity,
    nn.Bilinear: bilinear,
    nn.EmbeddingBag: embedding_bag,
}
