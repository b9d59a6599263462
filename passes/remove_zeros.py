"""Removes the channels that filters of zeros make, and those that nothing reads.

Before   y = conv2(relu(conv1(x)))        conv1: 64 filters, 24 of them zero
After    y = conv2'(relu(conv1'(x)))      conv1': 40 filters; conv2' holds what 24 biases gave
Source   He et al. 2018, arXiv:1808.06866, algorithm 1 (filters set to zero, then taken out).
"""

from dataclasses import dataclass
from typing import ClassVar

from gfx.compression.masks.constant_reads import constant_reads, needless, zeros_left
from gfx.compression.masks.fold import carried
from gfx.compression.masks.hold_constants import hold_constants, take_out
from gfx.contract import Context, Keeps, Outcome, Pass
from gfx.coupling import analyse
from gfx.ir.execute import on_meta
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate

__all__ = ["RemoveZeros"]

_NOTHING = "no channel that may go is the same for every input, or read by nothing"


@dataclass(frozen=True)
class RemoveZeros(Pass):
    """Removes channels that are one number whatever the input is, and channels that none reads.

    It takes exact zeros, whoever wrote them: torch.nn.utils.prune (after fold_parametrizations),
    `layer.weight.data[i] = 0`, an L1 penalty with proximal steps.

    1. A channel goes if every reader reads zero, or has weights of zero for it.
    2. Where a filter of zeros has a bias, or a norm shifts it, its channel is a constant. A
       convolution without borders of zeros, or a linear layer, holds it in its bias. In one with
       borders, one constant channel stays, and its weights hold the others'.
    3. Zeros are an order: no min_channels or round_to bounds it. One channel of a group stays.
    4. Groups that are pinned, or whose removal is approximate, stay.
    5. A layer that begins with zeros, as the last of a residual block may, is one of zeros until it
       is trained: convert after training.
    6. In training mode a BatchNorm of zeros is a constant only if its statistics say the same.

    Shapes: inputs and outputs keep theirs; activations between them get narrower.
    Cost: what the channels cost; a layer may get a bias.

    Example:
        >>> import gfx, torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 3))
        >>> model[0].weight.data[:5] = 0
        >>> small = gfx.apply({"passes": ["remove_zeros"]}, model, torch.zeros(1, 3, 8, 8))
        >>> small.get_submodule("0").out_channels
        3
    """

    name: ClassVar[str] = "remove_zeros"
    keeps: ClassVar[Keeps] = Keeps.VALUES

    def apply(self, program: Program, context: Context) -> Outcome:
        """Removes what nothing needs, and says which filters of zeros stay."""
        outcome = Outcome()
        if on_meta(program):
            outcome.details["note"] = "on the meta device weights have no values"
            return outcome
        propagate(program)
        groups = analyse(program)
        reads = constant_reads(groups)
        found = needless(groups, reads)
        for path, count, why in zeros_left(groups, reads, found):
            filters = "filter of zeros stays" if count == 1 else "filters of zeros stay"
            outcome.skip(path, f"{count} {filters}: {why}")
        removed = found.removed
        if not removed.any():
            outcome.details["note"] = _NOTHING
            return outcome
        held = hold_constants(reads, found)
        for path, (count, new) in held.items():
            what = f"holds {count} constant{'s' * (count > 1)} that it read"
            outcome.change(path, what + ", in a new bias" * new)
        if any(new for _, new in held.values()):  # biases, which shrink too
            program.recompile()
            old, groups = groups, analyse(program)
            removed = carried(old, removed, groups)
        widths, details = take_out(program, groups, removed)
        for name, (before, after) in widths.items():
            outcome.change(name, "channels", before, after)
        outcome.details |= details
        program.recompile()
        return outcome
