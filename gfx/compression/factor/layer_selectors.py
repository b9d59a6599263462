"""Reads which layers a recipe selects: by path, by stage, or by sensitivity."""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gfx.errors import PreconditionError, RecipeError, did_you_mean
from gfx.ir.globs import named_by
from gfx.ir.layers import Layer, layers_of
from gfx.ir.program import Program
from gfx.ir.stages import STAGES, stages

__all__ = ["Condition", "Names", "Otherwise", "Rank", "check_selectors", "named"]

Rank = int | float
Otherwise = Literal["refuse", "skip"]

_ENDS = 12  # names that a message lists
_SAY = 'write for example {sensitivity: "< 0.05"}'
_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CLASHES = {"layers": {"rank", "where"}, "budget": {"rank", "layers", "kept"}}


@dataclass(frozen=True)
class Condition:
    """Compares a number with a limit.

    Example:
        >>> Condition("<", 0.05).holds(0.01)
        True
    """

    sign: str  # <, <=, > or >=
    limit: float

    @staticmethod
    def parse(where: Mapping[str, Any]) -> "Condition":
        """Reads a condition on a measured number, as a recipe writes it.

        Raises: RecipeError that says what was expected.

        Example:
            >>> str(Condition.parse({"sensitivity": "<=0.1"}))
            '<= 0.1'
        """
        for key in where:
            if key != "sensitivity":
                raise RecipeError(f"where: unknown key {key!r}; {_SAY}")
        text = where.get("sensitivity")
        match = re.fullmatch(r"\s*(<=|>=|<|>)\s*(\S+)\s*", text if isinstance(text, str) else "")
        try:
            limit = float(match[2]) if match else math.nan
        except ValueError:
            limit = math.nan
        if match is None or not math.isfinite(limit):
            raise RecipeError(
                f"where: sensitivity: {text!r} is no comparison with a number; {_SAY} "
                f"(signs: {', '.join(_SIGNS)})"
            )
        return Condition(match[1], limit)

    def holds(self, value: float) -> bool:
        """Whether a number meets the condition; one that is not finite never does."""
        return math.isfinite(value) and _SIGNS[self.sign](value, self.limit)

    def __str__(self) -> str:
        return f"{self.sign} {self.limit:g}"


def named(
    layers: Sequence[Layer],
    where: Sequence[str],
    stages: Mapping[str, str],
    field: str = "where",
    otherwise: Otherwise = "refuse",
) -> set[str]:
    """Returns the paths of the layers that some names select.

    Args:
        layers: those of the program.
        where: names of stages, or globs over module paths. A stage's name means the stage, except
            in `layers`, where the path of a layer always means that layer: recipes that gfx
            writes name layers by path.
        stages: the stage of each node, by the node's name.
        field: the name of `where` in messages.
        otherwise: what becomes of a stage that the program has no layer in.

    Raises: PreconditionError if it is refused; RecipeError if a glob names
    no layer.
    """
    paths = [layer.path for layer in layers]
    found: set[str] = set()
    for name in where:
        if field == "layers" and name in paths:
            chosen = [name]
        elif name in STAGES:
            of = {x.path: stages.get(x.calls[0].name, "") for x in layers}
            chosen = [path for path in paths if of[path] == name]
            if not chosen and otherwise == "refuse":
                there = ", ".join(s for s in STAGES if s in of.values()) or "none"
                raise PreconditionError(
                    f"{field}: {name}: no layer of the program is in this stage; its "
                    f"stages: {there}; name one of these, or add otherwise: skip"
                )
        else:
            chosen = named_by(name, paths)
            if not chosen:
                raise RecipeError(f"{field}: {_hint(name, paths)}")
        found.update(chosen)
    return found


def check_selectors(said: Mapping[str, Any]) -> None:
    """Checks that the fields which select what to decompose do not contradict each other.

    Args:
        said: the values of `rank`, `where`, `layers`, `kept` and `budget`, where they are given.

    Raises: RecipeError if two of them say the same, or a condition in `where` is malformed.

    Example:
        >>> check_selectors({"layers": {"to_rgb": 1}, "kept": {"stem": (0, 1)}})
    """
    where = said.get("where")
    if isinstance(where, Mapping):
        Condition.parse(where)
    given = {name for name, value in said.items() if value}
    for one, others in _CLASHES.items():
        both = sorted(given & others) if one in given else []
        if both:
            raise RecipeError(f"{one} and {both[0]} both say what to do; give one of them")
    if "budget" in given and isinstance(where, Mapping):
        raise RecipeError(
            "budget weighs the damage of every layer itself, so that a sensitivity "
            "in where says the same again; give one of them"
        )


def _hint(name: str, paths: Sequence[str]) -> str:
    """Says that a glob names no layer, and what might have been meant."""
    inside = [path for path in paths if path.startswith(f"{name.rstrip('.*')}.")]
    text = f"no convolution or linear layer is named {name!r}"
    if inside:
        return f"{text}; {name.rstrip('.*')}.* names the {len(inside)} inside it"
    if name.startswith("*."):  # of many layers: what their names end in tells more than one of them
        ends = list(dict.fromkeys(path.rpartition(".")[2] for path in paths))
        more = f" and {len(ends) - _ENDS} more" if len(ends) > _ENDS else ""
        return f"{text}; names of layers end in {', '.join(ends[:_ENDS]) or 'nothing'}{more}"
    return f"{text}{did_you_mean(name, [*paths, *STAGES], '', cutoff=0.3)}"


@dataclass(frozen=True)
class Names:
    """Reads which layers a recipe names, and at which ranks.

    Each is a glob over module paths, or a stage.
    """

    where: Sequence[str] = ()  # these; (): all
    keep: Sequence[str] = ()  # but not these
    layers: Mapping[str, Rank | None] | None = None  # these alone, with a rank; None: not said
    rank: Rank | None = None  # of those in `where`
    otherwise: Otherwise = "refuse"  # a stage in `where` that the program has no layer in

    @staticmethod
    def given(
        where: Sequence[str] | Mapping[str, Any],
        keep: Sequence[str],
        layers: Mapping[str, Rank | None],
        rank: Rank | None,
        kept: Mapping[str, Any],
        otherwise: Otherwise = "refuse",
    ) -> "Names":
        """Reads the fields of a recipe.

        A condition in `where` can be met by any layer. If only channels to keep are given, no layer
        is named.
        """
        names = () if isinstance(where, Mapping) else where
        alone = kept and not where and rank is None
        return Names(names, keep, layers if layers or alone else None, rank, otherwise)

    def ranks(self, program: Program) -> dict[str, Rank | None]:
        """Returns the rank of every layer that is named, by path.

        Raises: RecipeError if a glob names no layer; PreconditionError if a stage has none.
        """
        layers = layers_of(program)
        of = stages(program) if {*self.where, *self.keep, *(self.layers or ())} else {}
        keep = named(layers, self.keep, of, "keep")
        ranks: dict[str, Rank | None] = {}
        for glob, rank in (self.layers or {}).items():  # the first that names a layer counts
            for path in named(layers, (glob,), of, "layers"):
                ranks.setdefault(path, rank)
        if self.layers is None:
            paths = {x.path for x in layers}
            if self.where:
                paths = named(layers, self.where, of, otherwise=self.otherwise)
            ranks = dict.fromkeys(paths, self.rank)
        return {path: rank for path, rank in ranks.items() if path not in keep}

    @property
    def unnamed(self) -> str:
        """Says why a layer is not named."""
        field = "layers" if self.layers is not None else "where" if self.where else ""
        return f"{field} does not name it" if field else "keep names it"
