"""A supernet at some widths is the net that is extracted at them: values, learning, cost."""

import copy
import os
import pickle

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
from support.patterns import PATTERNS
from support.programs import traced_pattern
from support.strategies import specs
from support.subnet_checks import judge
from support.sweeps import some
from support.zoo_small import SMALL, small

ANY = {"at_least": 0.0, "min_channels": 1, "step": 1}


def judge_all(model, given, training=False, drawn=2, **fields):
    """Makes a supernet and judges its ends and some subnets; None if nothing of it is free."""
    try:
        net = gfx.supernet(model, given, widths={**ANY, **fields}, order=None, verify=False)
    except gfx.PreconditionError:
        return None
    net.train(training)
    ends = (net.smallest(), net.largest()) if drawn > 1 else (net.smallest(),)
    for widths in (*ends, *(net.sample(0, i) for i in range(drawn))):
        judge(net, given, widths)
    return net


@pytest.mark.parametrize("name", some(PATTERNS))
def test_a_pattern_at_any_widths_is_what_is_extracted(name):
    program = traced_pattern(name)
    judge_all(program.module, program.example_inputs, drawn=0)


@pytest.mark.parametrize("name", SMALL)
def test_a_generator_of_the_zoo_at_any_widths_is_what_is_extracted(name):
    model, given = small(name)
    two = tuple(torch.cat([x, x.flip(-1)]) for x in given)  # a BatchNorm needs more than one value
    net = judge_all(model, two, training=True, drawn=1)
    assert len(net.widths) > 1


# views of a folded batch, halves that are normed, splits, tied and shared layers, attention
SOME = ("StyleFused", "HalfInstance", "Flow", "Restormer", "Munit", "OasisLabels", "Rcan", "Mobile")


@pytest.mark.parametrize("name", GENERATORS if os.environ.get("GFX_SLOW") else SOME)
def test_a_generator_at_any_widths_is_what_is_extracted(name):
    judge_all(built(name), inputs(name), drawn=1)


@law(8, swept=60)
@example(Spec(blocks=(blocks.Twice(norm="instance"),)), False)  # a norm gets a copy
@example(Spec(blocks=(blocks.Fourier(interleaved=False),), seed=1), True)  # moments in two parts
@given(specs(approximate=True, wraps=True), st.booleans())
def test_any_generator_at_any_widths_is_what_is_extracted(spec, training):
    model, given = spec.build()
    if judge_all(model, given, training=training) is None:
        reject()


def net(**fields):
    torch.manual_seed(0)
    return gfx.supernet(gfx.zoo.build("dcgan", ngf=8), widths=[0.5, 1.0], **fields)


Z = torch.randn(2, 100, 1, 1, generator=torch.Generator().manual_seed(0))


def test_its_state_goes_into_the_unmodified_generator_and_back():
    one, model = net(), gfx.zoo.build("dcgan", ngf=8)
    model.load_state_dict(one.state_dict())
    assert torch.equal(model.eval()(Z), one.eval()(Z))
    other = net()
    other.load_state_dict(model.state_dict())
    assert all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_the_first_channels_are_the_most_important():
    torch.manual_seed(0)
    model = gfx.zoo.build("dcgan", ngf=8).eval()
    one = gfx.supernet(model, widths=[0.5, 1.0])
    pruned = gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5}}]}, model)
    assert distance(pruned(Z), one.extract(one.smallest())(Z)) <= 1e-5


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_is_a_supernet_of_its_own(twin):
    one = net().eval()
    one.set(one.smallest())
    other = twin(one)
    assert (other.current, other.widths) == (one.smallest(), one.widths)
    assert torch.equal(one(Z), other(Z))
    with torch.no_grad():
        other.get_parameter("to_rgb.weight").zero_()
    assert torch.equal(other(Z), torch.zeros_like(other(Z)))
    assert one(Z).abs().max() > 0


def test_a_file_has_its_widths(tmp_path):
    one = net().eval()
    gfx.save(one, tmp_path / "net.gfx")
    other = gfx.supernet(tmp_path / "net.gfx")
    assert other.widths == one.widths
    for each in (one, other):
        each.set(one.sample(3, 1))
    assert torch.equal(one(Z), other(Z))
    assert torch.equal(gfx.load(tmp_path / "net.gfx")(Z), one.program.module(Z))


def test_what_is_extracted_is_a_net_of_its_own():
    one = net()
    small = one.extract(one.smallest())
    assert gfx.supernet(small, Z).largest().items() <= one.smallest().items()


def test_widths_of_a_file_that_are_not_of_its_net_are_refused(tmp_path):
    program = net().program
    program.module.meta["gfx_supernet"] = {"widths": {"project.conv": [32, 48]}}
    gfx.save(program, tmp_path / "net.gfx")
    with pytest.raises(gfx.InputError, match="the file's widths of project"):
        gfx.supernet(tmp_path / "net.gfx")


def test_what_it_draws_is_a_function_of_seed_and_step():
    one = net()
    drawn = [one.sample(0, step) for step in range(20)]
    assert drawn == [one.sample(0, step) for step in range(20)]
    assert drawn != [one.sample(1, step) for step in range(20)]
    for name, values in one.widths.items():
        assert {widths[name] for widths in drawn} == {*values}


def test_prices_of_many_are_those_of_each():
    one = net()
    widths = [one.largest(), one.smallest(), one.sample(0, 0)]
    prices = one.price(widths)
    for i, each in enumerate(widths):
        cost = one.cost(each)
        assert (cost.macs.exact, cost.params) == (prices["exact"][i], prices["params"][i])


OPTIMIZERS = [
    lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.5, 0.999), weight_decay=0.1, fused=True),
    lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
]


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_step_leaves_alone_what_no_subnet_used(make):
    one = net().train()
    optimizer = make(one.parameters())
    one.attach(optimizer)
    for step in range(4):
        one.set(one.largest() if step == 0 else one.sample(0, step))
        optimizer.zero_grad()
        one(Z).square().mean().backward()
        before = {name: value.clone() for name, value in one.named_parameters()}
        states = {
            name: {k: v.clone() for k, v in optimizer.state.get(p, {}).items() if v.ndim}
            for name, p in one.named_parameters()
        }
        optimizer.step()
        parts = one.parts(one.current)
        for name, value in one.named_parameters():
            assert not torch.equal(value, before[name]), name
            if name not in parts:
                continue
            old, new = before[name].clone(), value.detach().clone()
            for tensor in (old, new):
                parts[name].write(tensor, torch.zeros_like(parts[name].of(tensor)))
            assert torch.equal(old, new), name
            for key, kept in states[name].items():
                now = optimizer.state[value][key].clone()
                for tensor in (kept, now):
                    parts[name].write(tensor, torch.zeros_like(parts[name].of(tensor)))
                assert torch.equal(kept, now), (name, key)


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_step_on_parts_is_a_step_of_the_extracted_net(make):
    one = net().train()
    one.set(one.smallest())
    small = one.extract()
    for each in (one, small):
        optimizer = make(each.parameters())
        if each is one:
            one.attach(optimizer)
        for _ in range(3):
            optimizer.zero_grad()
            each(Z).square().mean().backward()
            optimizer.step()
    parts = one.parts(one.current)
    for name, value in small.named_parameters():
        whole = one.get_parameter(name)
        assert distance(value, parts[name].of(whole) if name in parts else whole) <= 1e-5, name


OTHER = nn.Parameter(torch.zeros(1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n: n.set({"nothing": 3}), "nothing is no group with a choice of widths"),
        (lambda n: n.set({"to_rgb": 3}), "to_rgb is no group .*: its channels are the model's out"),
        (lambda n: n.set({"project.conv": 33}), "project.conv cannot be 33 wide; .* are 32, 64"),
        (lambda n: n.attach(torch.optim.SGD([OTHER], lr=1)), "SGD has none of this supernet's par"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(gfx.InputError, match=message):
        call(net())


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({"stepp": 8}, "widths: unknown field 'stepp'; did you mean 'step'"),
        ("half", "widths: a list of widths, or a mapping"),
        ([1.5], r"widths\[\*\]: a share is at most 1.0"),
        ({"nothing.*": [8, 16]}, "widths: no module is named 'nothing"),
        ({"step": 0}, "widths: step"),
    ],
)
def test_widths_that_cannot_be_read_are_refused(widths, message):
    with pytest.raises(gfx.RecipeError, match=message):
        gfx.supernet(gfx.zoo.build("dcgan", ngf=8), widths=widths)


def test_a_generator_without_a_choice_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 3, 1))
    why = "no group has a choice of widths: 0.in: its channels are those of the model's input"
    with pytest.raises(gfx.PreconditionError, match=why):
        gfx.supernet(model, torch.zeros(1, 3, 8, 8))


def test_an_optimizer_that_runs_the_net_is_refused():
    one = net()
    optimizer = torch.optim.LBFGS(one.parameters())
    one.attach(optimizer)
    with pytest.raises(gfx.InputError, match="LBFGS runs the net inside of its step"):
        optimizer.step(lambda: one(Z).mean())


def batches(count=4):
    draws = torch.Generator().manual_seed(2)
    # batches of different means: the mean of their variances is not the variance of all
    return [torch.randn(8, 100, 1, 1, generator=draws) + i for i in range(count)]


@pytest.mark.parametrize("ends", ["smallest", "largest"])
def test_moments_are_those_of_one_big_batch(ends):
    one = net().eval()
    one.set(getattr(one, ends)())
    assert one.calibrate(batches()) == 4
    big = one.extract()
    for module in big.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = 1.0
    with torch.no_grad():
        big.train()(torch.cat(batches()))
    small = one.extract()
    for name, value in big.eval().named_buffers():
        if "running" in name:
            assert distance(value, small.get_buffer(name)) <= 1e-6, name
    assert distance(big(Z), one(Z)) <= 1e-5
    assert torch.equal(small(Z), one(Z))


def test_the_mean_of_variances_is_not_what_is_measured():
    one = net().eval()
    one.calibrate(batches())
    (name, (_, variance)) = next(iter(one._runner.moments[tuple(one._runner.units)].items()))
    biased = []
    for batch in batches():
        one.calibrate([batch])
        biased.append(one._runner.moments[tuple(one._runner.units)][name][1])
    assert distance(variance, torch.stack(biased).mean(0)) > 0.01


def test_moments_are_of_one_subnet_and_leave_the_shared_ones_alone():
    one = net().eval()
    shared = {name: value.clone() for name, value in one.named_buffers()}
    before = {ends: one(Z) for ends in ("largest", "smallest") if one.set(getattr(one, ends)())}
    one.calibrate(batches())
    assert distance(before["smallest"], one(Z)) > 1e-3
    twin = copy.deepcopy(one)
    assert torch.equal(twin(Z), one(Z))
    one.set(one.largest())
    assert torch.equal(before["largest"], one(Z))
    assert all(torch.equal(shared[name], value) for name, value in one.named_buffers())
    one.set(one.smallest())
    one.forget_moments()
    assert torch.equal(before["smallest"], one(Z))
