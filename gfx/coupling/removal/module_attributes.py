"""Updates module attributes that state a channel count, and masks, after their tensors were cut."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from gfx.coupling.removal.new_sizes import Sizes
from gfx.coupling.rules.gfx_modules import positions
from gfx.ir.modules import ChannelMask, is_index
from gfx.ir.program import Program

__all__ = ["fit", "note_indices", "renumber"]

Shape = tuple[int, ...]


def fit(module: nn.Module, shape: Shape, *, regroup: bool = False) -> None:
    """Sets a module's channel counts from its tensors and the shape of its output.

    With `regroup`, a GroupNorm keeps the number of its groups, not their size.
    """
    if isinstance(module, nn.GroupNorm) and regroup:
        module.num_channels = shape[1]
        return
    for kind, rule in _RULES.items():
        if isinstance(module, kind):
            rule(module, shape)
            return


def _conv(module: nn.modules.conv._ConvNd, shape: Shape) -> None:
    per_channel = module.groups > 1 and module.groups == module.in_channels
    first, second = module.weight.shape[:2]
    if module.transposed:
        module.groups = first if per_channel else module.groups
        module.in_channels, module.out_channels = first, second * module.groups
        return
    if per_channel:
        module.groups = first // (module.out_channels // module.groups)
    module.in_channels, module.out_channels = second * module.groups, first


def _linear(module: nn.Linear, shape: Shape) -> None:
    module.out_features, module.in_features = module.weight.shape


def _norm(module: nn.modules.batchnorm._NormBase, shape: Shape) -> None:
    module.num_features = shape[1]  # a norm without affine parameters has no tensor to read it off


def _group_norm(module: nn.GroupNorm, shape: Shape) -> None:
    members = module.num_channels // module.num_groups
    module.num_channels, module.num_groups = shape[1], shape[1] // members


def _layer_norm(module: nn.LayerNorm, shape: Shape) -> None:
    module.normalized_shape = shape[len(shape) - len(module.normalized_shape) :]


def _bilinear(module: nn.Bilinear, shape: Shape) -> None:
    module.out_features, module.in1_features, module.in2_features = module.weight.shape


def _embedding(module: nn.Embedding | nn.EmbeddingBag, shape: Shape) -> None:
    module.embedding_dim = module.weight.shape[1]


def _prelu(module: nn.PReLU, shape: Shape) -> None:
    module.num_parameters = module.weight.numel()


def _unflatten(module: nn.Unflatten, shape: Shape) -> None:
    assert isinstance(module.dim, int)
    sizes = module.unflattened_size
    start = module.dim if module.dim >= 0 else len(shape) - len(sizes) + 1 + module.dim
    module.unflattened_size = tuple(
        old if old == -1 else shape[start + i] for i, old in enumerate(sizes)
    )


def _mask(module: ChannelMask, shape: Shape) -> None:
    module.size = module.mask.numel()


_RULES: dict[type[nn.Module], Callable[..., None]] = {
    nn.modules.conv._ConvNd: _conv,
    nn.Linear: _linear,
    nn.modules.batchnorm._NormBase: _norm,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
    nn.Embedding: _embedding,
    nn.EmbeddingBag: _embedding,
    nn.Bilinear: _bilinear,
    nn.PReLU: _prelu,
    nn.Unflatten: _unflatten,
    ChannelMask: _mask,
}


def renumber(program: Program, sizes: Sizes) -> None:
    """Renumbers the indices of masks over the channels that stay; call it before cutting tensors.

    Example: of 0 1 2 -1 2, where channel 1 goes, 0 1 1 -1 1 is left, in the place of 0 2 -1 2.
    """
    done: set[int] = set()
    for node in program.nodes():
        module = program.submodule(node) if node.op == "call_module" else None
        if not isinstance(module, ChannelMask):
            continue
        index = positions(program, node)
        if index is None or id(index) in done:
            continue
        done.add(id(index))
        (axis,) = sizes.groups.axes_of(f"{node.target}.mask")
        if axis is not None:
            now = np.cumsum(sizes.kept[axis.ids]) - 1
            ranks = torch.from_numpy(now).to(index)
            index.copy_(torch.where(index < 0, index, ranks[index]))


def note_indices(program: Program) -> None:
    """Lets masks note what their indices hold now; call it after cutting tensors."""
    for module in program.module.modules():
        if isinstance(module, ChannelMask):
            for name in filter(is_index, module._buffers):
                module.note_index(name)
