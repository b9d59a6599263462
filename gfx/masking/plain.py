"""Puts plain layers in the place of those that mask their weight."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from gfx.edit.reference import fresh_name
from gfx.errors import PreconditionError
from gfx.modules import MaskedLayer, plain_layer
from gfx.program import Program

__all__ = ["write_out"]


def write_out(program: Program) -> dict[str, tuple[MaskedLayer, nn.Module]]:
    """Writes the masks of weights into the weights; returns by path what was and what is.

    Layers that share a weight and mask it alike share it still. What else reads the weight reads it
    unmasked, as before.

    Raises: PreconditionError if a masked weight is computed from other tensors.
    """
    found = dict(_masked(program.module))
    for path, layer in found.items():
        if "weight" not in layer._parameters:
            raise PreconditionError(
                f"the weight of {path} is masked, and computed by a hook or parametrization; run "
                "fold_parametrizations before fold_masks"
            )
    made: dict[int, nn.Module] = {}
    weights: dict[Any, nn.Parameter] = {}
    for layer in found.values():
        if id(layer) not in made:
            made[id(layer)] = plain = plain_layer(layer)
            plain.weight = _shared(layer, plain, weights)
    _keep_read(program, found)
    for path, layer in found.items():
        program.module.set_submodule(path, made[id(layer)])
    return {path: (layer, made[id(layer)]) for path, layer in found.items()}


def _masked(module: nn.Module) -> Iterator[tuple[str, MaskedLayer]]:
    for path, layer in module.named_modules(remove_duplicate=False):
        if isinstance(layer, MaskedLayer):
            yield path, layer


def _shared(layer: MaskedLayer, plain: Any, weights: dict[Any, nn.Parameter]) -> Any:
    """Returns the masked weight: one for all that mask the same weight alike."""
    if bool(layer.mask.all()):
        return layer.weight
    plain.weight.data.masked_fill_(~layer.mask, 0)  # a product may be -0
    key = (id(layer.weight), layer.mask.cpu().numpy().tobytes())
    return weights.setdefault(key, plain.weight)


def _keep_read(program: Program, found: dict[str, MaskedLayer]) -> None:
    """Lets nodes that read a weight itself, not through its layer, read the one without a mask."""
    raw = {f"{path}.weight": layer for path, layer in found.items() if not bool(layer.mask.all())}
    kept: dict[int, str] = {}
    for node in program.nodes():
        layer = raw.get(str(node.target)) if node.op == "get_attr" else None
        if layer is None:
            continue
        if id(layer.weight) not in kept:
            name = kept[id(layer.weight)] = fresh_name(program.module, node.name)
            program.module.register_parameter(name, layer.weight)  # type: ignore[arg-type]
        node.target = kept[id(layer.weight)]
