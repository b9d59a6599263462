"""Couples operations that join or mix channels: cat, stack, GLU, Fourier transforms."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import nn

from gfx.coupling.call import Call
from gfx.coupling.flow import Flow
from gfx.coupling.labelled_tensor import Labeled
from gfx.coupling.labelled_tensor import field as make_field
from gfx.coupling.labels import Ids
from gfx.coupling.rules.movement import unknown

__all__ = ["FUNCTIONS", "MODULES", "TRANSFORMS", "transformed_dims"]


def cat(flow: Flow, call: Call) -> Labeled:
    """Lays labels one after the other along the joined dimension and unites the others."""
    parts = [v for v in call.arg(0, "tensors") if v.shape != (0,)]
    return _joined(flow, call, parts, call.arg(1, "dim", call.kwargs.get("axis", 0)))


def stacked_as(flow: Flow, call: Call) -> Any:
    """Follows hstack, vstack and dstack, which are cat along a dimension of their own."""
    parts = list(call.arg(0, "tensors"))
    dim = {"hstack": 1, "vstack": 0, "row_stack": 0, "dstack": 2}[call.name]
    if any(part.ndim != len(call.shape) for part in parts):
        return unknown(flow, call)  # of vectors they make matrices first
    return _joined(flow, call, parts, min(dim, len(call.shape) - 1))


def _joined(flow: Flow, call: Call, parts: Sequence[Labeled], dim: int) -> Labeled:
    dim %= parts[0].ndim
    shape = call.shape
    fields = []
    for d in sorted(range(len(shape)), key=lambda d: d != dim):
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
    return Labeled(shape, tuple(fields), flow.long.first(*(part.why for part in parts)))


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
        whys = [part.why for part, found in zip(parts, ids, strict=True) if found is None]
        flow.pin(known[0], flow.long.first(*whys))
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
    return Labeled(shape, tuple(fields), flow.long.first(*(part.why for part in parts)))


def glu(flow: Flow, call: Call) -> Labeled:
    """Unites each channel with its gate, half the dimension further on."""
    x = call.arg(0, "input")
    dim = (call.module.dim if call.module is not None else call.arg(1, "dim", -1)) % x.ndim
    fields, lost = [], ""
    for d in range(x.ndim):
        ids = flow.along(x, d)
        if ids is not None and d == dim:
            value, gate = np.split(ids, 2)
            flow.labels.unite(value, gate)
            ids = value
        if ids is not None and call.shape[d] > 1:
            fields.append(make_field(ids, d, call.shape))
        elif ids is not None:
            lost = f"{call.node.name} leaves a single channel of it"
            flow.pin(ids, lost)
    return Labeled(call.shape, tuple(fields), flow.long.first(x.why, lost))


def transform(flow: Flow, call: Call) -> Labeled:
    """Pins the dimensions that a Fourier transform runs over and carries the others."""
    x = call.arg(0, "input")
    dims = transformed_dims(call.name, x.ndim, call.arg(1 if "shift" in call.name else 2, "dim"))
    why = f"{call.node.name} transforms it"
    flow.fix(x, why, dims)
    return flow.keep(x, [d for d in range(x.ndim) if d not in dims], call.shape, why)


def transformed_dims(name: str, ndim: int, given: Any) -> set[int]:
    """Returns the dimensions that a Fourier transform runs over; `given` is its `dim`.

    Example:
        >>> sorted(transformed_dims("fft_rfft2", 4, None))
        [2, 3]
    """
    if given is None:
        default = {"n": range(ndim), "2": (-2, -1), "t": range(ndim)}
        given = default.get(name[-1], (-1,)) if name[-3:] != "fft" else (-1,)
    return {d % ndim for d in ([given] if isinstance(given, int) else given)}


TRANSFORMS = (
    "fft_fft fft_ifft fft_rfft fft_irfft fft_hfft fft_ihfft fft_fft2 fft_ifft2 fft_rfft2 "
    "fft_irfft2 fft_fftn fft_ifftn fft_rfftn fft_irfftn fft_fftshift fft_ifftshift"
).split()
FUNCTIONS = {
    **dict.fromkeys(TRANSFORMS, transform),
    "cat": cat,
    **dict.fromkeys(("hstack", "vstack", "row_stack", "dstack"), stacked_as),
    "stack": stack,
    "glu": glu,
}
MODULES: dict[type[nn.Module], Callable[[Flow, Call], Labeled]] = {nn.GLU: glu}
