"""Removes whole coupled channels, and repairs everything that counted on them.

Before   y = conv2(relu(norm(conv1(x))))        conv1: 3 → 64, conv2: 64 → 3
After    y = conv2'(relu(norm'(conv1'(x))))     conv1': 3 → 32, conv2': 32 → 3
Source   Li et al. 2017, arXiv:1608.08710 (filters ranked by their L1 norm); the coupling of
         channels is gfx's own (docs/architecture.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal

from gfx.compression.importance import Importance, Reduce, Scores, needs_data, notes, rank
from gfx.compression.selection import Bounds, Scope, Selection, record
from gfx.compression.selection.by_name import by_kept, by_widths
from gfx.contract import Keeps, Outcome, Pass
from gfx.costs import Budget, cost_of
from gfx.coupling import Attention, Group, GroupNorms, Groups, analyse
from gfx.coupling.channel_names import check_globs, modules_of, stays
from gfx.coupling.labels import Mask
from gfx.coupling.removal import masked, remove
from gfx.deploy.latency.machine_meter import stopwatch_of
from gfx.errors import PreconditionError, RecipeError
from gfx.ir.program import Program
from gfx.search import Decision, MeasuredWidths, Narrowed, Offer

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
       that tells the nearest value on both sides. One on latency is met by the clock: widths are
       chosen by the milliseconds that are foreseen, built, and measured, a few times; how near
       they come is not asked, as no clock could tell.
    6. Where other passes of a recipe share its budget, they decide about layers and this one about
       groups, together: for the least damage as `decompose` measures it. Which channels of a group
       go is still said by `importance`; `scope` and `tolerance` are for this pass alone.

    Shapes: inputs and outputs keep theirs; what lies between gets narrower.
    Raises: PreconditionError if nothing can be removed (rule 3); BudgetError if the budget cannot
    be met (rule 5); RecipeError if a module that is named does not exist.

    Example:
        >>> import gfx
        >>> program = gfx.trace(gfx.zoo.build("dcgan"))
        >>> outcome = ChannelPrune(ratio=0.5).apply(program)
        >>> program.tensor("up.0.conv.weight").shape
        torch.Size([256, 128, 4, 4])
    """

    name: ClassVar[str] = "channel_prune"
    keeps: ClassVar[Keeps] = Keeps.SIGNATURE

    ratio: float | None = None  # share of channels removed, 0 ≤ ratio < 1
    ratios: Mapping[str, float] = field(default_factory=dict)  # glob over modules: share removed
    importance: Importance = "l1"
    reduce: Reduce = "mean"  # brings together what the layers of a group say of a channel
    scope: Scope = (
        "local"  # the ratio holds in each group; global: over all; isomorphic: over like;
    )
    # knapsack: over all, by what is lost for each share of the budget saved
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
        for name, share in {"ratio": self.ratio or 0, **_listed("ratios", self.ratios)}.items():
            if not 0 <= share < 1:
                raise RecipeError(f"channel_prune: {name}={share} must be at least 0 and below 1")
        counts = {"round_to": self.round_to, "min_channels": self.min_channels}
        counts |= {"batches": self.batches, **_listed("widths", self.widths)}
        for name, count in counts.items():
            if count < 1:
                raise RecipeError(f"channel_prune: {name}={count} must be at least 1")
        if not 0 < self.max_ratio <= 1:
            raise RecipeError(
                f"channel_prune: max_ratio={self.max_ratio} must be above 0 and at most 1"
            )
        if not 0 <= self.tolerance <= 1:
            raise RecipeError(f"channel_prune: tolerance={self.tolerance} must be between 0 and 1")
        asked = [n for n in ("ratio", "ratios", "widths", "kept", "budget") if self._says(n)]
        if len(asked) > 1 and asked != ["ratio", "ratios"]:
            raise RecipeError(
                f"channel_prune: {' and '.join(asked)} both say what to remove; give one of them"
            )

    @property
    def needs_data(self) -> bool:
        """Whether the importance looks at the user's data."""
        return needs_data(self.importance) and not self.kept

    def apply(self, program: Program) -> Outcome:
        """Removes channels and lists what each module has left."""
        return self.apply_with(program, None)

    def apply_with(self, program: Program, data: Any) -> Outcome:
        """Removes channels; data is for the importances that look at it."""
        groups = self._groups(program)
        removed, outcome = self._plan(groups, data)
        if not removed.any():
            self._check_empty(groups)
            return outcome
        stay = stays(groups, removed)
        for name, (before, indices) in stay.items():
            outcome.change(name, "channels", before, len(indices))
        kept = {name: indices for name, (_, indices) in stay.items()}
        outcome.details |= record(groups, removed, kept)
        outcome.resolved = self._resolved(kept)
        stored = remove(program, groups, removed)
        if stored:  # statistics of weights, such as a spectral norm that the model computes
            outcome.details["stored"] = list(stored)
        return outcome

    def offer(self, program: Program, data: Any) -> Offer | None:
        """Offers to narrow every group that may be (rule 6)."""
        groups = self._groups(program)
        among = self._among(groups, Outcome())
        ranked = self._ranked(groups, among, data)
        chosen = Selection(groups, among, ranked, self._bounds(), self.scope)

        def settle(decision: Decision) -> ChannelPrune:
            gone = stays(groups, chosen.by_names(decision.widths))
            kept = {name: indices for name, (_, indices) in gone.items()}
            return self._resolved(kept) if kept else replace(self, ratio=0.0, budget=None)

        narrowed = Narrowed(groups, among, chosen.down_to, self._bounds())
        return Offer(settle, narrowed=narrowed, batches=self.batches)

    def reference(self, before: Program) -> Program | None:
        """Zeroes the removed channels where the original reads them."""
        reference = before.copy()
        groups = self._groups(reference)
        removed, _ = self._plan(groups, None)
        if removed.any():
            masked(reference, groups, removed)
        return reference

    def _resolved(self, kept: Mapping[str, list[int]]) -> "ChannelPrune":
        """Writes out what was chosen."""
        stay = {name: tuple(indices) for name, indices in kept.items()}
        return replace(self, ratio=None, ratios={}, widths={}, budget=None, kept=stay)

    def _groups(self, program: Program) -> Groups:
        exact = self.group_norm == "auto" and self.approximate == "refuse"
        norms: GroupNorms = "whole" if exact else self.group_norm
        return analyse(program, attention=self.attention, group_norm=norms)

    def _says(self, name: str) -> bool:
        value = getattr(self, name)
        return value is not None if name in ("ratio", "budget") else bool(value)

    def _plan(self, groups: Groups, data: Any) -> tuple[Mask, Outcome]:
        """Decides which classes of labels go; the same program gives the same plan."""
        outcome = Outcome()
        among = self._among(groups, outcome)
        if self.kept:
            return by_kept(groups, among, self.kept), outcome
        ranked = self._ranked(groups, among, data)
        otherwise = notes(groups, among, self.importance)
        if otherwise:
            outcome.details["importance"] = otherwise
        if self.widths:
            return by_widths(groups, among, ranked, self.widths), outcome
        if self.budget is None and self.scope == "knapsack":
            raise RecipeError(
                "channel_prune: scope=knapsack weighs channels by what they save of a budget; give "
                "a budget, or use scope: global"
            )
        if self.budget is None:
            return self._by_ratio(groups, among, ranked, outcome), outcome
        chosen = Selection(groups, among, ranked, self._bounds(), self.scope)
        return self._by_budget(chosen, self.budget, outcome), outcome

    def _by_budget(self, chosen: Selection, budgets: tuple[Budget, ...], outcome: Outcome) -> Mask:
        """Removes what meets every budget (rule 5)."""
        program = chosen.groups.flow.program
        outcome.details["requested"] = {b.name: b.asked for b in budgets}
        cost = cost_of(program)
        if not any(budget.timed for budget in budgets):
            if all(budget.kept(cost) for budget in budgets):
                return chosen.groups.none_removed()
            return chosen.by_budget(budgets, cost, self.tolerance)
        stopwatch = stopwatch_of(program, budgets)
        budgets = tuple(stopwatch.settled(budget) for budget in budgets)
        if stopwatch.keeps(program, cost, budgets):
            return chosen.groups.none_removed()
        timed = MeasuredWidths(chosen, budgets, cost, stopwatch)
        removed = timed.removed()
        outcome.timings |= {"foreseen": timed.foreseen, "measured": timed.measured}
        return removed

    def _ranked(self, groups: Groups, among: tuple[Group, ...], data: Any) -> Mapping[str, Scores]:
        return rank(
            groups,
            among,
            self.importance,
            reduce=self.reduce,
            seed=self.seed or 0,
            data=data,
            batches=self.batches,
        )

    def _by_ratio(
        self,
        groups: Groups,
        among: tuple[Group, ...],
        ranked: Mapping[str, Scores],
        outcome: Outcome,
    ) -> Mask:
        """Removes a share of every stage (rule 4)."""
        asked = {"ratio": self._ratio()} | ({"ratios": self.ratios} if self.ratios else {})
        outcome.details["requested"] = {k: v for k, v in asked.items() if v is not None}
        shares, chosen = [], []
        for group in among:
            names = modules_of(group)
            glob = next((glob for glob in self.ratios if _matches(names, (glob,))), None)
            share = self._ratio() if glob is None else self.ratios[glob]
            if share is None:
                outcome.skip(group.name, "no glob of ratios names it, and there is no ratio")
                continue
            chosen.append(group)
            shares.append((glob, share))
        selection = Selection(groups, tuple(chosen), ranked, self._bounds(), self.scope)
        return selection.by_ratio(shares)

    def _ratio(self) -> float | None:
        return 0.5 if self.ratio is None and not self.ratios else self.ratio

    def _bounds(self) -> Bounds:
        return Bounds(self.round_to, self.min_channels, self.max_ratio)

    def _among(self, groups: Groups, outcome: Outcome) -> tuple[Group, ...]:
        """Lists the groups that may be narrowed, and says why the others may not (rule 1)."""
        globs = {"keep": self.keep, "targets": self.targets, "ratios": tuple(self.ratios)}
        check_globs(groups, globs)
        for module, why in groups.flow.refused.items():
            outcome.skip(module, why)
        among = []
        for group in groups:
            owners = modules_of(group)
            if group.pinned:
                outcome.skip(group.name, group.pinned)
            elif group.size == 1:
                outcome.skip(group.name, "it has a single channel")
            elif group.approximate and self.approximate == "refuse":
                outcome.skip(group.name, f"approximate: refuse, and {group.approximate}")
            elif _matches(owners, self.keep):
                outcome.skip(group.name, "keep names it")
            elif _matches(owners, self.targets):
                among.append(group)
            else:
                outcome.skip(group.name, "targets does not name it")
        return tuple(among)

    def _check_empty(self, groups: Groups) -> None:
        """Raises if something was to be removed and nothing could be (rule 3)."""
        asked = [*self.ratios.values(), *(r for r in [self._ratio()] if r is not None)]
        if not any(asked) or self.widths or self.kept or self.budget is not None:
            return  # that is what was asked for
        said = f"ratios={dict(self.ratios)}" if self.ratios else f"ratio={self._ratio()}"
        free = ", ".join(f"{g.name} ({g.size})" for g in groups.free[:6]) or "none"
        reasons = [f"{g.name}: {g.pinned}" for g in groups if g.pinned]
        pinned = "; ".join(reasons or groups.flow.refused.values())
        raise PreconditionError(
            f"channel_prune: {said} removes nothing ({self._bounds()}). Free groups and their "
            f"channels: {free}. Pinned groups: {pinned[:600] or 'none'}"
        )


def _listed(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}[{key}]": value for key, value in values.items()}


def _matches(names: tuple[str, ...], globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, glob) for name in names for glob in globs)
