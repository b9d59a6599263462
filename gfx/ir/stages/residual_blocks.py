"""Finds residual blocks, `x + f(x)` at one resolution, and the runs that they form."""

from dataclasses import dataclass

from torch import fx

from gfx.ir.ops import op_name
from gfx.ir.program import Program
from gfx.ir.stages.layer_calls import sort_of, tensors_in
from gfx.ir.stages.resolution import APART, Map

__all__ = ["Ancestors", "ResidualBlock", "longest_run", "residual_blocks", "runs"]

Ancestors = dict[fx.Node, set[fx.Node]]  # each node with itself and all that its value follows from


@dataclass(frozen=True)
class ResidualBlock:
    """Describes a residual block: the value that enters it, and the sum that leaves it."""

    entry: fx.Node
    exit: fx.Node
    inside: frozenset[fx.Node]  # all that the sum follows from and the entry does not


def residual_blocks(program: Program, found: Map, before: Ancestors) -> list[ResidualBlock]:
    """Lists the sums of a value and of what layers make of it, at the value's own resolution."""
    blocks = []
    for node in program.nodes():
        operands = tensors_in(node)
        sides = any((o, node) in found.sides for o in operands)
        if op_name(node) not in ("add", "sub") or len(operands) != 2 or sides:
            continue
        for skip, branch in (operands, operands[::-1]):
            entry = _entry(program, skip, before[branch])
            if entry is None:
                continue
            inside = frozenset(before[node] - before[entry])
            if any(n in found.facts for n in before[branch] - before[entry]) and _level(
                found, entry, node
            ):
                blocks.append(ResidualBlock(entry, node, inside))
                break
    return blocks


def runs(program: Program, found: Map, blocks: list[ResidualBlock]) -> list[list[ResidualBlock]]:
    """Joins blocks where one enters where the one before leaves, but for norms and activations.

    A block that changes the resolution inside is the skip of a U-Net, and ends a run, unless most
    blocks of the run do so.
    """
    by_exit = {block.exit: block for block in blocks}
    chains: dict[fx.Node, list[ResidualBlock]] = {}
    for block in blocks:  # in execution order, hence each after the one before it
        previous = _back(program, block.entry, set(by_exit))
        chain = chains.pop(previous, []) if previous is not None else []
        chains[block.exit] = [*chain, block]
    return [part for chain in chains.values() for part in _parts(found, chain)]


def _parts(found: Map, chain: list[ResidualBlock]) -> list[list[ResidualBlock]]:
    facts = [[found.facts[n] for n in block.inside if n in found.facts] for block in chain]
    resizing = [any(f.strided or f.raises or f.reach.enlarged for f in held) for held in facts]
    if 2 * sum(resizing) > len(chain):
        return [chain]
    parts: list[list[ResidualBlock]] = [[]]
    for block, resizes in zip(chain, resizing, strict=True):
        if resizes:
            parts += [[block], []]
        else:
            parts[-1].append(block)
    return [part for part in parts if part]


def longest_run(program: Program, found: Map, blocks: list[ResidualBlock]) -> list[ResidualBlock]:
    """Returns the run that holds most of the blocks, not counting those inside it and around it.

    Empty if there is none of two or more: a U-Net with some blocks at each size has its body where
    the resolution is lowest.
    """
    every = runs(program, found, blocks)
    run = max(every, key=lambda run: (len(run), len(run[0].inside)), default=[])
    if len(run) < 2:
        return []
    inside = frozenset().union(*(block.inside for block in run))
    around = [b for b in blocks if inside <= b.inside and b not in run]
    others = [b for b in blocks if b.exit not in inside and b not in around]
    return run if len(run) > len(others) else []


def _entry(program: Program, skip: fx.Node, branch: set[fx.Node]) -> fx.Node | None:
    """Returns the node at which a skip leaves the branch; None if layers are in between."""
    return _back(program, skip, branch)


def _back(program: Program, node: fx.Node, wanted: set[fx.Node]) -> fx.Node | None:
    """Walks back over norms, activations and the like until one of the wanted nodes."""
    while node not in wanted:
        operands = tensors_in(node)
        plain = sort_of(program, node) in ("other", "move", "spread")
        if not plain or not operands or (len(operands) > 1 and op_name(node) == "cat"):
            return None
        node = operands[0]
    return node


def _level(found: Map, entry: fx.Node, leaving: fx.Node) -> bool:
    """Whether two values are of one resolution."""
    levels = [found.reach[node].level for node in (entry, leaving)]
    return levels[0] is None or levels[1] is None or abs(levels[0] - levels[1]) < APART
