"""Removes the channels and weights that masks zero, and the masks.

Before   y = conv2(mask(relu(conv1(x))))        mask: 64 channels, 24 of them zero
After    y = conv2'(relu(conv1'(x)))            conv1': 40 filters
Source   Zhu and Gupta 2017, arXiv:1710.01878 (masks in training); the removal is gfx's own
         (docs/architecture.md).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from gfx.compression.masks.fold import judge, reread
from gfx.compression.masks.hold_constants import take_out
from gfx.compression.masks.sparse_layouts import Layout, lay_out, unfit
from gfx.compression.masks.strip_masks import Zeroed, strip, write_out
from gfx.compression.masks.write_zeros import write_zeros
from gfx.contract import Context, Keeps, Outcome, Pass
from gfx.coupling import analyse
from gfx.errors import PreconditionError, VerificationError
from gfx.ir.modules import ChannelMask, LearnedMask, MaskedLayer, MaskedLinear, Penalty
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate

__all__ = ["FoldMasks"]

_MACHINERY = (ChannelMask, MaskedLayer, Penalty)
_NOTHING = """no mask zeroes anything: none was set yet, or this is an average of a model (EMA) \
whose buffers were neither averaged nor copied with its weights"""

_NONE = "there are no masks of gfx: the pass mask puts some in, to train with"
_ALL_ABOVE = (
    "it zeroes nothing: schedule.binarize(alpha), of gfx.schedule(model), was not called, or alpha "
    "was below all that the penalty left"
)


@dataclass(frozen=True)
class FoldMasks(Pass):
    """Removes the channels that masks zero, writes masked weights as zeros, and drops the masks.

    1. A channel that every reader reads as zero is removed, with all slices coupled to it.
    2. Other channels that a mask zeroes (those of one layer among several that write a residual
       stream, or of a group that is pinned or approximate) stay, with values of zero: in the
       filters and the norm that write them, else in the weights that read them.
    3. Weights that a mask zeroes are zero.
    4. Masks, masked layers and penalties are gone; layers are plain again, under the same names.
    5. `layout` may store masked linear weights in a sparse layout of torch: `csr`, or `2:4` where
       at most two of each four neighbours are not zero. Torch has none for convolutions.

    Shapes: inputs and outputs keep theirs; activations between them may get narrower.
    Raises: PreconditionError if a learned mask is not binary yet, or if the device or dtype of the
    model does not support the layout.

    Example:
        >>> import gfx, torch
        >>> from gfx.ir.modules import masked_layer
        >>> model = torch.nn.Sequential(masked_layer(torch.nn.Linear(4, 2)))
        >>> model[0].mask[0] = 0
        >>> folded = gfx.apply({"passes": ["fold_masks"]}, model, torch.zeros(1, 4))
        >>> folded.get_submodule("0")
        Linear(in_features=4, out_features=2, bias=True)
        >>> folded.get_submodule("0").weight[0].tolist()
        [0.0, 0.0, 0.0, 0.0]
    """

    name: ClassVar[str] = "fold_masks"
    keeps: ClassVar[Keeps] = Keeps.VALUES

    layout: Layout = "dense"  # of masked linear weights: csr, or 2:4 (CUDA, half precision)

    def requires(self, program: Program) -> None:
        """Raises PreconditionError if a mask is not binary, or the device does not support 2:4."""
        learned: list[tuple[float, float, str, int]] = []
        for path, mask in program.module.named_modules():
            if isinstance(mask, LearnedMask) and not bool(mask.is_binary):
                least, most = mask.m.detach().aminmax()
                learned.append((float(least), float(most), path, mask.size))
            if self.layout == "2:4" and isinstance(mask, MaskedLinear):
                self._check_device(path, mask)
        if learned:
            low, high, path, size = min(learned)
            others = f" ({len(learned)} masks are not)" if len(learned) > 1 else ""
            raise PreconditionError(
                f"{self.name}: {path} is not binary yet{others}: its {size} values lie between "
                f"{low:.3g} and {high:.3g}; call schedule.binarize(alpha) before, with schedule = "
                "gfx.schedule(model)"
            )

    def _check_device(self, path: str, layer: MaskedLinear) -> None:
        why = unfit(layer, "2:4")
        if why:
            raise PreconditionError(
                f"{self.name}: layout=2:4: {path}: {why}; move the model there, or use layout: "
                "dense, which leaves the zeros where they are"
            )

    def apply(self, program: Program, context: Context) -> Outcome:
        """Folds every mask, and counts the channels and zeros of each group and layer."""
        outcome = Outcome()
        masks = {p: m for p, m in program.module.named_modules() if isinstance(m, _MACHINERY)}
        if not masks:
            outcome.details["note"] = _NONE
            return outcome
        propagate(program)
        masked = list(write_out(program))
        layers = set(masked)
        zeroed = strip(program)
        program.recompile()
        for path, module in masks.items():
            outcome.change(path, _folded(module))
            if _is_whole(module) and getattr(module, "kind", "") in ("slimming", "l1"):
                outcome.skip(path, _ALL_ABOVE)
        if all(map(_is_whole, masks.values())):
            outcome.details["note"] = _NOTHING
        if zeroed:
            layers |= _fold_channels(program, zeroed, outcome)
        zeros = {path: _zeros(program, path) for path in sorted(layers)}
        if zeros:
            outcome.details["zeros"] = zeros
        if self.layout != "dense":
            self._lay_out(program, masked, outcome)
        return outcome

    def _lay_out(self, program: Program, paths: Iterable[str], outcome: Outcome) -> None:
        """Stores masked weights in the sparse layout (rule 5)."""
        assert self.layout != "dense"
        for path, why in lay_out(program, paths, self.layout).items():
            if why:
                outcome.skip(path, why)
            else:
                outcome.change(path, "layout", "dense", self.layout)

    def ensures(self, program: Program) -> None:
        """Raises VerificationError if a mask or a penalty is left."""
        for path, module in program.module.named_modules():
            if isinstance(module, _MACHINERY):
                raise VerificationError(
                    f"{self.name}: {path} ({type(module).__name__}) is still there"
                )


def _fold_channels(program: Program, zeroed: list[Zeroed], outcome: Outcome) -> set[str]:
    """Removes channels (rule 1) and zeroes others (rule 2); returns the layers with new zeros."""
    groups = analyse(program)
    verdict = judge(groups, zeroed)
    for mask, why in verdict.why.items():
        outcome.skip(mask, f"channels that it zeroes stay, as zeros: {why}")
    left = verdict.left
    if verdict.removed.any():
        known = set(program.nodes())
        widths, details = take_out(program, groups, verdict.removed)
        for name, (before, after) in widths.items():
            outcome.change(name, "channels", before, after)
        outcome.details |= details
        left = reread(left, known)
    written = write_zeros(program, left)
    for w in written:
        outcome.change(w.where, f"{w.count} {w.what}")
    program.recompile()
    return {w.where for w in written if not w.product}


def _is_whole(module: Any) -> bool:
    """Whether a mask zeroes nothing."""
    return not isinstance(module, Penalty) and bool(module.kept.all())


def _between(mask: Tensor) -> str:
    """Says which entries are averages of zeros and ones."""
    odd = mask[(mask > 0) & (mask < 1)] if mask.is_floating_point() else mask[:0]
    if not odd.numel():
        return ""
    low, high = odd.min().item(), odd.max().item()
    return f"; {odd.numel()} are averages, {low:.2g} to {high:.2g}, zero below 0.5"


def _folded(module: Any) -> str:
    """Describes a mask or penalty for the report."""
    if isinstance(module, Penalty):
        return f"penalty ({module.kind}) taken out"
    kept = module.kept
    what = "weights" if isinstance(module, MaskedLayer) else "channels"
    return f"mask folded: {int((~kept).sum())} of {kept.numel()} {what} zero{_between(module.mask)}"


def _zeros(program: Program, path: str) -> dict[str, int]:
    """Counts the weights of a layer that are zero."""
    weight = program.tensor(f"{path}.weight")
    return {"zero": int((weight == 0).sum()), "of": weight.numel()}
