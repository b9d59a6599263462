"""Masks of the elements of weights: which layers take one, and how they get it."""

from collections import Counter

import torch
from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.utils import parametrize

from gfx.compression.masks.writers import LAYERS
from gfx.ir.layers import unlayered
from gfx.ir.modules import MASKED, MaskedLayer, Ramp, masked_layer
from gfx.ir.modules.channel_masks import Scope
from gfx.ir.modules.masked_layers import Pattern
from gfx.ir.parametrizations import folding_in
from gfx.ir.program import Program
from gfx.ir.stages import layer_path

__all__ = ["candidates", "fours", "mask_elements"]


def candidates(program: Program, pattern: Pattern = "free") -> dict[str, str]:
    """Lists the convolutions and linear layers, each with why it cannot be masked, "" if it can.

    Example:
        >>> import gfx
        >>> candidates(gfx.trace(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())))
        {'0': ''}
    """
    read = Counter(str(n.target) for n in program.graph.nodes if n.op == "get_attr")
    found = {}
    for node in program.graph.nodes:
        module = program.submodule(node) if node.op == "call_module" else None
        if isinstance(module, LAYERS):
            path = str(node.target)
            found[path] = _refusal(program, path, module, read[f"{path}.weight"])
            if pattern == "2:4" and not found[path]:
                found[path] = _uneven(module)
    found.update((layer_path(node), why) for node, why in unlayered(program))
    return found


def fours(layer: nn.Module) -> tuple[int, int]:
    """Returns the dimension of a weight that is summed over, where 2:4 counts, and its size.

    Example:
        >>> fours(nn.Linear(8, 2)), fours(nn.ConvTranspose2d(4, 2, 3))
        ((1, 8), (0, 4))
    """
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    dim = 0 if isinstance(layer, _ConvTransposeNd) else 1
    return dim, weight.shape[dim]


def _uneven(module: nn.Module) -> str:
    size = fours(module)[1]
    return f"2:4 counts fours of its inputs, and it has {size} for each output" if size % 4 else ""


def _refusal(program: Program, path: str, module: nn.Module, reads: int) -> str:
    if isinstance(module, MaskedLayer):
        return "its weight is masked already"
    if parametrize.is_parametrized(module) or "weight" not in module._parameters:
        return f"its weight is computed; {folding_in(program, path)}"
    if type(module) not in MASKED:
        return f"{type(module).__name__} is a class of its own: what it computes is not known"
    if reads:
        return "its weight is read at another place too"
    return ""


def mask_elements(
    program: Program, path: str, ramp: Ramp, scope: Scope, pattern: Pattern = "free"
) -> int:
    """Puts a layer that masks its weight in the place of one, and returns the weight's size."""
    plain = program.module.get_submodule(path)
    masked = masked_layer(plain, ramp, scope, pattern)
    for name, module in list(program.module.named_modules(remove_duplicate=False)):
        if module is plain:
            owner, _, leaf = name.rpartition(".")
            setattr(program.module.get_submodule(owner), leaf, masked)
    weight = masked.weight
    assert isinstance(weight, torch.Tensor)
    return weight.numel()
