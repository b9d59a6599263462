"""A changed program runs from cached values as it would from the beginning, bit for bit."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from torch import fx, nn
from torch.utils import _pytree as pytree

import gfx
from gfx.edit import masked
from gfx.numerics import run
from gfx.probing import Narrowing, Replacement, Replay, weakest
from laws import law
from strategies import specs
from zoo_small import SMALL


def equal(a: Any, b: Any) -> bool:
    first, second = pytree.tree_leaves(a), pytree.tree_leaves(b)
    return len(first) == len(second) and all(map(torch.equal, first, second))


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


def some(items: Any, most: int = 6) -> list:
    """Takes items spread over a list."""
    items = list(items)
    return items[:: -(-len(items) // most)] if items else []


def changes_of(program: gfx.Program) -> list[tuple[Any, gfx.Program]]:
    """Lists changes, each with the changed program."""
    found: list[tuple[Any, gfx.Program]] = []
    for node in some(layers(program)):
        by = {node.name: Scaled(program.submodule(node))}
        found.append((Replacement(by), replaced(program, by)))
    groups = gfx.channels(program)
    for group in some(groups.free):
        removed = weakest(groups, group, 0.5)
        found.append((Narrowing(groups, removed), masked_copy(program, removed)))
    return found


def check(program: gfx.Program, batches: list[tuple], **options: Any) -> Replay:
    replay = Replay(program, batches, seed=3, **options)
    pairs = changes_of(program)
    outputs = replay.run_all([change for change, _ in pairs])
    for (change, changed), found in zip(pairs, outputs, strict=True):
        assert len(found) == len(batches)
        for inputs, output in zip(batches, found, strict=True):
            assert equal(run(changed, inputs, seed=3), output), change
    for inputs, output in zip(batches, replay.outputs, strict=True):
        assert equal(run(program, inputs, seed=3), output)
    return replay


@law(20)
@given(specs(wraps=True, approximate=True))
def test_a_suffix_equals_the_whole_changed_program_bit_for_bit(spec):
    program = gfx.trace(*spec.build())
    check(program, [spec.inputs(spec.batch)])


@pytest.mark.parametrize("name", SMALL)
def test_a_suffix_of_the_zoo_equals_the_whole_changed_program(name):
    model = gfx.zoo.build(name, **SMALL[name])
    program = gfx.trace(model, gfx.zoo.example_inputs(name, **SMALL[name]))
    check(program, [program.example_inputs])
