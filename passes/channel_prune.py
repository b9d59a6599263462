"""Removes coupled channels, and adapts every layer and argument that depends on their number.

Before   y = conv2(relu(norm(conv1(x))))        conv1: 3 → 64, conv2: 64 → 3
After    y = conv2'(relu(norm'(conv1'(x))))     conv1': 3 → 32, conv2': 32 → 3
Source   Li et al. 2017, arXiv:1608.08710 (filters ranked by their L1 norm); the coupling of
         channels is gfx's own (docs/architecture.md).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from gfx.compression.importance import Importance, Reduce, needs_data, notes, rank
from gfx.compression.selection import MIN_CHANNELS, Bounds, Scope, Selection, candidates
from gfx.compression.selection.by_name import by_kept, by_widths
from gfx.compression.selection.candidate_groups import by_stages, unrounded
from gfx.compression.selection.removal_steps import Step, take, zero
from gfx.contract import Context, Keeps, Outcome, Pass, Skip
from gfx.costs import Budget
from gfx.coupling import Attention, GroupNorms, Groups, analyse
from gfx.coupling.channel_names import stays
from gfx.coupling.labels import Mask
from gfx.errors import MOST, RecipeError, check_range, prefixed
from gfx.ir.program import Program
from gfx.planning import Decision, Limits, Narrowed, Offer, plan_widths

__all__ = ["ChannelPrune"]


@dataclass(frozen=True)
class ChannelPrune(Pass):
    """Removes the least important channels of every free group (`gfx.channels`).

    Channels are those of the layers, even where several go together. `ratio` and `ratios`, or one
    of `widths`, `kept` and `budget`, say how many are removed; with none, half of each group is.

    1. Groups that are pinned, that `keep` names, or whose removal is approximate although
       `approximate` refuses that, are skipped with the reason.
    2. With `ratio`, `ratios` or `budget` a layer keeps of each group at least `min_channels`, at
       least the share 1 - `max_ratio`, and a multiple of `round_to`, rounded up, or all, skipped
       with the reason; `widths` and `kept` are exact. To remove nothing at all is an error.
    3. A group has the ratio of the first glob of `ratios` that names one of its modules, else
       `ratio`, else it stays whole. The groups of one glob are a stage, and ranked together.
       `details["note"]` says if much less goes.
    4. Every budget is met, one of them within `tolerance`, else it is an error with the nearest
       values on both sides. For one on latency, widths are chosen by predicted milliseconds, built
       and measured, a few times; `tolerance` is not checked, as noise is larger.
    5. If other passes share the recipe's budget, one search decides for the least damage;
       `importance` still ranks the channels of a group, `scope` and `tolerance` have no effect.
    6. Of channels that go together `kept` may name a part: the rest then goes in a second step.

    Shapes: inputs and outputs keep theirs; activations between them get narrower.
    Raises: PreconditionError if nothing can be removed (rule 2); BudgetError if the budget cannot
    be met (rule 4); RecipeError if a module that is named does not exist.

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
    reduce: Reduce = "mean"  # combines the scores of a channel from all layers of its group
    # local: the ratio holds in each group; global: over all groups; isomorphic: over groups alike;
    # knapsack: over all groups, by the score lost for each share of the budget saved
    scope: Scope = "local"
    approximate: Literal["allow", "refuse"] = "allow"  # groups whose removal is not exact
    attention: Attention = "width"  # removes one index of every head, or whole heads
    group_norm: GroupNorms = "auto"  # removes whole groups, or some of each (regroup: approximate)
    round_to: int = 1  # channels; what a layer keeps of a group is a multiple of it
    min_channels: int = MIN_CHANNELS  # that a layer keeps of a group, or all: 4 may be an image
    max_ratio: float = 1.0  # share of a group that is removed at most, 0 < max_ratio ≤ 1
    keep: tuple[str, ...] = ()  # globs over modules whose output channels all stay
    targets: tuple[str, ...] = ("*",)  # globs over modules whose output channels may be removed
    widths: Mapping[str, int] = field(default_factory=dict)  # glob: exact number of channels
    kept: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # module: channels that stay
    budget: tuple[Budget, ...] | None = None  # absolute limits; None: the recipe's
    tolerance: float = 0.01  # how far below the budget the result may end, 0 ≤ tolerance ≤ 1
    batches: int = 8  # of the data, or of noise, if the importance runs the program
    seed: int | None = None  # of all random numbers; None: the recipe's

    def __post_init__(self) -> None:
        shares = {"ratio": self.ratio or 0, **{f"ratios[{g}]": n for g, n in self.ratios.items()}}
        counts = {name: getattr(self, name) for name in ("round_to", "min_channels", "batches")}
        counts |= {f"widths[{glob}]": count for glob, count in self.widths.items()}
        with prefixed(self.name):
            for name, share in shares.items():
                check_range(name, share, at_least=0, below=1)
            for name, count in counts.items():
                check_range(name, count, at_least=1, at_most=MOST)
            check_range("max_ratio", self.max_ratio, above=0, at_most=1)
            check_range("tolerance", self.tolerance, at_least=0, at_most=1)
            if len(self._asked) > 1 and self._asked != ["ratio", "ratios"]:
                asked = " and ".join(self._asked)
                raise RecipeError(f"{asked} both say what to remove; give one of them")

    @property
    def needs_data(self) -> bool:
        """Whether the importance needs the user's data."""
        return needs_data(self.importance) and not self.kept

    @property
    def takes_budget(self) -> bool:
        """Whether no other field says what to remove."""
        return super().takes_budget and self._asked in ([], ["budget"])

    @property
    def _asked(self) -> list[str]:
        """The fields that say what to remove."""
        given = {"ratio": self.ratio is not None, "ratios": self.ratios, "widths": self.widths}
        given |= {"kept": self.kept, "budget": self.budget is not None}
        return [name for name, said in given.items() if said]

    def apply(self, program: Program, context: Context) -> Outcome:
        """Removes channels, and reports those that each module keeps."""
        outcome = Outcome()
        done = take(program, self._removals(program, context.of(self), outcome))
        if done is not None:
            for name, (before, indices) in done.stay.items():
                outcome.change(name, "channels", before, len(indices))
            outcome.details |= done.details
            outcome.resolved = self._resolved(done.stay)
            outcome.reference = outcome.resolved.reference
        return outcome

    def offer(self, program: Program, context: Context) -> Offer | None:
        """Offers the groups that may be narrowed (rule 5)."""
        groups = self._groups(program)
        chosen = self._selection(groups, context.of(self), Outcome())

        def resolve(decision: Decision) -> ChannelPrune:
            return self._resolved(stays(groups, chosen.by_names(decision.widths)))

        narrowed = Narrowed(groups, chosen.among, chosen.down_to, chosen.bounds)
        return Offer(resolve, narrowed=narrowed, batches=self.batches)

    def reference(self, before: Program) -> Program:
        """Returns a copy of the original that reads zeros for the removed channels (rule 6)."""
        reference = before.copy(on_write=True)
        return zero(self.name, reference, self._removals(reference, Context().of(self), Outcome()))

    def _resolved(self, stay: Mapping[str, tuple[int, list[int]]]) -> "ChannelPrune":
        """Returns the pass with the chosen channels in `kept`."""
        kept = {name: tuple(indices) for name, (_, indices) in stay.items()}
        asked: dict[str, Any] = {"ratio": None if kept else 0.0, "ratios": {}, "widths": {}}
        return replace(self, budget=None, kept=kept, **asked)

    def _groups(self, program: Program) -> Groups:
        exact = self.group_norm == "auto" and self.approximate == "refuse"
        norms: GroupNorms = "whole" if exact else self.group_norm
        return analyse(program, attention=self.attention, group_norm=norms)

    def _removals(self, program: Program, context: Context, outcome: Outcome) -> Iterator[Step]:
        """Yields what to remove, step by step; the same program gives the same (rule 6)."""
        groups, kept = self._groups(program), self.kept
        chosen = self._selection(groups, context, outcome)
        if not kept and (removed := self._plan(groups, chosen, context, outcome)).any():
            yield groups, removed, False
        while kept:
            removed, kept = by_kept(groups, chosen.among, kept)
            yield groups, removed, bool(kept)
            if kept:
                groups = self._groups(program)
                chosen = self._selection(groups, context, Outcome())

    def _plan(self, groups: Groups, chosen: Selection, context: Context, outcome: Outcome) -> Mask:
        """Chooses the classes of labels to remove."""
        if otherwise := notes(groups, chosen.among, self.importance):
            outcome.details["importance"] = otherwise
        if self.widths:
            return by_widths(groups, chosen.among, chosen.scores, self.widths)
        if context.budgets:
            limits = Limits(context.budgets, context.meter)
            plan, outcome.timings = plan_widths(chosen, limits, self.tolerance)  # rule 4
            removed, details = chosen.by_names(plan.widths), {"requested": limits.requested}
            skipped = unrounded(chosen, removed)
        else:
            removed, details, skipped = by_stages(chosen, self.ratios, self.ratio)  # rule 3
        outcome.details |= details
        outcome.skips += [Skip(*skip) for skip in skipped]
        return removed

    def _selection(self, groups: Groups, context: Context, outcome: Outcome) -> Selection:
        """Ranks the channels that may be removed, and skips the others (rules 1 and 2)."""
        globs = {"keep": self.keep, "targets": self.targets, "ratios": tuple(self.ratios)}
        given = (self.round_to, self.min_channels, self.max_ratio)
        bounds = Bounds(min_channels=1) if self.kept or self.widths else Bounds(*given)  # rule 2
        among, bounded, skipped = candidates(groups, globs, self.approximate, bounds)
        outcome.skips += [Skip(*skip) for skip in skipped]
        by: Any = {"data": context.data, "batches": self.batches, "seed": context.seed}
        ranked = {} if self.kept else rank(groups, among, self.importance, reduce=self.reduce, **by)
        return Selection(groups, among, ranked, bounds, self.scope, bounded)
