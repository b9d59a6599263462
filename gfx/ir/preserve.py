"""Restores what running a program may change: modes, buffers, attributes, and the random state."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gfx.ir.modules import is_own
from gfx.ir.ops import is_inplace
from gfx.ir.program import Program
from gfx.ir.random_state import keep_random_state

__all__ = ["devices_of", "evaluating", "preserved"]


@contextmanager
def preserved(*modules: nn.Module) -> Iterator[None]:
    """Restores training flags, buffers, and what the hooks of modules leave on them."""
    parts = list(dict.fromkeys(part for module in modules for part in module.modules()))
    modes = [(m, m.training) for m in parts]
    owners = [(m, dict(m._buffers)) for m in parts if m._buffers]
    held = dict.fromkeys(b for module in modules for b in module.buffers())
    values = [(b, b.clone()) for b in held if b.device.type != "meta"]
    hooked = [(m, dict(m.__dict__)) for m in parts if _may_note(m)]
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


@contextmanager
def evaluating(
    *programs: Program, seed: int | None = None, gradients: bool = False
) -> Iterator[None]:
    """Sets programs to eval mode, and puts back their state and the random state on leaving.

    Args:
        programs: those that are going to be run.
        seed: that the random numbers begin with; None leaves them where they are.
        gradients: whether they are differentiated; a graph that writes in place can be, too.
    """
    devices = {device for program in programs for device in devices_of(program)}
    modules = [program.module for program in programs]
    writes = gradients and any(map(_writes, programs))
    with (
        torch.set_grad_enabled(gradients),
        keep_random_state(devices, seed),
        preserved(*modules),
        # what a gradient needs is kept
        torch.autograd.graph.allow_mutation_on_saved_tensors() if writes else nullcontext(),
    ):
        for module in modules:
            module.eval()
        yield


def devices_of(program: Program) -> set[torch.device]:
    """Collects the devices of a program's parameters, buffers and example inputs."""
    given = (x for x in pytree.tree_leaves(program.example_inputs) if isinstance(x, Tensor))
    return {t.device for t in (*program.module.parameters(), *program.module.buffers(), *given)}


def _may_note(module: nn.Module) -> bool:
    """Whether a forward may set attributes of a module: by a hook, or by code not torch's own."""
    return bool(module._forward_pre_hooks) or _is_foreign(module)


def _writes(program: Program) -> bool:
    """Whether a graph may write in place."""
    if any(map(is_inplace, program.graph.nodes)):
        return True
    modules = program.module.modules()
    return any(getattr(m, "inplace", False) or _is_foreign(m) for m in modules)


def _is_foreign(module: nn.Module) -> bool:
    return not (is_own(module) or type(module).__module__.startswith("torch."))
