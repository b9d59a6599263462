"""A system's search: the net that is picked is one that was judged, and a run goes on in it."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import gfx
from gfx.errors import BudgetError, InputError, PreconditionError, RecipeError
from gfx.train.search.front_file import read_front
from gfx.train.systems import load_system
from support.training_runs import compressed, generator, pairs, state_of

WIDTHS = ["sort_channels", {"widths": {"step": 1, "min_channels": 2}}]
FIT = {"discriminator": "none", "losses": {"l1": 1}, "batch": 2, "steps": 4, "sample": "teacher"}
EXAMPLE = torch.zeros(1, 3, 8, 8)


def system(search=None, data=None, **stages):
    asked = {"by": "evolution", "evaluations": 7, "budget": {"macs": 0.5}, **(search or {})}
    return {
        "data": data or {},
        "stages": {
            "many": {"do": WIDTHS, "fit": FIT},
            "search": {"search": asked},
            **stages,
        },
    }


def run(recipe, folder, model=None, **how):
    return compressed(recipe, model, data=pairs(32), run=folder, val=0.25, **how)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    tuned = {"fit": {"like": "many", "sample": None, "steps": 3}, "keep": "if_better"}
    recipe = system(data={"search": 0.25}, tune=tuned)
    return recipe, run(recipe, folder), folder


def test_what_is_picked_is_the_best_of_the_front_within_the_budget(whole):
    _, made, folder = whole
    front = read_front(folder / "02-search")
    best = min(front.nets, key=lambda net: net.value)
    picked = gfx.load(folder / "02-search.gfx")
    given = gfx.cost(generator(), EXAMPLE).macs.exact
    assert gfx.cost(picked, EXAMPLE).macs.exact == best.prices["exact"] <= given / 2
    # the supernet's own weights at these widths
    net = gfx.supernet(folder / "01-many.gfx", EXAMPLE)
    assert state_of(net.extract(best.widths)) == state_of(picked)
    assert made.scores["search"]["l1"] == pytest.approx(best.value, rel=1e-5)
    assert [stage.name for stage in made.plan.stages] == ["given", "many", "search", "tune"]
    assert front.judged == 7
    assert front.examples == 8  # those that are held out
    assert front.searched_examples == 6  # of the 24 others
    assert any("kept for the search: 6 of 24" in said for said in made.assumed)
    assert any("stage search: " in said and "picked best" in said for said in made.assumed)
    assert (folder / "02-search" / "front.html").read_text().startswith("<!")
    names = [step.name for step in gfx.report(made.model).passes]
    assert names.count("channel_prune") == 1
    assert "gfx_supernet" not in made.model.meta


def test_a_run_that_is_stopped_in_its_search_goes_on_bit_for_bit(whole, tmp_path):
    recipe, made, _ = whole
    stops = 0
    again = run(recipe, tmp_path, time=0.0)
    while not again.finished:
        stops += 1
        assert stops < 12
        again = run(recipe, tmp_path, time=0.0 if stops < 8 else None)
    assert state_of(again.model) == state_of(made.model)
    assert again.scores == made.scores
    lines = (tmp_path / "02-search.search.jsonl").read_text().splitlines()
    rows = [tuple(each["row"]) for line in lines[1:] for each in json.loads(line)["judged"]]
    assert len({*rows}) == len(rows) == 7


def test_a_ledger_that_was_written_to_in_between_is_refused(whole, tmp_path):
    recipe, _, _ = whole
    stopped = run(recipe, tmp_path, time=0.0)
    while not (tmp_path / "01-many.json").exists():
        stopped = run(recipe, tmp_path, time=0.0)
    assert not stopped.finished
    (tmp_path / "02-search.search.jsonl").write_text('{"search": {"model": "another"}}\n')
    with pytest.raises(InputError, match="holds another search: "):
        run(recipe, tmp_path)


@pytest.mark.parametrize("by", ["survey", "random"])
def test_other_proposers_search_too_and_a_cost_picks(by, tmp_path):
    made = run(system({"by": by, "evaluations": 9, "pick": "macs=0.4"}), tmp_path)
    front = read_front(tmp_path / "02-search")
    cost = gfx.cost(made.model, EXAMPLE).macs.exact
    assert cost <= 0.4 * front.whole.prices["exact"]
    within = [n for n in front.nets if n.prices["exact"] <= 0.4 * front.whole.prices["exact"]]
    assert cost == min(within, key=lambda net: net.value).prices["exact"]


def test_norms_of_the_net_that_is_picked_have_its_own_moments(tmp_path):
    model = generator(nn.BatchNorm2d)
    made = run(system(), tmp_path, model)
    net = gfx.supernet(tmp_path / "01-many.gfx", EXAMPLE)
    front = read_front(tmp_path / "02-search")
    best = min(front.nets, key=lambda n: n.value)
    shared = net.extract(best.widths)
    norm = next(m for m in made.model.modules() if isinstance(m, nn.BatchNorm2d))
    other = next(m for m in shared.modules() if isinstance(m, nn.BatchNorm2d))
    assert not torch.allclose(norm.running_mean, other.running_mean)
    first = next(m for m in made.model.modules() if isinstance(m, nn.Conv2d))
    seen = first(pairs(32)[0]).detach()
    np.testing.assert_allclose(norm.running_mean, seen.mean((0, 2, 3)), atol=0.05)


def test_a_budget_of_the_command_holds_for_the_search(tmp_path):
    made = run(system({"budget": {"macs": 0.01}}), tmp_path, budget={"macs": 0.7}, scale=0.1)
    given = gfx.cost(generator(), EXAMPLE).macs.exact
    assert gfx.cost(made.model, EXAMPLE).macs.exact <= 0.7 * given


def test_lengths_scale_with_a_trial(tmp_path):
    made = run(system({"evaluations": 700}), tmp_path, scale=0.01)
    assert read_front(tmp_path / "02-search").judged == 7
    assert made.plan.stages[1].steps == 1


@pytest.mark.parametrize(
    ("recipe", "kind", "said"),
    [
        (
            system({"budget": {"macs": 0.01}}),
            BudgetError,
            r"^stage search: macs \(exact\): the limit is .* and the smallest subnet takes",
        ),
        (
            {"stages": {"search": {"search": {}}}},
            PreconditionError,
            "stage search: search: what the stage before it left has no widths to choose among",
        ),
        (
            {"stages": {"both": {"do": WIDTHS, "fit": FIT, "search": {}}}},
            RecipeError,
            "stage both has `fit` and `search`; a search chooses among what a fit has trained",
        ),
        (system({"by": "evolve"}), RecipeError, "stage search: search: by: "),
        (system({"score": "ssmi"}), RecipeError, "stage search: search: score: there is no"),
        (system({"evalutions": 3}), RecipeError, "unknown field 'evalutions'; did you mean"),
        (system(data={"serach": 0.2}), RecipeError, "data: unknown use 'serach'; did you mean"),
        (system(data={"search": 1.5}), RecipeError, "data: search"),
        (system(data={"search": 0.05}), InputError, "0.05 of 24 examples are 1, and a search"),
    ],
)
def test_what_cannot_be_searched_is_said_before_the_first_step(recipe, kind, said, tmp_path):
    with pytest.raises(kind, match=said):
        run(recipe, tmp_path / "run")
    assert not list((tmp_path / "run").glob("01-many.gfx"))


def test_a_search_is_written_with_every_default(whole):
    recipe, _, folder = whole
    found = load_system(recipe)
    assert load_system(found.spec()) == found
    assert "population: 100" in (folder / "recipe.yaml").read_text()
