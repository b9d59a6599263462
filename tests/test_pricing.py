import numpy as np
import pytest
import torch

import gfx
from gfx.costing import Budget, cost_of
from gfx.coupling import analyse
from gfx.edit import remove
from gfx.pricing import Pricing
from passes.fold_parametrizations import FoldParametrizations

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
def test_the_closed_form_equals_the_cost_of_the_pruned_program(name):
    torch.manual_seed(0)
    model = gfx.zoo.build(name, **SMALL[name]).eval()
    program = gfx.trace(model, gfx.zoo.example_inputs(name, **SMALL[name]))
    FoldParametrizations().apply(program)
    program.module.to("meta")
    program.example_inputs = tuple(x.to("meta") for x in program.example_inputs)
    pricing = Pricing(analyse(program), cost_of(program))
    rng = np.random.default_rng(0)
    for _ in range(3):
        widths = [int(rng.integers(1, group.size + 1)) for group in pricing.groups]
        small = program.copy()
        groups = analyse(small)
        removed = groups.none_removed()
        for group, width in zip(groups.free, widths, strict=True):
            removed[rng.permutation(group.roots)[width:]] = True
        remove(small, groups, removed)
        cost, price = cost_of(small), pricing.price([widths])
        real = (cost.macs.exact, cost.macs.output, cost.macs.output_norm, cost.params)
        assert (
            tuple(np.rint(price[k][0]) for k in ("exact", "output", "output_norm", "params"))
            == real
        )
        assert round(price["param_bytes"][0]) == cost.param_bytes


def test_many_configurations_are_priced_at_once():
    program = gfx.trace(
        gfx.zoo.build("resnet_9blocks", ngf=4).to("meta"), torch.zeros(1, 3, 64, 64, device="meta")
    )
    pricing = Pricing(analyse(program), cost_of(program))
    full = np.array([group.size for group in pricing.groups])
    prices = pricing.price(np.tile(full, (100, 1)))
    assert prices["exact"].shape == (100,)
    assert set(prices["params"]) == {cost_of(program).params}


def test_a_measure_without_a_closed_form_is_named():
    program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
    pricing = Pricing(analyse(program), cost_of(program))
    with pytest.raises(gfx.BudgetError, match="for a budget on peak_activation_bytes yet"):
        pricing.value(
            [g.size for g in pricing.groups], Budget(measure="peak_activation_bytes", limit=1)
        )
