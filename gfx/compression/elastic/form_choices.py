"""Reads which layers of a supernet may be separable, and how the separable layers are made.

Source: Li et al. 2020, arXiv:2003.08936, section 3.3 and table 4; gfx/compression/factor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from gfx.compression.factor import Form
from gfx.compression.factor.choose_layers import choose
from gfx.compression.factor.forms import Init, Kind, Norm
from gfx.compression.factor.layer_selectors import Names, Rank
from gfx.errors import RecipeError, did_you_mean, prefixed
from gfx.io.plain_data import shown
from gfx.ir.choice_nodes import choices_of
from gfx.ir.layers import Layer
from gfx.ir.program import Program

__all__ = ["FormChoices"]

_KIND: Kind = "depthwise_separable"
_SAY = "give separable, a list of layers, or fields such as {where: [blocks.*], norm: instance}"


@dataclass(frozen=True)
class FormChoices:
    """Says which layers may be dense or separable: a depthwise and a pointwise convolution.

    The fields are those of the pass `decompose`. A layer that `decompose` would leave as it is has
    no choice: it cannot be written so, or would not get cheaper.

    Example:
        >>> FormChoices.read("separable").where, FormChoices.read(["up.*"]).where
        ((), ('up.*',))
    """

    where: tuple[str, ...] = ()  # globs over modules, or stages; (): all
    keep: tuple[str, ...] = ()  # globs or stages: layers that stay dense
    rank: Rank | None = None  # filters per channel; None: 1
    norm: Norm = "none"  # between depthwise and pointwise
    init: Init = "svd"  # of the weights: nearest to the dense layer's, fitted to data, or random

    def __post_init__(self) -> None:
        with prefixed("forms"):
            self.form()

    @staticmethod
    def read(given: Any) -> "FormChoices | None":
        """Reads `separable`, a list of layers, or the fields; None is no choice of forms.

        Raises: RecipeError if it is none of these.
        """
        if given is None or isinstance(given, FormChoices):
            return given
        if given == "separable":
            return FormChoices()
        if isinstance(given, str):
            raise RecipeError(f"forms: {shown(given)} is no form; {_SAY}")
        if isinstance(given, Sequence):
            return FormChoices(where=_names("forms", given))
        if not isinstance(given, Mapping):
            raise RecipeError(f"forms: {shown(given)} says no layers; {_SAY}")
        known, found = [f.name for f in fields(FormChoices)], dict(given)
        for name in found:
            if name not in known:
                raise RecipeError(f"forms: unknown field {shown(name)}{did_you_mean(name, known)}")
        for name in {"where", "keep"} & {*found}:
            found[name] = _names(f"forms: {name}", found[name])
        return FormChoices(**found)

    def form(self, rank: Rank | None = None) -> Form:
        """Returns the form at a rank."""
        return Form(_KIND, self.rank if rank is None else rank, self.norm, self.init)

    def of(self, program: Program) -> tuple[dict[Layer, Form], dict[str, str]]:
        """Lists the layers that have a choice, and why the others have none.

        Raises: RecipeError or PreconditionError if a name names no layer.
        """
        chosen_already = {
            str(operand.target)
            for node in choices_of(program.module)
            for operand in node.all_input_nodes
        }
        with prefixed("forms"):
            chosen = choose(program, Names(self.where, self.keep), self.form)
        found, why = dict[Layer, Form](), dict(chosen.skips)
        for layer, form in chosen.forms.items():
            if layer.path in chosen_already or len(layer.calls) > 1:
                said = "it has a choice" if layer.path in chosen_already else _called(layer)
                why[layer.path] = said
            else:
                found[layer] = form
        return found, why


def _called(layer: Layer) -> str:
    return f"it is called {len(layer.calls)} times, and each call would have a form of its own"


def _names(field: str, given: Any) -> tuple[str, ...]:
    listed = (given,) if isinstance(given, str) else given
    if not isinstance(listed, Sequence) or not all(isinstance(each, str) for each in listed):
        raise RecipeError(f"{field}: a list of layers is expected, not {shown(given)}")
    return tuple(listed)
