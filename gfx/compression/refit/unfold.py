"""What each output of a layer reads: rows of inputs, so that fitting the layer is least squares.

Convolution            y[o] = Σ_k w[k] x[s·o - p + d·k]
Transposed             y[o] = Σ_k w[k] x[i]   with s·i - p + d·k = o, so that only the taps k with
                       d·k ≡ o + p (mod s) count: the outputs fall into sᵈ phases, and those of one
                       phase read the same taps, as a convolution does
Linear                 y = w x, with no taps but one

A Block is one phase: all its outputs read the same unknowns. A convolution has one block.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from gfx.ir.computed_tensors import folding
from gfx.ir.modules import MaskedLayer
from gfx.ir.parametrizations import folding_in
from gfx.ir.program import Program

__all__ = ["FitLayer", "Layer", "UnfoldBlock", "UnfoldRows", "refusal"]

Layer = _ConvNd | nn.Linear
Ints = tuple[int, ...]

_KINDS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def refusal(module: nn.Module, program: Program | None = None, path: str = "") -> str:
    """Says why the weights of a layer cannot be solved for; "" if they can.

    A program that it is in, at a path, tells whether a computed weight can be folded there.

    Example:
        >>> refusal(nn.Conv2d(3, 8, 3)), refusal(nn.ReLU())
        ('', 'ReLU is no convolution, transposed convolution or linear layer')
    """
    if hasattr(module, "parametrizations") or any(
        hasattr(module, f"weight_{part}") for part in ("orig", "g")
    ):
        does = folding(module) if program is None else folding_in(program, path)
        return f"a parametrization computes its weight; {does}"
    if isinstance(module, MaskedLayer):
        return "a mask multiplies its weight; run fold_masks before"
    if type(module) not in _KINDS:
        kind = type(module).__name__
        return f"{kind} is no convolution, transposed convolution or linear layer"
    if module._forward_hooks or module._forward_pre_hooks:
        return "it has hooks, which may do anything to its outputs"
    if cast(Tensor, module.weight).is_complex():
        return "its weight is complex"
    return ""


@dataclass(frozen=True)
class UnfoldBlock:
    """Outputs that read the same taps; all per spatial dimension."""

    taps: tuple[Ints, ...]  # indices into the kernel
    offsets: tuple[Ints, ...]  # of each tap, from the base of an output, in the padded input
    step: Ints  # from the base of one output of this block to the next
    first: Ints  # the block's first output
    stride: Ints  # from one output of this block to the next


@dataclass(frozen=True)
class UnfoldRows:
    """The rows of one block at some positions."""

    inputs: Tensor  # (groups, positions, unknowns)
    at: tuple[Tensor, ...]  # example and place of each position in the output


class FitLayer:
    """One layer as least squares: G groups, each of K unknowns for each of its outputs."""

    def __init__(self, module: Layer) -> None:
        self.module = module
        self.groups = 1 if isinstance(module, nn.Linear) else module.groups
        self.transposed = isinstance(module, _ConvTransposeNd)
        weight = module.weight
        self.kernel: Ints = tuple(weight.shape[2:])
        self.dims = len(self.kernel)
        if isinstance(module, nn.Linear):
            self.inputs, self.outputs = module.in_features, module.out_features
        else:
            self.inputs, self.outputs = module.in_channels, module.out_channels

    @cached_property
    def blocks(self) -> tuple[UnfoldBlock, ...]:
        """The phases of the layer."""
        module = self.module
        if isinstance(module, nn.Linear):
            return (UnfoldBlock(((),), ((),), (), (), ()),)
        taps = tuple(product(*map(range, self.kernel)))
        stride, dilation = tuple(module.stride), tuple(module.dilation)
        if not self.transposed:
            offsets = tuple(tuple(k * d for k, d in zip(t, dilation, strict=True)) for t in taps)
            return (UnfoldBlock(taps, offsets, stride, (0,) * self.dims, (1,) * self.dims),)
        return tuple(self._phase(taps, rest) for rest in product(*map(range, stride)))

    def _phase(self, taps: Sequence[Ints], rest: Ints) -> UnfoldBlock:
        """Lists the taps that meet the outputs o with (o + p) mod s = rest."""
        module = self.module
        assert isinstance(module, _ConvTransposeNd)
        first, found, offsets = [], [], []
        shifts = []
        for r, s, p in zip(rest, module.stride, module.padding, strict=True):
            assert isinstance(p, int)
            first.append((r - p) % s)
            shifts.append((first[-1] + p - r) // s + self.margin)
        for tap in taps:
            across = list(zip(rest, tap, module.dilation, module.stride, shifts, strict=True))
            if all((r - k * d) % s == 0 for r, k, d, s, _ in across):
                found.append(tap)
                offsets.append(tuple((r - k * d) // s + shift for r, k, d, s, shift in across))
        ones = (1,) * self.dims
        return UnfoldBlock(tuple(found), tuple(offsets), ones, tuple(first), tuple(module.stride))

    @cached_property
    def margin(self) -> int:
        """Zeros around the input of a transposed convolution, so that every tap reads something."""
        module: Any = self.module
        reach = zip(self.kernel, module.dilation, module.stride, module.padding, strict=True)
        return max([((k - 1) * d + p) // s + 2 for k, d, s, p in reach], default=0)

    def unknowns(self, block: UnfoldBlock) -> int:
        """Counts what is solved for, for each output, without the bias."""
        return len(block.taps) * self.inputs // self.groups

    def padded(self, x: Tensor) -> Tensor:
        """Returns the input with its padding, channels last: (N, spatial..., C)."""
        module = self.module
        if isinstance(module, nn.Linear):
            return x.reshape(-1, x.shape[-1])
        if x.ndim == self.dims + 1:
            x = x[None]
        if self.transposed:
            x = F.pad(x, [self.margin] * (2 * self.dims))
        else:
            mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
            x = F.pad(x, self._padding(), mode=mode)
        return x.movedim(1, -1)

    def _padding(self) -> list[int]:
        """The padding of a convolution, last dimension first."""
        module: Any = self.module
        if module.padding == "same":
            return list(module._reversed_padding_repeated_twice)
        if module.padding == "valid":
            return [0] * (2 * self.dims)
        return [p for p in reversed(module.padding) for _ in range(2)]

    def outputs_of(self, y: Tensor) -> Tensor:
        """Returns an output channels last: (N, spatial..., C)."""
        if isinstance(self.module, nn.Linear):
            return y.reshape(-1, y.shape[-1])
        return (y[None] if y.ndim == self.dims + 1 else y).movedim(1, -1)

    def counts(self, block: UnfoldBlock, out: Ints) -> Ints:
        """Counts the outputs of a block by dimension, examples first; `out` is (N, spatial...)."""
        sizes = [
            max(0, -(-(n - f) // s))
            for n, f, s in zip(out[1:], block.first, block.stride, strict=True)
        ]
        return (out[0], *sizes)

    def positions(self, block: UnfoldBlock, out: Ints) -> int:
        """Counts the outputs of a block."""
        return prod(self.counts(block, out))

    def rows(self, x: Tensor, block: UnfoldBlock, out: Ints, chosen: Tensor) -> UnfoldRows:
        """Gathers what some outputs of a block read; x is padded, `chosen` counts positions."""
        index = torch.unravel_index(chosen, self.counts(block, out))
        taps = torch.tensor(block.offsets, dtype=torch.long, device=x.device)
        taps = taps.view(len(block.offsets), self.dims)
        places = [
            (m * step)[:, None] + taps[:, d]
            for d, (m, step) in enumerate(zip(index[1:], block.step, strict=True))
        ]
        found = x[index[0][:, None].expand(-1, len(taps)), *places]  # (P, taps, C)
        size = len(chosen)
        each = self.inputs // self.groups
        rows = found.view(size, len(taps), self.groups, each).permute(2, 0, 1, 3)
        at = [f + m * s for f, m, s in zip(block.first, index[1:], block.stride, strict=True)]
        return UnfoldRows(rows.reshape(self.groups, size, len(taps) * each), (index[0], *at))

    def taken(self, y: Tensor, rows: UnfoldRows) -> Tensor:
        """Takes the outputs at the rows' positions from y, channels last: (groups, P, O / G)."""
        return y[rows.at].view(len(rows.at[0]), self.groups, -1).movedim(1, 0)

    def weight(self, solved: Sequence[Tensor]) -> Tensor:
        """Brings the unknowns of every block, (groups, K, O / G), into the weight's layout."""
        found = torch.zeros_like(self.module.weight, dtype=torch.float64)
        each = self.outputs // self.groups
        for block, x in zip(self.blocks, solved, strict=True):
            for i, tap in enumerate(block.taps):
                part = x.view(self.groups, len(block.taps), -1, each)[:, i]  # (G, C / G, O / G)
                rows = part if self.transposed else part.mT
                place: Any = (..., *tap)
                found.view(-1, rows.shape[2], *self.kernel)[place] = rows.flatten(0, 1)
        return found
