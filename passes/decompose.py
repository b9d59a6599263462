"""Writes convolutions as several cheaper ones.

Before   y = conv(x)                            conv: 256 → 256 channels, 3x3
After    y = pointwise(norm(depthwise(x)))      depthwise: 3x3 on each channel, pointwise: 1x1
Source   Li et al. 2020, arXiv:2003.08826, section 3.3 and table 4 (which layers bear it);
         the forms and what they are computed from are in gfx/factoring.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torch import nn

from gfx.contract import Keeps, Outcome, Pass
from gfx.data import batches_of
from gfx.edit import Pieces, split
from gfx.errors import PreconditionError, RecipeError
from gfx.factoring import Form, compose, factor, rank_of, refusal
from gfx.factoring.forms import Init, Kind, Norm
from gfx.planning import Inputs, Layer, layers_of, named, obstacle, price, unlayered
from gfx.program import Program
from gfx.shapes import propagate
from gfx.stages import stages

__all__ = ["Decompose"]

Rank = int | float


@dataclass(frozen=True)
class Decompose(Pass):
    """Writes convolutions and transposed convolutions as several cheaper ones.

    1. `where` says which layers; with nothing said, all. The others, and what cannot be written
       so, are skipped with the reason.
    2. A rank that is given is taken at its word, even where it costs more. Without one the rank
       is 1 (of the kinds other than depthwise_separable, the largest at half the MACs), and a layer
       that would not get cheaper is skipped.
    3. `layers` gives ranks layer by layer, and names which layers.
    4. With init: data the weights are fitted to what each layer reads and gives in the original,
       on `batches` batches of the data. Noise in its place would fit what never occurs.

    Shapes: every activation but those between the parts keeps its own.
    Cost: depthwise_separable of rank r needs r·(k² + out) for each k²·out multiplications.
    Raises: RecipeError if a name names no layer; PreconditionError if a stage has none, or if
    there is no data where it is needed.

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
    where: tuple[str, ...] = ()  # globs over modules, or stages (stem down body up head)
    keep: tuple[str, ...] = ()  # as `where`: layers that stay as they are
    layers: Mapping[str, Rank | None] = field(default_factory=dict)  # glob: rank
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
        try:
            for rank in (self.rank, *self.layers.values()):
                self._form(rank)
        except RecipeError as error:
            raise RecipeError(f"decompose: {error}") from error
        if self.layers and (self.where or self.rank is not None):
            other = "where" if self.where else "rank"
            raise RecipeError(f"decompose: layers and {other} both say what to do; give one")

    @property
    def needs_data(self) -> bool:
        """Whether the weights are fitted to data."""
        return self.init == "data"

    def apply(self, program: Program) -> Outcome:
        """Decomposes layers and tells which, at what rank and how well."""
        return self.apply_with(program, None)

    def apply_with(self, program: Program, data: Any) -> Outcome:
        """Decomposes layers; data is what their weights are fitted to."""
        outcome = Outcome()
        propagate(program)
        chosen = dict(self._chosen(program, outcome))
        made = self._made(program, chosen, data)
        for layer, form in chosen.items():
            self._tell(outcome, layer, form, made[layer.path])
        if made:
            ranks = {layer.path: self._rank(layer, form) for layer, form in chosen.items()}
            outcome.resolved = replace(self, rank=None, where=(), keep=(), layers=ranks)
            outcome.expected = lambda before: _written_out(before, made)
        for path, parts in made.items():
            split(program, path, parts)
        program.recompile()
        propagate(program)
        return outcome

    def _form(self, rank: Rank | None) -> Form:
        return Form(self.kind, rank, self.norm, self.init)

    def _chosen(self, program: Program, outcome: Outcome) -> Iterator[tuple[Layer, Form]]:
        """Yields the layers that are decomposed and their forms, and says why others are not."""
        for node, why in unlayered(program):
            outcome.skip(node, why)
        layers = layers_of(program)
        ranks = self._ranks(program, layers)
        for layer in layers:
            if layer.path not in ranks:
                outcome.skip(layer.path, self._unnamed())
                continue
            form = self._form(ranks[layer.path])
            why = obstacle(program, layer) or refusal(layer.module, form) or _too_small(layer, form)
            why = why or (_no_gain(layer, form) if form.rank is None else "")
            if why:
                outcome.skip(layer.path, why)
            else:
                yield layer, form

    def _ranks(self, program: Program, layers: Sequence[Layer]) -> dict[str, Rank | None]:
        """Returns the rank of every layer that is named (rules 1 and 3)."""
        of = stages(program) if {*self.where, *self.keep, *self.layers} else {}
        keep = named(layers, self.keep, of, "keep")
        ranks: dict[str, Rank | None] = {}
        for glob, rank in self.layers.items():  # the first glob that names a layer counts
            for path in named(layers, (glob,), of, "layers"):
                ranks.setdefault(path, rank)
        if not self.layers:
            paths = named(layers, self.where, of) if self.where else {x.path for x in layers}
            ranks = dict.fromkeys(paths, self.rank)
        return {path: rank for path, rank in ranks.items() if path not in keep}

    def _unnamed(self) -> str:
        names = "layers" if self.layers else "where" if self.where else ""
        return f"{names} does not name it" if names else "keep names it"

    def _made(
        self, program: Program, chosen: Mapping[Layer, Form], data: Any
    ) -> dict[str, nn.Sequential]:
        """Computes the parts of every layer, by path; the program is still whole (rule 4)."""
        batches: list[tuple[Any, ...]] = []
        if chosen and self.init == "data":
            if data is None:
                raise PreconditionError(
                    "decompose: init=data fits weights to what the layers read, and noise would "
                    "not do; give data= to gfx.apply, or take init=svd"
                )
            batches = batches_of(program, data, self.batches)
        seed = self.seed or 0
        made = {}
        for number, (layer, form) in enumerate(chosen.items()):
            made[layer.path] = factor(
                _conv(layer),
                form,
                inputs=Inputs(program, layer, batches, seed) if batches else None,
                seed=seed + number,
                rounds=self.rounds,
                name=layer.path,
            )
        return made

    def _rank(self, layer: Layer, form: Form) -> Rank | None:
        """Writes a rank out; what Tucker has two of is said as it was."""
        return form.rank if self.kind == "tucker" else rank_of(_conv(layer), form)

    def _tell(self, outcome: Outcome, layer: Layer, form: Form, parts: nn.Sequential) -> None:
        """Records one layer: what it cost, what it costs, and how near its kernel is."""
        old, new, rank = price(layer), price(layer, form), rank_of(_conv(layer), form)
        row: dict[str, Any] = {
            "layer": layer.path,
            "kind": self.kind,
            "rank": rank,
            "macs": [old.macs.exact, new.macs.exact],
            "params": [old.params, new.params],
            "error": self._error(layer, parts),
        }
        outcome.details.setdefault("layers", []).append(row)
        outcome.change(
            layer.path,
            f"{self.kind} of rank {rank}",
            {"macs": old.macs.exact, "params": old.params},
            {"macs": new.macs.exact, "params": new.params},
        )

    def _error(self, layer: Layer, parts: nn.Sequential) -> float | None:
        """Returns the distance of the kernels relative to the layer's; None if there is none."""
        weight = _conv(layer).weight.detach().double()
        if self.norm != "none" or weight.is_meta:
            return None
        gap = compose(parts).weight.detach().double() - weight
        return float(gap.norm() / weight.norm()) if bool(weight.any()) else float(gap.norm())


def _conv(layer: Layer) -> nn.Conv2d | nn.ConvTranspose2d:
    assert isinstance(layer.module, nn.Conv2d | nn.ConvTranspose2d)
    return layer.module


def _too_small(layer: Layer, form: Form) -> str:
    """Says that a norm between the parts would have one position to look at."""
    for node in layer.calls:
        shape = node.meta["val"].shape
        if form.norm == "instance" and shape[2:].numel() == 1:
            return "its output is a single position, which an instance norm would erase"
        if form.norm != "none" and len(shape) != 4:
            return f"it reads no batch: {form.norm} norm between the parts needs (N, C, H, W)"
    return ""


def _no_gain(layer: Layer, form: Form) -> str:
    """Says that a layer would not get cheaper (rule 2)."""
    old, new = price(layer), price(layer, form)
    if new.macs.exact < old.macs.exact and new.params <= old.params:
        return ""
    rank = rank_of(_conv(layer), form)
    return (
        f"at rank {rank} it would have {new.macs.exact:,} MACs and {new.params:,} parameters in "
        f"the place of {old.macs.exact:,} and {old.params:,}"
    )


def _written_out(before: Program, made: Mapping[str, nn.Sequential]) -> Program:
    """Returns the program with the one layer that each decomposed layer's parts equal."""
    reference = before.copy()
    for path, parts in made.items():
        plain = all(isinstance(part, nn.Conv2d | nn.ConvTranspose2d) for part in parts)
        whole: nn.Module = compose(parts) if plain else Pieces(parts)
        module = reference.module.get_submodule(path)
        for other, found in list(reference.module.named_modules(remove_duplicate=False)):
            if found is module:
                reference.module.set_submodule(other, whole)
    reference.recompile()
    return reference
