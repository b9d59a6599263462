"""Builds the reference program of a factorization: each layer is the one its parts equal.

Where channels are removed as well, the original reads zeros in their place
(`gfx.coupling.removal.masked`), and the layer gets its old size back: values at removed channels
are never read.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gfx.compression.factor.compose_parts import Pieces, compose
from gfx.coupling import Groups, analyse
from gfx.coupling.labels import Mask
from gfx.coupling.removal import masked, remove
from gfx.ir.program import Program

__all__ = ["dense_program"]


def dense_program(
    before: Program, made: Mapping[str, nn.Sequential], removed: Mask | None = None
) -> Program:
    """Returns the dense program that a factorized and narrowed program must equal.

    Args:
        before: the original; it is left unchanged.
        made: the parts, by the path of the layer; parts with a norm become functions.
        removed: by class of labels of `analyse(before)`, whether it is removed; None: nothing.
    """
    reference = before.copy(on_write=True)
    wholes = {path: _whole(parts) for path, parts in made.items()}
    if removed is not None and removed.any():
        groups = analyse(reference)
        fitted = {path: _widened(groups, removed, path, whole) for path, whole in wholes.items()}
        if all(whole is not None for whole in fitted.values()):
            wholes = {path: whole for path, whole in fitted.items() if whole is not None}
            masked(reference, groups, removed)
        else:
            remove(reference, groups, removed)
    for path, whole in wholes.items():
        module = reference.module.get_submodule(path)
        for other, found in list(reference.module.named_modules(remove_duplicate=False)):
            if found is module:
                reference.module.set_submodule(other, whole)
    reference.recompile()
    return reference


def _whole(parts: nn.Sequential) -> nn.Module:
    plain = all(isinstance(part, nn.Conv2d | nn.ConvTranspose2d) for part in parts)
    return compose(parts) if plain else Pieces(parts)


@torch.no_grad()
def _widened(groups: Groups, removed: Mask, path: str, whole: nn.Module) -> nn.Module | None:
    """Gives a narrowed layer its old size, padded with zeros; None if it cannot be widened."""
    if isinstance(whole, Pieces):
        return None
    old = groups.program.module.get_submodule(path)
    kept = groups.kept(removed)
    for name in ("weight", "bias"):
        wide, narrow = getattr(old, name), getattr(whole, name)
        if wide is None or wide.shape == narrow.shape:
            continue
        stays = [
            torch.ones(size, dtype=torch.bool) if axis is None else torch.from_numpy(kept[axis.ids])
            for size, axis in zip(wide.shape, groups.axes_of(f"{path}.{name}"), strict=True)
        ]
        if [int(stay.sum()) for stay in stays] != list(narrow.shape):
            return None  # its groups changed with its channels
        value: Tensor = torch.zeros_like(wide)
        value[torch.meshgrid(*[s.nonzero()[:, 0] for s in stays], indexing="ij")] = narrow
        setattr(whole, name, nn.Parameter(value))
    for attribute in ("in_channels", "out_channels", "groups"):
        setattr(whole, attribute, getattr(old, attribute))
    return whole
