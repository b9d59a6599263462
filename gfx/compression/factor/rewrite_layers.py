"""Writes layers as their parts, and records what each cost before and after."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from gfx.compression.factor.factor_layers import Priced, kernel_error, parts_of, price, written_rank
from gfx.compression.factor.forms import Form
from gfx.ir.layers import Layer
from gfx.ir.program import Program
from gfx.ir.rewrite import split
from gfx.ir.shapes.propagate import propagate

__all__ = ["write_layers"]


def write_layers(
    program: Program,
    forms: Mapping[Layer, Form],
    prices: Mapping[str, Priced],
    batches: Sequence[tuple[Any, ...]] = (),
    seed: int = 0,
    rounds: int = 3,
) -> tuple[dict[str, nn.Sequential], list[dict[str, Any]]]:
    """Puts parts in the place of layers, in the program itself.

    Args:
        program: the one the layers are of.
        forms: layers, each with its form.
        prices: of each layer before anything was done to it, by path.
        batches: inputs of the program, for forms that are fitted to what their layer reads.
        seed: of what is drawn at random.
        rounds: of the alternation between the parts, where they are fitted.

    Returns: the parts by path, and of each layer a row for the report: `layer`, `rank`, `before`
    and `after` (exact MACs and parameters), and `error`, how far the kernel of the parts is from
    the layer's.

    Example:
        >>> import gfx
        >>> from gfx.ir.layers import layers_of
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> layer = layers_of(program)[1]
        >>> made, rows = write_layers(program, {layer: Form()}, {layer.path: price(layer)})
        >>> list(made), rows[0]["before"]["params"], rows[0]["after"]["params"]
        (['up.0.conv'], 8192, 1024)
    """
    found = parts_of(program, forms.items(), batches, seed, rounds)
    made = {layer.path: parts for layer, parts in zip(forms, found, strict=True)}
    rows = [
        {
            "layer": layer.path,
            "rank": written_rank(layer, form),
            "before": _row(prices[layer.path]),
            "after": _row(price(layer, form)),
            "error": kernel_error(layer.convolution, made[layer.path]),
        }
        for layer, form in forms.items()
    ]
    for path, parts in made.items():
        split(program, path, parts)
    program.recompile()
    propagate(program)
    return made, rows


def _row(found: Priced) -> dict[str, int]:
    return {"macs": found.macs.exact, "params": found.params}
