"""Scores channels by the scales of their normalisations (network slimming)."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor, fx, nn

from gfx.compression.importance.aggregate import (
    Reduce,
    Scores,
    Squashed,
    combined,
    finite,
    per_channel,
)
from gfx.compression.importance.weight_norms import magnitude
from gfx.coupling import Group, Groups, Member
from gfx.errors import PreconditionError
from gfx.ir.ops import norm_places, op_name

__all__ = ["bn_scale", "without_scale"]

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
_OF_CHANNELS = frozenset(("batch_norm", "instance_norm", "native_batch_norm"))
_FUNCTIONS = _OF_CHANNELS | {"group_norm", "layer_norm", "rms_norm"}


def bn_scale(groups: Groups, among: Sequence[Group], reduce: Reduce) -> dict[str, Scores]:
    """Scores channels by |gamma|, divided by its mean over all groups.

    Groups without gamma are scored by l1.

    Raises: PreconditionError if there is no gamma at all.
    """
    scaled: dict[str, Scores] = {}
    scales = _scales(groups)
    for group in among:
        rows = [_scale(m, value, group.size) for m, value in _own(groups, group, scales)]
        if rows:
            scaled[group.name] = combined(rows, group.size, reduce)
    if among and not scaled:
        raise PreconditionError(
            f"importance=bn_scale, but none of the {len(among)} groups that may be "
            "narrowed has a normalisation with a scale of its own; use another, such as l1"
        )
    # one divisor for all, so that a global scope compares gamma as the paper does; the mean of 1 is
    # that of l1
    mean = float(np.mean(np.concatenate(list(scaled.values())))) if scaled else 0.0
    weights = Squashed(1)
    return {
        g.name: scaled[g.name] / (mean or 1.0)
        if g.name in scaled
        else magnitude(groups, g, reduce, weights)
        for g in among
    }


def without_scale(groups: Groups, among: Sequence[Group]) -> tuple[str, ...]:
    """Lists the groups that no normalisation scales, which `bn_scale` ranks by l1."""
    scales = _scales(groups)
    return tuple(g.name for g in among if next(_own(groups, g, scales), None) is None)


def _own(groups: Groups, group: Group, scales: frozenset[str]) -> Iterator[tuple[Member, Tensor]]:
    for member in group.members:
        value = groups.program.tensor(member.tensor)
        if member.tensor in scales:
            yield member, value.detach()


def _scale(member: Member, value: Tensor, size: int) -> Scores:
    """Averages |gamma| over the indices of a channel; 0 on the meta device, without values."""
    if value.is_meta:
        return np.zeros(size)
    sums = per_channel(member, Squashed(1)(value, value, member.dim), size)
    entries = value.numel() / value.shape[member.dim] * len(member.index) / size
    return finite(sums / entries, member.tensor)


def _scales(groups: Groups) -> frozenset[str]:
    """Lists the paths of all scales that normalisations multiply by."""
    program = groups.program
    found: list[Tensor] = []
    for node in program.graph.nodes:
        if node.op == "call_module":
            module = program.submodule(node)
            if isinstance(module, _NORMS) and module.weight is not None:
                found.append(module.weight)
        elif op_name(node) in _FUNCTIONS:
            scale = _argument(node)
            if isinstance(scale, fx.Node) and scale.op == "get_attr":
                found.append(program.tensor(str(scale.target)))
    return frozenset(path for t in found if (path := groups.path_of(t)) is not None)


def _argument(node: fx.Node) -> object:
    position = norm_places(node)["weight"] if op_name(node) in _OF_CHANNELS else 2
    return node.args[position] if position < len(node.args) else node.kwargs.get("weight")
