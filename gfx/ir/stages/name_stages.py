"""Names the stage of every layer, from levels and residual blocks.

1. The body is the run of residual blocks that holds most of the program's blocks (two or more);
   else what stays at the lowest resolution on the main path, the path with the most layers.
2. What the body's entry follows from comes before it: `down` if it lowers the resolution or works
   at a higher one, else body. A layer that reads an input without a change of size, with no layer
   before it, is the `stem`; so are layers on a latent vector before it becomes a map.
3. What the body's exit follows from, and its entry does not, is body: side branches too.
4. All else comes after: `up` if it raises the resolution (the layer before a pixel shuffle too),
   works at a higher one or follows from what does, or does not follow from the body; a strided one
   is `down`; what is left at the body's resolution is body. The last layer before an output, with
   no change of size, is the `head`.
5. A layer whose result is only ever broadcast (squeeze-excite, a style, a label) has the stage of
   the place where it first joins.

A latent that becomes a map (a linear and a view, a transposed convolution of one place) is `up`.
"""

from dataclasses import dataclass
from typing import Literal

from torch import fx

from gfx.ir.program import Program
from gfx.ir.stages.layer_calls import tensors_in
from gfx.ir.stages.residual_blocks import Ancestors, ResidualBlock, longest_run, residual_blocks
from gfx.ir.stages.resolution import APART, Fact, Map, survey

__all__ = ["STAGES", "Stage", "main_path", "stages"]

Stage = Literal["stem", "down", "body", "up", "head"]
STAGES: tuple[Stage, ...] = ("stem", "down", "body", "up", "head")


def stages(program: Program) -> dict[str, Stage]:
    """Finds the stage of every layer (convolution, transposed convolution, linear) by node name.

    From the graph alone: no name and no image size matters. The rules are at the top of this file.

    Raises: InputError if the program does not run on its example inputs.

    Source: Li et al. 2020, GAN Compression, arXiv:2003.08936, table 4 (Downsample, ResBlocks,
    Upsample).

    Example:
        >>> import gfx
        >>> from collections import Counter
        >>> Counter(stages(gfx.trace(gfx.zoo.build("resnet_9blocks", ngf=4))).values())
        Counter({'body': 18, 'down': 2, 'up': 2, 'stem': 1, 'head': 1})
    """
    found = survey(program)
    if not found.facts:
        return {}
    before = found.before
    path = main_path(program, found)
    body = _body(program, found, before, path)
    naming = _Naming(found, before, body, _last(program, found), path)
    named: dict[fx.Node, Stage] = {}
    main = _main(program, found)
    for node, fact in found.facts.items():
        if node in main:
            named[node] = naming.stage(fact)
    for node in found.facts:
        if node not in main:
            named[node] = _joined(program, found, node, named)
    return {node.name: named[node] for node in found.facts}


@dataclass(frozen=True)
class _Body:
    """Holds where the body begins and ends, and its level."""

    entry: fx.Node | None  # None: there is nothing before it
    exit: fx.Node | None  # None: as the entry, there is no body
    level: float
    empty: bool = False  # whether no layer of the main path is in it


@dataclass(frozen=True)
class _Naming:
    """Names layers of the main path and beside it (rules 2 to 4)."""

    found: Map
    before: Ancestors
    body: _Body
    last: frozenset[fx.Node]  # layers that write an output, with no change of size
    path: list[fx.Node]  # layers of the main path

    def stage(self, fact: Fact) -> Stage:
        """Names one layer."""
        node, body = fact.node, self.body
        if body.entry is not None and node in self.before[body.entry]:
            return self._early(fact)
        inside = body.exit is not None and node in self.before[body.exit]
        if len(self.found.facts) > 1 and self._is_head(fact):
            return "head"
        first = body.entry is None or body.entry.op == "placeholder"
        if first and _reads_input(fact) and self._leads(node):
            return "stem"
        return "body" if inside else self._late(fact)

    def _leads(self, node: fx.Node) -> bool:
        """Whether the whole main path follows from a layer, and there is more of it."""
        return len(self.path) > 1 and all(node in self.before[n] for n in self.path)

    def _early(self, fact: Fact) -> Stage:
        if _reads_input(fact) or (fact.reach.latent and not fact.raises):
            return "stem"
        if fact.lowers or fact.after > self.body.level + APART:
            return "down"
        if fact.raises:
            return "up"
        return "down" if fact.reach.shrunk and not self.body.empty else "body"

    def _late(self, fact: Fact) -> Stage:
        node, body = fact.node, self.body
        if fact.reach.latent and not fact.raises:
            return "stem"
        if fact.raises or fact.reach.enlarged or fact.after > body.level + APART:
            return "up"
        follows = body.exit is None or body.exit in self.before[node]
        if not follows:  # a branch off the body is of the body
            return "body" if self._branches(fact) else "up"
        if fact.strided:
            return "down"
        after = self.before[node] - (self.before[body.exit] if body.exit is not None else set())
        facts = [self.found.facts[n] for n in after if n in self.found.facts]
        return "up" if any(f.raises or f.reach.enlarged for f in facts) else "body"

    def _branches(self, fact: Fact) -> bool:
        """Whether a layer follows from layers of the body alone, at its resolution or below."""
        body = self.body
        if body.entry is None or body.exit is None:
            return False
        inside = self.before[body.exit] - self.before[body.entry]
        late = self.before[fact.node] - self.before[body.exit]
        raised = any(n in self.found.facts and self.found.facts[n].raises for n in late)
        return not raised and any(n in inside for n in self.before[fact.node])

    def _is_head(self, fact: Fact) -> bool:
        still = not (fact.raises or fact.strided or fact.reach.enlarged)
        return still and fact.node in self.last


def _body(program: Program, found: Map, before: Ancestors, path: list[fx.Node]) -> _Body:
    """Finds the body (rule 1)."""
    blocks = residual_blocks(program, found, before)
    run = longest_run(program, found, blocks)
    if run:
        level = found.reach[run[-1].exit].level
        return _Body(run[0].entry, run[-1].exit, 0.0 if level is None else level)
    return _lowest(program, found, blocks, path)


def _lowest(
    program: Program, found: Map, blocks: list[ResidualBlock], path: list[fx.Node]
) -> _Body:
    """Finds what stays at the lowest level of the main path."""
    facts = [found.facts[node] for node in path]
    maps = facts[_leading_vectors(facts) :] or facts
    if not maps:  # nothing on the way from the input to the output has a size
        return _Body(None, None, 0.0, empty=True)
    level = min(f.lowest for f in maps)
    last = _last(program, found)
    staying = [
        f
        for f in maps
        if max(f.before, f.after) < level + APART
        and not (f.raises or f.lowers or _reads_input(f))
        and (f.node not in last or f.reach.enlarged)
    ]
    if not staying:
        lowering = [f.node for f in maps if f.lowers]
        turn = lowering[-1] if lowering else None
        return _Body(turn, turn, level, empty=True)
    entry: fx.Node = tensors_in(staying[0].node)[0]
    leaving: fx.Node = staying[-1].node
    for block in blocks:  # what is inside a residual block begins where the block does
        height = found.reach[block.entry].level
        low = height is not None and height < level + APART
        if low and staying[0].node in block.inside:
            entry = block.entry
        if low and staying[-1].node in block.inside:
            leaving = block.exit
    return _Body(entry, leaving, level)


def _leading_vectors(facts: list[Fact]) -> int:
    """Counts the layers at the head of a path that work on a latent, up to its first map."""
    maps = (place for place, fact in enumerate(facts) if not fact.reach.latent)
    return next(maps, 0)  # 0 too where there is no map at all


def _reads_input(fact: Fact) -> bool:
    """Whether a layer reads an input, with no layer before it and no change of size."""
    reach = fact.reach
    moved = fact.strided or fact.raises or reach.shrunk
    return reach.given and not reach.layered and not moved


def _last(program: Program, found: Map) -> frozenset[fx.Node]:
    """Lists the layers that write an output: nothing after them is a layer or changes the size."""
    output = next(node for node in program.nodes() if node.op == "output")
    reaches = [found.reach[node] for node in output.all_input_nodes]
    levels = [reach.level for reach in reaches if reach.level is not None]
    largest = [  # what else comes out, as scores or attention, is no image
        r for r in reaches if r.level is None or r.level > max(levels) - APART
    ]
    return frozenset(n for reach in largest for n, resized in reach.sources if not resized)


def main_path(program: Program, found: Map) -> list[fx.Node]:
    """Returns the layers of the main path: the one with the most layers, then the most places."""
    best: dict[fx.Node, tuple[int, float, fx.Node | None]] = {}
    for node in program.nodes():
        came: tuple[int, float, fx.Node | None] = (0, 0.0, None)
        for operand in tensors_in(node):
            if (operand, node) not in found.sides:
                came = max(came, (*best[operand][:2], operand), key=lambda entry: entry[:2])
        layer = found.facts.get(node)
        best[node] = (came[0] + 1, came[1] + layer.after, came[2]) if layer else came
    ends = [node for node in program.nodes() if node.op == "output"]
    at: fx.Node | None = max(ends, key=lambda node: best[node][:2])
    path: list[fx.Node] = []
    while at is not None:
        if at in found.facts:
            path.append(at)
        at = best[at][2]
    return path[::-1]


def _main(program: Program, found: Map) -> set[fx.Node]:
    """Lists the nodes from which a way leads to an output that is never from the side."""
    main: set[fx.Node] = set()
    for node in reversed(list(program.nodes())):
        users = [user for user in node.users if (node, user) not in found.sides]
        if node.op == "output" or any(user in main for user in users):
            main.add(node)
    return main


def _joined(program: Program, found: Map, node: fx.Node, named: dict[fx.Node, Stage]) -> Stage:
    """Names a layer by the place where what it makes joins the main path (rule 5)."""
    reached = {node}
    for later in program.nodes():
        operands = [o for o in tensors_in(later) if o in reached]
        if not operands:
            continue
        reached.add(later)
        if later in named:
            return named[later]
        if all((operand, later) in found.sides for operand in operands):
            layers = [n for n, _ in found.reach[later].sources if n in named]
            if layers:
                return named[layers[0]]
    return "body"
