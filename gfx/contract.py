"""Defines the contract between gfx and a pass.

A pass is a frozen dataclass. Its fields are its parameters: recipes, type checks, defaults and
printing all come from them.

1. `requires` raises PreconditionError if the program cannot be taken; it edits nothing.
2. `apply` edits the program it is given, in place, with what its Context offers, and says what it
   did: an Outcome.
3. The Outcome's `reference` makes, from the program before the pass, the one that the result must
   equal numerically. The default is the program before for a pass that keeps VALUES, else none.
4. `ensures` raises VerificationError if the result lacks something this pass promises.

The pipeline calls them in this order and runs four checks after each pass: structure, signature,
honesty (changed if and only if an Outcome says so) and values against the reference.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Flag
from typing import TYPE_CHECKING, Any, ClassVar

from torch import fx

from gfx.costs import Budget, LatencyTimer
from gfx.errors import PreconditionError
from gfx.ir.globs import matches
from gfx.ir.program import Program

if TYPE_CHECKING:
    from gfx.planning import Offer

__all__ = ["Change", "Context", "Keeps", "Outcome", "Pass", "Skip"]


class Keeps(Flag):
    """States what a pass preserves."""

    NOTHING = 0
    SIGNATURE = 1  # outputs keep their shapes and dtypes
    VALUES = 3  # outputs keep their values, hence their signature


@dataclass(frozen=True)
class Change:
    """Records one thing that a pass changed.

    Example:
        >>> Change("conv1", "out_channels", 64, 32)
        Change(node='conv1', what='out_channels', before=64, after=32)
    """

    node: str  # node name or module path
    what: str
    before: Any = None  # plain data only: it is written to the report
    after: Any = None


@dataclass(frozen=True)
class Skip:
    """Records one thing that a pass left alone, and why.

    Example:
        >>> Skip("to_rgb", "its channels are the model's output").why
        "its channels are the model's output"
    """

    node: str
    why: str


@dataclass
class Outcome:
    """Collects what a pass did.

    A pass that chose something (by rank, at random, from data) makes its `reference` from the
    record of its choice: nothing is chosen twice, and the check proves the record complete.

    Example:
        >>> outcome = Outcome()
        >>> outcome.modified
        False
        >>> outcome.change("conv1", "out_channels", 64, 32)
        >>> outcome.modified
        True
    """

    changes: list[Change] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)  # plain data for the report
    timings: dict[str, Any] = field(default_factory=dict)  # the same, of measured latencies
    # makes the program that the result must equal, of the one from before; None: rule 3's default
    reference: Callable[[Program], Program | None] | None = None
    # the pass with every choice written out in its fields, which repeats the result; None: itself
    resolved: "Pass | None" = None

    @property
    def modified(self) -> bool:
        """Whether the pass changed anything."""
        return bool(self.changes)

    def change(self, node: fx.Node | str, what: str, before: Any = None, after: Any = None) -> None:
        """Records a change at a node or module path."""
        self.changes.append(Change(_name(node), what, before, after))

    def skip(self, node: fx.Node | str, why: str) -> None:
        """Records a refusal with its reason."""
        self.skips.append(Skip(_name(node), why))

    def add(self, other: "Outcome") -> None:
        """Adds what the resolved pass did; what was skipped already keeps its reason."""
        skipped = {skip.node for skip in self.skips}
        self.changes += other.changes
        self.skips += [skip for skip in other.skips if skip.node not in skipped]
        self.details |= other.details
        self.timings |= other.timings
        self.reference, self.resolved = other.reference, other.resolved


@dataclass(frozen=True)
class Context:
    """Holds what a pass may use beside the program; `Context()` is enough to apply one by hand.

    Raises: PreconditionError if a budget is on latency and nothing measures it, or its limit is not
    in milliseconds yet.

    Example:
        >>> from passes.channel_prune import ChannelPrune
        >>> Context(seed=3).of(ChannelPrune(seed=5)).seed
        5
    """

    data: Any = None  # the user's batches, to iterate over again and again; None: not given
    original: Program | None = None  # what the recipe began with, if a pass of it `needs_original`
    meter: LatencyTimer | None = None  # measures latencies, if a budget of the recipe is on one
    seed: int = 0  # of all that the pass draws at random
    budgets: tuple[Budget, ...] = ()  # absolute limits that the pass must meet

    def __post_init__(self) -> None:
        timed = [budget for budget in self.budgets if budget.timed]
        if timed and (self.meter is None or not all(budget.limit for budget in timed)):
            raise PreconditionError(
                f"the budget on {timed[0].name} needs a meter, and a limit in milliseconds; run "
                "the pass by gfx.apply"
            )

    def of(self, pass_: "Pass") -> "Context":
        """Returns the context of one pass: its own seed and budget go before the recipe's.

        It has no budgets if the pass has none of its own and takes none.
        """
        seed = getattr(pass_, "seed", None)
        budgets = self.budgets if pass_.takes_budget else ()
        return replace(
            self,
            seed=self.seed if seed is None else seed,
            budgets=pass_.own_budgets or budgets,
        )


@dataclass(frozen=True)
class Pass(ABC):
    """Rewrites a program; subclass it to write one (docs/writing-a-pass.md).

    Subclasses are frozen dataclasses with the class variables `name` and `keeps`. A field's
    comment gives its unit or range; `__post_init__` checks it and raises RecipeError.
    """

    name: ClassVar[str]
    keeps: ClassVar[Keeps] = Keeps.SIGNATURE
    grows: ClassVar[bool] = False  # True: may raise the cost (MACs or parameters)
    needs_original: ClassVar[bool] = False  # True: `context.original` is kept for it

    @property
    def needs_data(self) -> bool:
        """Whether `gfx.apply` must be given data; it may depend on the pass's fields."""
        return False

    def named(self, path: str) -> bool:
        """Whether the pass's `targets`, globs over paths or names, name this one; without, all."""
        return matches(path, getattr(self, "targets", ("*",)))

    @property
    def takes_budget(self) -> bool:
        """Whether the pass meets the recipe's budget: it has a field `budget`, which is not given.

        Override it where another field, such as a ratio, may say how far to go instead.
        """
        return "budget" in _fields(self) and not getattr(self, "budget", None)

    @property
    def own_budgets(self) -> tuple[Budget, ...]:
        """The budgets that the field `budget` gives."""
        given = getattr(self, "budget", None)
        budgets = given if isinstance(given, tuple | list) else ()
        return tuple(budget for budget in budgets if isinstance(budget, Budget))

    def offer(self, program: Program, context: Context) -> "Offer | None":
        """Says what the pass may do under a budget that it shares with others; edits nothing.

        Where several passes of a recipe take its budget, the pipeline asks each for its offer when
        the first of them is due, decides about all together, and runs what each offer makes of the
        plan. None, as here: the pass meets the budget by itself, as far as it still can.
        """
        return None

    def requires(self, program: Program) -> None:  # noqa: B027 - optional hook (rule 1)
        """Raises PreconditionError if the program cannot be taken."""

    @abstractmethod
    def apply(self, program: Program, context: Context) -> Outcome:
        """Edits the program in place and returns what it did."""

    def ensures(self, program: Program) -> None:  # noqa: B027 - optional hook (rule 4)
        """Raises VerificationError if the result lacks something this pass promises."""

    def spec(self) -> dict[str, Any]:
        """Returns the pass as a recipe writes it, every field spelled out.

        Example: `ChannelPrune(ratio=0.5).spec()` → `{"channel_prune": {"ratio": 0.5, ...}}`.
        """
        return {self.name: {name: getattr(self, name) for name in _fields(self)}}


def _fields(pass_: Pass) -> list[str]:
    return [f.name for f in dataclasses.fields(pass_) if f.init]


def _name(node: fx.Node | str) -> str:
    if isinstance(node, str):
        return node
    return str(node.target) if node.op == "call_module" else node.name
