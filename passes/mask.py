"""Inserts masks and penalties with which training selects the channels or weights to remove.

Before   y = conv2(relu(norm(conv1(x))))
After    y = conv2(masks.conv1(relu(norm(conv1(x))), 1))       a mask of ones: the same values
Source   Zhu and Gupta 2017, arXiv:1710.01878 (agp); Yu and Pool 2020, arXiv:2007.01491 (agp for
         generators); PPCD-GAN 2022 (ppcd; reconstructed); Liu et al. 2017, arXiv:1708.06519
         (slimming); Li et al. 2017, arXiv:1608.08710 (l1); Wang et al. 2020, arXiv:2008.11062
         (proximal). Which channels go together is gfx's own (docs/architecture.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from gfx.compression.masks import GroupMasks, MaskSettings, candidates, mask_elements
from gfx.compression.selection import MIN_CHANNELS, Bounds, said_reasons
from gfx.contract import Change, Context, Keeps, Outcome, Pass, Skip
from gfx.coupling import analyse
from gfx.errors import PreconditionError, RecipeError, check_range, did_you_mean, prefixed
from gfx.ir.globs import first_unmatched, matches
from gfx.ir.modules import Ramp
from gfx.ir.program import Program

__all__ = ["Mask"]

_STRENGTHS = {"agp": 0.0, "ppcd": 1.0, "slimming": 1e-2, "l1": 1e-3}  # GCC's λ_scale, λ_weight


@dataclass(frozen=True)
class Mask(Pass):
    """Inserts masks of ones, which a schedule sets while the model trains (`gfx.schedule`).

    A channel is one of `gfx.channels`: all slices that are removed together. Its mask multiplies it
    wherever it is read, so that `fold_masks` can remove exactly what the mask sets to zero.

    - agp: the sparsity rises from `initial` at step `begin` to `sparsity` at step `end`, in steps
      of `every`; the entries of the smallest magnitude are masked, and may be unmasked later. With
      `one_shot` there is one step, at `begin`.
    - ppcd (reconstructed): learned masks, which a term of the loss draws to zero and a threshold
      that rises to `alpha` makes binary.
    - slimming: an L1 penalty on the scales of BatchNorm and affine InstanceNorm; l1: on the weights
      of convolutions. Channels below a threshold are masked at the end (`Schedule.binarize`).

    1. Granularity "channel": one mask for each group. Groups that are pinned, of `min_channels` or
       fewer, masked already, or whose removal is approximate are skipped with the reason.
    2. Granularity "filter": one mask for each layer, ranked by that layer's own filters. Where
       several layers write the channels (a residual stream) it masks the layer's own output, after
       the norm that follows: a zero there clears the filter and removes no channel.
    3. Granularity "element": one mask for each weight of a convolution or linear layer. With
       pattern 2:4 two of each four neighbours along the inputs are zero at the end, which some
       GPUs multiply faster (`fold_masks`).
    4. It is an error if nothing can be masked, unless `targets` is empty.

    Shapes: every activation keeps its own.
    Cost: no multiplications are counted; ppcd adds one parameter per channel.
    Raises: PreconditionError if nothing can be masked (rule 4); RecipeError if a glob names
    nothing.

    Example:
        >>> import gfx
        >>> masked = gfx.apply({"passes": ["mask"]}, gfx.zoo.build("dcgan", ngf=4))
        >>> [name for name, _ in masked.named_buffers() if name.endswith(".mask")][:2]
        ['masks.project_conv.mask', 'masks.up_0_conv.mask']
    """

    name: ClassVar[str] = "mask"
    keeps: ClassVar[Keeps] = Keeps.VALUES
    grows: ClassVar[bool] = True  # by the parameters of learned masks

    kind: Literal["agp", "ppcd", "slimming", "l1"] = "agp"
    granularity: Literal["element", "filter", "channel"] = "channel"
    initial: float = 0.0  # share masked at `begin`, 0 ≤ initial ≤ sparsity
    sparsity: float = 0.5  # share masked from `end` on, 0 ≤ sparsity < 1
    begin: int = 0  # steps of the optimizer
    end: int = 1000  # steps, begin ≤ end
    every: int = 10  # steps between two changes of the masks
    one_shot: bool = False  # everything at `begin`; `initial`, `end` and `every` have no effect
    alpha: float = 0.5  # ppcd: channels with m < alpha are masked, 0 < alpha ≤ 1; paper: 0.5 to 0.8
    strength: float | None = None  # of the penalty; None: ppcd 1, slimming 0.01, l1 0.001
    proximal: bool = False  # slimming, l1: shrink weights after each step instead of a loss term
    scope: Literal["local", "global"] = "local"  # a share of each mask, or of all together
    pattern: Literal["free", "2:4"] = "free"  # of elements; 2:4: two of each four inputs are zero
    min_channels: int = MIN_CHANNELS  # that a layer keeps of a group, or all: 4 may be an image
    targets: tuple[str, ...] = ("*",)  # globs over the modules whose channels or weights are masked
    keep: tuple[str, ...] = ()  # globs over the modules whose channels or weights are not masked

    def __post_init__(self) -> None:
        for name in ("targets", "keep"):
            if isinstance(getattr(self, name), str):  # one name needs no list
                object.__setattr__(self, name, (getattr(self, name),))
        with prefixed(self.name):
            self._check_numbers()
            self._check_kind()

    def _check_numbers(self) -> None:
        for name in ("initial", "sparsity"):
            check_range(name, getattr(self, name), at_least=0, below=1)
        check_range("alpha", self.alpha, above=0, at_most=1)
        if self.strength is not None and not 0 <= self.strength < float("inf"):
            raise RecipeError(f"strength={self.strength} must be a number, 0 or above")
        if self.kind == "agp" and not self.one_shot and self.initial > self.sparsity:
            raise RecipeError(
                f"initial={self.initial} is above sparsity={self.sparsity}; a schedule never falls"
            )
        for name, least in {"begin": 0, "end": 0, "every": 1, "min_channels": 1}.items():
            check_range(name, getattr(self, name), at_least=least)
        if self.end < self.begin and not self.one_shot:
            raise RecipeError(
                f"end={self.end} is before begin={self.begin}; both are counted in steps "
                "from the start of training"
            )

    def _check_kind(self) -> None:
        if self.kind != "agp" and self.granularity != "channel":
            raise RecipeError(
                f"kind={self.kind} masks channels, not granularity={self.granularity}; leave "
                "granularity out, or use kind: agp"
            )
        if self.pattern == "2:4" and (self.granularity != "element" or self.sparsity != 0.5):
            raise RecipeError(
                f"pattern=2:4 zeroes half of the elements, not sparsity={self.sparsity} of "
                f"granularity={self.granularity}; use granularity: element and sparsity: 0.5"
            )
        if self.proximal and self.kind not in ("slimming", "l1"):
            raise RecipeError(
                f"proximal shrinks penalised weights, and kind={self.kind} penalises none; "
                "use kind: slimming or l1"
            )

    def apply(self, program: Program, context: Context) -> Outcome:
        """Inserts the masks and penalties."""
        outcome = Outcome()
        if self.granularity == "element":
            self._mask_elements(program, outcome)
        else:
            self._mask_groups(program, outcome)
        if self.targets and not outcome.modified:  # rule 4
            reasons = said_reasons((skip.node, skip.why) for skip in outcome.skips)
            raise PreconditionError(
                f"mask: nothing can be masked. {reasons or 'No layer is found'}"
            )
        program.recompile()
        return outcome

    def _mask_groups(self, program: Program, outcome: Outcome) -> None:
        """Masks the channels of groups (rules 1 and 2)."""
        granularity: Literal["filter", "channel"] = "channel"
        if self.granularity == "filter":
            granularity = "filter"
        strength = _STRENGTHS[self.kind] if self.strength is None else self.strength
        bounds = Bounds(min_channels=self.min_channels)
        settings = MaskSettings(
            self.kind, granularity, self._ramp(), self.scope, strength, self.proximal, bounds
        )
        masks = GroupMasks(analyse(program), settings)
        self._check_globs(masks.names(), "module with channels")
        masks.insert(self._excluded)
        outcome.changes += [Change(*change) for change in masks.changes]
        outcome.skips += [Skip(*skip) for skip in masks.skips]

    def _mask_elements(self, program: Program, outcome: Outcome) -> None:
        """Masks the weights of layers, element by element (rule 3)."""
        layers = candidates(program, self.pattern)
        self._check_globs([*layers], "layer")
        for path, refused in layers.items():
            why = self._excluded((path,)) or refused
            if why:
                outcome.skip(path, why)
                continue
            size = mask_elements(program, path, self._ramp(), self.scope, self.pattern)
            outcome.change(path, "weights masked", 0, size)

    def _ramp(self) -> Ramp:
        """Returns the schedule of the sparsity, of ppcd that of the threshold."""
        if self.kind in ("slimming", "l1"):
            return Ramp(0.0, 0.0, 0, 0, 1)  # they follow no schedule
        first, last = (0.0, self.alpha) if self.kind == "ppcd" else (self.initial, self.sparsity)
        if self.one_shot:
            return Ramp(0.0, last, self.begin, self.begin, 1)
        return Ramp(first, last, self.begin, self.end, self.every)

    def _excluded(self, paths: tuple[str, ...]) -> str:
        """Says which field leaves these modules as they are; "" if none does."""
        if matches(paths, self.keep):
            return "keep names it"
        return "" if matches(paths, self.targets) else "targets does not name it"

    def _check_globs(self, names: Sequence[str], what: str) -> None:
        """Raises RecipeError if a glob of `targets` or `keep` names nothing."""
        for field in ("targets", "keep"):
            glob = first_unmatched(getattr(self, field), names) if names else None
            if glob is not None:
                hint = did_you_mean(glob, names, "", cutoff=0.3)
                raise RecipeError(f"mask: {field}: no {what} is named {glob!r}{hint}")
