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

import numpy as np

from gfx.contract import Keeps, Outcome, Pass
from gfx.costing import Budget, cost_of
from gfx.coupling import Group, Groups, analyse
from gfx.edit import masked, remove
from gfx.errors import PreconditionError, RecipeError
from gfx.importance import Importance, Reduce, needs_data, notes, rank
from gfx.program import Program
from gfx.selection import Mask, Scope, Selection
from gfx.widths import by_kept, by_widths, check_globs, modules_of, stays

__all__ = ["ChannelPrune"]


@dataclass(frozen=True)
class ChannelPrune(Pass):
    """Removes the least important channels of every group that is free.

    A channel is what `gfx.channels` says it is: all slices of all tensors that must go together.
    Ratios and counts are of such channels. What is removed is said by one of `ratio`, `widths`,
    `kept` or `budget`; with none of them, half of each group goes.

    1. Groups that are pinned, or that `keep` names, are skipped with the reason.
    2. A group keeps at least one channel, and a multiple of `round_to` unless it stays whole.
    3. Removing nothing although something was asked for is an error.

    Shapes: inputs and outputs keep theirs; what lies between gets narrower.
    Raises: PreconditionError if nothing can be removed (rule 3); BudgetError if the budget cannot
    be met; RecipeError if a module that is named does not exist.

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
    importance: Importance = "l1"
    reduce: Reduce = "mean"  # brings together what the layers of a group say of a channel
    scope: Scope = "local"  # local: the ratio holds in each group; global: over all together
    attention: Literal["width", "heads"] = "width"  # one index of every head goes, or whole heads
    group_norm: Literal["whole", "regroup"] = "whole"  # GroupNorms lose whole groups, or regroup
    round_to: int = 1  # channels; what a group keeps is a multiple of it
    keep: tuple[str, ...] = ()  # globs over modules whose output channels all stay
    targets: tuple[str, ...] = ("*",)  # globs over modules whose output channels may go
    widths: Mapping[str, int] = field(default_factory=dict)  # glob: exact number of channels
    kept: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # module: channels that stay
    budget: tuple[Budget, ...] | None = None  # absolute limits; None: the recipe's
    batches: int = 8  # of the data, or of noise: as many are looked at where the importance does
    seed: int | None = None  # of all that is drawn at random; None: the recipe's

    def __post_init__(self) -> None:
        if self.ratio is not None and not 0 <= self.ratio < 1:
            raise RecipeError(f"channel_prune: ratio={self.ratio} must be at least 0 and below 1")
        if self.round_to < 1:
            raise RecipeError(f"channel_prune: round_to={self.round_to} must be at least 1")
        if self.batches < 1:
            raise RecipeError(f"channel_prune: batches={self.batches} must be at least 1")
        for name, count in self.widths.items():
            if count < 1:
                raise RecipeError(f"channel_prune: widths[{name}]={count} must be at least 1")
        asked = [n for n in ("ratio", "widths", "kept", "budget") if self._says(n)]
        if len(asked) > 1:
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
        _record(groups, removed, outcome)
        outcome.resolved = self._resolved(outcome.details["kept"])
        stored = remove(program, groups, removed)
        if stored:  # statistics of weights, such as a spectral norm that the model computes
            outcome.details["stored"] = list(stored)
        return outcome

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
        return replace(self, ratio=None, widths={}, budget=None, kept=stay)

    def _groups(self, program: Program) -> Groups:
        return analyse(program, attention=self.attention, group_norm=self.group_norm)

    def _says(self, name: str) -> bool:
        value = getattr(self, name)
        return value is not None if name in ("ratio", "budget") else bool(value)

    def _plan(self, groups: Groups, data: Any) -> tuple[Mask, Outcome]:
        """Decides which classes of labels go; the same program gives the same plan."""
        outcome = Outcome()
        among = self._among(groups, outcome)
        if self.kept:
            return by_kept(groups, among, self.kept), outcome
        ranked = rank(
            groups,
            among,
            self.importance,
            reduce=self.reduce,
            seed=self.seed or 0,
            data=data,
            batches=self.batches,
        )
        otherwise = notes(groups, among, self.importance)
        if otherwise:
            outcome.details["importance"] = otherwise
        if self.widths:
            return by_widths(groups, among, ranked, self.widths), outcome
        chosen = Selection(groups, among, ranked, self.round_to, self.scope)
        if self.budget is not None:
            cost = cost_of(groups.flow.program)
            outcome.details["requested"] = {b.name: b.limit for b in self.budget}
            if all(b.value(cost) <= b.limit for b in self.budget):
                return groups.none_removed(), outcome
            return chosen.by_budget(self.budget, cost), outcome
        ratio = 0.5 if self.ratio is None else self.ratio
        outcome.details["requested"] = {"ratio": ratio}
        return chosen.by_ratio(ratio), outcome

    def _among(self, groups: Groups, outcome: Outcome) -> tuple[Group, ...]:
        """Lists the groups that may be narrowed, and says why the others may not (rule 1)."""
        check_globs(groups, {"keep": self.keep, "targets": self.targets})
        among = []
        for group in groups:
            owners = modules_of(group)
            if group.pinned:
                outcome.skip(group.name, group.pinned)
            elif group.size == 1:
                outcome.skip(group.name, "it has a single channel")
            elif _matches(owners, self.keep):
                outcome.skip(group.name, "keep names it")
            elif _matches(owners, self.targets):
                among.append(group)
            else:
                outcome.skip(group.name, "targets does not name it")
        return tuple(among)

    def _check_empty(self, groups: Groups) -> None:
        """Raises if something was to be removed and nothing could be (rule 3)."""
        if self.ratio == 0 or self.widths or self.kept or self.budget is not None:
            return  # that is what was asked for
        free = ", ".join(f"{g.name} ({g.size})" for g in groups.free[:6]) or "none"
        pinned = "; ".join(f"{g.name}: {g.pinned}" for g in groups if g.pinned)
        raise PreconditionError(
            f"channel_prune: ratio={0.5 if self.ratio is None else self.ratio} removes nothing "
            f"(round_to={self.round_to}). Free groups and their channels: {free}. "
            f"Pinned groups: {pinned[:600] or 'none'}"
        )


def _matches(names: tuple[str, ...], globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, glob) for name in names for glob in globs)


def _record(groups: Groups, removed: Mask, outcome: Outcome) -> None:
    """Writes what goes: a change per module, the indices that stay, and those of every tensor."""
    kept, stay = groups.kept(removed), stays(groups, removed)
    for name, (before, indices) in stay.items():
        outcome.change(name, "channels", before, len(indices))
    counts = _counts(groups, removed)
    gone, total = sum(c["removed"] for c in counts), sum(g.size for g in groups.free)
    outcome.details |= {
        "achieved": {"ratio": gone / total, "removed": gone, "of": total},
        "groups": counts,
        "kept": {name: indices for name, (_, indices) in stay.items()},  # it repeats this removal
        "tensors": _tensors(groups, kept),
    }


def _tensors(groups: Groups, kept: Mask) -> dict[str, dict[str, list[int]]]:
    """Lists for each tensor and dimension that loses something the indices that stay."""
    tensors: dict[str, dict[str, list[int]]] = {}
    for path, axes in groups.flow.axes.items():
        for axis in axes:
            if axis is not None and not kept[axis.ids].all():
                stay = np.flatnonzero(kept[axis.ids]).tolist()
                tensors.setdefault(path, {})[str(axis.dim)] = stay
    return tensors


def _counts(groups: Groups, removed: Mask) -> list[dict[str, Any]]:
    rows = []
    for group in groups.free:
        gone = int(removed[group.roots].sum())
        if gone:
            rows.append({"group": group.name, "channels": group.size, "removed": gone})
    return rows
