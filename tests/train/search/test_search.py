"""A search judges as many nets as asked for, within the budgets, and none twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gfx
from gfx.costs import Budget
from gfx.errors import ArchiveError, BudgetError, InputError, RecipeError
from gfx.train.search import optuna_proposers, survey_proposer
from gfx.train.search.damage_model import DamageModel
from gfx.train.search.ledger import FileLedger, MemoryLedger
from gfx.train.search.run_search import run_search
from gfx.train.search.search_fields import Search, read_search
from gfx.train.search.search_space import SearchSpace
from support.laws import law
from support.search_cases import FormulaJudge, share_of_front, small_net, small_space
from support.zoo_small import SMALL, small

ROOT = Path(__file__).parents[3]
ALL = ("survey", "evolution", "nsga2", "tpe", "random")


@pytest.fixture(scope="module")
def space():
    return small_space(0.4)


def searched(space, by="survey", count=40, seed=0, judge=None, ledger=None, **fields):
    judge = FormulaJudge(space) if judge is None else judge
    asked = Search(by=by, evaluations=count, **fields)
    ledger = MemoryLedger(count) if ledger is None else ledger
    return run_search(space, judge, asked, ledger, seed=seed)


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


class Stops(FormulaJudge):
    """Is interrupted after some nets."""

    def judge(self, nets, examples=None):
        if len(self.judged) >= 13:
            raise KeyboardInterrupt
        return super().judge(nets, examples)


def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(space, tmp_path):
    whole = searched(space, judge=FormulaJudge(space, 0.1))
    path, identity = tmp_path / "search.jsonl", {"score": "l1", "seed": 0}

    judged = 0
    for _ in range(9):
        judge = Stops(space, 0.1)
        ledger = FileLedger(path, identity, 40)
        try:
            trials = searched(space, judge=judge, ledger=ledger)
            break
        except KeyboardInterrupt:
            judged += len(judge.judged)
            ledger.close()
            with path.open("ab") as file:  # the line that was being written
                file.write(b'{"row": [1, 2')
    assert [(t.row, t.judgement) for t in trials] == [(t.row, t.judgement) for t in whole]
    assert judged + len(judge.judged) == 40
    ledger.close()
    more = FileLedger(path, identity, 50)  # the same search may be longer
    assert len(searched(space, count=50, ledger=more, judge=FormulaJudge(space, 0.1))) == 50
    more.close()


@pytest.mark.parametrize("halving", [2, 4])
def test_halving_judges_the_best_of_a_batch_on_all_examples(space, halving):
    class Counts(FormulaJudge):
        seen = 0

        def judge(self, nets, examples=None):
            self.seen += len(nets) * examples
            return super().judge(nets, examples)

    judge = Counts(space, 0.5)
    trials = searched(space, "evolution", 64, judge=judge, halving=halving, population=16)
    assert len(trials) == 64
    assert judge.seen < 0.7 * 64 * 64
    whole = [trial for trial in trials if trial.judgement.examples == 64]
    assert 0 < len(whole) < 40
    best = min(trials, key=lambda trial: trial.loss)
    assert best.judgement.examples == 64 or len(whole) < len(trials)


def test_time_that_is_over_leaves_what_was_judged(space):
    trials = run_search(
        space, FormulaJudge(space), Search(evaluations=40), MemoryLedger(40), deadline=0.0
    )
    assert trials == []


def started(storage, count, log):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    worker = ROOT / "tests" / "support" / "search_worker.py"
    return subprocess.Popen(
        [sys.executable, worker, storage, str(count), log],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes")
def test_workers_that_are_killed_lose_nothing_and_no_net_is_judged_twice(tmp_path):
    optuna = pytest.importorskip("optuna")
    storage, count = f"journal:{tmp_path / 'search.log'}", 60
    workers = [started(storage, count, tmp_path / f"{n}.txt") for n in range(4)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    time.sleep(0.5)
    for worker in workers[:2]:
        worker.send_signal(signal.SIGKILL)
    workers.append(started(storage, count, tmp_path / "4.txt"))
    for worker in workers[2:]:
        said = worker.communicate(timeout=120)[0]
        assert worker.returncode == 0, said
    for worker in workers[:2]:  # until now zombies, which still have a number
        worker.communicate()
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "search.log"))
    study = optuna.load_study(study_name="gfx", storage=optuna.storages.JournalStorage(backend))
    done = [t for t in study.trials if t.state.name == "COMPLETE"]
    rows = [tuple(t.user_attrs["gfx:row"]) for t in done]
    assert len(rows) == len({*rows}) == count
    assert not [t for t in study.trials if t.state.name == "RUNNING"]
    by = {t.user_attrs["gfx:trial"]["worker"] for t in done}
    assert len(by) >= 3  # what the killed ones had judged counts
    assert [(tmp_path / f"{n}.txt").read_text() for n in (2, 3, 4)] == [str(count)] * 3


def test_a_shared_storage_has_the_search_of_one_process_and_goes_on(space, tmp_path):
    pytest.importorskip("optuna")
    from gfx.train.search.optuna_ledger import OptunaLedger

    alone = searched(space, "evolution", 24, population=8)
    for storage in (f"journal:{tmp_path / 'a.log'}", f"sqlite:///{tmp_path / 'a.db'}"):
        ledger = OptunaLedger(storage, {"score": "l1"}, space, 24)
        with pytest.raises(KeyboardInterrupt):
            searched(space, "evolution", 24, population=8, ledger=ledger, judge=Stops(space))
        ledger.close()
        ledger = OptunaLedger(storage, {"score": "l1"}, space, 24)
        trials = searched(space, "evolution", 24, population=8, ledger=ledger)
        ledger.close()
        assert [(t.row, t.judgement) for t in trials] == [(t.row, t.judgement) for t in alone]
        with pytest.raises(
            InputError, match=r'another search: score: there "l1", here "psnr"; give'
        ):
            OptunaLedger(storage, {"score": "psnr"}, space, 24)


def test_a_storage_that_cannot_be_reached_is_named(space, tmp_path):
    pytest.importorskip("optuna")
    from gfx.train.search.optuna_ledger import OptunaLedger

    for storage in ("sqlite:////nowhere/at/all.db", "mysql://nobody@localhost:1/x"):
        with pytest.raises(InputError, match=r"the storage .* cannot be reached: .*give journal:"):
            OptunaLedger(storage, {}, space, 3)
    (tmp_path / "broken.log").write_text("no journal\n")
    with pytest.raises(InputError, match="cannot be reached"):
        OptunaLedger(f"journal:{tmp_path / 'broken.log'}", {}, space, 3)


def test_a_ledger_of_another_search_or_none_is_refused(space, tmp_path):
    path = tmp_path / "search.jsonl"
    FileLedger(path, {"score": "l1", "seed": 0}, 4).close()
    with pytest.raises(
        InputError, match="seed: there 0, here 1; give another storage, or the same"
    ):
        FileLedger(path, {"score": "l1", "seed": 1}, 4)
    for text in ('{"other": 1}\n', "{\n", '{"search": {}}\n{"row": 3}\n'):
        path.write_text(text)
        with pytest.raises((ArchiveError, InputError), match=r"search\.jsonl"):
            FileLedger(path, {}, 4)


def test_without_optuna_three_proposers_search_and_two_name_the_extra(space, monkeypatch):
    for module in (optuna_proposers, survey_proposer):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    for by in ("survey", "evolution", "random"):
        assert len(searched(space, by, 30, population=10)) == 30
    for by in ("nsga2", "tpe"):
        with pytest.raises(InputError, match=rf"by: {by} needs Optuna, .*gfx-compiler\[search\]"):
            searched(space, by)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"by": "evolutoin"}, "search: by: "),
        ({"evaluation": 5}, "unknown field 'evaluation'; did you mean 'evaluations'"),
        ({"evaluations": 0}, "search: evaluations"),
        ({"score": "fid"}, "search: score: metric 'fid': FID is"),
        ({"budget": {"mac": 0.1}}, "search: budget: unknown measure 'mac'"),
        ({"pick": "smallest"}, "search: pick: 'smallest' says no net; give best, a cost as"),
        ({"parents": 0}, "search: parents"),
        ({"halving": 1}, "search: halving"),
        (7, "search: a mapping is expected"),
    ],
)
def test_what_a_search_cannot_be_is_said(given, said):
    with pytest.raises(RecipeError, match=said):
        read_search(given)


def test_a_search_is_written_with_its_defaults():
    asked = read_search({"by": "evolution", "budget": {"macs": "2.67G"}, "pick": "macs=2.5G"})
    assert read_search(json.loads(json.dumps(asked.spec()))) == asked
    assert read_search("random").by == "random"


def test_the_space_of_a_net_is_what_its_supernet_chooses():
    space = SearchSpace(gfx.supernet(small_net(), torch.zeros(1, 3, 8, 8), widths=[4, 8, 16]))
    assert space.counts == (3,) * 6
    assert space.size == 729
    assert space.widths(space.largest) == space.net.largest()
    trials = searched(space, "random", 900)
    assert len(trials) == 729  # the space is used up
