import ast
import re
import textwrap
from pathlib import Path

import networkx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import gfx
from gfx.coupling.labels import Labels


def trace(model: nn.Module, *shapes: tuple[int, ...]) -> gfx.Program:
    return gfx.trace(model.eval(), tuple(torch.zeros(s) for s in shapes))


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=40))
def test_united_labels_are_the_connected_components(pairs):
    labels = Labels()
    labels.axis("t", 0, 20)
    graph = networkx.empty_graph(20)
    graph.add_edges_from(pairs)
    if pairs:
        a, b = np.array(pairs).T
        labels.unite(a, b)
    roots = labels.roots()
    expected = {frozenset(c) for c in networkx.connected_components(graph)}
    assert {frozenset(np.flatnonzero(roots == r).tolist()) for r in set(roots.tolist())} == expected


@given(st.integers(1, 30), st.integers(1, 30))
def test_labels_broadcast_when_united(rows, columns):
    labels = Labels()
    a = labels.axis("a", 0, rows * columns).ids.reshape(rows, columns)
    labels.unite(a[:, :1], a)
    assert len(np.unique(labels.roots())) == rows


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.a, self.b = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.to_rgb = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        x = self.norm(self.stem(x))
        return self.to_rgb(x + self.b(self.a(x).relu()))


def test_a_residual_stream_is_one_group():
    groups = gfx.channels(trace(Residual(), (1, 3, 8, 8)))
    stream, inner = groups["stem"], groups["a"]
    assert stream is groups["b"]
    assert (stream.size, stream.producers, stream.consumers) == (8, ("stem", "b"), ("a", "to_rgb"))
    assert (inner.size, inner.producers, inner.consumers) == (6, ("a",), ("b",))
    assert [group.name for group in groups.free] == ["stem", "a"]


def test_a_channel_lists_every_slice_that_goes_with_it():
    channel = gfx.channels(trace(Residual(), (1, 3, 8, 8)))["stem"].channels[5]
    vectors = ("stem.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var")
    expected = {(name, 0, 5) for name in (*vectors, "stem.weight", "b.weight", "b.bias")}
    assert channel.members == expected | {("a.weight", 1, 5), ("to_rgb.weight", 1, 5)}


def test_the_couplings_are_a_networkx_graph():
    groups = gfx.channels(trace(Residual(), (1, 3, 8, 8)))
    component = networkx.node_connected_component(groups.graph, ("stem.weight", 0))
    assert {("b.weight", 0), ("a.weight", 1), ("norm.running_var", 0)} <= component
    assert ("a.weight", 0) not in component


def test_inputs_and_outputs_are_pinned_in_words():
    groups = gfx.channels(trace(Residual(), (1, 3, 8, 8)))
    reasons = {group.name: group.pinned for group in groups if group.pinned}
    assert reasons == {
        "stem.in": "its channels are those of the model's input x",
        "to_rgb": "its channels are the model's output",
    }


class Unlisted(nn.Module):
    """Uses an operation that no rule is written for."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)

    def forward(self, x):
        return self.b(torch.renorm(self.a(x), 2, 1, 1.0))


def test_an_operation_without_a_rule_pins_what_passes_through_it():
    groups = gfx.channels(trace(Unlisted(), (1, 3, 8, 8)))
    assert not groups.free
    assert (
        groups["a"].pinned == "it passes through renorm, whose effect on channels gfx does not know"
    )


def test_parametrized_weights_ask_to_be_folded():
    model = nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(3, 4, 1)), nn.Conv2d(4, 3, 1))
    groups = gfx.channels(trace(model, (1, 3, 8, 8)))
    assert "run fold_parametrizations before" in str(groups["1.in"].pinned)


@pytest.mark.parametrize("size", [64, 1024])
def test_the_analysis_holds_no_tensor_of_the_image_size(size):
    model = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1),
        nn.ReflectionPad2d(1),
        nn.Conv2d(64, 64, 3),
        nn.PixelShuffle(2),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(16, 3, 1),
    )
    program = gfx.trace(model.to("meta"), torch.zeros(1, 3, size, size, device="meta"))
    groups = gfx.channels(program)
    values = [groups.value_of(node) for node in program.nodes()]
    numbers = sum(
        f.untyped_storage().nbytes() // 8 for value in values for f in getattr(value, "fields", ())
    )
    assert numbers < 1000


def test_a_broadcast_dimension_of_size_one_couples_nothing():
    class Noise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.n, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 1, 1), nn.Conv2d(4, 3, 1)

        def forward(self, x):
            return self.b(self.a(x) + self.n(x))

    groups = gfx.channels(trace(Noise(), (1, 3, 8, 8)))
    assert [(g.name, g.size) for g in groups.free] == [("a", 4)]


def test_a_rule_that_gives_up_pins_and_says_so(monkeypatch):
    from gfx.coupling.rules import FUNCTIONS

    def give_up(flow, call):
        raise ValueError("unforeseen")

    monkeypatch.setitem(FUNCTIONS, "cat", give_up)

    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(8, 3, 1)

        def forward(self, x):
            x = self.a(x)
            return self.b(torch.cat([x, x], 1))

    why = gfx.channels(trace(Joined(), (1, 3, 8, 8)))["a"].pinned
    assert why == "gfx cannot follow cat at cat (ValueError: unforeseen)"


def test_a_group_is_found_by_its_own_name_first():
    class ZeroPadded(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.conv = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1)
            self.last = nn.Conv2d(6, 3, 1)

        def forward(self, x):
            x = self.first(x)
            return self.last(self.conv(x) + nn.functional.pad(x, (0, 0, 0, 0, 1, 1)))

    groups = gfx.channels(gfx.trace(ZeroPadded(), torch.zeros(1, 3, 4, 4)))
    assert "conv" in groups["first"].producers
    assert all(groups[group.name] is group for group in groups)


ROOT = Path(gfx.__file__).parent.parent
CODE = re.compile(r"^ *```python\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def sources():
    """Lists the code of the project outside gfx/coupling, and in its documents, by its place."""
    for folder in ("gfx", "passes", "benchmarks", "tests", "examples"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if ROOT / "gfx" / "coupling" not in path.parents:
                yield path.relative_to(ROOT), path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for number, code in enumerate(CODE.findall(path.read_text(encoding="utf-8"))):
            yield f"{path.relative_to(ROOT)}, block {number}", textwrap.dedent(code)


def state_uses(code):
    """Lists the lines that reach for the state of an analysis: `.flow` or `._flow`, or its file."""
    for node in ast.walk(ast.parse(code)):
        reached = isinstance(node, ast.Attribute) and node.attr in ("flow", "_flow")
        if reached or (isinstance(node, ast.ImportFrom) and node.module == "gfx.coupling.flow"):
            yield node.lineno


def test_only_the_analysis_touches_its_own_state():
    assert set(state_uses("a = groups._flow.axes\nfrom gfx.coupling.flow import Flow")) == {1, 2}
    searched = list(sources())
    assert len(searched) > 300
    assert [(place, line) for place, code in searched for line in state_uses(code)] == []


def test_reads_are_in_graph_order_and_each_is_there_once():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 3)

        def forward(self, x):
            x = self.a(x)
            return self.b(x) + torch.einsum("ni,ni->n", x, x)[:, None]

    program = gfx.trace(Twice(), torch.randn(2, 3))
    found = [(read.node.name, read.operand.name, read.dim) for read in gfx.channels(program).reads]
    assert found == [("a", "x", 1), ("b", "a", 1), ("einsum", "a", 1)]


def test_the_groups_are_read_only():
    groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
    with pytest.raises(TypeError, match="does not support item assignment"):
        groups.axes["project.conv.weight"] = ()
    with pytest.raises(TypeError, match="does not support item assignment"):
        groups.refused["project"] = ""
    assert isinstance(groups.reads, tuple)
    assert isinstance(groups.statistics, tuple)


def test_groups_answer_for_tensors_by_any_path_and_for_nodes():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm, self.b = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 3, 3)
            self.c = nn.Conv2d(3, 8, 3)
            self.c.weight = self.a.weight

        def forward(self, x):
            return self.b(self.norm(self.a(x) + self.c(x)))

    groups = gfx.channels(trace(Tied(), (1, 3, 8, 8)))
    norm, last = (n for n in groups.program.nodes() if n.name in ("norm", "b"))
    assert groups.axes_of("c.weight") == groups.axes["a.weight"] == groups.axes_of("a.weight")
    assert "c.weight" not in groups.axes
    assert groups.path_of(groups.program.tensor("c.weight")) == "a.weight"
    assert groups.path_of(torch.ones(8)) is None
    dims = [("a.weight", 0), ("b.weight", 1), ("norm.weight", 0), ("a.weight", 2)]
    assert [groups.role(*dim) for dim in dims] == ["out", "in", "", ""]
    labels = groups.labels_of(norm, -3)
    assert groups.roots[labels].tolist() == groups["a"].roots.tolist()
    assert groups.labels_of(norm, 2) is None
    assert groups.value_of(norm).shape == tuple(norm.meta["val"].shape)
    assert [len(ids) for ids in groups.mac_sizes(last)] == [3, 8]
    assert not groups.regroups(norm)
    assert not groups.averages(norm)


@pytest.mark.parametrize("container", ["dict", "tuple", "nested"])
def test_channels_are_followed_from_inputs_in_containers(container):
    class Taking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 1)

        def forward(self, given):
            for key in keys:
                given = given[key]
            return self.last(self.conv(given))

    x = torch.rand(1, 3, 8, 8)
    keys = {"dict": ["x"], "tuple": [0], "nested": ["x", 0]}[container]
    inputs = {"dict": {"x": x}, "tuple": (x, x), "nested": {"x": [x, {"y": x}]}}[container]
    program = gfx.trace(Taking().eval(), (inputs,))
    groups = gfx.channels(program)
    free = {group.name: group.width for group in groups if group.free}
    assert free == {"conv": 8}
    small = gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5}}]}, program.module, (inputs,))
    assert small.conv.out_channels == small.last.in_channels == 4


def test_a_layer_whose_rule_gives_up_keeps_its_channels(monkeypatch):
    from gfx.coupling import analysis

    rules = analysis.module_rule

    def failing(module):
        def fail(flow, call):
            raise ValueError("no such form")

        return fail if getattr(module, "out_channels", 0) == 8 else rules(module)

    monkeypatch.setattr(analysis, "module_rule", failing)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 3))
    groups = gfx.channels(trace(net, (1, 3, 8, 8)))
    assert not [group.name for group in groups if group.free]
    assert any("gfx cannot follow Conv2d at _0" in str(group.pinned) for group in groups)
