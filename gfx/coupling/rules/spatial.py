"""Couples operations on the spatial dimensions: resampling, pooling, padding, pixel shuffles."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from gfx.coupling.call import Call
from gfx.coupling.flow import Flow
from gfx.coupling.labelled_tensor import Labeled
from gfx.coupling.labelled_tensor import field as make_field
from gfx.coupling.labels import Ids
from gfx.coupling.rules.movement import windows

__all__ = ["FUNCTIONS", "MODULES"]

_WHY = "it lies along a spatial dimension that is resampled"


def resample(flow: Flow, call: Call) -> Any:
    """Carries batch and channels through pooling, interpolation and grid sampling.

    The number of spatial dimensions is what the output has beyond batch and channels; an
    unbatched input is treated as if its first dimension were a batch.
    """
    x = call.arg(0, "input")
    out = flow.keep(x, range(min(2, x.ndim)), call.shape, _WHY)
    for other in call.tensors:
        if other is not x:  # the grid of a grid_sample
            flow.fix(other, _WHY)
    value = call.node.meta["val"]
    return (out,) * len(value) if isinstance(value, (tuple, list)) else out


def pad(flow: Flow, call: Call) -> Labeled:
    """Pads: spatial padding carries channels, zero channels get labels of their own."""
    x = call.arg(0, "input")
    amounts = [int(n) for n in _amounts(call)]
    shape, mode = call.shape, call.arg(2, "mode", "constant")
    cuts = {d: _cut(amounts, x.ndim, d) for d in range(x.ndim)}
    padded = [d for d in cuts if cuts[d] != (0, 0)]
    fixed = [d for d in cuts if d not in padded]
    fields = list(flow.keep(x, fixed, shape, "", read=padded).fields)
    for d in padded:
        ids = flow.along(x, d)
        if ids is None:
            continue
        if call.module is not None or not _is_constant(mode):
            flow.pin(ids, f"{call.node.name} pads along its dimension in mode {mode}")
        fields.append(make_field(_padded(flow, call, ids, d, *cuts[d]), d, shape))
    return Labeled(shape, tuple(fields), x.why)


def _cut(amounts: Sequence[int], ndim: int, dim: int) -> tuple[int, int]:
    """Reads how much is added before and after, which is listed from the last dimension on."""
    i = 2 * (ndim - 1 - dim)
    return (amounts[i], amounts[i + 1]) if i < len(amounts) else (0, 0)


def _is_constant(mode: Any) -> bool:
    return not isinstance(mode, str) or mode == "constant"  # aten passes the fill value instead


def _amounts(call: Call) -> list[int]:
    given: Any = call.module.padding if call.module is not None else call.arg(1, "pad")
    if given is None:
        given = call.arg(1, "padding")
    if isinstance(given, int):
        return [given] * 2 * (len(call.shape) - 2)
    return list(given)


def _padded(flow: Flow, call: Call, ids: Ids, dim: int, before: int, after: int) -> Ids:
    """Adds labels for padding, and drops those of what a negative padding cuts off."""
    first, last = max(0, -before), len(ids) - max(0, -after)
    for cut in (ids[:first], ids[last:]):
        flow.pin(cut, f"{call.node.name} cuts it off by a negative padding")
    ids = ids[first:last]
    extra = [
        flow.labels.axis("", dim, n, at=call.node.name).ids if n > 0 else ids[:0]
        for n in (before, after)
    ]
    return np.concatenate([extra[0], ids, extra[1]])


def pixel_shuffle(flow: Flow, call: Call) -> Labeled:
    """Unites the r² channels that become the phases of one channel."""
    x, factor = call.arg(0, "input"), _factor(call, "upscale_factor")
    ids = flow.along(x, -3)
    others = flow.keep(x, range(x.ndim - 3), call.shape, _WHY, read=[x.ndim - 3])
    if ids is None:
        return others
    phases = ids.reshape(-1, factor**2)
    flow.labels.unite(phases[:, :1], phases[:, 1:])
    if len(phases) == 1:
        return _single(flow, call, ids, others)
    merged = make_field(phases[:, 0], x.ndim - 3, call.shape)
    return Labeled(call.shape, (*others.fields, merged), others.why)


def _single(flow: Flow, call: Call, ids: Ids, others: Labeled) -> Labeled:
    """Pins the channels that become one, which has no labels."""
    why = f"{call.node.name} makes a single channel of it"
    flow.pin(ids, why)
    return Labeled(call.shape, others.fields, flow.long.first(others.why, why))


def pixel_unshuffle(flow: Flow, call: Call) -> Labeled:
    """Repeats each channel's label for the r² channels it becomes."""
    x, factor = call.arg(0, "input"), _factor(call, "downscale_factor")
    return _repeated(flow, call, x, x.ndim - 3, factor**2)


def unfold(flow: Flow, call: Call) -> Labeled:
    """Repeats each channel's label for the k² rows of its patches (F.unfold, nn.Unfold)."""
    if call.node.op == "call_method" or call.node.target is torch.Tensor.unfold:
        return windows(flow, call)
    x = call.arg(0, "input")
    if not isinstance(x, Labeled) or x.ndim != 4:
        why = f"{call.node.name} unfolds it"
        flow.fix(x, why)
        return Labeled(call.shape, (), why)
    return _repeated(flow, call, x, 1, call.shape[1] // x.shape[1])


def fold(flow: Flow, call: Call) -> Labeled:
    """Unites the rows of patches that are added up to one channel (F.fold, nn.Fold)."""
    x = call.arg(0, "input")
    ids = flow.along(x, x.ndim - 2)
    out = flow.keep(x, range(x.ndim - 2), call.shape, _WHY, read=[x.ndim - 2])
    channels = call.shape[-3]
    if ids is None:
        return out
    rows = ids.reshape(channels, -1)
    flow.labels.unite(rows[:, :1], rows[:, 1:])
    if channels == 1:
        return _single(flow, call, ids, out)
    merged = make_field(rows[:, 0], len(call.shape) - 3, call.shape)
    return Labeled(call.shape, (*out.fields, merged), out.why)


def unpool(flow: Flow, call: Call) -> Labeled:
    """Carries batch and channels, which the positions to put them at have as well."""
    x, places = call.arg(0, "input"), call.arg(1, "indices")
    for d in range(min(2, x.ndim)):
        flow.connect((flow.along(x, d), x.why), (flow.along(places, d), places.why))
    return flow.keep(x, range(min(2, x.ndim)), call.shape, _WHY)


def _repeated(flow: Flow, call: Call, x: Labeled, dim: int, times: int) -> Labeled:
    ids = flow.along(x, dim)
    others = flow.keep(x, range(dim), call.shape, _WHY, read=[dim])
    if ids is None:
        return others
    repeated = make_field(np.repeat(ids, times), dim, call.shape)
    return Labeled(call.shape, (*others.fields, repeated), others.why)


def _factor(call: Call, name: str) -> int:
    return int(getattr(call.module, name) if call.module is not None else call.arg(1, name))


_RESAMPLING = (
    "interpolate upsample upsample_nearest1d upsample_nearest2d upsample_nearest3d "
    "upsample_bilinear2d upsample_bicubic2d upsample_linear1d upsample_trilinear3d "
    "_upsample_nearest_exact2d avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d "
    "boolean_dispatch lp_pool1d lp_pool2d adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
    "max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices fractional_max_pool2d "
    "fractional_max_pool3d fractional_max_pool2d_with_indices fractional_max_pool3d_with_indices "
    "reflection_pad1d reflection_pad2d reflection_pad3d "
    "replication_pad1d replication_pad2d replication_pad3d grid_sample grid_sampler"
).split()
FUNCTIONS = {
    **dict.fromkeys(_RESAMPLING, resample),
    "pad": pad,
    "constant_pad_nd": pad,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "unfold": unfold,
    "im2col": unfold,
    "fold": fold,
    "col2im": fold,
    **dict.fromkeys(("max_unpool1d", "max_unpool2d", "max_unpool3d"), unpool),
}
MODULES = {
    **dict.fromkeys(
        (
            nn.Upsample, nn.modules.pooling._AvgPoolNd, nn.modules.pooling._MaxPoolNd,
            nn.modules.pooling._LPPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd,
            nn.modules.pooling._AdaptiveMaxPoolNd, nn.modules.padding._ReflectionPadNd,
            nn.modules.padding._ReplicationPadNd, nn.modules.padding._ConstantPadNd,
            nn.modules.padding._CircularPadNd,
        ),
        resample,
    ),
    nn.PixelShuffle: pixel_shuffle,
    nn.PixelUnshuffle: pixel_unshuffle,
    nn.Unfold: unfold,
    nn.Fold: fold,
    nn.FractionalMaxPool2d: resample,
    nn.FractionalMaxPool3d: resample,
    nn.modules.pooling._MaxUnpoolNd: unpool,
}  # fmt: skip
