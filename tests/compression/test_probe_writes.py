"""Writes in place, views, random numbers and state: a suffix still equals the whole program."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gfx
from gfx.compression.probe import Replacement, Replay
from gfx.ir.execute import run
from gfx.ir.shapes.propagate import propagate
from support.probe_checks import Scaled, changes_of, check, equal, layers, replaced
from support.programs import by_hand
from support.programs import program as opaque_program

MODELS: dict[str, type[nn.Module]] = {}


class Net(nn.Module):
    """Five convolutions with something between them."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        MODELS[cls.__name__] = cls

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.c, self.d = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.last = nn.Conv2d(4, 3, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.norm = nn.BatchNorm2d(4)


class InPlaceActivations(Net):
    def forward(self, x):
        x = self.relu(self.norm(self.a(x)))
        x = self.relu(self.b(x)) + self.relu(self.c(x))
        return torch.tanh_(self.last(F.leaky_relu(self.d(x), 0.2, inplace=True)))


class InPlaceInput(Net):
    def forward(self, x):
        y = self.a(x)
        x.mul_(2)
        return self.last(self.b(y) + self.c(self.a(x)))


class InPlaceStream(Net):
    def forward(self, x):
        x = self.a(x)
        x.add_(self.b(x))
        x.add_(self.c(self.relu(x)))
        x.add_(self.d(x))
        return self.last(x)


class ReadBeforeAndAfterAWrite(Net):
    def forward(self, x):
        x = self.a(x)
        early = self.b(x)
        x.relu_()
        late = self.c(x)
        x.mul_(0.5)
        return self.last(early * late + self.d(x))


class WritesThroughViews(Net):
    def forward(self, x):
        x = self.a(x)
        left, right = x[:, :2], x[:, 2:]
        early = self.b(x)
        left.add_(self.c(x)[:, :2])
        late = self.d(x)
        right.mul_(left)
        return self.last(x + early * late)


class ReadsAViewMadeBefore(Net):
    def forward(self, x):
        x = self.a(x)
        rows = x.flatten(2)
        x.add_(self.b(x))
        y = rows.view_as(x) + self.c(x)
        return self.last(y)


class SliceWrites(Net):
    def forward(self, x):
        x = self.a(x)
        out = torch.zeros_like(x)
        out[:, :2] = self.b(x)[:, :2]
        out[:, 2:] = self.c(x)[:, 2:]
        half = self.d(out)
        out[:, 1:3] += half[:, 1:3]
        return self.last(out)


class PositionalInPlace(Net):
    def forward(self, x):
        x = self.a(x)
        y = F.relu(x, True)
        return self.last(self.b(x) + self.c(y))


class Detached(Net):
    def forward(self, x):
        x = self.a(x)
        y = x.detach()
        y.add_(self.b(x))
        return self.last(self.c(x) + self.d(y))


class Complex(Net):
    def forward(self, x):
        x = self.a(x)
        z = torch.complex(x, self.b(x)).conj()
        w = z.imag
        z = z * 2
        w.add_(self.c(x))
        return self.last(z.real + w)


class Chunks(Net):
    def forward(self, x):
        x = self.a(x)
        p, q = x.chunk(2, dim=1)
        p.add_(self.b(x)[:, :2])
        y = self.c(x)
        q.mul_(p)
        return self.last(torch.cat([p, q], 1) + y)


class TwoTensorsOneWritten(Net):
    def forward(self, x):
        x = self.a(x)
        best, where = x.max(1, keepdim=True)
        best.add_(self.b(x)[:, :1])
        return self.last(self.c(x) * best + where)


class Noise(Net):
    def forward(self, x):
        x = self.a(x)
        x = self.b(x + torch.randn_like(x[:, :1]))
        y = self.c(x) + 0.1 * torch.randn(x.shape, dtype=x.dtype)
        x = F.dropout(y, 0.5, True) + self.d(x)
        return self.last(x + torch.rand_like(x))


class NoiseInPlace(Net):
    def forward(self, x):
        x = self.a(x)
        noise = torch.empty_like(x)
        noise.normal_()
        y = self.b(x)
        y.add_(noise)
        return self.last(self.c(y))


class NoiseOfAnAmountThatDepends(Net):
    def forward(self, x):
        x = self.a(x)
        counts = torch.poisson(self.b(x).abs() * 9)
        return self.last(self.c(counts) + torch.randn_like(x) + self.d(x))


class WritesABuffer(Net):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(4, 1, 1))

    def forward(self, x):
        x = self.a(x)
        self.seen.add_(self.b(x).mean((0, 2, 3), keepdim=True)[0])
        return self.last(self.c(x) + self.seen)


class Several(Net):
    def forward(self, x):
        x = self.a(x)
        y = self.relu(self.b(x))
        return {"image": self.last(y), "features": [x, y], "shape": x.shape[1]}


class Twice(Net):
    def forward(self, x):
        x = self.a(x)
        return self.last(self.relu(self.b(self.relu(self.b(x)))) + self.b(x))


class OldSpectralNorm(Net):
    def __init__(self):
        super().__init__()
        for layer in (self.a, self.b):
            torch.nn.utils.spectral_norm(layer)

    def forward(self, x):
        return self.last(self.relu(self.b(self.b(self.a(x)))))


class SpectralNorm(Net):
    def __init__(self):
        super().__init__()
        for layer in (self.a, self.b):
            torch.nn.utils.parametrizations.spectral_norm(layer)

    def forward(self, x):
        return self.last(self.relu(self.b(self.b(self.a(x)))))


class DeadEnd(Net):
    def forward(self, x):
        x = self.a(x)
        self.b(x)
        return self.last(x), x


def traced(name: str) -> gfx.Program:
    torch.manual_seed(1)
    model = MODELS[name]().double().eval()
    program = gfx.trace(model, torch.randn(2, 3, 6, 6, dtype=torch.float64))
    propagate(program)
    return program


@pytest.mark.parametrize("name", MODELS)
def test_a_suffix_equals_the_whole_changed_program(name):
    program = traced(name)
    before = {k: v.clone() for k, v in program.module.state_dict().items()}
    batches = [(torch.randn(2, 3, 6, 6, dtype=torch.float64),) for _ in range(2)]
    given = [x.clone() for (x,) in batches]
    check(program, batches, most=99)
    check(program, batches, most=99, memory=0)
    assert all(torch.equal(x, y) for (x,), y in zip(batches, given, strict=True))
    after = program.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def only(program: gfx.Program) -> Replay:
    """Makes a replay and checks that changes can be run alone."""
    replay = Replay(program, [program.example_inputs], seed=3)
    assert replay._facts[0].whole == ""
    return replay


ALONE = [name for name in MODELS if name not in ("TwoTensorsOneWritten", "WritesABuffer")]


@pytest.mark.parametrize("name", ALONE)
def test_changes_run_alone_wherever_it_is_safe(name):
    program = traced(name)
    replay = only(program)
    changes = [change for change, _ in changes_of(program, 99)]
    replay.run_all(changes)
    draws_otherwise = name == "NoiseOfAnAmountThatDepends"
    if not draws_otherwise:
        assert replay.spent["suffixes"] == sum(map(replay.macs, changes))


@pytest.mark.parametrize("name", ["TwoTensorsOneWritten", "WritesABuffer"])
def test_where_it_is_not_safe_the_whole_program_runs(name):
    replay = Replay(traced(name), [(torch.ones(1, 3, 6, 6, dtype=torch.float64),)])
    assert "writes into" in replay._facts[0].whole


WRITING = ["InPlaceActivations", "InPlaceStream", "ReadBeforeAndAfterAWrite"]
VIEWING = ["WritesThroughViews", "ReadsAViewMadeBefore", "Chunks", "Detached"]


def check_one(program: gfx.Program, by: dict[str, nn.Module]) -> None:
    """Compares one replacement with the whole changed program, again and again."""
    changed = replaced(program, by)
    inputs = program.example_inputs
    others = [Replacement({n: Scaled(program.submodule(n))}) for n in layers(program)]
    replay = Replay(program, [inputs], seed=3)
    before = replay.run_all(others)
    for _ in range(2):
        assert equal(run(changed, inputs, seed=3), replay.run(Replacement(by))[0])
        assert equal(before, replay.run_all(others))
    assert equal(run(program, inputs, seed=3), replay.outputs[0])


class WritesItsInput(nn.Module):
    def forward(self, x):
        return x.mul_(0.5)


class Draws(nn.Module):
    def forward(self, x):
        return x[:, :1].expand(-1, 4, -1, -1) + torch.randn_like(x[:, :1])


class First(nn.Module):
    """Gives a view of its input, whatever the layer in its place gave."""

    def forward(self, x, *others):
        return x[:]


@pytest.mark.parametrize("name", WRITING)
@pytest.mark.parametrize("other", [nn.Identity(), WritesItsInput(), Draws(), nn.ReLU(inplace=True)])
def test_a_replacement_may_give_its_input_or_write_into_it(name, other):
    program = traced(name)
    for node in layers(program)[1:-1]:
        check_one(program, {node.name: other})


@pytest.mark.parametrize("name", ["Noise", "NoiseInPlace"])
def test_a_replacement_that_draws_random_numbers_shifts_those_that_follow(name):
    program = traced(name)
    for node in layers(program)[1:-1]:
        check_one(program, {node.name: Draws()})


@pytest.mark.parametrize("name", WRITING)
def test_what_writes_in_place_may_be_replaced_itself(name):
    program = traced(name)
    writers = [n for n in program.nodes() if "relu" in n.name or "add" in n.name]
    assert writers
    for node in writers:
        check_one(program, {node.name: Plus()})


class Plus(nn.Module):
    def forward(self, x, *others, **options):
        return x + 1


@pytest.mark.parametrize("name", VIEWING)
@pytest.mark.parametrize("other", [Plus(), First()])
def test_any_node_may_be_replaced_where_views_and_writes_mix(name, other):
    program = traced(name)
    shape = (2, 4, 6, 6)
    for node in program.nodes():
        values = [n.meta["val"] for n in (node, *node.all_input_nodes[:1])]
        if node.op.startswith("call") and all(shape == getattr(v, "shape", None) for v in values):
            check_one(program, {node.name: other})


class Remembers(nn.Module):
    """Adds what it was given before."""

    def __init__(self):
        super().__init__()
        self.before = 0.0

    def forward(self, x):
        out, self.before = x + self.before, x.mean()
        return out


class WithMemory(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.memory = Remembers()

    def forward(self, x):
        return self.memory(self.b(self.memory(self.a(x))))


def test_modules_that_remember_something_find_it_as_it_was():
    x = torch.randn(2, 3, 6, 6)
    made = opaque_program(WithMemory(), x, opaque=(Remembers,))
    replay = check(made, [(x,), (x + 1,)])
    assert replay._facts[0].whole == "memory changes its own state"
    assert made.module.memory.before == 0.0


class Boxed:
    """Hides a tensor from whoever looks for one."""

    def __init__(self, value):
        self.value = value


class Boxes(nn.Module):
    def forward(self, x):
        return Boxed(x)


class Unboxes(nn.Module):
    def forward(self, box):
        return box.value.relu_()


def test_values_that_hide_tensors_are_not_trusted():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), Boxes(), Unboxes(), nn.Conv2d(3, 3, 1))
    x = torch.randn(2, 3, 6, 6)
    made = opaque_program(model, x, opaque=(Boxes, Unboxes))
    replay = Replay(made, [(x,)], seed=3)
    assert "cannot be looked into" in replay._facts[0].whole
    by = {"_3": Scaled(made.module.get_submodule("3"))}
    assert equal(run(replaced(made, by), (x,), seed=3), replay.run(Replacement(by))[0])


def test_a_mode_that_a_graph_sets_holds_for_changes_too():
    def write(graph, x):
        first = graph.call_module("0", (x,))
        types = ("cpu", torch.bfloat16, True, False)
        mode = graph.call_function(torch.amp.autocast_mode._enter_autocast, types)
        second = graph.call_module("1", (first,))
        graph.call_function(torch.amp.autocast_mode._exit_autocast, (mode,))
        return graph.call_module("2", (graph.call_method("float", (second,)),))

    x = torch.randn(1, 3, 6, 6)
    made = by_hand(nn.Sequential(*[nn.Conv2d(3, 3, 1) for _ in range(3)]), write, x)
    for node in layers(made):
        by = {node.name: Scaled(made.submodule(node))}
        (output,) = Replay(made, [(x,)], seed=3).run(Replacement(by))
        assert equal(run(replaced(made, by), (x,), seed=3), output)
