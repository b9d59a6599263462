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
from gfx.compression.selection import Bounds, Scope, Selection, by_stages, candidates
from gfx.compression.selection.by_name import by_kept, by_widths
from gfx.compression.selection.removal_steps import Removal, check_step
from gfx.contract import Context, Keeps, Outcome, Pass, Skip
from gfx.costs import Budget
from gfx.coupling import Attention, GroupNorms, Groups, analyse
from gfx.coupling.analysis import analyse_like
from gfx.coupling.channel_names import stays
from gfx.coupling.labels import Mask
from gfx.coupling.removal import masked, remove
from gfx.errors import MOST, RecipeError, check_range, prefixed
from gfx.ir.program import Program
from gfx.search import Decision, Limits, Narrowed, Offer, plan_widths

__all__ = ["ChannelPrune"]


@dataclass(frozen=True)
class ChannelPrune(Pass):
    """Removes the least important channels of every free group.

    A channel is one of `gfx.channels`: all slices of all tensors that are removed together. Fields
    count such channels. `ratio` and `ratios`, or one of `widths`, `kept` and `budget`, say how many
    are removed; with none of them, half of each group is.

    1. Groups that are pinned, that `keep` names, or whose removal is approximate although
       `approximate` refuses that, are skipped with the reason.
    2. With `ratio`, `ratios` or `budget` a group keeps at least `min_channels`, at least the share
       1 - `max_ratio`, and a multiple of `round_to`, rounded up, or all. `widths` and `kept` are
       exact.
    3. Removing nothing although a field asks for a removal is an error.
    4. A group has the ratio of the first glob of `ratios` that names one of its modules, else
       `ratio`, else it stays whole. The groups of one glob are a stage, and ranked together.
    5. Every budget is met, one of them within `tolerance`, else it is an error with the nearest
       values on both sides. For one on latency, widths are chosen by predicted milliseconds, built
       and measured, a few times; `tolerance` is not checked, as noise is larger.
    6. If other passes share the recipe's budget, one search decides about their layers and these
       groups, for the least damage as `decompose` measures it. `importance` still ranks the
       channels of a group; `scope` and `tolerance` have no effect.
    7. `kept` may ask for a part of channels that go together, as what several prunes left: what
       goes as a whole is removed first, the rest from the program that results.

    Shapes: inputs and outputs keep theirs; activations between them get narrower.
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
    reduce: Reduce = "mean"  # combines the scores of a channel from all layers of its group
    # local: the ratio holds in each group; global: over all groups; isomorphic: over groups alike;
    # knapsack: over all groups, by the score lost for each share of the budget saved
    scope: Scope = "local"
    approximate: Literal["allow", "refuse"] = "allow"  # groups whose removal is not exact
    attention: Attention = "width"  # removes one index of every head, or whole heads
    group_norm: GroupNorms = "auto"  # removes whole groups, or some of each (regroup: approximate)
    round_to: int = 1  # channels; what a group keeps is a multiple of it
    min_channels: int = 1  # that every group keeps, or all if it has no more
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
        outcome, done = Outcome(), None
        for groups, removed, _ in self._removals(program, context.of(self), outcome):
            step = Removal.of(groups, removed)
            # statistics of weights, such as a spectral norm that the model computes
            stored = remove(program, groups, removed)
            step.details.update({"stored": list(stored)} if stored else {})
            done = done.then(step) if done else step
        if done is None:
            return outcome
        for name, (before, indices) in done.stay.items():
            outcome.change(name, "channels", before, len(indices))
        outcome.details |= done.details
        resolved = outcome.resolved = self._resolved(done.stay)
        outcome.reference = resolved.reference
        return outcome

    def offer(self, program: Program, context: Context) -> Offer | None:
        """Offers the groups that may be narrowed (rule 6)."""
        groups = self._groups(program)
        chosen = self._selection(groups, context.of(self), Outcome())

        def resolve(decision: Decision) -> ChannelPrune:
            return self._resolved(stays(groups, chosen.by_names(decision.widths)))

        narrowed = Narrowed(groups, chosen.among, chosen.down_to, chosen.bounds)
        return Offer(resolve, narrowed=narrowed, batches=self.batches)

    def reference(self, before: Program) -> Program:
        """Returns a copy of the original that reads zeros for the removed channels (rule 7)."""
        program = reference = before.copy(on_write=True)
        for groups, removed, more in self._removals(program, Context().of(self), Outcome()):
            reference = program.copy(on_write=True) if more else program
            masked(reference, analyse_like(groups, reference) if more else groups, removed)
            if more:  # the reference of what goes next is the program after this
                remove(program, groups, removed)
                check_step(self.name, reference, program)
        return reference

    def _resolved(self, stay: Mapping[str, tuple[int, list[int]]]) -> "ChannelPrune":
        """Returns the pass with the chosen channels in `kept`."""
        kept = {name: tuple(indices) for name, (_, indices) in stay.items()}
        ratio = None if kept else 0.0
        return replace(self, ratio=ratio, ratios={}, widths={}, budget=None, kept=kept)

    def _groups(self, program: Program) -> Groups:
        exact = self.group_norm == "auto" and self.approximate == "refuse"
        norms: GroupNorms = "whole" if exact else self.group_norm
        return analyse(program, attention=self.attention, group_norm=norms)

    def _removals(
        self, program: Program, context: Context, outcome: Outcome
    ) -> Iterator[tuple[Groups, Mask, bool]]:
        """Yields what to remove, and whether more follows from the program that is left (rule 7).

        The same program gives the same removals.
        """
        groups, kept = self._groups(program), self.kept
        chosen = self._selection(groups, context, outcome)
        removed = None if kept else self._plan(groups, chosen, context, outcome)
        while kept:
            removed, kept = by_kept(groups, chosen.among, kept)
            if kept:
                yield groups, removed, True
                groups = self._groups(program)
                chosen = self._selection(groups, context, Outcome())
        if removed is not None and removed.any():
            yield groups, removed, False

    def _plan(self, groups: Groups, chosen: Selection, context: Context, outcome: Outcome) -> Mask:
        """Chooses the classes of labels to remove."""
        if otherwise := notes(groups, chosen.among, self.importance):
            outcome.details["importance"] = otherwise
        if self.widths:
            return by_widths(groups, chosen.among, chosen.scores, self.widths)
        if context.budgets:
            limits = Limits(context.budgets, context.meter)
            outcome.details["requested"] = limits.requested
            plan, timings = plan_widths(chosen, limits, self.tolerance)  # rule 5
            outcome.timings |= timings
            return chosen.by_names(plan.widths)
        removed, asked, skipped = by_stages(chosen, self.ratios, self.ratio)  # rules 3 and 4
        outcome.details["requested"] = asked
        outcome.skips += [Skip(*skip) for skip in skipped]
        return removed

    def _selection(self, groups: Groups, context: Context, outcome: Outcome) -> Selection:
        """Ranks the channels that may be removed, and skips the others (rules 1 and 2)."""
        globs = {"keep": self.keep, "targets": self.targets, "ratios": tuple(self.ratios)}
        among, skipped = candidates(groups, globs, self.approximate)
        outcome.skips += [Skip(*skip) for skip in skipped]
        by: Any = {"data": context.data, "batches": self.batches, "seed": context.seed}
        ranked = {} if self.kept else rank(groups, among, self.importance, reduce=self.reduce, **by)
        bounds = Bounds(self.round_to, self.min_channels, self.max_ratio)
        return Selection(groups, among, ranked, bounds, self.scope)
