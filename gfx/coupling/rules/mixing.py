"""Operations that join or mix channels: cat, stack, GLU, reductions, softmax, channel shuffle."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from gfx.coupling.flow import UNKNOWN, Call, Flow
from gfx.coupling.labels import Ids
from gfx.coupling.values import Labeled
from gfx.coupling.values import field as make_field

__all__ = ["FUNCTIONS", "MODULES"]


def cat(flow: Flow, call: Call) -> Labeled:
    """Lays labels one after the other along the joined dimension and unites the others."""
    parts = [v for v in call.arg(0, "tensors") if v.shape != (0,)]
    dim = call.arg(1, "dim", call.kwargs.get("axis", 0)) % parts[0].ndim
    shape = call.shape
    fields = []
    for d in range(len(shape)):
        ids = [flow.along(part, d) for part in parts]
        if all(found is None for found in ids):
            continue
        if d == dim:
            joined = np.concatenate(
                [_present(flow, call, *p, d) for p in zip(parts, ids, strict=True)]
            )
            fields.append(make_field(joined, d, shape))
            continue
        fields.append(make_field(_agreed(flow, parts, ids), d, shape))
    return Labeled(shape, tuple(fields))


def _present(flow: Flow, call: Call, part: Labeled, ids: Ids | None, dim: int) -> Ids:
    """Returns the labels of a part; one without labels gets pinned ones."""
    if ids is not None:
        return ids
    axis = flow.labels.axis("", dim, part.shape[dim], at=call.node.name)
    flow.pin(axis.ids, part.why or "it is a fixed part of a concatenation")
    return axis.ids


def _agreed(flow: Flow, parts: Sequence[Labeled], ids: Sequence[Ids | None]) -> Ids:
    """Unites labels that lie side by side; a part without labels pins the others."""
    known = [found for found in ids if found is not None]
    for found in known[1:]:
        flow.labels.unite(known[0], found)
    if len(known) < len(parts):
        why = next((p.why for p, i in zip(parts, ids, strict=True) if i is None and p.why), UNKNOWN)
        flow.pin(known[0], why)
    return known[0]


def stack(flow: Flow, call: Call) -> Labeled:
    """Unites the labels of tensors that are stacked along a new dimension."""
    parts = list(call.arg(0, "tensors"))
    shape = call.shape
    dim = call.arg(1, "dim", 0) % len(shape)
    fields = []
    for d in range(parts[0].ndim):
        ids = [flow.along(part, d) for part in parts]
        if any(found is not None for found in ids):
            fields.append(make_field(_agreed(flow, parts, ids), d + (d >= dim), shape))
    return Labeled(shape, tuple(fields))


def glu(flow: Flow, call: Call) -> Labeled:
    """Unites each channel with its gate, half the dimension further on."""
    x = call.arg(0, "input")
    dim = (call.module.dim if call.module is not None else call.arg(1, "dim", -1)) % x.ndim
    fields = []
    for d in range(x.ndim):
        ids = flow.along(x, d)
        if ids is not None and d == dim:
            value, gate = np.split(ids, 2)
            flow.labels.unite(value, gate)
            ids = value
        if ids is not None and call.shape[d] > 1:
            fields.append(make_field(ids, d, call.shape))
        elif ids is not None:
            flow.pin(ids, f"{call.node.name} leaves a single channel of it")
    return Labeled(call.shape, tuple(fields), x.why)


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
    position = 2 if "norm" in call.name else 1
    for d in _dims(call, position, x.ndim):
        flow.read(call, call.operand, d, flow.along(x, d))
    return _reduced(flow, call, x, _dims(call, position, x.ndim))


def reduce(flow: Flow, call: Call) -> Any:
    """Pins the channels that a reduction mixes and carries the others."""
    x = call.arg(0, "input")
    dims = _dims(call, 1, x.ndim)
    flow.fix(x, f"{call.node.name} takes the {call.name} over all of them", dims)
    return _reduced(flow, call, x, dims)


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
    out = Labeled(shape, tuple(fields), x.why)
    value = call.node.meta["val"]
    return (out,) * len(value) if isinstance(value, (tuple, list)) else out


def along_dim(flow: Flow, call: Call) -> Any:
    """Pins the channels that softmax, cumsum, sort and their like mix; shapes stay."""
    x = call.arg(0, "input")
    dim = call.module.dim if call.module is not None else call.arg(1, "dim", -1)
    dim = (1 if dim is None else dim) % x.ndim
    why = f"{call.node.name} takes the {call.name.lower()} over all of them"
    flow.fix(x, why, [dim])
    out = flow.keep(x, [d for d in range(x.ndim) if d != dim], call.shape, why)
    value = call.node.meta["val"]
    return (out,) * len(value) if isinstance(value, (tuple, list)) else out


def normalize(flow: Flow, call: Call) -> Labeled:
    """Reads channels for their vector norm, to which a zero adds nothing, and carries them on."""
    x = call.arg(0, "input")
    dim = call.arg(2, "dim", 1)
    flow.read(call, call.operand, dim % x.ndim, flow.along(x, dim))
    return flow.keep(x, range(x.ndim), call.shape, "")


def transform(flow: Flow, call: Call) -> Labeled:
    """Pins the dimensions that a Fourier transform runs over and carries the others."""
    x = call.arg(0, "input")
    given = call.arg(1 if "shift" in call.name else 2, "dim")
    if given is None:
        default = {"n": range(x.ndim), "2": (-2, -1), "t": range(x.ndim)}
        given = default.get(call.name[-1], (-1,)) if call.name[-3:] != "fft" else (-1,)
    dims = {d % x.ndim for d in ([given] if isinstance(given, int) else given)}
    why = f"{call.node.name} transforms it"
    flow.fix(x, why, dims)
    return flow.keep(x, [d for d in range(x.ndim) if d not in dims], call.shape, why)


def channel_softmax(flow: Flow, call: Call) -> Labeled:
    """Pins the channels that Softmax2d mixes."""
    x = call.arg(0, "input")
    flow.fix(x, f"{call.node.name} takes a softmax over all of them", [-3])
    return flow.keep(x, [0], call.shape, "")


_REDUCTIONS = (
    "var std amax amin max min prod all any logsumexp argmax argmin median mode "
    "var_mean std_mean nansum nanmean count_nonzero aminmax"
).split()
_ALONG = (
    "softmax log_softmax softmin gumbel_softmax cumsum cumprod cummax cummin sort argsort topk "
    "logcumsumexp"
).split()
_TRANSFORMS = (
    "fft_fft fft_ifft fft_rfft fft_irfft fft_hfft fft_ihfft fft_fft2 fft_ifft2 fft_rfft2 "
    "fft_irfft2 fft_fftn fft_ifftn fft_rfftn fft_irfftn fft_fftshift fft_ifftshift"
).split()
FUNCTIONS = {
    **dict.fromkeys(("sum", "mean", "norm", "vector_norm", "linalg_vector_norm"), total),
    **dict.fromkeys(_TRANSFORMS, transform),
    "normalize": normalize,
    **dict.fromkeys(_REDUCTIONS, reduce),
    **dict.fromkeys(_ALONG, along_dim),
    "cat": cat,
    "stack": stack,
    "glu": glu,
}
MODULES = {
    nn.GLU: glu,
    nn.Softmax: along_dim,
    nn.LogSoftmax: along_dim,
    nn.Softmin: along_dim,
    nn.Softmax2d: channel_softmax,
}
