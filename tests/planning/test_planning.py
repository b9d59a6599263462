"""gfx.planning: plans of least damage, against every plan that there is."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gfx.planning import Choice, Option, ParetoFront, knapsack, monotone, pareto


def problem(seed: int, choices: int, options: int, coupled: bool = True):
    """Makes choices, and a price where what one costs depends on the one before it."""
    rng = np.random.default_rng(seed)
    made, costs = [], []
    for i in range(choices):
        damages = np.append(0, np.sort(rng.random(options - 1) ** 3))
        costs.append(np.sort(rng.random(options))[::-1] * rng.integers(1, 20))
        made.append(Choice(str(i), tuple(Option(n, d) for n, d in enumerate(damages.tolist()))))

    def price(plans):
        each = np.stack([cost[plans[:, i]] for i, cost in enumerate(costs)], axis=1)
        before = np.roll(each, 1, axis=1) if coupled else np.ones_like(each)
        before[:, 0] = 1
        return (each * before).sum(axis=1)

    return made, price


def every(choices):
    return np.array(list(product(*(range(len(c.options)) for c in choices))))


def damage(choices, plans):
    return sum(np.array([o.damage for o in c.options])[plans[:, i]] for i, c in enumerate(choices))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 4))
def test_a_knapsack_is_optimal_at_every_budget(seed, count, options):
    choices, price = problem(seed, count, options, coupled=False)
    plans = every(choices)
    prices, damages = price(plans), damage(choices, plans)
    singles = [np.zeros((options, count), dtype=int) for _ in choices]
    for i, table in enumerate(singles):
        table[:, i] = np.arange(options)
    whole = price(np.zeros((1, count), dtype=int))[0]
    costs = [price(table) - whole for table in singles]
    found, cost, bad = knapsack([np.array([o.damage for o in c.options]) for c in choices], costs)
    assert np.allclose(price(found), cost + whole)
    for limit in np.quantile(prices, [0, 0.2, 0.5, 0.8, 1]) + 1e-9:
        assert bad[cost + whole <= limit].min() == pytest.approx(damages[prices <= limit].min())


def test_a_knapsack_of_few_states_is_near_the_optimum():
    choices, _ = problem(0, 24, 4)
    damages = [np.array([o.damage for o in c.options]) for c in choices]
    costs = [np.linspace(i + 1, 0, 4) ** 1.5 for i in range(24)]
    _, exact, least = knapsack(damages, costs, 200_000)
    _, rough, found = knapsack(damages, costs, 500)
    for limit in np.linspace(exact.min(), exact.max(), 9):
        assert found[rough <= limit].min() <= 1.03 * least[exact <= limit].min() + 1e-3


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 4))
def test_the_frontier_of_a_small_problem_is_optimal(seed, count, options):
    choices, price = problem(seed, count, options)
    plans = every(choices)
    prices, damages = price(plans), damage(choices, plans)
    found = ParetoFront(choices, price)
    for limit in np.quantile(prices, [0, 0.2, 0.5, 0.8, 1]) + 1e-9:
        best = np.array([found.best([limit])])
        assert price(best)[0] <= limit
        assert damage(choices, best)[0] == pytest.approx(damages[prices <= limit].min())


@pytest.mark.parametrize("seed", range(6))
def test_the_search_of_a_large_problem_comes_near_the_optimum(seed, monkeypatch):
    choices, price = problem(seed, 8, 4)
    plans = every(choices)
    prices, damages = price(plans), damage(choices, plans)
    monkeypatch.setattr(pareto, "_ALL", 0)
    found = ParetoFront(choices, price)
    assert len(np.unique(found.plans, axis=0)) < len(plans) / 4
    for share in (0.2, 0.4, 0.6, 0.8):
        limit = prices.min() + share * (prices.max() - prices.min())
        best = np.array([found.best([limit])])
        assert price(best)[0] <= limit
        assert damage(choices, best)[0] <= 1.02 * damages[prices <= limit].min()


def test_more_budget_never_gives_more_damage():
    for count in (4, 24):
        choices, price = problem(3, count, 4)
        found = ParetoFront(choices, price)
        limits = np.linspace(float(found.least()[0]), found.prices.max(), 200)
        best = [damage(choices, np.array([found.best([limit])]))[0] for limit in limits]
        assert all(a >= b for a, b in pairwise(best))
        assert best[-1] == 0


def test_a_limit_below_everything_has_no_plan():
    choices, price = problem(0, 3, 3)
    found = ParetoFront(choices, price)
    assert found.best([float(found.least()[0]) * 0.99]) is None


def test_every_limit_of_several_is_kept():
    choices, price = problem(1, 4, 4)
    plans = every(choices)
    other = np.random.default_rng(0).random((4, 4))

    def both(table):
        return np.stack([price(table), other[np.arange(4), table].sum(axis=1)], axis=1)

    prices, damages = both(plans), damage(choices, plans)
    limits = prices.min(axis=0) + 0.6 * (prices.max(axis=0) - prices.min(axis=0))
    best = np.array([ParetoFront(choices, both).best(limits)])
    assert (both(best)[0] <= limits).all()
    assert damage(choices, best)[0] == damages[(prices <= limits).all(axis=1)].min()


def test_a_dearer_option_that_is_no_better_goes():
    options = [(None, 0.0), (3, 0.1), (2, 0.3), (1, 0.2), (9, 0.05)]
    costs = np.array([10.0, 8.0, 6.0, 4.0, 12.0])
    (left,) = monotone(
        [Choice("conv", tuple(Option(*o) for o in options))], lambda plans: costs[plans]
    )
    assert [o.value for o in left.options] == [None, 3, 1]


def test_the_curve_falls():
    choices, price = problem(2, 5, 3)
    curve = ParetoFront(choices, price).curve()
    assert all(a[0] < b[0] and a[1] > b[1] for a, b in pairwise(curve))
    assert curve[-1][1] == 0


def test_no_choices_are_one_plan():
    found = ParetoFront([], lambda plans: np.full(len(plans), 7.0))
    assert found.best([7.0]) == ()
    assert found.best([6.0]) is None


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 8), st.sampled_from([1e-16, 1e-14, 1e-12]))
def test_a_search_ends_where_prices_of_one_plan_differ_by_rounding(seed, count, rounding):
    """A sum may come out differently at another place of a table."""
    choices, exact = problem(seed, count, 4)
    calls = iter(range(count * 4 * 60))

    def price(plans):
        next(calls)  # ends, with an error, where a search does not
        return exact(plans) * (1 - rounding * (np.arange(len(plans)) % 7))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pareto, "_ALL", 0)
        found = ParetoFront(choices, price)
    everything = exact(every(choices)) if count <= 6 else exact(found.plans)
    assert found.least()[0] == pytest.approx(everything.min(), rel=0.2)


def test_changes_without_damage_or_saving_do_not_keep_a_search_going(monkeypatch):
    monkeypatch.setattr(pareto, "_ALL", 0)
    options = (Option(None, 0.0), Option(1, 0.0), Option(2, 0.0))
    choices = [Choice(str(number), options) for number in range(6)]
    calls = iter(range(500))

    def price(plans):
        next(calls)
        return 100.0 - 1e-13 * np.arange(len(plans)) % 3 + 0 * plans.sum(axis=1)

    assert ParetoFront(choices, price).damages.max() == 0
