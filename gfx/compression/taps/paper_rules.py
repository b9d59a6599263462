"""Finds the places that papers distil from the graph alone, without module names."""

from typing import Any

from torch import fx

from gfx.compression.taps.layer_ends import After, convolutions, ends, feeds_product, is_activation
from gfx.errors import PreconditionError
from gfx.ir.program import Program
from gfx.ir.stages import stages
from gfx.ir.stages.layer_calls import sort_of
from gfx.ir.stages.name_stages import main_path
from gfx.ir.stages.residual_blocks import ResidualBlock, longest_run, residual_blocks
from gfx.ir.stages.resolution import Map, survey

__all__ = ["auto", "gan_compression", "gcc"]

# GCC, table II: number of convolutions of a generator → serial numbers of those distilled
_TABLE = {5: (2, 4), 16: (2, 4, 12, 14), 24: (3, 9, 15, 21), 37: (9, 17, 25, 33)}
_EVERY = 3  # residual blocks

Notes = dict[str, Any]  # plain data for the report


def gan_compression(program: Program) -> list[fx.Node]:
    """Finds the places that GAN Compression distils in a generator with residual blocks.

    These are the activation that ends the last layer that lowers the resolution, and the outputs
    of the residual blocks 3, 6, 9, ... In the ResNet generator with two downsampling layers and
    nine blocks these are `model.9`, `model.12`, `model.15` and `model.18`. With fewer than three
    blocks it is the output of the last one, which is not in the paper.

    Raises: PreconditionError if there are no residual blocks; it says what to use.

    Source: Li et al. 2020, arXiv:2003.08936, section 3.1 and appendix 6.1.
    """
    found = survey(program)
    blocks = body_blocks(program, found)
    if not blocks:
        raise PreconditionError(
            "rule: gan_compression is for generators with residual blocks, and this "
            "one has none; leave rule out, add otherwise: auto, or use rule: gcc"
        )
    named = stages(program)
    first = found.before[blocks[0].entry]
    down = [n for n in program.nodes() if named.get(n.name) == "down" and n in first]
    taps = [ends(program, down[-1])] if down else []
    outputs = _outputs(program, blocks)
    return [*taps, *(outputs[_EVERY - 1 :: _EVERY] or outputs[-1:])]


def gcc(
    program: Program, serial: tuple[int, ...] = (), after: After = "activation"
) -> tuple[list[fx.Node], Notes]:
    """Finds the places that GCC distils: the ends of convolutions by serial number, from 1.

    Without `serial` they are those of the paper's table for generators of 5, 16, 24 and 37
    convolutions. For another number the nearest row is scaled in proportion; this is reconstructed,
    not from the paper, and the note for the report says so.

    Raises: PreconditionError if a number is more than there are convolutions.

    Source: Li et al. 2021, GCC, arXiv:2110.14439, appendix D, table II.
    """
    found = convolutions(program)
    notes: Notes = {"convolutions": len(found)}
    if not found:
        raise PreconditionError(
            "rule: gcc counts convolutions, and the program has none; leave rule out"
        )
    if not serial:
        serial, row = _from_table(len(found))
        if row != len(found):
            notes["reconstructed"] = (
                f"GCC's table II has no generator of {len(found)} convolutions; the places are "
                f"those of the one with {row}, scaled"
            )
    wrong = [number for number in serial if number > len(found)]
    if wrong:
        raise PreconditionError(
            f"serial names the convolution {wrong[0]}, and the program has "
            f"{len(found)}; give numbers from 1 to {len(found)}"
        )
    notes["serial"] = list(serial)
    return [ends(program, found[number - 1], after) for number in serial], notes


def auto(program: Program) -> list[fx.Node]:
    """Finds places from the stages of a generator: the end of each, and some inside long ones.

    1. A body of residual blocks is tapped at their outputs; other stages (stem, down, body, up)
       at what ends their layers: the activation, else the norm, else the layer.
    2. A stage of one or two such places gives its last; a longer one the places at one third, at
       two thirds and the last.
    3. Only layers on the main path count, no query, key and value of an attention, and nothing
       that is the output.

    This is gfx's own. On the ResNet generator: after stem, down 2, block 3, 6, 9 and up 2.
    """
    found = survey(program)
    blocks = body_blocks(program, found)
    inside = {n for block in blocks for n in block.inside}
    named = stages(program)
    places: dict[str, list[fx.Node]] = {}
    for layer in trunk(program, found):
        if layer not in inside and named[layer.name] != "head":
            places.setdefault(named[layer.name], []).append(ends(program, layer))
    if blocks:
        places["body"] = places.get("body", []) + _outputs(program, blocks)
    order = {node: index for index, node in enumerate(program.nodes())}
    chosen = {n for ended in places.values() for n in _thirds(sorted(ended, key=order.__getitem__))}
    return sorted(chosen, key=order.__getitem__)


def body_blocks(program: Program, found: Map) -> list[ResidualBlock]:
    """Lists the residual blocks of the body, in the order in which they run."""
    every = residual_blocks(program, found, found.before)
    run = longest_run(program, found, every)
    if run or len(every) != 1:
        return run
    attends = any(sort_of(program, node) == "product" for node in every[0].inside)
    return [] if attends else every


def _outputs(program: Program, blocks: list[ResidualBlock]) -> list[fx.Node]:
    """Lists what residual blocks return: their sums, or the activation that ends every one."""
    behind = [next(iter(block.exit.users)) for block in blocks if len(block.exit.users) == 1]
    if len(behind) == len(blocks) and all(is_activation(program, node) for node in behind):
        return behind
    return [block.exit for block in blocks]


def trunk(program: Program, found: Map) -> list[fx.Node]:
    """Lists the layers of the main path that another one follows, attention's inner ones aside."""
    path = main_path(program, found)
    followed = {n for layer in found.facts for n in found.before[layer] if n is not layer}
    return [n for n in path if n in followed and not feeds_product(program, n)]


def _thirds(places: list[fx.Node]) -> list[fx.Node]:
    """Takes the last of one or two places; of more, those at one and two thirds too."""
    count = len(places)
    if count < 3:
        return places[-1:]
    return [places[round(count * part / 3) - 1] for part in (1, 2, 3)]


def _from_table(count: int) -> tuple[tuple[int, ...], int]:
    """Returns the serial numbers for a generator of `count` convolutions, and the row they are of.

    Example:
        >>> _from_table(24), _from_table(12)
        (((3, 9, 15, 21), 24), ((2, 3, 9, 11), 16))
    """
    row = min(_TABLE, key=lambda total: abs(total - count))
    scaled = (max(1, int(number * count / row + 0.5)) for number in _TABLE[row])
    return tuple(dict.fromkeys(scaled)), row
