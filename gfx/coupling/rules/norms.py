"""Couples normalisations: per channel (exact), per group of channels, or across all channels."""

from typing import Any

from torch import nn

from gfx.coupling.call import Call
from gfx.coupling.flow import Flow
from gfx.coupling.labelled_tensor import Labeled
from gfx.coupling.labels import Ids

__all__ = ["FUNCTIONS", "MODULES"]

_STATE = ("weight", "bias", "running_mean", "running_var")


def _vectors(flow: Flow, call: Call, start: int) -> list[Labeled]:
    """Lists the per-channel vectors of a norm: the module's tensors, or the arguments."""
    if call.module is not None:
        found = [flow.member(call, name) for name in _STATE]
        return [v for v in found if v is not None]
    given = [*call.args[start:], *call.kwargs.values()]
    return [v for v in given if isinstance(v, Labeled) and v.ndim == 1]


def _normalised(flow: Flow, call: Call, x: Labeled, ids: Ids | None, start: int) -> Labeled:
    """Couples the vectors of a norm to dimension 1 of its input."""
    for vector in _vectors(flow, call, start):
        otherwise = "it normalises a fixed number of channels"
        flow.connect((ids, x.why), (flow.along(vector, 0), vector.why), otherwise)
    return flow.keep(x, range(min(2, x.ndim)), call.shape, f"{_where(call)} averages over it")


def per_channel(flow: Flow, call: Call) -> Labeled:
    """Couples BatchNorm and InstanceNorm: statistics and affine parameters are per channel."""
    x = call.arg(0, "input")
    ids = flow.along(x, 1)
    flow.prices(call, ids)
    return _normalised(flow, call, x, ids, 1)


def group_norm(flow: Flow, call: Call) -> Labeled:
    """Couples GroupNorm: a group of channels shares its statistics, so it goes as a whole.

    Where there is one group only, or a norm is regrouped, every group loses the same relative
    channels and its statistics are those of what is left: approximate.
    """
    x = call.arg(0, "input")
    ids = flow.along(x, 1)
    given: Any = call.module.num_groups if call.module is not None else call.arg(1, "num_groups")
    groups = int(given)
    if ids is not None and groups < len(ids):
        rows = ids.reshape(groups, -1)
        if groups == 1 or flow.group_norm == "regroup" or call.node in flow.regrouped:
            flow.regrouped.add(call.node)
            flow.labels.unite(rows[:1], rows[1:])
            why = f"{_where(call)} takes its statistics over the channels that are left"
            flow.look(call, [1], x, why, carries=True)
        else:
            flow.labels.unite(rows[:, :1], rows[:, 1:])
            flow.norms[call.node] = ids
    flow.prices(call, ids)
    return _normalised(flow, call, x, ids, 2)


def layer_norm(flow: Flow, call: Call) -> Labeled:
    """Couples LayerNorm: its statistics are those of the channels that are left, approximate."""
    x = call.arg(0, "input")
    dims = _normalised_dims(call, x)
    why = f"{_where(call)} normalises over the channels that are left"
    flow.look(call, dims, x, why, carries=True)
    return _affine(flow, call, x, dims)


def rms_norm(flow: Flow, call: Call) -> Labeled:
    """Couples RMSNorm: its mean of squares reads zero for what is gone, times a factor."""
    x = call.arg(0, "input")
    dims = _normalised_dims(call, x)
    for d in dims:
        flow.read(call, call.operand, d, flow.along(x, d))
    return _affine(flow, call, x, dims)


def _normalised_dims(call: Call, x: Labeled) -> range:
    shape: Any = call.arg(1, "normalized_shape")
    if call.module is not None:
        shape = call.module.normalized_shape
    return range(x.ndim - (1 if isinstance(shape, int) else len(shape)), x.ndim)


def _affine(flow: Flow, call: Call, x: Labeled, dims: range) -> Labeled:
    """Couples scales and shifts, laid out like the dimensions that are normalised."""
    ids = {d: flow.along(x, d) for d in dims}
    flow.prices(call, *(flow.along(x, d) for d in range(x.ndim)))
    if call.module is not None:
        given = [flow.member(call, name) for name in ("weight", "bias")]
    else:
        given = [call.arg(2, "weight"), call.arg(3, "bias")]
    for vector in given:
        if isinstance(vector, Labeled):
            for i, d in enumerate(dims):
                flow.connect((ids[d], x.why), (flow.along(vector, i), vector.why))
    return flow.keep(x, range(x.ndim), call.shape, "")


def _where(call: Call) -> str:
    return f"{call.name} {call.node.target if call.module is not None else call.node.name}"


def local_response(flow: Flow, call: Call) -> Labeled:
    """Pins channels that LocalResponseNorm mixes with their neighbours."""
    x = call.arg(0, "input")
    flow.fix(x, f"{_where(call)} mixes neighbouring channels", [1])
    return flow.keep(x, [0], call.shape, "")


FUNCTIONS = {
    "batch_norm": per_channel,
    "instance_norm": per_channel,
    "native_batch_norm": per_channel,
    "group_norm": group_norm,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "local_response_norm": local_response,
}
MODULES = {
    nn.modules.batchnorm._BatchNorm: per_channel,
    nn.modules.instancenorm._InstanceNorm: per_channel,
    nn.GroupNorm: group_norm,
    nn.LayerNorm: layer_norm,
    nn.LocalResponseNorm: local_response,
}
if hasattr(nn, "RMSNorm"):
    MODULES[nn.RMSNorm] = rms_norm
