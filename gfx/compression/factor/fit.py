"""Fits the parts of a form to data, step by step, and keeps the best of the steps.

Held-out examples decide: where no step is clearly better there than the approximation of the
weights alone (svd), svd stays. So calibration never makes the parts worse.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gfx.compression.factor.compose_parts import chained
from gfx.compression.factor.fit_low_rank import low_rank, spatial, tucker
from gfx.compression.factor.fit_separable import separate
from gfx.compression.factor.forms import Convolution, Form, sizes
from gfx.compression.factor.kernels import bias_of, kernel_of
from gfx.compression.factor.layer_data import LayerData, LayerRows
from gfx.compression.factor.parts import ranks_of
from gfx.compression.factor.svd import approximate

__all__ = ["MARGIN", "FactorStep", "best", "from_weights", "needed", "steps"]

MARGIN = 0.99  # a fit that is less than 1 % better may be better by chance
_EXACT = 1e-6  # relative error below which there is nothing to fit
_NOISE = 4  # one row of noise for so many of data
_FAINT = 1e-3  # power of the noise, all rows together, as a share of the data's


@dataclass(frozen=True)
class FactorStep:
    """The parts after one step: a kernel for each, and the bias of the last."""

    name: str
    kernels: list[Tensor]
    bias: Tensor | None

    def error(self, rows: LayerRows, groups: int) -> float:
        """Returns the error on some rows, relative to their targets."""
        kernel = chained(self.kernels, groups).flatten(2)
        patches = rows.patches.reshape(len(rows.patches), groups, -1).transpose(0, 1)
        left = rows.targets - (patches @ kernel.mT).transpose(0, 1).flatten(1)
        left = left if self.bias is None else left - self.bias
        return float(left.norm() / rows.targets.norm().clamp_min(1e-300))


def needed(module: Convolution, form: Form) -> int:
    """Returns the unknowns of one output channel in the largest least squares of a form."""
    inputs, outputs, (height, width) = sizes(module)
    rank = ranks_of(module, form)[0]
    unknowns = {
        "depthwise_separable": max(inputs * rank, height * width),
        "spatial": max(rank * width, inputs * height),
        "tucker": rank * height * width,
        "low_rank": outputs,
    }
    return unknowns[form.kind] + (module.bias is not None)


def from_weights(module: Convolution, form: Form) -> FactorStep:
    """Returns the best approximation of the weights."""
    ranks = list(ranks_of(module, form))
    return FactorStep("svd", approximate(form.kind, kernel_of(module), ranks), bias_of(module))


def steps(module: Convolution, form: Form, data: LayerData, rounds: int) -> Iterator[FactorStep]:
    """Yields the parts after each step; the first step approximates the weights."""
    yield from_weights(module, form)
    kernel, ranks, bias = kernel_of(module), ranks_of(module, form), bias_of(module)
    generator = torch.Generator().manual_seed(0)
    groups = []
    for number in range(module.groups):
        patches, targets = data.fit.group(number, module.groups)
        rows = _anchored(patches, targets, kernel[number], bias is not None, generator)
        groups.append(_one_group(form.kind, *rows, kernel[number], ranks, rounds))
    for found in zip(*groups, strict=True):
        kernels = _scaled([torch.cat(k) for k in zip(*(k for _, k in found), strict=True)])
        yield FactorStep(found[0][0], kernels, _bias(kernels, data.fit, bias, module.groups))


def best(found: Iterator[FactorStep], data: LayerData) -> FactorStep:
    """Returns the step with the least held-out error; the first unless one is clearly better."""
    first = next(found)
    groups = data.layer.groups
    least = first.error(data.held, groups)
    if data.targets is None and least < _EXACT:
        return first
    least, chosen = least * MARGIN, first
    for step in found:
        error = step.error(data.held, groups)
        if error < least:
            least, chosen = error, step
    return chosen


def _anchored(
    patches: Tensor, targets: Tensor, kernel: Tensor, centred: bool, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Subtracts means, where a bias can hold them, and adds rows of faint noise.

    The target of the noise is the layer's own output for it. So where data carry little
    information, as for a channel that is zero in all examples but one, the weights stay near the
    layer's own.
    """
    count = len(patches)
    shape = (-(-count // _NOISE), *patches.shape[1:])
    signs = torch.randint(0, 2, shape, generator=generator, dtype=torch.int8).to(patches)
    rows = patches.new_empty(count + len(signs), *patches.shape[1:])
    torch.sub(patches, patches.mean(0) if centred else 0, out=rows[:count])
    scale = (_FAINT * _NOISE * rows[:count].norm().square() / rows[:count].numel()).sqrt()
    torch.mul(signs, 2 * scale, out=rows[count:]).sub_(scale)
    given = rows[count:].flatten(1) @ kernel.flatten(1).mT
    return rows, torch.cat([targets - targets.mean(0) if centred else targets, given])


def _one_group(
    kind: str, patches: Tensor, targets: Tensor, kernel: Tensor, ranks: tuple[int, ...], rounds: int
) -> Iterator[tuple[str, list[Tensor]]]:
    """Yields the name of each step and the kernels of the parts, one group each."""
    if kind == "depthwise_separable":
        return _separated(patches, targets, kernel, ranks[0], rounds)
    if kind == "spatial":
        return spatial(patches, targets, kernel, ranks[0], rounds)
    if kind == "tucker":
        return tucker(patches, targets, kernel, (ranks[0], ranks[1]), rounds)
    return low_rank(patches, targets, kernel, ranks[0])


def _separated(
    patches: Tensor, targets: Tensor, kernel: Tensor, rank: int, rounds: int
) -> Iterator[tuple[str, list[Tensor]]]:
    inputs, height, width = kernel.shape[1:]
    found = separate(patches, targets, kernel.flatten(2), rank, rounds)
    for name, filters, mixing in found:
        depthwise = filters.reshape(inputs, rank, 1, height, width)
        yield name, [depthwise, mixing[None, :, :, None, None]]


def _scaled(kernels: list[Tensor]) -> list[Tensor]:
    """Gives each channel between two parts a filter of length 1; the next part takes its scale."""
    found, kernel = [], kernels[0]
    for after in kernels[1:]:
        lengths = kernel.flatten(2).norm(dim=2)
        lengths = torch.where(lengths > 0, lengths, 1)
        found.append(kernel / lengths[..., None, None, None])
        kernel = after * lengths.reshape(after.shape[0], 1, -1, 1, 1)
    return [*found, kernel]


def _bias(
    kernels: list[Tensor], rows: LayerRows, bias: Tensor | None, groups: int
) -> Tensor | None:
    """Returns the bias that matches the mean of the targets, where the layer has one."""
    if bias is None:
        return None
    mean = rows.patches.mean(0).reshape(groups, -1, 1)
    return rows.targets.mean(0) - (chained(kernels, groups).flatten(2) @ mean).flatten()
