"""Counts multiply-accumulates in closed form, from shapes.

Biases, normalization, activations and interpolation count nothing, as in the papers, except that
`output_norm` has one per element of an InstanceNorm.
"""

from collections.abc import Sequence
from math import prod

from gfx.costs.cost import Macs

__all__ = ["attention", "contraction", "conv", "instance_norm", "multihead", "recurrent"]

Shape = Sequence[int]


def conv(x: Shape, weight: Shape, out: Shape, *, transposed: bool = False) -> Macs:
    """Counts a convolution in any number of dimensions, grouped or not, batched or not.

    Shapes: weight (Cout, Cin/groups, *kernel), or (Cin, Cout/groups, *kernel) if transposed.

    Example:
        >>> conv((1, 3, 8, 8), (16, 3, 3, 3), (1, 16, 8, 8))
        Macs(exact=27648, output=27648, output_norm=27648)
        >>> conv((1, 3, 8, 8), (3, 16, 2, 2), (1, 16, 16, 16), transposed=True)
        Macs(exact=12288, output=49152, output_norm=49152)
    """
    if not transposed:
        return Macs.same(prod(out) * prod(weight[1:]))
    each = prod(weight[1:])  # what one element of the input is multiplied with
    spatial = len(weight) - 2
    channels = prod(x[: len(x) - spatial])  # batch included
    return Macs(
        prod(x) * each,
        channels * prod(out[len(out) - spatial :]) * each,
        channels * prod(out[len(out) - spatial :]) * each,
    )


def contraction(out: Shape, inner: int) -> Macs:
    """Counts a product of matrices whose every output element sums over `inner` terms.

    Example:
        >>> contraction((2, 4, 5), 3).exact
        120
    """
    return Macs.same(prod(out) * inner)


def attention(query: Shape, key: Shape, out: Shape) -> Macs:
    """Counts scaled dot-product attention: queries by keys, then weights by values.

    A causal or masked one counts in full. Grouped keys count once per query head.

    Shapes: query (..., L, E), key (..., S, E), out (..., L, Ev).

    Example:
        >>> attention((2, 4, 6, 8), (2, 4, 5, 8), (2, 4, 6, 8)).exact
        3840
    """
    rows = prod(out[:-1])
    return Macs.same(rows * key[-2] * (query[-1] + out[-1]))


def multihead(query: Shape, key: Shape, value: Shape, *, batch_first: bool, extra: int = 0) -> Macs:
    """Counts nn.MultiheadAttention: three projections in, attention, one projection out.

    Shapes: query (L, N, E), key (S, N, Ek), value (S, N, Ev), N first if batch_first, or without N.
    `extra` is the number of keys that bias_k, bias_v and add_zero_attn append.

    Example:
        >>> multihead((5, 16), (5, 16), (5, 16), batch_first=False).exact
        5920
    """
    wide = query[-1]
    lengths = [shape[1 if batch_first and len(shape) == 3 else 0] for shape in (query, key)]
    batch = prod(query[:-1]) // lengths[0]
    target, source = lengths
    projections = target * wide * wide * 2 + source * wide * (key[-1] + value[-1])
    return Macs.same(batch * (projections + target * (source + extra) * wide * 2))


def recurrent(x: Shape, weights: Sequence[Shape]) -> Macs:
    """Counts an RNN, LSTM or GRU: every weight matrix once per step and sample.

    Shapes: x (L, N, F), (N, L, F), (L, F), or for a cell (N, F) or (F,).

    Example:
        >>> recurrent((5, 2, 16), [(32, 16), (32, 8)]).exact
        7680
    """
    return Macs.same(prod(x[:-1]) * sum(prod(weight) for weight in weights))


def instance_norm(out: Shape) -> Macs:
    """Counts an InstanceNorm, which only the convention output+norm counts.

    Example:
        >>> instance_norm((1, 8, 4, 4))
        Macs(exact=0, output=0, output_norm=128)
    """
    return Macs(0, 0, prod(out))
