"""What tests of probing share: changes, each beside the whole changed program."""

import copy
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

import gfx
from gfx.compression.probe import Narrowing, Replacement, Replay
from gfx.compression.selection import weakest
from gfx.coupling.removal import masked
from gfx.ir.execute import run
from support.oracle import alike

__all__ = [
    "Scaled",
    "changes_alone",
    "changes_of",
    "check",
    "equal",
    "layers",
    "masked_copy",
    "replaced",
]


def equal(a: Any, b: Any) -> bool:
    first, second = pytree.tree_leaves(a), pytree.tree_leaves(b)
    pairs = zip(first, second, strict=True)
    return all(alike(x, y) if torch.is_tensor(x) else x == y for x, y in pairs)


def replaced(program: gfx.Program, by: dict[str, nn.Module]) -> gfx.Program:
    """Builds the changed program: other modules at some nodes."""
    changed = program.copy()
    for node in changed.nodes():
        if node.name in by:
            name = f"new_{node.name}"
            changed.module.add_module(name, copy.deepcopy(by[node.name]))
            node.op, node.target = "call_module", name
    changed.module.recompile()
    return changed


def masked_copy(program: gfx.Program, removed: Any) -> gfx.Program:
    changed = program.copy()
    masked(changed, gfx.channels(changed), removed)
    return changed


def layers(program: gfx.Program) -> list[fx.Node]:
    """Lists the calls of what has weights."""
    calls = [n for n in program.nodes() if n.op == "call_module"]
    return [n for n in calls if any(p.ndim > 1 for p in program.submodule(n).parameters())]


class Scaled(nn.Module):
    """Gives what another module does, times a number."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs) * 0.75


def some(items: Any, most: int) -> list:
    """Takes items spread over a list."""
    items = list(items)
    return items[:: -(-len(items) // most)] if items else []


def changes_of(program: gfx.Program, most: int = 6) -> list[tuple[Any, gfx.Program]]:
    """Lists changes, each with the changed program."""
    found: list[tuple[Any, gfx.Program]] = []
    for node in some(layers(program), most):
        by = {node.name: Scaled(program.submodule(node))}
        found.append((Replacement(by), replaced(program, by)))
    groups = gfx.channels(program)
    for group in some(groups.free, most):
        removed = weakest(groups, group, 0.5)
        found.append((Narrowing(groups, removed), masked_copy(program, removed)))
    return found


def changes_alone(program: gfx.Program, most: int) -> list[Any]:
    """Lists the same changes."""
    found: list[Any] = [
        Replacement({node: Scaled(program.submodule(node))}) for node in some(layers(program), most)
    ]
    groups = gfx.channels(program)
    return found + [
        Narrowing(groups, weakest(groups, group, 0.5)) for group in some(groups.free, most)
    ]


def check(program: gfx.Program, batches: list[tuple], most: int = 6, **options: Any) -> Replay:
    replay = Replay(program, batches, seed=3, **options)
    pairs = changes_of(program, most)
    outputs = replay.run_all([change for change, _ in pairs])
    for (change, changed), found in zip(pairs, outputs, strict=True):
        assert len(found) == len(batches)
        for inputs, output in zip(batches, found, strict=True):
            assert equal(run(changed, inputs, seed=3), output), change
    for inputs, output in zip(batches, replay.outputs, strict=True):
        assert equal(run(program, inputs, seed=3), output)
    return replay
