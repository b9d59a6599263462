"""Inserts taps: identity nodes that mark the activations to be distilled.

Before   y = f(h),  h = g(x)
After    y = f(tap(h)),  h = g(x)          tap: identity, a visible node of the graph
Source   Li et al. 2020, arXiv:2003.08936 (GAN Compression), appendix 6.1; Li et al. 2021,
         arXiv:2110.14439 (GCC), appendix D, table II.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import fx

from gfx.compression.taps import (
    Places,
    auto,
    gan_compression,
    gcc,
    insert,
    is_floating,
    plain,
    taps,
)
from gfx.contract import Context, Keeps, Outcome, Pass
from gfx.errors import PreconditionError, RecipeError, nearest
from gfx.ir.globs import named_by
from gfx.ir.interpreter import descendants
from gfx.ir.node_origin import stands_for
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate

__all__ = ["DistillTaps"]


@dataclass(frozen=True)
class DistillTaps(Pass):
    """Inserts a tap, an identity node, behind each activation to be distilled.

    `gfx.tapped` returns the activations at the taps, `gfx.adapters` maps a student's to a teacher's
    widths, and `strip_taps` removes the taps. Tap a teacher before other passes make students of
    it: taps survive other passes, so teacher and students have the same ones. A tap has the name of
    the module it is behind, with dots as `_`, or of the node where no module ends there.

    1. `layers` are globs over module paths, where `*` stands for dots too. A module that holds
       others is tapped where it ends; one that is called several times is tapped at each call, and
       the taps are numbered from 1.
    2. `layers: auto` taps the end of each stage (stem, down, body, up) and, in a stage of three
       places or more, also one third and two thirds of it. Places are the outputs of residual
       blocks and, elsewhere, the activation behind each layer of the main path, but not the output.
    3. `rule: gan_compression` taps the activation that ends the last layer that lowers the
       resolution, and the outputs of the residual blocks 3, 6, 9, ...
    4. `rule: gcc` taps the nonlinear activation behind the convolutions with some serial numbers,
       else the norm, else the convolution; `after: layer` taps the convolution itself. Without
       `serial` these are those of table II, by the number of all convolutions (5, 16, 24, 37); for
       another number the nearest row is scaled in proportion, which is reconstructed. An
       attention's query, key and value are not counted.
    5. A tap is before the masks of its place, whichever pass runs first: it reads the module's own
       output, with the channels that a mask zeroes and `fold_masks` will remove.
    6. A place that is tapped already, is not computed from the input, is the output, or is no
       floating-point tensor is skipped.

    Shapes: all stay.
    Cost: none.
    Raises: PreconditionError if a glob matches nothing, or a rule does not apply; RecipeError if
    fields contradict each other.

    Example:
        >>> import gfx
        >>> model = gfx.zoo.build("resnet_9blocks", ngf=4, image_size=32)
        >>> small = gfx.apply({"passes": [{"distill_taps": {"rule": "gan_compression"}}]}, model)
        >>> [change.node for change in gfx.report(small).passes[0].changes]
        ['down.1.act', 'blocks.2', 'blocks.5', 'blocks.8']
    """

    name: ClassVar[str] = "distill_taps"
    keeps: ClassVar[Keeps] = Keeps.VALUES

    layers: Literal["auto"] | tuple[str, ...] = "auto"  # globs over module paths; auto: rule 2
    rule: Literal["gan_compression", "gcc"] | None = None  # a paper's, in the place of layers
    otherwise: Literal["refuse", "auto"] = "refuse"  # where the program has no place of the rule
    serial: tuple[int, ...] = ()  # of convolutions, from 1; for rule gcc
    after: Literal["activation", "layer"] = "activation"  # what is tapped; for rule gcc

    def __post_init__(self) -> None:
        if self.layers != "auto":  # one name needs no list
            globs = (self.layers,) if isinstance(self.layers, str) else tuple(self.layers)
            object.__setattr__(self, "layers", globs)
        if self.rule is not None and self.layers != "auto":
            raise RecipeError(
                f"distill_taps: layers={list(self.layers)} and rule={self.rule} both say what to "
                "tap; give one of them"
            )
        if self.rule is None and self.otherwise != "refuse":
            raise RecipeError("distill_taps: otherwise is for a rule; add rule, or leave it out")
        if self.rule != "gcc" and (self.serial or self.after != "activation"):
            raise RecipeError("distill_taps: serial and after are for rule: gcc; add it")
        wrong = [number for number in self.serial if number < 1]
        if wrong:
            raise RecipeError(f"distill_taps: serial={wrong[0]}; convolutions count from 1")

    def apply(self, program: Program, context: Context) -> Outcome:
        """Inserts the taps."""
        outcome = Outcome()
        unmarked = plain(program)
        propagate(unmarked)  # rules 3 and 6 need sizes and dtypes
        places = Places(unmarked)
        inputs = {node for node in unmarked.nodes() if node.op == "placeholder"}
        computed = descendants(inputs) - inputs
        nodes = {node.name: node for node in program.nodes()}
        for path, place in self._chosen(unmarked, places, outcome):
            node = nodes[place.name]
            why = _refusal(program, place, node)
            if place not in computed:
                why = "it does not follow from the input"
            if why:
                outcome.skip(path, why)
                continue
            name = insert(program, node, path)
            stands_for(next(iter(node.users)), node)
            outcome.change(path, "tap", None, name)
        program.recompile()
        return outcome

    def _chosen(
        self, unmarked: Program, places: Places, outcome: Outcome
    ) -> list[tuple[str, fx.Node]]:
        """Lists the nodes to be tapped, each with its path (rules 1 to 4)."""
        if self.rule is None and self.layers != "auto":
            return _matched(places, self.layers)
        found = self._of_rule(unmarked, outcome)
        if found is None:
            found = auto(unmarked)
            if not found:
                outcome.skip("auto", "no layer has another one behind it, so no stage ends inside")
        return [(places.name(node), node) for node in found]

    def _of_rule(self, unmarked: Program, outcome: Outcome) -> list[fx.Node] | None:
        """Lists the places of a paper's rule; None: there is no rule, or auto stands for it."""
        try:
            if self.rule == "gcc":
                found, outcome.details["gcc"] = gcc(unmarked, self.serial, self.after)
                return found
            return gan_compression(unmarked) if self.rule == "gan_compression" else None
        except PreconditionError as error:
            if self.otherwise == "refuse":
                raise
            why = str(error).partition(";")[0]
            outcome.details["note"] = f"{why}: the taps are those of layers: auto"
            return None


def _matched(places: Places, globs: tuple[str, ...]) -> list[tuple[str, fx.Node]]:
    """Lists the ends of every module that a glob names (rule 1).

    Raises: PreconditionError with the nearest names if a glob names no module.
    """
    found: list[tuple[str, fx.Node]] = []
    for glob in globs:
        paths = named_by(glob, places.paths)
        if not paths:
            near = nearest(glob, places.paths, 3, cutoff=0.4) or places.paths[:6]
            raise PreconditionError(
                f"distill_taps: layers: no module that runs is named {glob!r}; "
                f"near are {', '.join(near) or 'none: the program calls no module'}"
            )
        for path in paths:
            ends = places.ends(path)
            several = len(ends) > 1
            found += [(f"{path}.{i}" if several else path, end) for i, end in enumerate(ends, 1)]
    return found


def _refusal(program: Program, place: fx.Node, node: fx.Node) -> str:
    """Says why a node is not tapped; "" if it can be (rule 6)."""
    if not is_floating(place):
        return "it gives no tensor of floating-point numbers"
    if any(user.op == "output" for user in place.users):
        return "it is the output, which gfx.tapped returns in any case"
    if not place.users:
        return "nothing reads what it gives"
    known = next((name for name, tap in taps(program.module).items() if node in tap.args), None)
    return f"it is tapped already, as {known}" if known else ""
