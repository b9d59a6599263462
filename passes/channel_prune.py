"""Removes whole coupled channels, and repairs everything that counted on them.

Before   y = conv2(relu(norm(conv1(x))))        conv1: 3 → 64, conv2: 64 → 3
After    y = conv2'(relu(norm'(conv1'(x))))     conv1': 3 → 32, conv2': 32 → 3
Source   Li et al. 2017, arXiv:1608.08710 (filters ranked by their L1 norm); the coupling of
         channels is gfx's own (docs/architecture.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from gfx.compression.importance import Importance, Reduce, needs_data, notes, rank
from gfx.compression.selection import (
    Bounds,
    Scope,
    Selection,
    by_kept,
    by_stages,
    by_widths,
    candidates,
    record,
)
from gfx.contract import Context, Keeps, Outcome, Pass, Skip
from gfx.costs import Budget
from gfx.coupling import Attention, GroupNorms, Groups, analyse
from gfx.coupling.channel_names import stays
from gfx.coupling.labels import Mask
from gfx.coupling.removal import masked, remove
from gfx.errors import RecipeError, check_range, prefixed
from gfx.ir.program import Program
from gfx.search import Decision, Limits, Narrowed, Offer, plan_widths

__all__ = ["ChannelPrune"]


@dataclass(frozen=True)
class ChannelPrune(Pass):
    """Removes the least important channels of every group that is free.

    A channel is what `gfx.channels` says it is: all slices of all tensors that must go together.
    Ratios and counts are of such channels. What is removed is said by `ratio` and `ratios`, or by
    one of `widths`, `kept` and `budget`; with none of them, half of each group goes.

    1. Groups that are pinned, or that `keep` names, are skipped with the reason; so are those
       whose removal is approximate, where that is refused.
    2. What `ratio`, `ratios` and `budget` leave of a group is at least `min_channels`, at least
       the share that `max_ratio` allows, and a multiple of `round_to`, rounded up; or the whole
       group. `widths` and `kept` are taken at their word.
    3. Removing nothing although something was asked for is an error.
    4. A group follows the first glob of `ratios` that names one of its modules, else `ratio`, and
       stays whole if there is none. What one glob names is a stage: only groups of one stage are
       ranked together.
    5. Every budget is met. The result ends within `tolerance` below one of them, or it is an error
       that tells the nearest value on both sides. One on latency is met as measured: widths are
       chosen by the predicted milliseconds, built, and measured, a few times; how near they come
       is not asked, as noise is larger than the difference.
    6. Where other passes of a recipe share its budget, they decide about layers and this one about
       groups, together: for the least damage as `decompose` measures it. Which channels of a group
       go is still said by `importance`; `scope` and `tolerance` are for this pass alone.

    Shapes: inputs and outputs keep theirs; what lies between gets narrower.
    Raises: PreconditionError if nothing can be removed (rule 3); BudgetError if the budget cannot
    be met (rule 5); RecipeError if a module that is named does not exist.

    Example:
        >>> import gfx
        >>> program = gfx.trace(gfx.zoo.build("dcgan"))
        >>> outcome = ChannelPrune(ratio=0.5).apply(program, gfx.Context())
        >>> program.tensor("up.0.conv.weight").shape
        torch.Size([256, 128, 4, 4])
    """

    name: ClassVar[str] = "channel_prune"
    keeps: ClassVar[Keeps] = Keeps.SIGNATURE

    ratio: float | None = None  # share of channels removed, 0 ≤ ratio < 1
    ratios: Mapping[str, float] = field(default_factory=dict)  # glob over modules: share removed
    importance: Importance = "l1"
    reduce: Reduce = "mean"  # brings together what the layers of a group say of a channel
    # the ratio holds in each group; global: over all; isomorphic: over like; knapsack: over all, by
    # what is lost for each share of the budget saved
    scope: Scope = "local"
    approximate: Literal["allow", "refuse"] = "allow"  # groups whose removal is not exact
    attention: Attention = "width"  # one index of every head goes, or whole heads
    group_norm: GroupNorms = "auto"  # whole groups go, or some of each (regroup: approximate)
    round_to: int = 1  # channels; what a group keeps is a multiple of it
    min_channels: int = 1  # as many stay of every group, or all if it has no more
    max_ratio: float = 1.0  # share of a group that goes at most, 0 < max_ratio ≤ 1
    keep: tuple[str, ...] = ()  # globs over modules whose output channels all stay
    targets: tuple[str, ...] = ("*",)  # globs over modules whose output channels may go
    widths: Mapping[str, int] = field(default_factory=dict)  # glob: exact number of channels
    kept: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # module: channels that stay
    budget: tuple[Budget, ...] | None = None  # absolute limits; None: the recipe's
    tolerance: float = 0.01  # how far below the budget the result may end, 0 ≤ tolerance ≤ 1
    batches: int = 8  # of the data, or of noise: as many are looked at where the importance does
    seed: int | None = None  # of all that is drawn at random; None: the recipe's

    def __post_init__(self) -> None:
        shares = {"ratio": self.ratio or 0, **{f"ratios[{g}]": n for g, n in self.ratios.items()}}
        counts = {name: getattr(self, name) for name in ("round_to", "min_channels", "batches")}
        counts |= {f"widths[{glob}]": count for glob, count in self.widths.items()}
        with prefixed(self.name):
            for name, share in shares.items():
                check_range(name, share, at_least=0, below=1)
            for name, count in counts.items():
                check_range(name, count, at_least=1)
            check_range("max_ratio", self.max_ratio, above=0, at_most=1)
            check_range("tolerance", self.tolerance, at_least=0, at_most=1)
            if len(self._asked) > 1 and self._asked != ["ratio", "ratios"]:
                asked = " and ".join(self._asked)
                raise RecipeError(f"{asked} both say what to remove; give one of them")

    @property
    def needs_data(self) -> bool:
        """Whether the importance looks at the user's data."""
        return needs_data(self.importance) and not self.kept

    @property
    def takes_budget(self) -> bool:
        """Whether nothing else says what to remove."""
        return super().takes_budget and self._asked in ([], ["budget"])

    @property
    def _asked(self) -> list[str]:
        """The fields that say what to remove."""
        given = {"ratio": self.ratio is not None, "ratios": self.ratios, "widths": self.widths}
        given |= {"kept": self.kept, "budget": self.budget is not None}
        return [name for name, said in given.items() if said]

    def apply(self, program: Program, context: Context) -> Outcome:
        """Removes channels and lists what each module has left."""
        groups = self._groups(program)
        removed, outcome = self._plan(groups, context.of(self))
        if not removed.any():
            return outcome
        stay = stays(groups, removed)
        for name, (before, indices) in stay.items():
            outcome.change(name, "channels", before, len(indices))
        outcome.details |= record(groups, removed, {name: kept for name, (_, kept) in stay.items()})
        resolved = outcome.resolved = self._resolved(stay)
        outcome.reference = resolved.reference
        # statistics of weights, such as a spectral norm that the model computes
        stored = remove(program, groups, removed)
        outcome.details |= {"stored": list(stored)} if stored else {}
        return outcome

    def offer(self, program: Program, context: Context) -> Offer | None:
        """Offers to narrow every group that may be (rule 6)."""
        groups = self._groups(program)
        chosen = self._selection(groups, context.of(self), Outcome())

        def resolve(decision: Decision) -> ChannelPrune:
            return self._resolved(stays(groups, chosen.by_names(decision.widths)))

        narrowed = Narrowed(groups, chosen.among, chosen.down_to, chosen.bounds)
        return Offer(resolve, narrowed=narrowed, batches=self.batches)

    def reference(self, before: Program) -> Program:
        """Returns a copy with zeros for the removed channels, where the original reads them."""
        reference = before.copy(on_write=True)
        groups = self._groups(reference)
        removed, _ = self._plan(groups, Context().of(self))
        masked(reference, groups, removed)
        return reference

    def _resolved(self, stay: Mapping[str, tuple[int, list[int]]]) -> "ChannelPrune":
        """Writes out what was chosen."""
        kept = {name: tuple(indices) for name, (_, indices) in stay.items()}
        ratio = None if kept else 0.0
        return replace(self, ratio=ratio, ratios={}, widths={}, budget=None, kept=kept)

    def _groups(self, program: Program) -> Groups:
        exact = self.group_norm == "auto" and self.approximate == "refuse"
        norms: GroupNorms = "whole" if exact else self.group_norm
        return analyse(program, attention=self.attention, group_norm=norms)

    def _plan(self, groups: Groups, context: Context) -> tuple[Mask, Outcome]:
        """Decides which classes of labels go; the same program gives the same plan."""
        outcome = Outcome()
        chosen = self._selection(groups, context, outcome)
        if self.kept:
            return by_kept(groups, chosen.among, self.kept), outcome
        if otherwise := notes(groups, chosen.among, self.importance):
            outcome.details["importance"] = otherwise
        if self.widths:
            return by_widths(groups, chosen.among, chosen.scores, self.widths), outcome
        if context.budgets:
            limits = Limits(context.budgets, context.meter)
            outcome.details["requested"] = limits.requested
            plan, timings = plan_widths(chosen, limits, self.tolerance)  # rule 5
            outcome.timings |= timings
            return chosen.by_names(plan.widths), outcome
        removed, asked, skipped = by_stages(chosen, self.ratios, self.ratio)  # rules 3 and 4
        outcome.details["requested"] = asked
        outcome.skips += [Skip(*skip) for skip in skipped]
        return removed, outcome

    def _selection(self, groups: Groups, context: Context, outcome: Outcome) -> Selection:
        """Ranks the channels that may go, and says why the others may not (rules 1 and 2)."""
        globs = {"keep": self.keep, "targets": self.targets, "ratios": tuple(self.ratios)}
        among, skipped = candidates(groups, globs, self.approximate)
        outcome.skips += [Skip(*skip) for skip in skipped]
        by: Any = {"data": context.data, "batches": self.batches, "seed": context.seed}
        ranked = {} if self.kept else rank(groups, among, self.importance, reduce=self.reduce, **by)
        bounds = Bounds(self.round_to, self.min_channels, self.max_ratio)
        return Selection(groups, among, ranked, bounds, self.scope)
