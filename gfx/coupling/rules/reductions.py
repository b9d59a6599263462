"""Couples reductions and softmax with the channels they run over.

1. A sum, mean or vector norm reads zero for what is gone: exact. A mean is corrected by a factor.
2. A variance, and a mean that is subtracted from the very channels it was taken over, are those of
   the channels that are left: approximate, as in LayerNorm.
3. So are a softmax, and the largest or smallest of some channels.
4. The others depend on positions (argmax, cumsum, sort), so the channels are pinned.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import fx, nn

from gfx.coupling.call import Call, Statistic
from gfx.coupling.flow import Flow
from gfx.coupling.labelled_tensor import Labeled, core
from gfx.coupling.labelled_tensor import field as make_field
from gfx.coupling.labels import Ids
from gfx.coupling.rules.elementwise import elementwise
from gfx.ir.ops import op_name

__all__ = ["FUNCTIONS", "MODULES", "centre"]


def _dims(call: Call, position: int, ndim: int) -> list[int]:
    """Reads the dimensions of a reduction; all of them if none are given."""
    given = call.arg(position, "dim", call.kwargs.get("axis"))
    if isinstance(given, bool) or given is None or given == ():
        return list(range(ndim))
    return [d % ndim for d in ([given] if isinstance(given, int) else given)]


def total(flow: Flow, call: Call) -> Any:
    """Reads the channels that a sum, mean or vector norm adds up; a zero adds nothing.

    A mean over fewer channels is corrected by a factor when channels are removed.
    """
    x = call.arg(0, "input")
    dims = _dims(call, 2 if "norm" in call.name else 1, x.ndim)
    order = call.arg(1, "p", call.kwargs.get("ord")) if "norm" in call.name else None
    if isinstance(order, int | float) and order < 0:  # a zero would be the smallest
        flow.fix(x, f"{_who(call)} of order {order} over all of them", dims)
        return _reduced(flow, call, x, dims)
    _narrow_others(flow, x, dims)
    ids = {d: found for d in dims if (found := flow.along(x, d)) is not None}
    for d, found in ids.items():
        flow.read(call, call.operand, d, found)
    if call.name == "mean" and ids:
        flow.means[call.node] = Statistic(call.node, call.operand, ids, carries=False)
    return _reduced(flow, call, x, dims)


def difference(flow: Flow, call: Call) -> Labeled:
    """Couples a subtraction, and notes where a mean is subtracted from what it was taken over."""
    for node, other in zip(call.node.args[:2], reversed(call.args[:2]), strict=False):
        mean = _mean_behind(flow, node)
        if mean is not None and isinstance(other, Labeled):
            flow.centred.append((mean, other))
    return elementwise(flow, call)


def _mean_behind(flow: Flow, node: Any) -> fx.Node | None:
    """Finds the mean over channels that a node is, perhaps in another shape."""
    while isinstance(node, fx.Node) and node not in flow.means:
        reshaped = op_name(node) in _RESHAPES and node.args
        node = node.args[0] if reshaped else None
    return node if isinstance(node, fx.Node) else None


def centre(flow: Flow) -> None:
    """Finds the means that are subtracted from their own channels (rule 2); call it last."""
    found: list[Ids] = []
    for mean, other in flow.centred:
        own = _classes(flow, list(flow.means[mean].ids.values()))
        met = _classes(flow, [core(labels).numpy().ravel() for labels in other.fields])
        both = np.intersect1d(own, met)
        if both.size:
            flow.labels.mark(both, f"{mean.name} is subtracted from the channels it is taken over")
            found.append(own)
    centred = _classes(flow, found)
    looking = {
        node: taken
        for node, taken in flow.means.items()
        if np.isin(_classes(flow, list(taken.ids.values())), centred).any()
    }
    flow.statistics += looking.values()
    flow.means = {node: taken for node, taken in flow.means.items() if node not in looking}
    flow.reads = [read for read in flow.reads if read.node not in looking]


def _classes(flow: Flow, ids: list[Ids]) -> Ids:
    found = [flow.labels.distinct(one) for one in ids]
    return np.unique(flow.labels.find(np.concatenate(found))) if found else np.zeros(0, np.int64)


def spread(flow: Flow, call: Call) -> Any:
    """Follows a variance, or the largest of some channels: those of what is left (rules 2, 3)."""
    x = call.arg(0, "input")
    if isinstance(call.arg(1, "other"), Labeled):  # torch.max of two tensors
        return elementwise(flow, call)
    dims = _dims(call, 1, x.ndim)
    if not _by_position(call.node):
        _narrow_others(flow, x, dims)
        flow.look(call, dims, x, f"{_who(call)} over the channels that are left", carries=False)
        return _reduced(flow, call, x, dims)
    return reduce(flow, call)


def _by_position(node: fx.Node) -> bool:
    """Whether the positions of the largest are used as well: the second of two results."""
    if not isinstance(node.meta["val"], tuple | list) or op_name(node) in ("var_mean", "std_mean"):
        return False
    return any(op_name(user) != "getitem" or user.args[1] != 0 for user in node.users)


def _who(call: Call) -> str:
    return f"{call.node.name} takes the {call.name.lower()}"


def reduce(flow: Flow, call: Call) -> Any:
    """Pins the channels that a reduction mixes and carries the others."""
    x = call.arg(0, "input")
    dims = _dims(call, 1, x.ndim)
    flow.fix(x, f"{_who(call)} over all of them", dims)
    return _reduced(flow, call, x, dims)


def _narrow_others(flow: Flow, x: Labeled, dims: list[int]) -> None:
    """Unites channels along other dimensions too, as those of a latent, so they go as a whole."""
    place = set(range(1, x.ndim))
    if x.ndim > 3 and any(place.issubset(flow.over(labels)) for labels in x.fields):
        flow.along(x, 1)  # a latent that became a map: its channels, also if they are reduced
    for d in range(x.ndim):
        if d not in dims:
            flow.along(x, d)


def _reduced(flow: Flow, call: Call, x: Labeled, dims: list[int]) -> Any:
    """Carries the labels of the dimensions that a reduction leaves."""
    shape = call.shape
    kept = [d for d in range(x.ndim) if d not in dims]
    in_place = len(shape) == x.ndim  # keepdim
    fields = []
    for i, d in enumerate(kept):
        ids = flow.along(x, d)
        if ids is not None:
            fields.append(make_field(ids, d if in_place else i, shape))
    return _each(call, Labeled(shape, tuple(fields), x.why))


def _each(call: Call, out: Labeled) -> Any:
    value = call.node.meta["val"]
    return (out,) * len(value) if isinstance(value, (tuple, list)) else out


def _dim(call: Call, ndim: int) -> int:
    position = {"topk": 2, "kthvalue": 2, "diff": 2, "gumbel_softmax": 4}.get(call.name, 1)
    dim: Any = call.module.dim if call.module is not None else call.arg(position, "dim", -1)
    if dim is None:  # what softmax takes where none is given
        return 0 if ndim in (0, 1, 3) else 1
    return int(dim) % ndim


def softmax(flow: Flow, call: Call) -> Labeled:
    """Follows a softmax: it is taken over the channels that are left (rule 3)."""
    x = call.arg(0, "input")
    dim = -3 % x.ndim if isinstance(call.module, nn.Softmax2d) else _dim(call, x.ndim)
    flow.look(call, [dim], x, f"{_who(call)} over the channels that are left", carries=True)
    return flow.keep(x, range(x.ndim), call.shape, "")


def along_dim(flow: Flow, call: Call) -> Any:
    """Pins the channels that cumsum, sort and similar operations order (rule 4)."""
    x = call.arg(0, "input")
    dim = _dim(call, x.ndim)
    why = f"{_who(call)} over all of them"
    flow.fix(x, why, [dim])
    return _each(call, flow.keep(x, [d for d in range(x.ndim) if d != dim], call.shape, why))


def loss(flow: Flow, call: Call) -> Labeled:
    """Reads the channels of both sides of a distance, which is 0 where both are (rule 1)."""
    sides = [v for v in call.args[:2] if isinstance(v, Labeled)]
    if call.arg(2, "reduction", "mean") in ("none", 0):
        return elementwise(flow, call)
    if len(sides) != 2 or sides[0].shape != sides[1].shape:
        why = f"{call.node.name} sums over it"
        for value in call.tensors:
            flow.fix(value, why)
        return Labeled(call.shape, (), why)
    flow.meet(sides, sides[0].shape)
    for node, value in zip(call.node.args[:2], sides, strict=True):
        assert isinstance(node, fx.Node)
        for d in range(value.ndim):
            flow.read(call, node, d, flow.along(value, d))
    return Labeled(call.shape)


def normalize(flow: Flow, call: Call) -> Labeled:
    """Reads channels for their vector norm, to which a zero adds nothing, and carries them on."""
    x = call.arg(0, "input")
    dim = call.arg(2, "dim", 1)
    flow.read(call, call.operand, dim % x.ndim, flow.along(x, dim))
    return flow.keep(x, range(x.ndim), call.shape, "")


# these leave a tensor what it is, or lay it out anew
_RESHAPES = frozenset(
    "view reshape unsqueeze squeeze expand expand_as repeat clone contiguous to type_as view_as "
    "reshape_as unflatten".split()
)
_SPREADS = "var std var_mean std_mean amax amin max min logsumexp".split()
_REDUCTIONS = (
    "prod all any argmax argmin median nanmedian mode nanmean count_nonzero aminmax"
).split()
_ALONG = (
    "gumbel_softmax cumsum cumprod cummax cummin sort argsort topk logcumsumexp kthvalue diff"
).split()
FUNCTIONS = {
    **dict.fromkeys(("sum", "nansum", "mean", "norm", "vector_norm", "linalg_vector_norm"), total),
    **dict.fromkeys(("sub", "rsub"), difference),
    **dict.fromkeys(("softmax", "log_softmax", "softmin"), softmax),
    **dict.fromkeys(_SPREADS, spread),
    **dict.fromkeys(_REDUCTIONS, reduce),
    **dict.fromkeys(_ALONG, along_dim),
    **dict.fromkeys(("mse_loss", "l1_loss"), loss),
    "normalize": normalize,
}
MODULES: dict[type[nn.Module], Callable[[Flow, Call], Labeled]] = dict.fromkeys(
    (nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Softmax2d), softmax
)
