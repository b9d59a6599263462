"""Which layers a pass writes another way, in which form, and why the others stay."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gfx.factoring import Form
from gfx.planning.layers import Layer, layers_of, unlayered
from gfx.planning.refusals import no_gain, why_not
from gfx.planning.where import named
from gfx.program import Program
from gfx.stages import stages

__all__ = ["Chosen", "Names", "choose"]

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
