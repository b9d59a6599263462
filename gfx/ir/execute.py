"""Runs a program on check inputs and measures how far two outputs are apart.

Nothing is left behind: the program's modes, buffers and hook-made weights and the global random
state are what they were before.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from gfx.ir.modules import is_own
from gfx.ir.program import Program

__all__ = ["as_it_was", "distance", "draw", "on_meta", "run", "tolerance"]

_TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.complex128: 1e-9}
_HALF = 2e-2


def draw(program: Program, seed: int = 0) -> tuple[Any, ...]:
    """Draws fresh values for the floating example inputs; everything else is kept.

    Values are uniform in the range of the example (so that a one-hot map or an image stays in its
    own range), normal where the example is constant.

    Shapes: those of the example inputs, dtype and device too.

    Example:
        >>> import gfx
        >>> program = gfx.trace(gfx.zoo.build("dcgan"))
        >>> torch.equal(draw(program, seed=1)[0], draw(program, seed=1)[0])
        True
    """
    generator = torch.Generator().manual_seed(seed)

    def fresh(x: torch.Tensor) -> torch.Tensor:
        if not x.is_floating_point() or x.device.type == "meta" or x.numel() == 0:
            return x.clone()
        low, high = float(x.min()), float(x.max())
        if low < high:
            drawn = torch.rand(x.shape, generator=generator) * (high - low) + low
        else:
            drawn = torch.randn(x.shape, generator=generator)
        return drawn.to(x.device, x.dtype)

    inputs: tuple[Any, ...] = pytree.tree_map_only(torch.Tensor, fresh, program.example_inputs)
    return inputs


def run(program: Program, inputs: tuple[Any, ...], seed: int = 0) -> Any:
    """Runs a program in eval mode, without gradients, under a seeded random state.

    The inputs are cloned: a model that writes into its input does not change them.

    Example:
        >>> import gfx
        >>> program = gfx.trace(gfx.zoo.build("dcgan"))
        >>> run(program, program.example_inputs).shape
        torch.Size([1, 3, 64, 64])
    """
    tensors = [*program.module.parameters(), *program.module.buffers()]
    cuda = sorted({t.device.index for t in tensors if t.device.type == "cuda"})
    own = pytree.tree_map_only(torch.Tensor, torch.clone, inputs)
    with torch.random.fork_rng(devices=cuda), torch.no_grad(), as_it_was(program.module):
        torch.manual_seed(seed)
        program.module.eval()
        return program.module(*own)


def distance(reference: Any, got: Any) -> float:
    """Returns the largest absolute difference, relative to the largest absolute reference.

    Each output tensor counts for itself; integers and booleans differ by 0 or infinity, and so do
    values that are not finite, or outputs of another structure or shape.

    Example:
        >>> distance(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 3.0]))
        0.25
    """
    leaves, spec = pytree.tree_flatten(reference)
    others, other_spec = pytree.tree_flatten(got)
    if spec != other_spec:
        return float("inf")
    return max((_leaf(a, b) for a, b in zip(leaves, others, strict=True)), default=0.0)


def tolerance(program: Program) -> float:
    """Returns the tolerance for the coarsest floating dtype that a program computes in.

    1e-9 for float64, 1e-4 for float32, 2e-2 for half precision.

    Example:
        >>> import gfx
        >>> tolerance(gfx.trace(gfx.zoo.build("dcgan")))
        0.0001
    """
    tensors = [*program.module.parameters(), *program.module.buffers()]
    tensors += [x for x in pytree.tree_leaves(program.example_inputs) if torch.is_tensor(x)]
    kinds = {t.dtype for t in tensors if t.is_floating_point() or t.is_complex()}
    return max((_TOLERANCES.get(kind, _HALF) for kind in kinds), default=1e-4)


def on_meta(program: Program) -> bool:
    """Whether a program has no values to compute with: something of it is on the meta device.

    Example:
        >>> import gfx
        >>> with torch.device("meta"):
        ...     model = gfx.zoo.build("dcgan")
        >>> on_meta(gfx.trace(model))
        True
    """
    tensors = [*program.module.parameters(), *program.module.buffers()]
    tensors += [x for x in pytree.tree_leaves(program.example_inputs) if torch.is_tensor(x)]
    return any(t.device.type == "meta" for t in tensors)


def _leaf(a: Any, b: Any) -> float:
    if not (torch.is_tensor(a) and torch.is_tensor(b)):
        return 0.0 if a == b else float("inf")
    if a.shape != b.shape or a.dtype != b.dtype:
        return float("inf")
    if not (a.is_floating_point() or a.is_complex()):
        return 0.0 if torch.equal(a, b) else float("inf")
    if a.numel() == 0:
        return 0.0
    if not (bool(torch.isfinite(a).all()) and bool(torch.isfinite(b).all())):
        return float("inf")
    wide = torch.complex128 if a.is_complex() else torch.float64
    a, b = a.detach().to(wide), b.detach().to(wide)
    scale = float(a.abs().max())
    gap = float((a - b).abs().max())
    return gap / scale if scale > 0 else gap


@contextmanager
def as_it_was(module: nn.Module) -> Iterator[None]:
    """Restores training flags, buffers, and what the hooks of a module leave on it."""
    modes = [(m, m.training) for m in module.modules()]
    owners = [(m, dict(m._buffers)) for m in module.modules() if m._buffers]
    values = [(b, b.clone()) for b in module.buffers() if b.device.type != "meta"]
    hooked = [(m, dict(m.__dict__)) for m in module.modules() if _may_note(m)]
    try:
        yield
    finally:
        for owner, mode in modes:
            owner.training = mode
        for owner, buffers in owners:  # a forward may write into a buffer or replace it
            owner._buffers.update(buffers)
        for buffer, value in values:
            buffer.copy_(value)
        for owner, attributes in hooked:
            for name in owner.__dict__.keys() - attributes.keys():
                del owner.__dict__[name]
            owner.__dict__.update(attributes)


def _may_note(module: nn.Module) -> bool:
    """Whether a forward may set attributes of a module: by a hook, or by code not torch's own."""
    known = is_own(module) or type(module).__module__.startswith("torch.")
    return bool(module._forward_pre_hooks) or not known
