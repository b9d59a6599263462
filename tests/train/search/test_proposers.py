"""Proposers stay within the budgets and their seed; the survey finds more than the others."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import gfx
from gfx.errors import InputError
from gfx.train.search import optuna_proposers
from gfx.train.search.damage_model import DamageModel
from support.search_cases import FormulaJudge, searched, share_of_front, small_space

ALL = ("survey", "evolution", "nsga2", "tpe", "random")


@pytest.fixture(scope="module")
def space():
    return small_space(0.4)


@pytest.mark.parametrize("by", ALL)
def test_as_many_distinct_nets_as_asked_for_are_judged_within_the_budget(space, by):
    judge = FormulaJudge(space)
    trials = searched(space, by, judge=judge, population=16)
    assert len(trials) == len({trial.row for trial in trials}) == len(judge.judged) == 40
    beyond = [trial for trial in trials if not trial.allowed]
    if by == "survey":  # it learns from each choice alone, the others whole
        whole = [sum(n < c - 1 for n, c in zip(t.row, space.counts, strict=True)) for t in beyond]
        assert max(whole) <= 1
    else:
        assert not beyond
    for trial in trials[::8]:
        cost = space.net.cost(trial.widths)
        assert trial.prices["exact"] == cost.macs.exact
        assert trial.prices["params"] == cost.params
        small = gfx.cost(space.net.extract(trial.widths), torch.zeros(1, 3, 8, 8))
        assert trial.prices["exact"] == small.macs.exact
        assert trial.allowed == (small.macs.exact <= space.budgets[0].limit)


@pytest.mark.parametrize("by", ALL)
def test_a_search_is_a_function_of_its_seed(space, by):
    one, again = (searched(space, by, seed=3, population=16) for _ in range(2))
    assert [trial.row for trial in one] == [trial.row for trial in again]
    other = searched(space, by, seed=4, population=16)
    assert [trial.row for trial in one] != [trial.row for trial in other]


def test_the_survey_finds_more_of_the_front_than_evolution_with_five_times_the_nets(space):
    share = {
        (by, count): [
            share_of_front(
                space,
                FormulaJudge(space, seed=seed),
                searched(space, by, count, seed, FormulaJudge(space, 0.1, seed), population=50),
            )
            for seed in range(5)
        ]
        for by, count in (("survey", 60), ("evolution", 300), ("random", 60))
    }
    found = {key: float(np.mean(values)) for key, values in share.items()}
    assert found["survey", 60] > found["evolution", 300] > found["random", 60]


def test_a_model_of_sums_predicts_what_is_a_sum_of_choices():
    rng = np.random.default_rng(0)
    counts = (5, 5, 3, 9)
    rows = rng.integers(0, counts, (60, 4))
    slopes = np.array([1.0, 0.1, 2.0, 0.5])
    for power in (1.0, 0.5):
        damage = ((1 - rows / (np.array(counts) - 1)) * slopes).sum(1) ** power
        model = DamageModel(counts, rows[:40], 3.0 + damage[:40])
        error = np.abs(model.predict(rows[40:]) - 3.0 - damage[40:])
        assert np.median(error) < 0.03 * damage.max()
        assert error.max() < 0.2 * damage.max()


def test_without_optuna_three_proposers_search_and_two_name_the_extra(space, monkeypatch):
    for module in (optuna_proposers,):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    for by in ("survey", "evolution", "random"):
        assert len(searched(space, by, 30, population=10)) == 30
    for by in ("nsga2", "tpe"):
        with pytest.raises(InputError, match=rf"by: {by} needs Optuna, .*gfx-compiler\[search\]"):
            searched(space, by)


@pytest.mark.parametrize("by", ALL)
def test_values_that_are_no_numbers_stop_no_search(space, by):
    class Blind(FormulaJudge):
        def judge(self, nets, examples=None):
            found = super().judge(nets, examples)
            last = [self.space.row(widths)[-1] for widths in nets]
            return [
                replace(f, value=np.nan) if n == 2 else f for f, n in zip(found, last, strict=True)
            ]

    judge = Blind(space)
    trials = searched(space, by, 48, judge=judge, population=12, halving=2)
    assert len(trials) == len({trial.row for trial in trials}) == 48
    assert 0 < sum(trial.known for trial in trials) < 48
