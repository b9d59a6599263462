"""Which layers are meant: by path, by stage of the generator, or by a condition on a number.

Which layers a pass writes another way, in which form, and why the others stay.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from gfx.compression.factor.factor_layers import no_gain, why_not
from gfx.compression.factor.forms import Form
from gfx.errors import PreconditionError, RecipeError
from gfx.ir.layers import Layer, layers_of, unlayered
from gfx.ir.program import Program
from gfx.ir.stages import STAGES, stages

__all__ = ["Chosen", "Condition", "Names", "choose", "named"]

_SAY = 'write for example {sensitivity: "< 0.05"}'
_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


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
    layers: Sequence[Layer], where: Sequence[str], stages: Mapping[str, str], field: str = "where"
) -> set[str]:
    """Returns the paths of the layers that some names mean.

    Args:
        layers: those that there are.
        where: names of stages, or globs over module paths. What is a stage's name means the stage,
            but in `layers`, where the path of a layer always means that layer: recipes that gfx
            writes name layers so.
        stages: the stage of each node, by the node's name.
        field: how messages call `where`.

    Raises: PreconditionError if the program has no layer in a stage; RecipeError if a glob names
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
            if not chosen:
                there = ", ".join(s for s in STAGES if s in of.values()) or "none"
                raise PreconditionError(
                    f"decompose: {field}: {name}: no layer of the program is in this stage; its "
                    f"stages: {there}"
                )
        else:
            chosen = [path for path in paths if fnmatchcase(path, name)]
            if not chosen:
                raise RecipeError(f"decompose: {field}: {_hint(name, paths)}")
        found.update(chosen)
    return found


def _hint(name: str, paths: Sequence[str]) -> str:
    """Says that a glob names no layer, and what might have been meant."""
    inside = [path for path in paths if path.startswith(f"{name.rstrip('.*')}.")]
    near = get_close_matches(name, [*paths, *STAGES], n=1, cutoff=0.3)
    text = f"no convolution or linear layer is named {name!r}"
    if inside:
        return f"{text}; {name.rstrip('.*')}.* names the {len(inside)} inside it"
    return f"{text}; did you mean {near[0]!r}?" if near else text


Rank = int | float


@dataclass(frozen=True)
class Names:
    """How a user says which layers are meant, and their ranks.

    Each is a glob over module paths, or a stage.
    """

    where: Sequence[str] = ()  # these; (): all
    keep: Sequence[str] = ()  # but not these
    layers: Mapping[str, Rank | None] | None = None  # these alone, with a rank; None: not said
    rank: Rank | None = None  # of those in `where`

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
            paths = named(layers, self.where, of) if self.where else {x.path for x in layers}
            ranks = dict.fromkeys(paths, self.rank)
        return {path: rank for path, rank in ranks.items() if path not in keep}

    @property
    def unnamed(self) -> str:
        """Says why a layer is not meant."""
        field = "layers" if self.layers is not None else "where" if self.where else ""
        return f"{field} does not name it" if field else "keep names it"


@dataclass
class Chosen:
    """Layers with their forms, and (name, reason) of those that stay."""

    forms: dict[Layer, Form] = field(default_factory=dict)
    skips: list[tuple[str, str]] = field(default_factory=list)


def choose(
    program: Program, names: Names, forms: Mapping[str, Form], at_any_price: bool = False
) -> Chosen:
    """Sorts the layers of a program into those that get a form and those that stay.

    Args:
        program: it has shapes.
        names: what was asked for.
        forms: of each layer that is named, by path. One without a rank must make it cheaper.
        at_any_price: do not ask what a form costs.
    """
    chosen = Chosen(skips=[(node.name, why) for node, why in unlayered(program)])
    for layer in layers_of(program):
        form = forms.get(layer.path)
        why = names.unnamed if form is None else why_not(program, layer, form)
        if form is not None and not why and form.rank is None and not at_any_price:
            why = no_gain(layer, form)
        if form is None or why:
            chosen.skips.append((layer.path, why))
        else:
            chosen.forms[layer] = form
    return chosen
