"""A search judges as many nets as asked for, and goes on where it stopped."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfx.errors import ArchiveError
from gfx.progress.deadline import time_limit
from gfx.train.search.ledger import FileLedger, MemoryLedger
from gfx.train.search.run_search import run_search
from gfx.train.search.search_fields import Search
from support.laws import law
from support.search_cases import FormulaJudge, Stops, searched, small_space


@pytest.fixture(scope="module")
def space():
    return small_space(0.4)


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


@pytest.fixture(scope="module")
def written(space, tmp_path_factory):
    path = tmp_path_factory.mktemp("search") / "whole.jsonl"
    ledger = FileLedger(path, {"seed": 0}, 40)
    fields = {"by": "evolution", "population": 12, "halving": 2}
    trials = searched(space, judge=FormulaJudge(space, 0.5), ledger=ledger, **fields)
    ledger.close()
    return path.read_bytes(), trials, fields


@law(8, swept=20)
@given(cut=st.floats(0, 1), bit=st.none() | st.integers(0, 7))
def test_a_search_whose_file_was_cut_or_spoilt_goes_on_as_if_it_had_not_been(
    space, written, tmp_path_factory, cut, bit
):
    data, whole, fields = written
    path = tmp_path_factory.mktemp("search") / "cut.jsonl"
    first = data.index(b"\n") + 1
    at = min(first + int(cut * (len(data) - first)), len(data) - 1)
    spoilt = bytearray(data)
    spoilt[at] ^= 0 if bit is None else 1 << bit
    path.write_bytes(data[: int(cut * len(data))] if bit is None else spoilt)
    ledger = FileLedger(path, {"seed": 0}, 40)
    known = len(ledger.trials())
    judge = FormulaJudge(space, 0.5)
    trials = searched(space, judge=judge, ledger=ledger, **fields)
    ledger.close()
    assert [(t.number, t.row, t.judgement) for t in trials] == [
        (t.number, t.row, t.judgement) for t in whole
    ]
    assert len({*judge.judged}) == 40 - known
    assert path.read_bytes() == data


def test_a_file_whose_first_line_is_spoilt_is_refused(written, tmp_path):
    data, path = written[0], tmp_path / "spoilt.jsonl"
    path.write_bytes(data.replace(b'"seal": "', b'"seal": "0', 1))
    with pytest.raises(ArchiveError, match=r"its first line is not what a search wrote; give anot"):
        FileLedger(path, {"seed": 0}, 40)
    assert b'"seal": "0' in path.read_bytes()


def test_what_did_not_go_on_is_moved_to_what_all_examples_say(space):
    class Drifts(FormulaJudge):
        def judge(self, nets, examples=None):
            found = super().judge(nets, examples)
            return [replace(f, value=f.value + 5 / f.examples) for f in found]

    for trial in searched(space, "random", judge=Drifts(space), halving=2):
        assert trial.judgement.value == pytest.approx(
            0.1 + 5 / 64 + Drifts(space).damage(trial.row)
        )


def test_a_limit_of_time_says_what_it_cut_short(space):
    with time_limit(1e-9) as deadline:
        trials = searched(space)
    assert trials == []
    (note,) = deadline.notes
    assert "the best so far: the search, after 0 of 40 subnets" in note
