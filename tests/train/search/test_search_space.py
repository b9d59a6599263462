"""What a search draws keeps the budgets, and its prices are those of the real nets."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gfx
from gfx.costs import Budget
from gfx.errors import BudgetError
from gfx.train.search.search_space import SearchSpace
from support.laws import law
from support.search_cases import searched, small_net, small_space
from support.zoo_small import SMALL, small


@law(8, swept=20)
@given(
    share=st.floats(0.12, 1.0),
    seed=st.integers(0, 2**32 - 1),
    rate=st.floats(0.01, 1.0),
    depth=st.integers(2, 4),
)
def test_whatever_is_drawn_mutated_or_crossed_keeps_the_budget(share, seed, rate, depth):
    whole = small_space(depth=depth)
    least, most = whole.price([whole.smallest, whole.largest])["exact"]
    limit = float(max(share * most, least))
    space = SearchSpace(whole.net, [Budget(limit=limit)])
    rng = np.random.default_rng(seed)
    drawn = space.draw(rng, 20)
    assert drawn.shape == (20, depth)
    made = [drawn, space.mutate(drawn, rate, rng), space.cross(drawn, drawn[::-1], rng)]
    for table in made:
        assert (table >= 0).all()
        assert (table < np.array(space.counts)).all()
        assert (space.price(table)["exact"] <= limit).all()
    for row in drawn[:3].tolist():
        assert space.row(space.widths(row)) == tuple(row)


@pytest.mark.parametrize("name", SMALL)
def test_prices_of_rows_are_costs_of_the_extracted_nets(name):
    model, inputs = small(name)
    widths = {"values": {"*": [0.5, 1.0]}, "min_channels": 2}
    net = gfx.supernet(model, inputs, widths=widths, order=None, verify=False)
    space = SearchSpace(net)
    rows = space.draw(np.random.default_rng(0), 3)
    prices = space.price(rows)
    for number, row in enumerate(rows.tolist()):
        cost = gfx.cost(net.extract(space.widths(row)), inputs)
        assert prices["exact"][number] == cost.macs.exact
        assert prices["params"][number] == cost.params
        assert prices["peak_activation_bytes"][number] == cost.peak_activation_bytes


def test_groups_that_are_chosen_together_are_one_dimension():
    space = small_space(step=4, together=[["0", "2"], ["4", "6", "8"]])
    assert len(space.counts) == 3
    widths = space.widths((1, 0, 2))
    assert widths["0"] == widths["2"] == 8
    assert space.row(widths) == (1, 0, 2)


def test_a_budget_below_the_smallest_net_names_the_floor_and_what_pins_it():
    said = r"the limit is 100, and the smallest subnet takes 53\.76 K; raise .*0\.in: its channels"
    with pytest.raises(BudgetError, match=said):
        SearchSpace(small_space().net, [Budget(limit=100)])
    with pytest.raises(BudgetError, match="a search of subnets prices macs, params"):
        SearchSpace(small_space().net, [Budget(measure="latency", limit=3)])
    # one that only the smallest keeps gives it alone
    net = small_space().net
    space = SearchSpace(net, [Budget(limit=net.cost(net.smallest()).macs.exact)])
    (trial,) = searched(space, "evolution", 20)
    assert trial.widths == net.smallest()


def test_the_space_of_a_net_is_what_its_supernet_chooses():
    space = SearchSpace(gfx.supernet(small_net(), torch.zeros(1, 3, 8, 8), widths=[4, 8, 16]))
    assert space.counts == (3,) * 6
    assert space.size == 729
    assert space.widths(space.largest) == space.net.largest()
    trials = searched(space, "random", 900)
    assert len(trials) == 729  # the space is used up


@law(8, swept=20)
@given(share=st.floats(0.1, 1.0), depth=st.integers(2, 4), most=st.integers(1, 300))
def test_the_smallest_rows_are_rows_within_the_budget_all_if_asked(share, depth, most):
    whole = small_space(depth=depth, step=4)
    least, top = whole.price([whole.smallest, whole.largest])["exact"]
    limits = [Budget(limit=float(max(share * top, least)))]
    space = SearchSpace(whole.net, [*limits, Budget(measure="params", limit=3000.0)])
    every = np.indices(space.counts).reshape(depth, -1).T
    within = {tuple(row) for row in every[space.allowed(every)].tolist()}
    found = space.smallest_rows(most)
    assert len(found) == len({*found}) == min(most, len(within))
    assert {*found} <= within


@pytest.mark.parametrize("by", ["survey", "evolution", "random"])
def test_a_budget_that_few_of_many_nets_keep_gives_all_of_them(by):
    whole = small_space(depth=14)
    least = int(whole.price([whole.smallest])["exact"][0])
    space = SearchSpace(whole.net, [Budget(limit=1.1 * least)])
    there = len(space.smallest_rows(10_000))
    assert 5 < there < 40
    assert space.size == 7**14
    trials = [trial for trial in searched(space, by, 100, population=8) if trial.allowed]
    assert len(trials) == there


def test_the_number_of_subnets_of_many_groups_is_a_number():
    space = small_space(depth=3)
    space.counts = (8,) * 400
    assert space.size == 8**400
