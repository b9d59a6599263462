"""Random programs of views, writes and random numbers: any change of any nodes runs alone."""

import operator
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import given, reject
from hypothesis import strategies as st
from torch import fx, nn

from gfx.compression.probe import Replacement, Replay
from gfx.ir.execute import run
from gfx.ir.program import Program
from support.laws import law
from support.probe_checks import equal, replaced

LEFT, RIGHT = (slice(None), slice(None, 2)), (slice(None), slice(2, None))


def half(graph, node, cut):
    return graph.call_function(operator.getitem, (node, cut))


def joined(graph, a, b):
    parts = half(graph, a, LEFT), half(graph, b, RIGHT)
    return graph.call_function(torch.cat, (list(parts), 1))


def written(graph, a, b):
    graph.call_function(operator.setitem, (a, LEFT, half(graph, b, RIGHT)))
    return a


def half_written(graph, a, b):
    graph.call_method("mul_", (half(graph, a, LEFT), half(graph, b, LEFT)))
    return a


# all take and give what has the shape of the input
KINDS: dict[str, Any] = {
    "layer": lambda g, a, b: g.call_module("layer", (a,)),
    "add": lambda g, a, b: g.call_function(torch.add, (a, b)),
    "relu_": lambda g, a, b: g.call_method("relu_", (a,)),
    "module_": lambda g, a, b: g.call_module("inplace", (a,)),
    "add_": lambda g, a, b: g.call_method("add_", (a, b)),
    "view": lambda g, a, b: g.call_method("view_as", (g.call_method("flatten", (a, 1)), b)),
    "detach": lambda g, a, b: g.call_method("detach", (a,)),
    "flip": lambda g, a, b: g.call_function(torch.flip, (a, (1,))),
    "joined": joined,
    "written": written,
    "half_written": half_written,
    "noise": lambda g, a, b: g.call_function(torch.randn_like, (a,)),
    "dropout": lambda g, a, b: g.call_function(torch.dropout, (a, 0.5, True)),
    "normal_": lambda g, a, b: g.call_method("normal_", (a,)),
}


@dataclass(frozen=True)
class Step:
    kind: str
    first: int  # which of the values so far, counted from the last
    second: int


class Plus(nn.Module):
    def forward(self, x, *others, **options):
        return x + 1


class Same(nn.Module):
    def forward(self, x, *others, **options):
        return x


class View(nn.Module):
    def forward(self, x, *others, **options):
        return x[:]


class Write(nn.Module):
    def forward(self, x, *others, **options):
        return x.mul_(0.5)


class Draw(nn.Module):
    def forward(self, x, *others, **options):
        return x + torch.randn_like(x)


steps = st.builds(
    Step, st.sampled_from(list(KINDS)), first=st.integers(0, 2), second=st.integers(0, 4)
)
others = st.sampled_from((Plus(), Same(), View(), Write(), Draw()))


def built(steps: list[Step]) -> Program:
    """Builds a program that returns the last value and the first."""
    root = nn.Module()
    root.layer, root.inplace = nn.Conv2d(4, 4, 1).double().eval(), nn.LeakyReLU(0.5, inplace=True)
    graph = fx.Graph()
    values = [graph.call_module("layer", (graph.placeholder("x"),))]
    for step in steps:
        first, second = (values[-1 - i % len(values)] for i in (step.first, step.second))
        values.append(KINDS[step.kind](graph, first, second))
    graph.output((values[-1], values[0]))
    return Program(fx.GraphModule(root, graph), (torch.randn(1, 4, 2, 2, dtype=torch.float64),))


@law(120)
@given(st.lists(steps, min_size=1, max_size=8), st.data())
def test_any_change_of_any_nodes_runs_as_the_whole_changed_program_does(steps, data):
    program = built(steps)
    places = [n for n in program.graph.nodes if n.op.startswith("call")]
    places = [n for n in places if n.target not in (operator.getitem, operator.setitem, torch.cat)]
    drawn = st.dictionaries(st.sampled_from([n.name for n in places]), others, max_size=2)
    changes = data.draw(st.lists(drawn, min_size=1, max_size=4))
    memory = data.draw(st.sampled_from((1 << 20, 0, 600)))
    batches = [(torch.randn(1, 4, 2, 2, dtype=torch.float64),) for _ in range(2)]
    for by in changes:
        try:
            run(replaced(program, by), batches[0])
        except RuntimeError:
            reject()  # such as a view that was replaced by something of another shape
    replay = Replay(program, batches, seed=1, memory=memory)
    found = replay.run_all([Replacement(by) for by in changes])
    for by, outputs in zip(changes, found, strict=True):
        changed = replaced(program, by)
        for inputs, output in zip(batches, outputs, strict=True):
            assert equal(run(changed, inputs, seed=1), output)
