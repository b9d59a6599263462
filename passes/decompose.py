"""Replaces convolutions by several cheaper layers.

Before   y = conv(x)                            conv: 256 → 256 channels, 3x3
After    y = pointwise(norm(depthwise(x)))      depthwise: 3x3 on each channel, pointwise: 1x1
Source   Li et al. 2020, arXiv:2003.08936, section 3.3 and table 4 (which layers tolerate it);
         gfx/compression/factor computes the weights, gfx/planning chooses layers under a budget.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from gfx.compression.factor import Form, check_data, dense_program, prices_of, write_layers
from gfx.compression.factor.choose_layers import choose, form_options
from gfx.compression.factor.forms import Init, Kind, Norm
from gfx.compression.factor.layer_selectors import Names, Otherwise, Rank, check_selectors
from gfx.compression.probe import Damages, sensitive
from gfx.compression.selection import MIN_CHANNELS, Bounds, narrow_to
from gfx.contract import Context, Keeps, Outcome, Pass, Skip
from gfx.costs import Budget, cost_of
from gfx.errors import MOST, RecipeError, check_range, prefixed
from gfx.io.data import batches_of
from gfx.ir.layers import Layer
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate
from gfx.planning import Decision, Limits, Offer, decide_alone

__all__ = ["Decompose"]


@dataclass(frozen=True)
class Decompose(Pass):
    """Replaces convolutions and transposed convolutions by several cheaper layers, the parts.

    1. `where` names the layers; empty, all. The other layers, and those that cannot be decomposed,
       are skipped with the reason. The sensitivity of a layer is its damage: the relative L2 change
       of the output if it alone is decomposed, on `batches` batches of the data, or of noise.
    2. A rank that is given is used, even if the parts cost more. Without one the rank is 1 (for
       kinds other than depthwise_separable: the largest at half the MACs), and a layer that would
       not get cheaper is skipped.
    3. `layers` gives ranks layer by layer, and selects these layers. `kept` lists the channels that
       stay; the others are removed before anything is decomposed.
    4. With init: data the weights are fitted to the inputs and outputs of each layer in the
       original, on `batches` batches of the data. Noise cannot replace the data.
    5. A budget is met with the least damage: every layer is left or decomposed at one of `ranks`,
       every free channel group is left or narrowed to one of `shares` by removing the channels of
       the smallest L1 norm. The damage of each change alone is measured; the sum of their squares
       is minimised, as if the errors were independent. Under a budget on latency, groups may also
       have other widths, down to a quarter of the smallest share; plans are chosen by predicted
       milliseconds, built and measured, and a faster one is searched if the limit is exceeded.
    6. If `channel_prune` shares the recipe's budget, it offers the groups to narrow and ranks their
       channels, and this pass offers the layers and their ranks. One search decides about both;
       channels are removed first, whatever the order in the recipe.

    Shapes: every activation but those between the parts keeps its own, unless a group is narrowed.
    Cost: depthwise_separable of rank r needs r·(k² + out) for each k²·out multiplications.
    Raises: RecipeError if a name names no layer; PreconditionError if a stage has none, or if data
    is needed and missing; BudgetError if no options reach the budget.

    Example:
        >>> import gfx
        >>> from torch import nn
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
    otherwise: Otherwise = "refuse"  # a stage in `where` that the program has no layer in
    keep: tuple[str, ...] = ()  # globs or stages: layers that stay as they are
    layers: Mapping[str, Rank | None] = field(default_factory=dict)  # path, glob or stage: rank
    kept: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # module: channels that stay
    budget: tuple[Budget, ...] | None = None  # absolute limits; None: the recipe's
    ranks: tuple[Rank, ...] = ()  # options under a budget; (): a few small ones of the kind
    shares: tuple[float, ...] = (0.75, 0.5, 0.25)  # options: share that stays of a group, 0 < s < 1
    min_channels: int = MIN_CHANNELS  # that each layer keeps of a group, or all if it has no more
    rounds: int = 3  # of alternating between the parts, with init: data
    batches: int = 8  # of the data that are used
    seed: int | None = None  # of all random numbers; None: the recipe's

    def __post_init__(self) -> None:
        for name in ("where", "keep"):
            if isinstance(getattr(self, name), str):  # one name needs no list
                object.__setattr__(self, name, (getattr(self, name),))
        with prefixed(self.name):
            for name in ("rounds", "batches", "min_channels"):
                check_range(name, getattr(self, name), at_least=1, at_most=MOST)
            for share in self.shares:
                if not 0 < share < 1:
                    raise RecipeError(f"shares: {share} must be above 0 and below 1")
            for rank in (self.rank, *self.layers.values(), *self.ranks):
                self._form(rank)
            check_selectors(
                {n: getattr(self, n) for n in ("rank", "where", "layers", "kept", "budget")}
            )

    @property
    def needs_data(self) -> bool:
        """Whether the weights are fitted to data."""
        return self.init == "data"

    @property
    def takes_budget(self) -> bool:
        """Whether no rank, and no layers or channels, are given."""
        return super().takes_budget and not (self.rank or self.where or self.layers or self.kept)

    def apply(self, program: Program, context: Context) -> Outcome:
        """Decomposes layers, and reports the rank and the error of each."""
        context, outcome = context.of(self), Outcome()
        propagate(program)
        check_data(self.init, context.data)
        if not (context.budgets or isinstance(self.where, Mapping)):
            self._rewrite(program, context, outcome)
            return outcome
        choose = self._plan if context.budgets else self._measure
        resolved = choose(program, context, outcome)
        if resolved is not None:
            outcome.add(resolved.apply(program, replace(context, budgets=())))
            outcome.details["resolved"] = (outcome.resolved or resolved).spec()[self.name]
        return outcome

    def offer(self, program: Program, context: Context) -> Offer | None:
        """Offers the layers that may be decomposed, in the forms of the kind (rule 6)."""
        if self.where and isinstance(self.where, Mapping):
            return None
        propagate(program)
        check_data(self.init, context.data)
        return self._offer(program, Outcome())

    def _offer(self, program: Program, outcome: Outcome) -> Offer:
        forms = form_options(self._chosen(program, outcome, free=True), self._form, self.ranks)
        return Offer(self._resolved, forms, batches=self.batches, rounds=self.rounds)

    def _resolved(self, decision: Decision, kept: Mapping[str, Any] | None = None) -> "Decompose":
        """Returns the pass with a decision in its fields: the ranks, and the channels that stay."""
        forms = decision.forms.items()
        layers = {path: form.rank for path, form in forms if form == self._form(form.rank)}
        keep, kept = () if layers or kept else ("*",), kept or self.kept
        return replace(self, where=(), keep=keep, budget=None, layers=layers, kept=kept)

    def _form(self, rank: Rank | None) -> Form:
        return Form(self.kind, rank, self.norm, self.init)

    def _chosen(self, program: Program, outcome: Outcome, free: bool = False) -> dict[Layer, Form]:
        """Returns layers and their forms, of any cost if free, and skips the others."""
        given = (self.where, self.keep, self.layers, self.rank, self.kept, self.otherwise)
        chosen = choose(program, Names.given(*given), self._form, at_any_cost=free)
        outcome.skips += [Skip(*skip) for skip in chosen.skips]
        return chosen.forms

    def _measure(self, program: Program, context: Context, outcome: Outcome) -> "Decompose | None":
        """Selects the layers by their sensitivity (rule 1); None if there is none."""
        assert isinstance(self.where, Mapping)
        damages = Damages(program, context.data, self.batches, context.seed, self.rounds)
        ranks, details, left = sensitive(damages, self._chosen(program, outcome), self.where)
        outcome.details |= details
        outcome.skips += [Skip(*skip) for skip in left]
        return replace(self, rank=None, where=(), keep=(), layers=ranks) if ranks else None

    def _plan(self, program: Program, context: Context, outcome: Outcome) -> "Decompose | None":
        """Searches the plan of least damage (rule 5); None if the program meets the budget."""
        limits = Limits(context.budgets, context.meter)
        outcome.details["requested"] = limits.requested
        if limits.kept_by(program, cost_of(program)):
            return None
        offer, how = self._offer(program, outcome), {"data": context.data, "seed": context.seed}
        how["bounds"] = Bounds(min_channels=self.min_channels)
        found, kept, details, left = decide_alone(program, offer, self.shares, limits, **how)
        outcome.skips += [Skip(*skip) for skip in left]
        outcome.details |= details
        outcome.timings |= found.timings
        return self._resolved(found, kept)

    def _rewrite(self, program: Program, context: Context, outcome: Outcome) -> None:
        """Removes channels and decomposes layers as the fields say (rules 1 to 4)."""
        prices = prices_of(program)
        removed, stay = narrow_to(program, self.kept)  # rule 3
        for name, (before, indices) in stay.items():
            outcome.change(name, "channels", before, len(indices))
        chosen = self._chosen(program, outcome)
        fitted = chosen and self.init == "data"  # rule 4
        batches = batches_of(program, context.data, self.batches) if fitted else []
        made, rows = write_layers(program, chosen, prices, batches, context.seed, self.rounds)
        for row in rows:
            rank = f"{self.kind} of rank {row['rank']}"
            outcome.change(row["layer"], rank, row["before"], row["after"])
        outcome.details |= {"layers": rows} if rows else {}
        if outcome.modified:
            ranks = {row["layer"]: row["rank"] for row in rows}
            outcome.resolved = replace(self, rank=None, where=(), keep=(), layers=ranks)
            outcome.reference = lambda before: dense_program(before, made, removed)
