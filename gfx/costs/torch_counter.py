"""Counts MACs without a closed form: runs a node on fake tensors under torch's own counter."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import fx
from torch.overrides import TorchFunctionMode

from gfx.costs import mac_formulas as formulas
from gfx.costs.cost import Macs
from gfx.ir.program import Program
from gfx.ir.shapes import propagate

__all__ = ["counted_macs"]


def counted_macs(program: Program, node: fx.Node) -> Macs:
    """Counts one node of a propagated program by calling it again.

    Used for opaque leaves and composites such as einsum. torch's counter does not know the fused
    kernels that a CPU has for attention and recurrent nets; they are added here.

    Raises: InputError if the node does not run.
    """
    counters: list[_Counter] = []

    @contextmanager
    def counting() -> Iterator[None]:
        counters.append(_Counter())
        with counters[-1].flops, counters[-1].norms:
            yield

    propagate.rerun(program, node, counting)
    return counters[-1].macs()


class _Counter:
    """Adds up the three conventions while something runs."""

    def __init__(self) -> None:
        from torch.utils.flop_counter import FlopCounterMode

        aten = torch.ops.aten
        self.surplus = 0  # what counting transposed convolutions on their output adds
        self.norms = _NormCounter()
        mapping: dict[Any, Any] = {
            aten.convolution: self.conv,
            aten._convolution: self.conv,
            aten._scaled_dot_product_flash_attention_for_cpu: _attention,
            aten.mkldnn_rnn_layer: _mkldnn_rnn,
        }
        self.flops = FlopCounterMode(display=False, custom_mapping=mapping)

    def conv(
        self,
        x: Sequence[int],
        weight: Sequence[int],
        bias: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        transposed: bool,
        *_: Any,
        out_shape: Sequence[int],
        **__: Any,
    ) -> int:
        """Counts a convolution and notes by how much the conventions differ."""
        macs = formulas.conv(x, weight, out_shape, transposed=transposed)
        self.surplus += macs.output - macs.exact
        return 2 * macs.exact

    def macs(self) -> Macs:
        """Returns what was counted."""
        exact = int(self.flops.get_total_flops()) // 2
        output = exact + self.surplus
        return Macs(exact, output, output + self.norms.elements)


class _NormCounter(TorchFunctionMode):
    """Counts the elements of every InstanceNorm; below this level it looks like a BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") == "instance_norm":
            self.elements += result.numel()
        return result


def _attention(
    query: Sequence[int],
    key: Sequence[int],
    value: Sequence[int],
    *_: Any,
    out_shape: Any,
    **__: Any,
) -> int:
    return 2 * formulas.attention(query, key, (*query[:-1], value[-1])).exact


def _mkldnn_rnn(
    x: Sequence[int],
    from_input: Sequence[int],
    from_state: Sequence[int],
    *_: Any,
    out_shape: Any,
    **__: Any,
) -> int:
    """Counts one layer and direction of a recurrent net."""
    return 2 * prod(x[:-1]) * (prod(from_input) + prod(from_state))
