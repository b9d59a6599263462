"""The importance `reconstruction` against least squares, and the scope `knapsack`."""

import itertools

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor, nn

import gfx
from gfx.compression.importance import rank
from gfx.costs import cost_of
from gfx.errors import RecipeError
from gfx.planning.channel_order import by_gain


def linear(width: int, outputs: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, width), nn.Tanh(), nn.Linear(width, outputs, bias=False)
    ).double()  # fmt: skip


def scored(model: nn.Module, x: Tensor, **options):
    groups = gfx.channels(gfx.trace(model, (x[:1],)))
    return rank(groups, groups.free, "reconstruction", data=[x], batches=1, **options)


def left_over(model: nn.Module, x: Tensor, gone: list[int]) -> float:
    """The relative square error of the best reader of the channels that stay."""
    with torch.no_grad():
        h, y = model[:2](x), model(x)
        stay = [c for c in range(h.shape[1]) if c not in gone]
        best = torch.linalg.lstsq(h[:, stay], y).solution
        return float((h[:, stay] @ best - y).square().sum() / y.square().sum())


def test_scores_add_up_to_the_error_that_least_squares_leaves() -> None:
    model, x = linear(8), torch.randn(500, 6, dtype=torch.float64)
    (scores,) = scored(model, x).values()
    order = scores.argsort().tolist()
    for count in range(1, 8):
        told = float((scores[order[:count]] ** 2).sum())
        assert told == pytest.approx(
            left_over(model, x, order[:count]), rel=0.05, abs=3e-3
        )  # the ridge


def test_each_channel_goes_that_raises_the_error_least() -> None:
    model, x = linear(6), torch.randn(500, 6, dtype=torch.float64)
    (scores,) = scored(model, x).values()
    gone: list[int] = []
    for channel in scores.argsort().tolist()[:4]:
        errors = {c: left_over(model, x, [*gone, c]) for c in range(6) if c not in gone}
        assert errors[channel] <= min(errors.values()) * 1.05 + 1e-6
        gone.append(channel)


def test_a_copy_of_a_channel_costs_nothing() -> None:
    model, x = linear(8), torch.randn(200, 6, dtype=torch.float64)
    with torch.no_grad():
        model[0].weight[3], model[0].bias[3] = model[0].weight[5], model[0].bias[5]
    (scores,) = scored(model, x).values()
    assert scores.argmin() in (3, 5)
    assert scores.min() < 0.1 * np.median(scores)  # the ridge is all that it costs


def test_outputs_count_by_what_they_matter_in_the_end() -> None:
    model, x = linear(8, outputs=2), torch.randn(400, 6, dtype=torch.float64)
    with torch.no_grad():  # one output is read by nothing, and was the larger by far
        model[2].weight[0] *= 100
    head = nn.Linear(2, 1, bias=False).double()
    head.weight.data = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    alone = nn.Sequential(model[0], model[1], nn.Linear(8, 1, bias=False)).double()
    alone[2].weight.data = model[2].weight.data[1:]
    groups = gfx.channels(gfx.trace(nn.Sequential(*model, head), (x[:1],)))
    found = rank(groups, groups.free[:1], "reconstruction", data=[x], batches=1)
    (want,) = scored(alone, x).values()
    assert_allclose(found[groups.free[0].name], want, rtol=1e-6)


def test_positions_of_one_channel_go_together() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Tanh(), nn.Flatten(), nn.Linear(20, 4)).double()
    x = torch.randn(200, 3, 2, 2, dtype=torch.float64)
    with torch.no_grad():
        model[0].weight[1], model[0].bias[1] = model[0].weight[4], model[0].bias[4]
    (scores,) = scored(model, x).values()
    assert scores.shape == (5,)
    assert scores.argmin() in (1, 4)


def chain(*widths: int) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise((3, *widths, 3))]
    return nn.Sequential(*layers).eval()


def narrowed(model: nn.Module, **fields) -> nn.Module:
    recipe = {"budget": {"macs": 0.5}, "passes": [{"channel_prune": fields}]}
    return gfx.apply(recipe, model, example_inputs=(torch.zeros(1, 3, 8, 8),))


def test_a_knapsack_meets_the_budget() -> None:
    model = chain(16, 32, 16)
    small = narrowed(model, scope="knapsack", importance="reconstruction")
    x = (torch.zeros(1, 3, 8, 8),)
    share = gfx.cost(small, x).macs.exact / gfx.cost(model, x).macs.exact
    assert 0.49 < share <= 0.5


def test_a_knapsack_takes_what_saves_most_where_nothing_else_tells() -> None:
    # of two groups with losses that are alike, the channels of the first cost three times as much
    order = by_gain(
        [np.ones(4), np.ones(4)], np.array([4, 4]), lambda kept: (kept @ [[3.0], [1.0]]) / 16
    )
    assert order.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_a_knapsack_prices_anew_what_the_channels_before_left() -> None:
    # MACs are the product: the first channel to go makes the others of its group save more
    losses = [np.array([1.0, 1.1, 1.2]), np.array([1.05, 1.1, 1.15])]
    order = by_gain(losses, np.array([4, 4]), lambda kept: kept.prod(axis=1, keepdims=True) / 16)
    assert order.tolist() == [0, 0, 0, 1, 1, 1]
    apart = by_gain(losses, np.array([4, 4]), lambda kept: kept.sum(axis=1, keepdims=True) / 8)
    assert apart.tolist() == [0, 1, 0, 1, 1, 0]


def test_what_saves_nothing_goes_last() -> None:
    for shares in ([[0.0], [1.0]], [[0.0], [0.0]]):
        order = by_gain(
            [np.zeros(2), np.ones(2)],
            np.array([2, 2]),
            lambda kept, shares=shares: kept @ np.array(shares),
        )
        assert order.tolist() == ([1, 1, 0, 0] if any(map(any, shares)) else [0, 0, 1, 1])


def test_a_knapsack_without_a_budget_is_an_error() -> None:
    model, x = chain(4, 4), torch.zeros(1, 3, 8, 8)
    recipe = {"passes": [{"channel_prune": {"scope": "knapsack", "ratio": 0.5}}]}
    with pytest.raises(RecipeError, match="scope=knapsack weighs channels by what they save of a"):
        gfx.apply(recipe, model, x)


def test_a_knapsack_beats_the_same_share_of_every_group() -> None:
    torch.manual_seed(0)
    model = chain(32, 32, 32, 32)
    with torch.no_grad():  # the second and third could do with four channels
        for conv in (model[1], model[2]):
            conv.weight[4:] *= 0.05
            conv.bias[4:] = 0
    x = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))

    def error(scope: str) -> float:
        with torch.no_grad():
            small = narrowed(model, scope=scope, importance="taylor")
            return float((small(x) - model(x)).norm() / model(x).norm())

    assert error("knapsack") < 0.7 * error("local")


def test_several_budgets_count_together() -> None:
    model, x = chain(16, 32, 16), (torch.zeros(1, 3, 8, 8),)
    before = cost_of(gfx.trace(model, x))
    recipe = {
        "budget": {"macs": 0.5, "params": 0.4},
        "passes": [{"channel_prune": {"scope": "knapsack", "importance": "taylor"}}],
    }
    after = gfx.cost(gfx.apply(recipe, model, example_inputs=x), x)
    assert after.macs.exact <= 0.5 * before.macs.exact
    assert after.params <= 0.4 * before.params
