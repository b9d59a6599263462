"""Finds residual blocks that may be skipped: additions x + f(x), by the graph alone.

1. An addition is one where one operand, x, leads to the other, and what lies between is read by
   nothing outside of the block. f may read other values too, as a conditional norm does.
2. x has the shape and the type of the result, so that it can stand for it.
3. Nothing of the block draws random numbers: what others draw does not depend on a choice.
4. Nothing writes in place into memory that is read outside of the block; and nothing writes into
   the result while x, which may be the result, is still read.
"""

from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from gfx.ir.drawn_numbers import draws
from gfx.ir.interpreter import ancestors, descendants
from gfx.ir.modules import ChannelMask, ChoiceLayer, Penalty, Tap, is_known
from gfx.ir.ops import is_inplace, is_inplace_module, op_name
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate

__all__ = ["Block", "skippable_blocks"]


@dataclass(frozen=True)
class Block:
    """An addition whose result may be one of its operands."""

    name: str  # of the modules in it, or of the addition if they have no part of a path in common
    result: fx.Node  # x + f(x)
    place: int  # of x among its operands
    why_not: str = ""  # it may not be skipped

    @property
    def operand(self) -> fx.Node:
        """x, as the graph has it now: another block's result may have got a choice."""
        return self.result.all_input_nodes[self.place]


def skippable_blocks(program: Program) -> tuple[Block, ...]:
    """Lists the residual blocks of a program, in the order of their results.

    Example:
        >>> import gfx
        >>> program = gfx.trace(gfx.zoo.build("resnet_9blocks", ngf=4, n_blocks=2, image_size=16))
        >>> [(block.name, block.why_not) for block in skippable_blocks(program)]
        [('blocks.0', ''), ('blocks.1', '')]
    """
    propagate(program)
    found: list[Block] = []
    for node in program.nodes():
        operands = node.all_input_nodes
        if op_name(node) != "add" or len(operands) != 2:
            continue
        if not all(isinstance(n.meta.get("val"), Tensor) for n in (node, *operands)):
            continue
        for place, (x, other) in enumerate((operands, operands[::-1])):
            if x in ancestors([other]) and not _has_choice(program, node):
                taken = {block.name for block in found}
                found.append(_block(program, node, place, other, taken))
                break
    return tuple(_not_written_over(program, found))


def _not_written_over(program: Program, blocks: list[Block]) -> list[Block]:
    """Refuses blocks whose result may be written over while x is read (rule 4).

    The result may lie in the memory of x, and so may those of the blocks behind that are skipped.
    """
    while True:
        free = [block for block in blocks if not block.why_not]
        refused = next((b for b in free if _written_over(program, b, free)), None)
        if refused is None:
            return blocks
        said = f"its result is written over in place while {refused.operand.name} is read"
        blocks[blocks.index(refused)] = replace(refused, why_not=said)


def _written_over(program: Program, block: Block, free: list[Block]) -> bool:
    results, kept, passed, written = _memory(block.result), _memory(block.operand), False, False
    for other in free:  # in their order
        if _memory(other.operand) & results:
            results = results | _memory(other.result)
    for node in program.nodes():
        if passed and not written:
            written = _writes(program, node) and bool(_memory(node.all_input_nodes[0]) & results)
        if passed and written and any(_memory(n) & kept for n in node.all_input_nodes):
            return True
        passed = passed or node is block.result
    return False


def _has_choice(program: Program, node: fx.Node) -> bool:
    layers = [program.submodule(user) for user in node.users if user.op == "call_module"]
    return any(isinstance(layer, ChoiceLayer) for layer in layers)


def _block(program: Program, node: fx.Node, place: int, other: fx.Node, taken: set[str]) -> Block:
    x = node.all_input_nodes[place]
    inner = (descendants([x]) & ancestors([other])) - {x}
    name = _name(program, inner, node)
    if name in taken:
        name = f"{name}.{node.name}"
    return Block(name, node, place, _refusal(program, node, x, inner))


def _refusal(program: Program, node: fx.Node, x: fx.Node, inner: set[fx.Node]) -> str:
    """Says why a block may not be skipped (rules 1 to 4)."""
    for each in inner:
        for user in each.users:
            if user not in inner and user is not node:
                return f"{each.name}, inside of it, is read outside, by {user.name}"
    value, given = node.meta["val"], x.meta["val"]
    if (value.shape, value.dtype) != (given.shape, given.dtype):
        return (
            f"its result is {_said(value)} and what it adds to is {_said(given)}: one cannot "
            "stand for the other"
        )
    own = _own(program, inner)
    for each in program.nodes():
        if each in own and (why := _chance(program, each)):
            return why
    return _written(program, node, x, own | inner)


def _said(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"


def _own(program: Program, inner: set[fx.Node]) -> set[fx.Node]:
    """Adds what nothing outside of a block reads: its weights, its noise."""
    found = set(inner)
    for node in reversed(list(program.nodes())):
        if node.op != "placeholder" and node.users and all(user in found for user in node.users):
            found.add(node)
    return found


def _chance(program: Program, node: fx.Node) -> str:
    """Says that a node draws random numbers, or may (rule 3)."""
    drawn = f"{node.name} draws random numbers, and without it others would draw other ones"
    if node.op == "call_module":
        module = program.submodule(node)
        for part in module.modules():
            if not is_known(part):
                return f"{node.name} is a {type(part).__name__}: what it does is not known"
            if isinstance(part, nn.RReLU) or float(getattr(part, "dropout", 0.0) or 0.0):
                return drawn
            if isinstance(part, nn.modules.dropout._DropoutNd) and part.p:
                return drawn
        return ""
    name = op_name(node)
    return drawn if draws(node) or name == "rrelu" or "dropout" in name else ""


def _written(program: Program, node: fx.Node, x: fx.Node, own: set[fx.Node]) -> str:
    """Says that something writes where it must not (rule 4)."""
    outside = {key for n in program.nodes() if n not in own and n is not node for key in _memory(n)}
    if _memory(node) & _memory(x):
        return f"{node.name} adds in place to what it would be without the block"
    for each in own:
        if _writes(program, each) and _memory(each.all_input_nodes[0]) & outside:
            return f"{each.name} writes in place into what is read outside of the block"
    return ""


def _writes(program: Program, node: fx.Node) -> bool:
    if node.op == "call_module":
        return is_inplace_module(program.submodule(node)) and bool(node.all_input_nodes)
    return is_inplace(node) and bool(node.all_input_nodes)


def _memory(node: fx.Node) -> set[int]:
    """Returns the memory under a node's value."""
    leaves: list[Any] = pytree.tree_leaves(node.meta.get("val"))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    return {leaf.untyped_storage()._cdata for leaf in tensors}


def _name(program: Program, inner: set[fx.Node], node: fx.Node) -> str:
    """Returns what the paths of the modules in a block have in common, or the result's name."""
    layers = [n for n in inner if n.op == "call_module"]
    marks = (ChoiceLayer, ChannelMask, Penalty, Tap)  # whose paths do not say where they are
    named = [n for n in layers if not isinstance(program.submodule(n), marks)]
    paths = [str(n.target).split(".") for n in named]
    if len(paths) == 1:
        return ".".join(paths[0])
    common = list(takewhile(_same, zip(*paths, strict=False)))
    return ".".join(parts[0] for parts in common) or node.name


def _same(parts: tuple[str, ...]) -> bool:
    return len({*parts}) == 1
