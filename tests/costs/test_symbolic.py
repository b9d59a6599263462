"""The closed form gives what `gfx.cost` counts on the really pruned program, to the last digit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

import gfx
from gfx.costs import Budget, cost_of
from gfx.costs.symbolic import Pricing
from gfx.coupling import analyse
from passes.fold_parametrizations import FoldParametrizations
from support.patterns import PATTERNS
from support.price_checks import MEASURES, check, pruned
from support.programs import traced_pattern
from support.strategies import specs

SMALL = {
    "resnet_9blocks": {"ngf": 6},
    "mobile_resnet_9blocks": {"ngf": 6},
    "unet_256": {"ngf": 4},
    "spade": {"ngf": 3},
    "pix2pixhd_global": {"ngf": 3},
    "stargan": {},
    "srresnet": {},
    "dcgan": {"ngf": 6},
    "sagan": {"ngf": 8},
    "biggan_128": {"ch": 4},
}


@pytest.mark.parametrize("name", SMALL)
def test_the_prices_of_the_zoo_are_those_of_the_pruned_program(name):
    torch.manual_seed(0)
    model = gfx.zoo.build(name, **SMALL[name]).eval()
    program = gfx.trace(model, gfx.zoo.example_inputs(name, **SMALL[name]))
    FoldParametrizations().apply(program, gfx.Context())
    program.module.to("meta")
    program.example_inputs = tuple(x.to("meta") for x in program.example_inputs)
    check(program, 3)


@pytest.mark.parametrize("name", PATTERNS)
def test_the_prices_of_a_pattern_are_those_of_the_pruned_program(name):
    check(traced_pattern(name), 2, peak=name != "CosineWeights")


@settings(max_examples=25, deadline=None, derandomize=True)
@given(specs())
def test_the_prices_of_any_generator_are_those_of_the_pruned_program(spec):
    check(gfx.trace(*spec.build()), 2)


def test_many_configurations_are_priced_at_once():
    program = gfx.trace(
        gfx.zoo.build("resnet_9blocks", ngf=4).to("meta"), torch.zeros(1, 3, 64, 64, device="meta")
    )
    pricing, cost = Pricing(analyse(program), cost_of(program)), cost_of(program)
    full = np.array([group.size for group in pricing.groups])
    table = np.random.default_rng(0).integers(1, full + 1, size=(5000, len(full)))
    table[-1] = full
    prices = pricing.price(table)
    assert prices["exact"].shape == (5000,)
    assert prices["params"][-1] == cost.params
    for i in (0, 1234, 4998):  # in whatever company, a configuration has one price
        alone = pricing.price(table[i])
        assert all(prices[name][i] == alone[name][0] for name in MEASURES)


def test_prices_beyond_what_floats_hold_are_exact():
    model = nn.Sequential(nn.Conv2d(512, 511, 3), nn.ReLU(), nn.Conv2d(511, 512, 3)).to("meta")
    program = gfx.trace(model, torch.zeros(1, 512, 99_999, 99_999, device="meta"))
    cost = cost_of(program)
    assert cost.macs.exact > 2**53
    pricing = Pricing(analyse(program), cost)
    rng = np.random.default_rng(0)
    for width in (511, 17, 1):
        real = pruned(program, [width], rng).macs.exact
        assert pricing.price([width])["exact"].item() == real


def test_a_budget_reads_its_own_measure():
    program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
    cost = cost_of(program)
    pricing = Pricing(analyse(program), cost)
    full = [group.size for group in pricing.groups]
    for measure in ("macs", "params", "param_bytes", "peak_activation_bytes"):
        budget = Budget(measure=measure, limit=1)
        assert pricing.value(full, budget).tolist() == [budget.value(cost)]
    norms = Budget(convention="output+norm", limit=1)
    assert pricing.value(full, norms).tolist() == [cost.macs.output_norm]
