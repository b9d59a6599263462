"""Couples elementwise operations: labels that meet at a position are one channel."""

from collections.abc import Callable
from functools import cache

import torch
from torch import nn

from gfx.coupling.call import Call
from gfx.coupling.flow import Flow
from gfx.coupling.labelled_tensor import Labeled

__all__ = ["FUNCTIONS", "MODULES", "elementwise", "is_pointwise"]

# pointwise, but built from other operations, so torch does not tag them
_UNTAGGED = frozenset(
    "dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout "
    "feature_alpha_dropout relu6 selu celu rrelu logsigmoid log_sigmoid softsign tanhshrink "
    "to float half double bfloat16 int long bool type type_as cpu cuda contiguous clone "
    "detach requires_grad zeros_like ones_like full_like rand_like randn_like empty_like "
    "bernoulli poisson identity clip square masked_fill where complex polar real imag conj "
    "resolve_conj real_if_close nan_to_num alias lift_fresh_copy fill zero normal uniform "
    "hardtanh threshold fused_dropout native_dropout gelu silu mish batch_norm_elemt "
    "true_divide floor_divide remainder fmod copy is_nonzero detach_copy "
    "special_expit special_logit special_xlogy special_log1p special_expm1 special_exp2 "
    "special_erf special_erfc special_round special_sinc special_digamma special_gammaln "
    "_to_copy to_copy".split()
)


@cache
def is_pointwise(name: str) -> bool:
    """Whether torch itself tags an operation of this name as pointwise.

    Example:
        >>> is_pointwise("leaky_relu"), is_pointwise("cumsum")
        (True, False)
    """
    if name in _UNTAGGED:
        return True
    packet = getattr(torch.ops.aten, name, None)
    if packet is None:
        return False
    return any(torch.Tag.pointwise in getattr(packet, o).tags for o in packet.overloads())


def elementwise(flow: Flow, call: Call) -> Labeled:
    """Unites the labels that meet at one position, with broadcasting."""
    return flow.meet(call.tensors, call.shape)


def broadcast(flow: Flow, call: Call) -> tuple[Labeled, ...]:
    """Unites what broadcast_tensors lays one upon the other."""
    given = call.args[0] if len(call.args) == 1 and isinstance(call.args[0], list) else call.args
    return (flow.meet(call.tensors, call.shape),) * len(given)


def cast(flow: Flow, call: Call) -> Labeled:
    """Carries the first argument; another tensor only lends its type."""
    return flow.meet([call.arg(0, "input")], call.shape)


def prelu(flow: Flow, call: Call) -> Labeled:
    """Couples one slope per channel to dimension 1, or shares a single slope."""
    x = call.arg(0, "input")
    slope = flow.member(call, "weight") if call.module is not None else call.arg(1, "weight")
    if slope is not None and slope.shape and slope.shape[0] > 1:
        flow.connect((flow.along(x, 1), x.why), (flow.along(slope, 0), slope.why))
    return flow.meet([x], call.shape)


FUNCTIONS = {"broadcast_tensors": broadcast, "prelu": prelu, "type_as": cast, "to": cast}
MODULES: dict[type[nn.Module], Callable[[Flow, Call], Labeled]] = {
    kind: elementwise
    for kind in (
        nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish,
        nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Softplus, nn.Softsign,
        nn.Softshrink, nn.Hardshrink, nn.Tanhshrink, nn.LogSigmoid, nn.Threshold, nn.RReLU,
        nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout,
        nn.FeatureAlphaDropout,
    )
} | {nn.PReLU: prelu}  # fmt: skip
