"""Channels in another order: the same function, the same learning; the most important first."""

import os

import numpy as np
import pytest
import torch
from hypothesis import given, reject
from hypothesis import strategies as st
from torch import nn
from torch.utils import _pytree as pytree

import gfx
from gfx.coupling import analyse
from gfx.coupling.channel_slots import movable
from gfx.coupling.removal import remove
from gfx.coupling.reorder_channels import reorder
from gfx.ir.execute import distance, run, tolerance
from gfx.ir.interpreter import Interpreter
from gfx.ir.node_origin import origin
from gfx.ir.random_state import keep_random_state
from passes.channel_prune import ChannelPrune
from passes.fold_parametrizations import FoldParametrizations
from passes.sort_channels import SortChannels
from support.generators.register import GENERATORS, built, inputs
from support.laws import law
from support.patterns import PATTERNS
from support.programs import traced_pattern, weighted_sum
from support.strategies import specs
from support.zoo_small import SMALL, small


def folded(model, given):
    """Traces a model and folds its parametrizations."""
    program = gfx.trace(model, given)
    if any(hasattr(module, "parametrizations") for module in program.module.modules()):
        FoldParametrizations().apply(program, gfx.Context())
    return program


def shuffle(program, seed=0):
    """Puts the channels of every group that may move in a random order; returns those that may."""
    groups = analyse(program, unions=True)
    stays, rng = movable(groups), np.random.default_rng(seed)
    names = [group.name for group in groups.free if not stays[group.name]]
    reorder(program, groups, {name: rng.permutation(groups[name].size).tolist() for name in names})
    return names


def step(program, inputs):
    """Takes a step of gradient descent on a weighted sum of the outputs; returns these."""
    with keep_random_state(seed=0), torch.enable_grad():
        given = pytree.tree_map_only(torch.Tensor, lambda x: x.clone(), inputs)
        output = program.module(*given)
        loss = weighted_sum(output)
        tensors = [p for p in program.module.parameters() if p.requires_grad]
        found = gradients(loss, tensors)
    with torch.no_grad():
        for tensor, gradient in zip(tensors, found, strict=True):
            if gradient is not None:
                tensor.sub_(gradient, alpha=0.01)
    return output


def gradients(loss, tensors):
    """Returns the gradients; none of a model that cannot learn."""
    nothing = [None] * len(tensors)
    if not tensors or not isinstance(loss, torch.Tensor) or not loss.requires_grad:
        return nothing
    try:
        return torch.autograd.grad(loss, tensors, allow_unused=True)
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        return nothing


def judge(program, seed=0):
    """Compares a step and then a new order with the new order and then a step, tensor by tensor."""
    first, second = program.copy(), program.copy()
    wanted = step(first, program.example_inputs)
    moved = shuffle(first, seed)
    assert shuffle(second, seed) == moved
    allowed = tolerance(program)
    assert distance(wanted, step(second, program.example_inputs)) <= allowed
    states = first.module.state_dict(), second.module.state_dict()
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert distance(value, states[1][name]) <= 100 * allowed, name
    return moved


def values(program):
    """Runs a program and keeps the value of every node."""
    found, runner = {}, Interpreter(program.module)

    def see(node, get):
        value = runner.value(node, get)
        found[node.name] = value.clone() if isinstance(value, torch.Tensor) else value
        return value

    with torch.no_grad(), keep_random_state(seed=0):
        runner.run(*(x.clone() for x in program.example_inputs), see=see)
    return found


@pytest.mark.parametrize("name", list(PATTERNS)[::3])
def test_every_node_tells_which_channels_of_the_original_it_has(name):
    program = traced_pattern(name)
    before = values(program)
    shuffle(program)
    after = values(program)
    for node in program.nodes():
        old = before[node.name]
        if isinstance(old, torch.Tensor) and old.is_floating_point():
            assert distance(origin(node).of(old), after[node.name]) <= 1e-4, node.name


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_computes_and_learns_the_same_in_any_order(name):
    judge(traced_pattern(name))


@pytest.mark.parametrize("name", SMALL)
def test_a_generator_of_the_zoo_computes_and_learns_the_same_in_any_order(name):
    model, given = small(name)
    doubled = tuple(x.double() if x.is_floating_point() else x for x in given)
    assert judge(folded(model.double(), doubled))


SOME = ("StyleFused", "Flow", "Restormer", "Munit", "OasisLabels", "Rcan", "Mobile", "Quantised")


@pytest.mark.parametrize("name", GENERATORS if os.environ.get("GFX_SLOW") else SOME)
def test_a_generator_computes_and_learns_the_same_in_any_order(name):
    judge(folded(built(name), inputs(name)))


@law(25, swept=100)
@given(specs(approximate=True, wraps=True), st.booleans(), st.integers(0, 3))
def test_any_generator_computes_and_learns_the_same_in_any_order(spec, training, seed):
    program = gfx.trace(*spec.build())
    program.module.train(training)
    judge(program, seed)


@law(15, swept=60)
@given(specs(), st.sampled_from(("l1", "l2", "fpgm")), st.sampled_from((0.25, 0.5, 0.75)))
def test_the_first_channels_are_those_that_a_prune_keeps(spec, importance, ratio):
    before = gfx.trace(*spec.build())
    ranked = before.copy()
    try:
        fields = {"ratio": ratio, "importance": importance, "min_channels": 1}
        ChannelPrune(**fields).apply(ranked, gfx.Context())
    except gfx.PreconditionError:
        reject()
    program = before.copy()
    skipped = {
        s.node for s in SortChannels(importance=importance).apply(program, gfx.Context()).skips
    }
    if skipped & {group.name for group in analyse(before.copy()).free}:
        return  # of a group that may not be sorted, others are first
    groups = analyse(program)
    removed = groups.none_removed()
    for group in groups.free:
        removed[group.roots[group.size - int(group.size * ratio + 1e-9) :]] = True
    remove(program, groups, removed)
    given = before.example_inputs
    with torch.no_grad():
        wanted, got = (run(each, given) for each in (ranked, program))
    assert distance(wanted, got) <= tolerance(before)


X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def net():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 1))
    model[0].weight.data *= torch.tensor([2.0, 4.0, 1.0, 3.0]).view(4, 1, 1, 1)
    model[3].weight.data.fill_(1.0)
    return model.eval()


def recipe(**fields):
    return {"passes": [{"sort_channels": fields}]}


def test_the_report_has_the_order_and_repeats_it():
    small = gfx.apply(recipe(), net(), X)
    (row,) = gfx.report(small).passes
    assert row.changes[0].after == [1, 3, 0, 2]
    again = gfx.apply({"passes": [{"sort_channels": {"orders": {"0": [1, 3, 0, 2]}}}]}, net(), X)
    assert torch.equal(again.get_submodule("0").weight, small.get_submodule("0").weight)


def test_what_is_in_order_stays():
    small = gfx.apply(recipe(), net(), X)
    outcome = SortChannels().apply(gfx.trace(small, (X,)), gfx.Context())
    assert not outcome.modified
    assert outcome.details == {"note": "every group that may be sorted is in order"}


class Crossed(nn.Module):
    """Channels that go together by threes: half of them in one circle, half in the other."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 3, 1)

    def forward(self, x):
        x = self.first(x)
        parts = [x[:, i : i + 2] for i in (2, 4, 0, 10, 6, 8)]
        return self.last(torch.cat(parts, 1) + x)


class Noisy(Crossed):
    def forward(self, x):
        x = self.first(x)
        return self.last(x + torch.randn_like(x))


class Counted(Crossed):
    """Takes a product of a weight with a vector, which nothing ties to the channels."""

    def __init__(self):
        super().__init__()
        self.register_buffer("u", torch.arange(12.0))

    def forward(self, x):
        return self.last(self.first(x)) / torch.dot(self.u, self.first.bias)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Crossed(), "positions of its channels meet in another order"),
        (Noisy(), "numbers are drawn at random for each of its channels"),
        (Counted(), "a statistic of its weights may depend on their order"),
    ],
)
def test_channels_that_cannot_change_places_are_skipped_with_the_reason(model, why):
    program = gfx.trace(model, (X,))
    before = {name: value.clone() for name, value in program.module.state_dict().items()}
    outcome = SortChannels().apply(program, gfx.Context())
    assert why in [skip.why for skip in outcome.skips]
    assert all(torch.equal(before[n], v) for n, v in program.module.state_dict().items())


@pytest.mark.parametrize(
    ("orders", "message"),
    [
        (
            {"0": [0, 1, 1, 2]},
            r"sort_channels: orders\[0\] must name each channel from 0 to 3 once",
        ),
        ({"0": [1, 0]}, r"sort_channels: orders\[0\] has 2 channels, the group 4"),
        ({"7": [1, 0]}, "sort_channels: orders: no free group is called 7: 0"),
    ],
)
def test_orders_that_do_not_fit_are_refused(orders, message):
    with pytest.raises(gfx.RecipeError, match=message):
        gfx.apply(recipe(orders=orders), net(), X)


def test_masks_go_with_their_channels():
    masked = gfx.apply({"passes": [{"mask": {"kind": "ppcd", "min_channels": 1}}]}, net(), X)
    (mask,) = [m for m in masked.modules() if hasattr(m, "m")]
    with torch.no_grad():
        mask.m.copy_(torch.tensor([0.5, 0.1, 0.9, 0.7]))
    program = gfx.trace(masked, (X,))
    wanted = run(program, (X,))
    assert shuffle(program) == ["0"]
    assert distance(wanted, run(program, (X,))) <= 1e-5
    assert sorted(program.module.get_submodule("0").weight.shape) == [3, 3, 3, 4]
