"""A supernet with forms and blocks to skip, at any of its choices, is the net that is extracted."""

import copy
import os
import pickle
import re
from itertools import product

import pytest
import torch
from hypothesis import example, given, reject
from hypothesis import strategies as st
from torch import nn

import gfx
from gfx.ir.execute import distance
from support import blocks
from support.blocks import Spec
from support.generators.register import GENERATORS, built, inputs
from support.laws import law
from support.strategies import specs
from support.subnet_checks import judge
from support.zoo_small import SMALL, small

ANY = {"at_least": 0.0, "min_channels": 1, "step": 1}


def choosing(model, given, training=False, drawn=2, ends=("smallest", "largest"), **fields):
    """Makes a supernet of all choices, and judges ends and some subnets."""
    fields = {"forms": "separable", "skip": True} | fields
    net = gfx.supernet(model, given, widths=ANY, order=None, verify=False, **fields)
    net.train(training)
    for each in (*(getattr(net, e)() for e in ends), *(net.sample(0, i) for i in range(drawn))):
        judge(net, given, each)
    return net


SLOW = bool(os.environ.get("GFX_SLOW"))


@pytest.mark.parametrize("name", [n for n in SMALL if SLOW or n != "spade"])
def test_a_generator_of_the_zoo_in_any_form_is_what_is_extracted(name):
    model, given = small(name)
    two = tuple(torch.cat([x, x.flip(-1)]) for x in given)  # a BatchNorm needs more than one value
    net = choosing(model, two, training=True, drawn=1, ends=("smallest",))
    assert net.options


SOME = ("Restormer", "Rcan", "Mobile", "HalfInstance")


@pytest.mark.parametrize("name", GENERATORS if SLOW else SOME)
def test_a_generator_in_any_form_is_what_is_extracted(name):
    try:
        choosing(built(name), inputs(name), drawn=1, ends=())
    except gfx.PreconditionError:  # nothing of it is free
        pytest.skip("nothing to choose")


@law(5, swept=60)
@example(Spec(blocks=(blocks.Twice(norm="instance"),)), False)
@given(specs(approximate=True, wraps=True), st.booleans())
def test_any_generator_in_any_form_is_what_is_extracted(spec, training):
    model, given = spec.build()
    try:
        choosing(model, given, training=training)
    except gfx.PreconditionError:
        reject()


def net(**fields):
    torch.manual_seed(0)
    model = gfx.zoo.build("resnet_9blocks", ngf=4, n_blocks=2, image_size=16)
    fields = {"widths": [0.5, 1.0], "forms": ["blocks.*"], "skip": True} | fields
    return gfx.supernet(model.eval(), **fields)


X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_the_largest_net_is_the_generator_itself():
    one = net()
    whole = one.extract(one.largest())
    model = gfx.zoo.build("resnet_9blocks", ngf=4, n_blocks=2, image_size=16).eval()
    model.load_state_dict(whole.state_dict())  # the very names
    assert torch.equal(one(X), model(X))
    assert all(torch.equal(v, one.state_dict()[n]) for n, v in model.state_dict().items())
    other = net()
    missing = other.load_state_dict(model.state_dict(), strict=False).missing_keys
    assert missing
    assert all("_separable." in name for name in missing)


def test_what_no_assignment_names_is_as_in_the_largest_net():
    one = net()
    assert one.set({}) == one.largest() == one.set()
    assert one.set(dict.fromkeys(["blocks.0.skip"], "skipped"))["blocks.1.skip"] == "kept"
    assert {*one.widths} | {*one.options} == {*one.choices}


def test_a_separable_layer_begins_as_decompose_makes_it():
    one = net(order=None)
    small = one.extract({"blocks.0.conv1.form": "separable"})
    made = gfx.apply(
        {"passes": [{"decompose": {"where": ["blocks.0.conv1"]}}]},
        one.extract(one.largest()),
        X[:1],
    )
    assert distance(made(X), small(X)) <= 1e-6


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_a_separable_layer_may_have_a_norm_between(norm):
    one = net(forms={"where": ["blocks.*"], "norm": norm})
    for each in (one.smallest(), one.sample(0, 1)):
        judge(one.train(), (X,), each)


def test_separable_layers_can_be_fitted_to_data():
    one = net(forms={"where": ["blocks.0.*"], "init": "data"}, data=[X.repeat(16, 1, 1, 1)])
    plain, name = net(forms=["blocks.0.*"]), "blocks.0.conv1_separable.depthwise.weight"
    assert not torch.equal(one.get_parameter(name), plain.get_parameter(name))
    with pytest.raises(gfx.PreconditionError, match="init=data fits weights to what the layers"):
        net(forms={"init": "data"})


def test_blocks_may_lie_in_blocks():
    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.inner, self.last = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
            self.head = nn.Conv2d(4, 8, 1)
            self.tail = nn.Conv2d(8, 3, 1)

        def forward(self, x):
            y = torch.relu(self.first(x))
            y = y + torch.relu(self.inner(y))
            return self.tail(torch.relu(self.head(x + self.last(y))))

    x = torch.randn(1, 4, 8, 8)
    one = gfx.supernet(Nested(), x, widths=ANY, skip=True)
    assert list(one.options) == ["inner.skip", "add_1.skip"]
    inner, outer = ({name: "skipped"} for name in one.options)
    for each in (inner, outer, inner | outer):
        judge(one, (x,), each)
    assert one.cost(inner | outer) == one.cost(outer)  # what is skipped has no choices left


@pytest.mark.parametrize("skipped", list(product([0, 1], repeat=3)))
def test_a_generator_with_skipped_blocks_is_one_without_these_blocks(skipped):
    torch.manual_seed(0)
    model = gfx.zoo.build("resnet_9blocks", ngf=4, n_blocks=3, image_size=16).eval()
    one = gfx.supernet(model, X[:1], widths=[0.5, 1.0], order=None, skip=True, verify=False)
    one.set({f"blocks.{n}.skip": "skipped" for n, gone in enumerate(skipped) if gone})
    left = copy.deepcopy(model)
    for number, gone in enumerate(skipped):
        if gone:
            left.blocks[number] = nn.Identity()
    assert distance(left(X), one(X)) <= 1e-6
    wanted = gfx.cost(left, X[:1])
    assert one.cost(one.current).macs == wanted.macs
    assert one.cost(one.current).params == wanted.params


class Shortcut(nn.Module):
    """A residual block whose layers are called as choices are."""

    def __init__(self):
        super().__init__()
        self.skip, self.form = nn.Conv2d(8, 16, 1), nn.Conv2d(16, 8, 1)

    def forward(self, y):
        return y + self.form(torch.relu(self.skip(y)))


def test_a_choice_has_a_name_of_its_own():
    model = Residual(None, Shortcut())
    one = gfx.supernet(model, torch.zeros(1, 3, 8, 8), widths=[0.5, 1.0], skip=True)
    assert [*one.widths] == ["stem", "after.skip"]
    assert [*one.options] == ["after.skip_2"]
    judge(one, (torch.zeros(1, 3, 8, 8),), {"after.skip": 8, "after.skip_2": "kept"})


def test_the_smallest_net_is_the_cheapest():
    one = net(forms="separable", widths=[1, 1.0])
    least = one.cost(one.smallest()).macs.exact
    drawn = [one.cost(one.smallest() | {n: o}) for n, v in one.options.items() for o in v]
    assert least == min(each.macs.exact for each in drawn)


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_has_the_choices(twin):
    one = net().eval()
    one.set(one.sample(0, 3))
    other = twin(one)
    assert (other.current, other.choices) == (one.current, one.choices)
    assert other.without_choice == one.without_choice
    assert torch.equal(one(X), other(X))


def test_a_file_has_the_choices(tmp_path):
    one = net().eval()
    gfx.save(one, tmp_path / "net.gfx")
    other = gfx.supernet(tmp_path / "net.gfx")
    assert (other.choices, list(other.choices)) == (one.choices, list(one.choices))
    for step in range(3):
        for each in (one, other):
            each.set(one.sample(3, step))
        assert torch.equal(one(X), other(X))
    assert torch.equal(gfx.load(tmp_path / "net.gfx")(X), one.program.module(X))


def test_a_step_leaves_alone_what_no_subnet_has():
    one = net().train()
    optimizer = torch.optim.AdamW(one.parameters(), lr=0.01, weight_decay=0.1)
    one.attach(optimizer)
    form = "blocks.0.conv1.form"
    nets = ({form: "dense"}, {form: "separable"}, {"blocks.0.skip": "skipped"}, {})
    for step, each in enumerate(nets):
        optimizer.zero_grad(set_to_none=False)  # gradients of zeros too
        one.set(each)
        one(X).square().mean().backward()
        before = {n: p.detach().clone() for n, p in one.named_parameters()}
        optimizer.step()
        parts = one.parts(each)
        moved = {n for n, p in one.named_parameters() if not torch.equal(p, before[n])}
        unused = {n for n, part in parts.items() if part.none}
        assert unused, step
        assert moved
        assert not moved & unused


def test_several_subnets_of_a_step_use_each_what_they_have():
    one = net()
    group = next(iter(one.widths))
    least, form = one.widths[group][0], "blocks.0.conv1.form"
    one.note_use({form: "dense"})
    one.note_use({form: "separable", **{name: values[0] for name, values in one.widths.items()}})
    used = one._runner.used_parameters(one)
    pointwise = one.get_parameter("blocks.0.conv1_separable.pointwise.weight")
    small = one.extract({form: "separable", **{n: v[0] for n, v in one.widths.items()}})
    wanted = small.get_parameter("blocks.0.conv1_separable.pointwise.weight").shape
    assert used[id(pointwise)].of(pointwise).shape == wanted
    assert id(one.get_parameter("blocks.0.conv1.weight")) not in used  # all of it
    assert least < one.widths[group][-1]


def test_moments_are_of_one_form():
    model, _ = small("srresnet")
    one = gfx.supernet(model, torch.zeros(1, 3, 16, 16), widths=[0.5, 1.0], skip=True)
    batches = [torch.randn(4, 3, 16, 16) + i for i in range(2)]
    for each in ({}, {"blocks.0.skip": "skipped"}):
        one.set(each)
        before = one(X)
        counted = one.calibrate(batches)
        assert counted == sum(isinstance(m, nn.BatchNorm2d) for m in one.extract().modules())
        assert distance(before, one(X)) > 1e-4
        assert torch.equal(one(X), one.extract()(X))
    assert len(one.kept_moments) == 2


def test_codes_are_kept_and_no_more_than_some():
    one = net(forms="separable")
    graph = one.subnet_graph
    for step in range(80):
        one.set(one.sample(0, step))
        one.subnet_graph.code  # noqa: B018
    assert len(graph._codes) <= 64
    one.set(one.sample(0, 79))
    known = one.subnet_graph.code
    one.set({**one.sample(0, 79), **{n: v[-1] for n, v in one.widths.items()}})
    assert one.subnet_graph.code is known  # other widths, the same code


class Residual(nn.Module):
    """x + f(x), with something in f."""

    def __init__(self, f, after=None):
        super().__init__()
        self.stem, self.tail = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1)
        self.f, self.after = f, after

    def forward(self, x):
        y = self.stem(x)
        return self.tail(self.after(y) if self.after else y + self.f(y))


class AddsInPlace(nn.Conv2d):
    def forward(self, y):
        return y.add_(super().forward(y))


class ReadOutside(nn.Conv2d):
    def forward(self, y):
        z = super().forward(y)
        return (y + z) * z.sigmoid()


class Wide(nn.Module):
    def forward(self, y):
        mean = y.mean((2, 3), True)
        return mean + torch.tanh(mean).expand(-1, -1, 8, 8)


class WrittenOverBehind(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)

    def forward(self, y):
        z = y + self.one(y)
        z = z + self.two(z)
        return z.relu_() + y.exp()


class WrittenOver(nn.Conv2d):
    def forward(self, y):
        z = y + super().forward(y)
        return z.relu_() + y.exp()


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Residual(nn.Dropout(0.5)), "f draws random numbers, and without it others would draw"),
        (Residual(None, AddsInPlace(8, 8, 1)), "adds in place to what it would be without the bl"),
        (Residual(None, ReadOutside(8, 8, 1)), "inside of it, is read outside, by sigmoid"),
        (Residual(None, Wide()), "and what it adds to is float32.* one cannot stand for the other"),
        (Residual(None, WrittenOver(8, 8, 1)), "its result is written over in place while stem is"),
        (Residual(nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(inplace=True))), ""),
    ],
)
def test_a_block_that_cannot_be_skipped_says_why(model, why):
    one = gfx.supernet(model, torch.zeros(1, 3, 8, 8), widths=[0.5, 1.0], skip=True)
    if why:
        assert not one.options
        (said,) = one.without_choice.values()
        assert re.search(why, said)
    else:
        assert list(one.options) == ["f.skip"]


def test_a_result_that_is_written_over_behind_another_block_is_not_skipped():
    model = Residual(None, WrittenOverBehind())
    one = gfx.supernet(model, torch.zeros(1, 3, 8, 8), widths=[0.5, 1.0], skip=True)
    # of the two, one may be skipped: the results of both would lie in what is read behind
    assert list(one.options) == ["after.two.skip"]
    assert "is written over in place while stem" in one.without_choice["after.one"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"forms": "sepable"}, "forms: 'sepable' is no form; give separable"),
        ({"forms": {"wher": ["x"]}}, "forms: unknown field 'wher'; did you mean 'where'"),
        ({"forms": ["nothing.*"]}, "forms: where: no convolution or linear layer is named"),
        ({"forms": 3}, "forms: 3 says no layers"),
        ({"forms": {"rank": 0}}, "forms: rank=0 must be an integer"),
        ({"skip": "blocks"}, "skip: true, false or a list of blocks is expected"),
        ({"skip": ["block.0"]}, "skip: no residual block is named 'block.0'; did you mean"),
    ],
)
def test_choices_that_cannot_be_read_are_refused(fields, message):
    with pytest.raises(gfx.RecipeError, match=message):
        net(**fields)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"blocks.0.skip": "skip"}, "blocks.0.skip cannot be 'skip'; its options are skipped, k"),
        (
            {"blocks.0.skp": "kept"},
            "blocks.0.skp is no group, form or block with a choice; did",
        ),
    ],
)
def test_an_assignment_that_does_not_fit_is_refused(given, message):
    with pytest.raises(gfx.InputError, match=message):
        net().set(given)


def test_a_tap_that_a_choice_may_hide_is_refused():
    model = gfx.zoo.build("resnet_9blocks", ngf=4, n_blocks=2, image_size=16).eval()
    for layers, hidden in (["blocks.0"], False), (["blocks.0.conv1"], True):
        recipe = {"passes": [{"distill_taps": {"layers": layers}}]}
        one = gfx.supernet(gfx.apply(recipe, model), widths=[0.5, 1.0], skip=True)
        assert one.options
        if hidden:
            with pytest.raises(gfx.InputError, match=r"the tap .* not in every subnet: blocks.0.s"):
                one.tapped()
        else:
            one.set({"blocks.0.skip": "skipped"})
            y, features = one.tapped()(X)
            assert torch.equal(y, one(X))
            assert len(features) == 1
