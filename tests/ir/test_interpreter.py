"""Stepping through a graph: what is seen, replaced, left out, dropped; and what is put back."""

import random

import numpy as np
import pytest
import torch
from torch import fx, nn

import gfx
from gfx.ir.interpreter import Interpreter, ancestors, overlaid
from gfx.ir.preserve import evaluating, preserved
from gfx.ir.random_state import keep_random_state


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.last = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        return self.last(torch.relu(self.norm(y)) + y)


@pytest.fixture
def module() -> fx.GraphModule:
    torch.manual_seed(0)
    return fx.symbolic_trace(Net().double().eval())


X = torch.linspace(-1, 1, 2 * 3 * 5 * 5, dtype=torch.float64).view(2, 3, 5, 5)


def test_stepping_through_gives_what_the_program_gives(module: fx.GraphModule) -> None:
    assert torch.equal(Interpreter(module).run(X), module(X))


def test_a_value_is_dropped_after_its_last_read(module: fx.GraphModule) -> None:
    runner, values, live = Interpreter(module), {}, {}

    def see(node, get):
        live[node.name] = {other.name for other in values}
        return runner.value(node, get)

    runner.start((X,))
    runner.step_through(values, see=see)
    assert live["relu"] == {"first", "norm"}
    assert live["last"] == {"add"}
    assert {node.op for node in values} == {"output"}


def test_a_node_can_read_something_else_and_others_read_what_there_was(
    module: fx.GraphModule,
) -> None:
    runner = Interpreter(module)
    nodes = {node.name: node for node in runner.nodes}

    def see(node, get):
        zeroed = {nodes["first"]: get(nodes["first"]) * 0} if node.name == "norm" else {}
        return runner.value(node, overlaid(get, zeroed))

    y = module.first(X)
    wanted = module.last(torch.relu(module.norm(y * 0)) + y)
    assert torch.equal(runner.run(X, see=see), wanted)


def test_a_run_can_begin_at_cached_values_and_end_early(module: fx.GraphModule) -> None:
    runner = Interpreter(module)
    nodes = {node.name: node for node in runner.nodes}
    y = module.first(X)
    values = {nodes["first"]: y}
    found = runner.step_through(values, [nodes["norm"], nodes["relu"]])
    assert torch.equal(found, torch.relu(module.norm(y)))
    only = Interpreter(module, only=ancestors((nodes["norm"],)))
    assert [node.name for node in only.nodes] == ["x", "first", "norm"]
    assert torch.equal(only.run(X), module.norm(y))


def test_evaluating_leaves_modes_buffers_and_random_numbers(module: fx.GraphModule) -> None:
    program = gfx.trace(Net().double().train(), X)
    program.module.train()
    before = {name: value.clone() for name, value in program.module.named_buffers()}
    state = torch.get_rng_state()
    with evaluating(program, seed=3):
        assert not any(part.training for part in program.module.modules())
        assert not torch.is_grad_enabled()
        drawn = torch.rand(2)
        program.module.train()(X)
    with evaluating(program, seed=3):
        assert torch.equal(drawn, torch.rand(2))
    assert all(part.training for part in program.module.modules())
    after = dict(program.module.named_buffers())
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert torch.equal(state, torch.get_rng_state())


def test_several_modules_are_preserved_even_after_an_error() -> None:
    one, two = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def fails() -> None:
        with preserved(one, two):
            one.eval()
            two(torch.ones(2, 3, 4, 4))
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert one.training
    assert int(two.num_batches_tracked) == 0


def test_the_streams_of_python_and_numpy_are_put_back_where_asked() -> None:
    random.seed(1)
    np.random.seed(1)
    state = random.getstate(), np.random.get_state()[1].tolist()
    with keep_random_state(python=True):
        random.random()
        np.random.rand()
    assert (random.getstate(), np.random.get_state()[1].tolist()) == state
