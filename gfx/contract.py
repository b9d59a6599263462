"""The contract between gfx and a pass.

A pass is a frozen dataclass. Its fields are its parameters: recipes, type checks, defaults and
printing all come from them.

1. `requires` raises PreconditionError if the program cannot be taken; it edits nothing.
2. `apply` edits the program it is given, in place, and says what it did: an Outcome.
3. `reference` returns the program that the result must equal numerically, or None if there is none.
   The default is the input for a pass that keeps VALUES, and None for any other. Where an Outcome
   has a `resolved` pass, it is that one's reference; where it has `expected`, that makes it.
4. `ensures` raises VerificationError if the result lacks something this pass promises.

The pipeline calls them in this order and runs four checks after each pass: structure, signature,
honesty (changed if and only if an Outcome says so) and values against the reference.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Flag
from typing import TYPE_CHECKING, Any, ClassVar

from torch import fx

from gfx.ir.program import Program

if TYPE_CHECKING:
    from gfx.search import Offer

__all__ = ["Change", "Keeps", "Outcome", "Pass", "Skip"]


class Keeps(Flag):
    """What a pass leaves as it was."""

    NOTHING = 0
    SIGNATURE = 1  # outputs keep their shapes and dtypes
    VALUES = 3  # outputs keep their values, hence their signature


@dataclass(frozen=True)
class Change:
    """One thing a pass changed.

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
    """One thing a pass left alone, and why.

    Example:
        >>> Skip("to_rgb", "its channels are the model's output").why
        "its channels are the model's output"
    """

    node: str
    why: str


@dataclass
class Outcome:
    """Collects what a pass did.

    A pass that chose something (by rank, by chance, by looking at data) sets `resolved`: the same
    pass with every choice written out in its fields. Its reference is then the one that the result
    is compared with, so that nothing is chosen twice and the record is seen to be complete. Where
    no fields can say what was computed (weights solved from data), `expected` turns the program
    from before into the reference.

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
    timings: dict[str, Any] = field(default_factory=dict)  # the same, of what the clock said
    resolved: "Pass | None" = None  # what the pass is once its choices are made; None: itself
    expected: Callable[[Program], Program] | None = None  # makes the reference (rule 3)

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


@dataclass(frozen=True)
class Pass(ABC):
    """Rewrites a program; subclass it to write one (docs/writing-a-pass.md).

    Subclasses are frozen dataclasses with the class variables `name` and `keeps`. A field's
    comment gives its unit or range; `__post_init__` checks it and raises RecipeError.
    """

    name: ClassVar[str]
    keeps: ClassVar[Keeps] = Keeps.SIGNATURE
    grows: ClassVar[bool] = False  # True: may raise the cost (MACs or parameters)

    @property
    def needs_data(self) -> bool:
        """Whether `gfx.apply` must be given data; it may depend on the pass's fields."""
        return False

    @property
    def needs_original(self) -> bool:
        """Whether `program.original` must hold the program that the recipe began with."""
        return False

    def offer(self, program: Program, data: Any) -> "Offer | None":
        """Says what the pass may do under a budget that it shares with others; edits nothing.

        Where passes of a recipe were given its budget alike, the pipeline asks each for its offer
        when the first of them is due, decides about all together, and runs what each offer makes
        of the plan. None, as here: the pass meets the budget by itself, as far as it still can.
        """
        return None

    def requires(self, program: Program) -> None:  # noqa: B027 - optional hook (rule 1)
        """Raises PreconditionError if the program cannot be taken."""

    @abstractmethod
    def apply(self, program: Program) -> Outcome:
        """Edits the program in place and tells what it did."""

    def apply_with(self, program: Program, data: Any) -> Outcome:
        """Does what `apply` does, looking at the user's data if there is any (data may be None)."""
        return self.apply(program)

    def reference(self, before: Program) -> Program | None:
        """Returns the program that the result must equal numerically, or None (rule 3)."""
        return before if Keeps.VALUES in self.keeps else None

    def ensures(self, program: Program) -> None:  # noqa: B027 - optional hook (rule 4)
        """Raises VerificationError if the result lacks something this pass promises."""

    def spec(self) -> dict[str, Any]:
        """Returns the pass as a recipe writes it, every field spelled out.

        Example: `ChannelPrune(ratio=0.5).spec()` → `{"channel_prune": {"ratio": 0.5, ...}}`.
        """
        fields = [f.name for f in dataclasses.fields(self) if f.init]
        return {self.name: {name: getattr(self, name) for name in fields}}


def _name(node: fx.Node | str) -> str:
    if isinstance(node, str):
        return node
    return str(node.target) if node.op == "call_module" else node.name
