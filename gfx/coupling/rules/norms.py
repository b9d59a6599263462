"""Normalisations: per channel (exact), per group of channels, or across all channels."""

from typing import Any

from torch import nn

from gfx.coupling.flow import Call, Flow
from gfx.coupling.labels import Ids
from gfx.coupling.values import Labeled

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
        flow.connect(
            ids, flow.along(vector, 0), x.why or "it normalises a fixed number of channels"
        )
    return flow.keep(x, range(min(2, x.ndim)), call.shape, f"{_where(call)} averages over it")


def per_channel(flow: Flow, call: Call) -> Labeled:
    """Couples BatchNorm and InstanceNorm: statistics and affine parameters are per channel."""
    x = call.arg(0, "input")
    ids = flow.along(x, 1)
    flow.prices(call, ids)
    return _normalised(flow, call, x, ids, 1)


def group_norm(flow: Flow, call: Call) -> Labeled:
    """Couples GroupNorm: a group of channels shares its statistics, so it goes as a whole."""
    x = call.arg(0, "input")
    ids = flow.along(x, 1)
    given: Any = call.module.num_groups if call.module is not None else call.arg(1, "num_groups")
    groups = int(given)
    if ids is not None and groups < len(ids):
        rows = ids.reshape(groups, -1)
        flow.labels.unite(rows[:, :1], rows[:, 1:])
    flow.prices(call, ids)
    return _normalised(flow, call, x, ids, 2)


def across(flow: Flow, call: Call) -> Labeled:
    """Pins the dimensions that LayerNorm and RMSNorm take statistics over."""
    x = call.arg(0, "input")
    shape = getattr(call.module, "normalized_shape", None) or call.arg(1, "normalized_shape")
    count = 1 if isinstance(shape, int) else len(shape)
    dims = range(x.ndim - count, x.ndim)
    why = f"{_where(call)} normalises over all its channels together"
    flow.fix(x, why, dims)
    for vector in _vectors(flow, call, 2):
        flow.fix(vector, why)
    return flow.keep(x, range(x.ndim - count), call.shape, why)


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
    "layer_norm": across,
    "rms_norm": across,
    "local_response_norm": local_response,
}
MODULES = {
    nn.modules.batchnorm._BatchNorm: per_channel,
    nn.modules.instancenorm._InstanceNorm: per_channel,
    nn.GroupNorm: group_norm,
    nn.LayerNorm: across,
    nn.LocalResponseNorm: local_response,
}
if hasattr(nn, "RMSNorm"):
    MODULES[nn.RMSNorm] = across
