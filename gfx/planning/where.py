"""Which layers are meant: by path, by stage of the generator, or by a condition on a number."""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from gfx.errors import PreconditionError, RecipeError
from gfx.planning.layers import Layer
from gfx.stages import STAGES

__all__ = ["Condition", "named"]

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
