"""A search among forms and skipped blocks: exact prices, budgets, judges that share, a front."""

import os

import numpy as np
import pytest
import torch
from torch import nn

import gfx
from gfx.costs import Budget
from gfx.errors import BudgetError, InputError
from gfx.ir.execute import distance
from gfx.train import tasks
from gfx.train.search.front_file import read_front
from gfx.train.search.judged_examples import JudgedExamples
from gfx.train.search.ledger import read_trial, search_identity, written_trial
from gfx.train.search.refit_judge import RefitJudge
from gfx.train.search.search_fields import Search
from gfx.train.search.search_space import SearchSpace
from gfx.train.search.supernet_judge import SupernetJudge
from support.search_cases import FormulaJudge, searched
from support.training_runs import Residual, compressed, pairs, state_of
from support.zoo_small import SMALL, small

MEASURES = {
    "exact": lambda cost: cost.macs.exact,
    "output_norm": lambda cost: cost.macs.output_norm,
    "params": lambda cost: cost.params,
    "param_bytes": lambda cost: cost.param_bytes,
    "peak_activation_bytes": lambda cost: cost.peak_activation_bytes,
}


def net_of(name, forms="separable", values=(0.5, 1.0)):
    model, inputs = small(name)
    widths = {"values": {"*": list(values)}, "min_channels": 2}
    return gfx.supernet(
        model, inputs, widths=widths, forms=forms, skip=True, order=None, verify=False
    )


@pytest.fixture(scope="module")
def resnet():
    model = gfx.zoo.build("resnet_9blocks", ngf=4, n_blocks=3, image_size=16).eval()
    fields = {"widths": {"step": 4}, "forms": ["blocks.*", "up.*"], "skip": True}
    return gfx.supernet(model, torch.zeros(1, 3, 16, 16), order=None, verify=False, **fields)


@pytest.mark.parametrize("name", [n for n in SMALL if n != "spade" or os.environ.get("GFX_SLOW")])
def test_prices_of_rows_are_costs_of_the_extracted_nets(name):
    net = net_of(name)
    space = SearchSpace(net)
    rows = space.draw(np.random.default_rng(0), 4)
    prices, same = space.price(rows), space.price(space.canonical(rows))
    for number, row in enumerate(rows.tolist()):
        cost = gfx.cost(net.extract(space.widths(row)), net.program.example_inputs)
        for measure, of in MEASURES.items():
            assert prices[measure][number] == same[measure][number] == of(cost), measure
        assert space.row(space.widths(row)) == tuple(row)


def test_rows_that_differ_in_what_is_skipped_are_one_subnet(resnet):
    space = SearchSpace(resnet)
    row = list(space.largest)
    row[space.names.index("blocks.1.skip")] = 0
    inside = [n for n, name in enumerate(space.names) if name.startswith("blocks.1.conv")]
    assert len(inside) == 3  # widths of one group, forms of two layers
    found = set()
    for number in inside:
        for choice in range(space.counts[number]):
            other = list(row)
            other[number] = choice
            found.add(tuple(space.canonical([other])[0].tolist()))
    assert len(found) == 1
    one, other = (resnet.extract(space.widths(r)) for r in (row, found.pop()))
    assert state_of(one) == state_of(other)
    assert space.canonical([space.largest]).tolist() == [list(space.largest)]
    assert space.canonical([]).shape == (0, len(space.counts))


@pytest.mark.parametrize("by", ["survey", "evolution", "nsga2", "tpe", "random"])
def test_every_proposer_finds_distinct_subnets_within_the_budget(resnet, by):
    limit = Budget(limit=0.75 * resnet.cost().macs.exact)
    space = SearchSpace(resnet, [limit])
    trials = searched(space, by, 40, population=16)
    assert len(trials) == 40
    canonical = {tuple(space.canonical([trial.row])[0].tolist()) for trial in trials}
    assert len(canonical) == 40
    for trial in trials[::5]:
        cost = gfx.cost(resnet.extract(trial.widths), resnet.program.example_inputs)
        assert trial.prices["exact"] == cost.macs.exact
        assert trial.allowed == (cost.macs.exact <= limit.limit)
        if not trial.allowed:
            assert by == "survey"
    assert {t.widths["blocks.0.skip"] for t in trials} == {"skipped", "kept"}
    assert {t.widths["up.0.conv.form"] for t in trials} == {"separable", "dense"}


def test_a_budget_of_memory_is_kept_where_a_form_takes_more(resnet):
    # a separable transposed convolution holds its input's channels at twice the size
    measure = "peak_activation_bytes"
    least = min(resnet.price([resnet.smallest(), {**resnet.smallest(), **dense(resnet)}])[measure])
    space = SearchSpace(resnet, [Budget(measure=measure, limit=float(least))])
    rows = space.draw(np.random.default_rng(0), 20)
    assert (space.price(rows)[measure] <= least).all()
    small = resnet.smallest()
    place = resnet.pricing.peak_place(resnet._runner.rows([small]))
    assert place in {node.name for node in resnet.extract(small).graph.nodes}
    with pytest.raises(BudgetError, match="the smallest subnet takes"):
        SearchSpace(resnet, [Budget(measure=measure, limit=float(least) / 4)])


def dense(net):
    return {name: "dense" for name, options in net.options.items() if "dense" in options}


def test_a_space_that_is_used_up_gives_every_subnet_once():
    class Few(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.tail = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1)
            self.body = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(16, 8, 1))

        def forward(self, x):
            x = self.stem(x)
            return self.tail(x + self.body(x))

    x = torch.zeros(1, 3, 8, 8)
    net = gfx.supernet(Few(), x, widths=[0.5, 1.0], forms=["body.0"], skip=True)
    space = SearchSpace(net)
    assert space.size == 16
    for by in ("random", "evolution", "survey"):
        trials = searched(space, by, 60, population=4)
        assert len(trials) == 10  # 2 widths, times: skipped, or 2 widths in 2 forms


@pytest.mark.parametrize("name", [n for n in SMALL if n not in ("spade", "unet_256")])
def test_judges_that_share_find_what_is_found_one_by_one(name):
    net = net_of(name)
    given = net.program.example_inputs
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        drawn = [
            x.expand(6, *x.shape[1:])
            if not x.is_floating_point()
            else torch.rand(6, *x.shape[1:]) * 2 - 1
            for x in given
        ]
    rows = [tuple(x[i] for x in drawn) for i in range(6)]
    on = JudgedExamples.of(tasks.inputs([r if len(r) > 1 else r[0] for r in rows]), most=6)
    shared, alone = (SupernetJudge(net, on, share=share) for share in (True, False))
    nets = [net.largest(), net.smallest(), *(net.sample(1, step) for step in range(4))]
    found = shared.judge(nets)
    assert found == alone.judge(nets)
    assert len({said.value for said in found}) > 1
    ran = shared.prefixes.ran
    for each, said in zip(nets[:3], found, strict=False):
        made = shared.deliver(each).eval()
        with torch.no_grad():
            images = torch.cat([on.unit(on.task.generate(made, batch)) for batch in on.batches])
            mine = torch.cat([shared.images(each, batch) for batch in on.batches])
        assert distance(images, mine) <= 1e-5
        assert said.examples == 6
    assert ran < len(nets) * len(shared.prefixes.nodes) * len(on.batches) * 2


def test_a_trial_holds_its_forms_and_a_search_its_choices(resnet):
    space = SearchSpace(resnet)
    trial = searched(space, "random", 3)[1]
    again = read_trial(written_trial(trial))
    assert (again.row, again.widths) == (trial.row, trial.widths)
    identity = search_identity(space, FormulaJudge(space), Search(), 0)
    assert identity["widths"]["blocks.0.skip"] == ["skipped", "kept"]


def test_nets_that_nobody_trains_have_no_other_forms(resnet):
    on = JudgedExamples.of(tasks.inputs(torch.randn(8, 3, 16, 16)), most=4)
    with pytest.raises(InputError, match=r"blocks\.0\.conv1\.form is a choice of another"):
        RefitJudge(resnet, on, on.batches)


@pytest.mark.parametrize("sample", ["teacher", "sandwich"])
def test_a_system_trains_and_searches_forms(sample, tmp_path):
    widths = {"step": 2, "min_channels": 2, "forms": ["block.*"], "skip": True}
    fit = {"discriminator": "none", "losses": {"l1": 1}, "batch": 2, "steps": 4, "sample": sample}
    asked = {"by": "evolution", "evaluations": 9, "budget": {"macs": 0.6}, "population": 5}
    recipe = {
        "stages": {
            "many": {"do": ["sort_channels", {"widths": widths}], "fit": fit},
            "search": {"search": asked},
        }
    }
    made = compressed(
        recipe, Residual(nn.BatchNorm2d(8), nn.ReLU()), data=pairs(32), run=tmp_path, val=0.25
    )
    front = read_front(tmp_path / "02-search")
    best = min(front.nets, key=lambda net: net.value)
    picked = gfx.load(tmp_path / "02-search.gfx")
    x = torch.zeros(1, 3, 8, 8)
    assert best.widths["block.skip"] in ("skipped", "kept")
    assert gfx.cost(picked, x).macs.exact == best.prices["exact"]
    net = gfx.supernet(tmp_path / "01-many.gfx", x)
    assert list(net.options) == ["block.0.form", "block.3.form", "block.skip"]
    mine, whole = net.extract(best.widths).state_dict(), picked.state_dict()
    norms = [n for n in mine if "running" in n or "num_batches" in n]
    assert all(torch.equal(mine[n], whole[n]) for n in mine if n not in norms)
    assert made.scores["search"]["l1"] == pytest.approx(best.value, rel=1e-5)
    assert "gfx_supernet" not in made.model.meta
    page = (tmp_path / "02-search" / "front.html").read_text()
    assert "block.skip" in page
