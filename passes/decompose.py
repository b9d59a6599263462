"""Writes convolutions as several cheaper ones, where that does little damage.

Before   y = conv(x)                            conv: 256 → 256 channels, 3x3
After    y = pointwise(norm(depthwise(x)))      depthwise: 3x3 on each channel, pointwise: 1x1
Source   Li et al. 2020, arXiv:2003.08936, section 3.3 and table 4 (which layers bear it);
         the forms and what they are computed from are in gfx/compression/factor, plans under a budget in
         gfx/planning.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torch import nn

from gfx.compression.factor import (
    Condition,
    Form,
    Names,
    choose,
    kernel_error,
    parts_of,
    price,
    written_out,
    written_rank,
)
from gfx.compression.factor.forms import Init, Kind, Norm
from gfx.compression.probe import Damages
from gfx.compression.selection.by_name import by_kept
from gfx.contract import Keeps, Outcome, Pass
from gfx.costs import Budget, cost_of
from gfx.coupling import Groups, analyse
from gfx.coupling.channel_names import stays
from gfx.coupling.labels import Mask
from gfx.coupling.removal import remove
from gfx.deploy.latency.machine_meter import stopwatch_of
from gfx.errors import PreconditionError, RecipeError
from gfx.io.data import batches_of
from gfx.ir.layers import Layer, layers_of
from gfx.ir.program import Program
from gfx.ir.rewrite import split
from gfx.ir.shapes.propagate import propagate
from gfx.search import (
    Choice,
    Decision,
    Narrowed,
    Offer,
    decide,
    few_ranks,
    narrowings,
    removal,
    survey,
)

__all__ = ["Decompose"]

Rank = int | float


@dataclass(frozen=True)
class Decompose(Pass):
    """Writes convolutions and transposed convolutions as several cheaper ones.

    1. `where` says which layers; with nothing said, all. The others, and what cannot be written
       so, are skipped with the reason. A sensitivity is the relative L2 change of the output when
       this layer alone is decomposed.
    2. A rank that is given is taken at its word, even where it costs more. Without one the rank
       is 1 (of the kinds other than depthwise_separable, the largest at half the MACs), and a layer
       that would not get cheaper is skipped.
    3. `layers` gives ranks layer by layer, and names which layers. `kept` lists the channels that
       stay; they are removed before anything is decomposed.
    4. With init: data the weights are fitted to what each layer reads and gives in the original,
       on `batches` batches of the data. Noise in its place would fit what never occurs.
    5. A budget is met with the least total damage: every layer is left or written at one of
       `ranks`, every free channel group is left or narrowed to one of `shares`, the weakest
       channels by L1 going. The damage of each alone is measured; the sum of the squares of the
       relative L2 changes is least. That adds errors up as if they were independent. Under a
       budget on latency groups may have further widths, down to a quarter of the smallest share,
       and layers are priced in milliseconds: a plan is built, measured, and if it takes too long,
       a faster one is sought.
    6. Where `channel_prune` shares the recipe's budget, that pass says which groups may be narrowed
       and which channels go, and this one which layers may be written how; both are decided
       together, and channels go first, whatever the order in the recipe.

    Damage is measured on `batches` batches of the data, without data on made-up inputs.

    Shapes: every activation but those between the parts keeps its own, unless a group is narrowed.
    Cost: depthwise_separable of rank r needs r·(k² + out) for each k²·out multiplications.
    Raises: RecipeError if a name names no layer; PreconditionError if a stage has none, or if
    there is no data where it is needed; BudgetError if no options reach the budget.

    Example:
        >>> import gfx
        >>> small = gfx.apply({"passes": ["decompose"]}, nn.Sequential(nn.Conv2d(3, 8, 3)))
        >>> [(n, tuple(m.weight.shape)) for n, m in small.get_submodule("0").named_children()]
        [('depthwise', (3, 1, 3, 3)), ('pointwise', (8, 3, 1, 1))]
    """

    name: ClassVar[str] = "decompose"
    keeps: ClassVar[Keeps] = Keeps.SIGNATURE
    grows: ClassVar[bool] = True  # at full rank the parts cost more than the layer (rule 2)

    kind: Kind = "depthwise_separable"
    rank: Rank | None = None  # filters per channel, or channels between; a share of the full rank
    norm: Norm = "none"  # between depthwise and pointwise
    init: Init = "svd"  # of the weights: nearest to the layer's, fitted to data, or random
    # globs over modules, or stages (stem down body up head), or {sensitivity: "< 0.05"}
    where: tuple[str, ...] | Mapping[str, Any] = ()
    keep: tuple[str, ...] = ()  # globs or stages: layers that stay as they are
    layers: Mapping[str, Rank | None] = field(default_factory=dict)  # path, glob or stage: rank
    kept: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # module: channels that stay
    budget: tuple[Budget, ...] | None = None  # absolute limits; None: the recipe's
    ranks: tuple[Rank, ...] = ()  # options under a budget; (): a few small ones of the kind
    shares: tuple[float, ...] = (0.75, 0.5, 0.25)  # options: what may stay of a group, 0 < s < 1
    rounds: int = 3  # of the alternation between the parts, with init: data
    batches: int = 8  # of the data: as many are looked at
    seed: int | None = None  # of all that is drawn at random; None: the recipe's

    def __post_init__(self) -> None:
        for name in ("where", "keep"):
            if isinstance(getattr(self, name), str):  # one name needs no list
                object.__setattr__(self, name, (getattr(self, name),))
        for name, count in {"rounds": self.rounds, "batches": self.batches}.items():
            if count < 1:
                raise RecipeError(f"decompose: {name}={count} must be at least 1")
        for share in self.shares:
            if not 0 < share < 1:
                raise RecipeError(f"decompose: shares: {share} must be above 0 and below 1")
        try:
            for rank in (self.rank, *self.layers.values(), *self.ranks):
                self._form(rank)
            self._condition()
        except RecipeError as error:
            raise RecipeError(f"decompose: {error}") from error
        self._check_clashes()

    def _check_clashes(self) -> None:
        said = {n for n in ("rank", "where", "layers", "kept", "budget") if getattr(self, n)}
        for one, others in {
            "layers": {"rank", "where"},
            "budget": {"rank", "layers", "kept"},
        }.items():
            if one in said and said & others:
                other = sorted(said & others)[0]
                raise RecipeError(
                    f"decompose: {one} and {other} both say what to do; give one of them"
                )
        if self.budget and isinstance(self.where, Mapping):
            raise RecipeError(
                "decompose: budget weighs the damage of every layer itself, so that a sensitivity "
                "in where says the same again; give one of them"
            )

    @property
    def needs_data(self) -> bool:
        """Whether the weights are fitted to data."""
        return self.init == "data"

    def apply(self, program: Program) -> Outcome:
        """Decomposes layers and tells which, at what rank and how well."""
        return self.apply_with(program, None)

    def apply_with(self, program: Program, data: Any) -> Outcome:
        """Decomposes layers; data is what damage is measured on, and weights are fitted to."""
        outcome = Outcome()
        propagate(program)
        self._check_data(data)
        if self.budget:
            told = self._plan(program, data, outcome)
        elif isinstance(self.where, Mapping):
            told = self._measure(program, data, outcome)
        else:
            self._rewrite(program, data, outcome)
            return outcome
        if told is not None:
            told._rewrite(program, data, outcome)
            assert outcome.resolved is not None
            outcome.details["resolved"] = outcome.resolved.spec()[self.name]
        return outcome

    def offer(self, program: Program, data: Any) -> Offer | None:
        """Offers to write layers in some forms (rule 6)."""
        if self.where and isinstance(self.where, Mapping):
            return None
        propagate(program)
        self._check_data(data)

        def settle(decision: Decision) -> Decompose:
            layers = {
                path: form.rank
                for path, form in decision.forms.items()
                if form == self._form(form.rank)
            }
            told = replace(self, where=(), keep=(), budget=None, layers=layers)
            return told if layers else replace(told, keep=("*",))

        forms = tuple(self._forms(program, Outcome()))
        return Offer(settle, forms, batches=self.batches, rounds=self.rounds)

    def _forms(self, program: Program, outcome: Outcome) -> list[tuple[Layer, Form]]:
        """Lists the forms that layers may be written in under a budget."""
        return [
            (layer, self._form(rank))
            for layer in self._chosen(program, outcome, at_any_price=True)
            for rank in self.ranks or few_ranks(layer.convolution, self.kind)
        ]

    def _rewrite(self, program: Program, data: Any, outcome: Outcome) -> None:
        """Does what the fields say, with nothing left to choose."""
        prices = {layer.path: price(layer) for layer in layers_of(program)}
        removed = self._narrow(program, outcome)
        chosen = self._chosen(program, outcome)
        made = self._made(program, chosen, data)
        for layer, form in chosen.items():
            old, new = prices[layer.path], price(layer, form)
            rank = written_rank(layer, form)
            row = {"macs": old.macs.exact, "params": old.params}
            now = {"macs": new.macs.exact, "params": new.params}
            error = kernel_error(layer.convolution, made[layer.path])
            outcome.change(layer.path, f"{self.kind} of rank {rank}", row, now)
            outcome.details.setdefault("layers", []).append(
                {"layer": layer.path, "rank": rank, "before": row, "after": now, "error": error}
            )
        if outcome.modified:
            ranks = {layer.path: written_rank(layer, form) for layer, form in chosen.items()}
            outcome.resolved = replace(self, rank=None, where=(), keep=(), layers=ranks)
            outcome.expected = lambda before: written_out(before, made, removed)
        for path, parts in made.items():
            split(program, path, parts)
        program.recompile()
        propagate(program)

    def _form(self, rank: Rank | None) -> Form:
        return Form(self.kind, rank, self.norm, self.init)

    def _condition(self) -> Condition | None:
        return Condition.parse(self.where) if isinstance(self.where, Mapping) else None

    def _check_data(self, data: Any) -> None:
        if self.init == "data" and data is None:
            raise PreconditionError(
                "decompose: init=data fits weights to what the layers read, and noise would not "
                "do; give data= to gfx.apply, or take init=svd"
            )

    def _narrow(self, program: Program, outcome: Outcome) -> Mask | None:
        """Removes the channels that `kept` does not list (rule 3)."""
        if not self.kept:
            return None
        groups = analyse(program)
        removed = by_kept(groups, groups.free, self.kept, "decompose")
        for name, (before, indices) in stays(groups, removed).items():
            outcome.change(name, "channels", before, len(indices))
        if removed.any():
            remove(program, groups, removed)
        return removed

    def _names(self) -> Names:
        """Says which layers are meant (rules 1 and 3)."""
        where = () if isinstance(self.where, Mapping) else self.where
        alone = self.kept and not self.where and self.rank is None
        layers = self.layers if self.layers or alone else None
        return Names(where, self.keep, layers, self.rank)

    def _chosen(
        self, program: Program, outcome: Outcome, at_any_price: bool = False
    ) -> dict[Layer, Form]:
        """Returns the layers that are decomposed and their forms, and says why others are not."""
        names, told = self._names(), {skip.node for skip in outcome.skips}
        forms = {path: self._form(rank) for path, rank in names.ranks(program).items()}
        chosen = choose(program, names, forms, at_any_price)
        for name, why in chosen.skips:
            if name not in told:
                outcome.skip(name, why)
        return chosen.forms

    def _made(
        self, program: Program, chosen: Mapping[Layer, Form], data: Any
    ) -> dict[str, nn.Sequential]:
        """Computes the parts of every layer, by path; the program is still whole (rule 4)."""
        fitted = chosen and self.init == "data"
        batches = batches_of(program, data, self.batches) if fitted else []
        made = parts_of(program, chosen.items(), batches, self.seed or 0, self.rounds)
        return {layer.path: parts for layer, parts in zip(chosen, made, strict=True)}

    def _damages(self, program: Program, data: Any, outcome: Outcome) -> Damages:
        damages = Damages(program, data, self.batches, self.seed or 0, self.rounds)
        if damages.note:
            outcome.details["inputs"] = damages.note
        return damages

    def _measure(self, program: Program, data: Any, outcome: Outcome) -> "Decompose | None":
        """Names the layers whose sensitivity is as `where` asks; None if there are none."""
        condition = self._condition()
        assert condition is not None
        chosen = self._chosen(program, outcome)
        found = self._damages(program, data, outcome).of_forms(chosen.items())
        told = {x.path: damage for x, damage in zip(chosen, found, strict=True)}
        outcome.details["sensitivity"] = told
        for path, damage in told.items():
            if not condition.holds(damage):
                outcome.skip(path, f"its sensitivity is {damage:.3g}, not {condition}")
        ranks = {
            x.path: written_rank(x, f) for x, f in chosen.items() if condition.holds(told[x.path])
        }
        return replace(self, rank=None, where=(), keep=(), layers=ranks) if ranks else None

    def _plan(self, program: Program, data: Any, outcome: Outcome) -> "Decompose | None":
        """Chooses options that meet the budget with the least damage (rule 5); None for none."""
        stopwatch = stopwatch_of(program, self.budget or ())
        budgets = [stopwatch.settled(budget) for budget in self.budget or ()]
        outcome.details["requested"] = {b.name: b.asked for b in budgets}
        if stopwatch.keeps(program, cost_of(program), budgets):
            return None
        groups = analyse(program)
        forms = self._forms(program, outcome)
        damages = self._damages(program, data, outcome)
        choices = self._choices(groups, forms, damages, any(b.timed for b in budgets))
        found = decide(groups, layers_of(program), choices, budgets, stopwatch)
        for path in dict.fromkeys(layer.path for layer, _ in forms):
            if path not in found.forms:
                outcome.skip(path, "the plan of least damage leaves it as it is")
        for group in groups:
            if group.pinned:
                outcome.skip(group.name, group.pinned)
        outcome.details["achieved"] = {b.name: b.value(found.cost) for b in budgets if not b.timed}
        outcome.details["damage"] = found.damage**0.5
        outcome.details["widths"] = dict(found.widths)
        if found.measured:
            outcome.timings |= {"foreseen": found.foreseen, "measured": found.measured}
        kept = stays(groups, removal(groups, found.widths))
        return replace(
            self,
            where=(),
            keep=(),
            budget=None,
            layers={path: form.rank for path, form in found.forms.items()},
            kept={name: tuple(indices) for name, (_, indices) in kept.items()},
        )

    def _choices(
        self, groups: Groups, forms: list[tuple[Layer, Form]], damages: Damages, timed: bool
    ) -> list[Choice]:
        """Measures what each option does (rule 5)."""
        if not timed:
            return survey(groups, forms, self.shares, damages)
        fewer = [min(self.shares, default=1.0) / k for k in (2, 4)]
        narrowed = Narrowed(groups, groups.free, lambda g, width: removal(groups, {g.name: width}))
        return [
            *narrowings(narrowed, damages, (*self.shares, *fewer) if self.shares else ()),
            *survey(groups, forms, (), damages),
        ]
