"""Ledgers lose nothing of workers that die, and are of one search."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gfx.errors import ArchiveError, InputError
from gfx.train.search.ledger import FileLedger, search_identity
from gfx.train.search.living_workers import SILENT, Watch, WorkerName
from gfx.train.search.run_search import _trial, run_search
from gfx.train.search.search_fields import Search
from support.search_cases import FormulaJudge, Stops, searched, small_space

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def space():
    return small_space(0.4)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes")
def test_workers_that_are_killed_lose_nothing_and_no_net_is_judged_twice(tmp_path):
    optuna = pytest.importorskip("optuna")
    storage, count = f"journal:{tmp_path / 'search.log'}", 60
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    script = ROOT / "tests" / "support" / "search_worker.py"
    nursery = subprocess.Popen(
        [sys.executable, script, storage, str(count)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def started(number):
        nursery.stdin.write(f"{tmp_path / str(number)}\n")
        nursery.stdin.flush()
        return int(nursery.stdout.readline())

    def claimed():
        log = tmp_path / "search.log"
        return log.read_text().count('"gfx:sign"') if log.exists() else 0

    workers = [started(number) for number in range(4)]
    while claimed() < 16:  # each has some, and some are judged
        time.sleep(0.02)
    for worker in workers[:2]:  # zombies from now on, which still have their numbers
        os.kill(worker, signal.SIGKILL)
    started(4)
    nursery.communicate(timeout=120)
    assert nursery.returncode == 0
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "search.log"))
    study = optuna.load_study(study_name="gfx", storage=optuna.storages.JournalStorage(backend))
    done = [t for t in study.trials if t.state.name == "COMPLETE"]
    rows = [tuple(t.user_attrs["gfx:row"]) for t in done]
    assert len(rows) == len({*rows}) == count
    assert not [t for t in study.trials if t.state.name == "RUNNING"]
    by = {t.user_attrs["gfx:trial"]["worker"] for t in done}
    assert len(by) >= 3  # what the killed ones had judged counts
    assert [(tmp_path / f"{n}").read_text() for n in (2, 3, 4)] == [str(count)] * 3


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

    for storage, said in (
        ("sqlite:////nowhere/at/all.db", r"the storage .* cannot be reached: .*give journal:"),
        ("mysql://nobody@localhost:1/x", r"driver is not installed: pip install .*give journal:"),
    ):
        with pytest.raises(InputError, match=said):
            OptunaLedger(storage, {}, space, 3)
    (tmp_path / "broken.log").write_text("no journal\n")
    with pytest.raises(InputError, match="cannot be reached"):
        OptunaLedger(f"journal:{tmp_path / 'broken.log'}", {}, space, 3)


def test_a_journal_that_is_no_file_is_refused_at_once(space, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        with pytest.raises(InputError, match=r"is no regular file; give journal:FILE"):
            opened(f"journal:{path}", space)


def test_a_journal_whose_values_were_written_to_is_refused(space, tmp_path):
    asked = Search(by="random", evaluations=3)
    ledger = opened(tmp_path / "search.log", space)
    run_search(space, FormulaJudge(space), asked, ledger)
    text = (tmp_path / "search.log").read_text()
    written = json.dumps(ledger.trials()[1].judgement.value)
    assert text.count(written) >= 1
    (tmp_path / "search.log").write_text(text.replace(written, written[:-1]))
    with pytest.raises(InputError, match=r"net 1 is not as it was written: it was damaged"):
        opened(tmp_path / "search.log", space).trials()


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


def opened(storage, space, most=12, **identity):
    pytest.importorskip("optuna")
    from gfx.train.search.optuna_ledger import OptunaLedger

    return OptunaLedger(str(storage), {"score": "l1", **identity}, space, most)


def storages(folder):
    return [f"journal:{folder / 'search.log'}", f"sqlite:///{folder / 'search.db'}"]


def dead(ledger):
    """Makes the claims of a ledger those of a process that has ended."""
    ledger.worker = WorkerName(ledger.worker.host, ledger.worker.process, "before", "d")
    return ledger


def claimed(ledger, space, rows):
    judge = FormulaJudge(space)
    mine = ledger.claim([_trial(space, row, judge, 0) for row in rows])
    said = judge.judge([trial.widths for trial in mine])
    return [replace(trial, judgement=found) for trial, found in zip(mine, said, strict=True)]


def test_claims_of_the_dead_are_free_and_what_they_wrote_counts(space, tmp_path):
    rows = [space.smallest, space.largest, (0, 1, 0, 0, 0, 0)]
    for storage in storages(tmp_path):
        gone = dead(opened(storage, space))
        mine = claimed(gone, space, rows)
        # the first was finished, of the second the value was written, of the third nothing
        gone.finish(mine[:1])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gone.study, "tell", lambda *_, **__: None)
            gone.finish(mine[1:2])
        gone.close()
        ledger = opened(storage, space)
        known = ledger.trials()
        assert [(t.row, t.judgement) for t in known] == [(t.row, t.judgement) for t in mine[:2]]
        trials = searched(space, "random", 12, ledger=ledger)
        assert len(trials) == len({trial.row for trial in trials}) == 12
        ledger.close()


def test_of_two_claims_of_a_net_the_first_counts(space, tmp_path):
    for storage in storages(tmp_path):
        one, other = opened(storage, space, 3), opened(storage, space, 3)
        assert len(claimed(one, space, [space.smallest])) == 1
        mine = claimed(other, space, [space.smallest, space.largest])
        assert [trial.row for trial in mine] == [space.largest]
        rows = [(0, 1, 0, 0, 0, 0), (0, 0, 1, 0, 0, 0)]
        assert len(claimed(one, space, rows)) == 1  # three are all there will be
        assert len(one.trials()) == len(other.trials()) == 3
        one.give_up(mine)
        assert len(other.trials()) == 2
        one.close()
        other.close()


def test_a_worker_elsewhere_is_dead_when_the_watcher_has_seen_no_sign_for_long():
    clock = [0.0]
    watch = Watch(clock=lambda: clock[0])
    far = WorkerName("elsewhere", os.getpid(), "", "a")
    signs = [(0, 7.0, True), (SILENT - 1, 7.0, True), (SILENT + 1, 7.0, False)]
    for now, sign, lives in [*signs, (SILENT + 2, 8.0, True), (2 * SILENT + 3, 8.0, False)]:
        clock[0] = now
        assert watch.alive(far, "a claim", sign) == lives
    assert watch.alive(WorkerName.own(), "another", 0.0)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    name = replace(WorkerName.own(), process=ended.pid)
    ended.wait()
    assert not watch.alive(name, "a third", 0.0)


@pytest.mark.parametrize("part", [b'{"op_code":', b"\x00" * 5000, b""])
def test_a_journal_outlives_a_line_that_was_cut_off(space, tmp_path, part):
    path = tmp_path / "search.log"
    ledger = opened(path, space)
    ledger.finish(claimed(ledger, space, [space.smallest]))
    with path.open("ab") as file:
        file.write(part)
    ledger.finish(claimed(ledger, space, [space.largest]))
    again = opened(f"journal:{path}", space)
    assert [trial.row for trial in again.trials()] == [space.smallest, space.largest]
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_a_storage_that_is_lost_during_a_search_is_named(space, tmp_path, monkeypatch):
    ledger = opened(f"sqlite:///{tmp_path / 'search.db'}", space)

    def lost(*_):
        raise ledger.optuna.exceptions.StorageInternalError("the server has gone away")

    monkeypatch.setattr(ledger.study, "add_trial", lost)
    said = (
        r"search\.db is reached no more: StorageInternalError: the server has gone away; what was "
        "judged stays there, and the same command goes on from it"
    )
    with pytest.raises(InputError, match=said):
        searched(space, "random", 12, ledger=ledger)
    ledger.close()


def test_errors_do_not_tell_passwords(space):
    with pytest.raises(InputError, match=r"mysql://me:\*\*\*@localhost:1/x is a") as caught:
        opened("mysql://me:hidden@localhost:1/x", space)
    assert "hidden" not in str(caught.value)


def test_a_search_that_was_written_over_at_the_start_is_refused(space, tmp_path):
    ledger = opened(tmp_path / "search.log", space)
    ledger.study.set_user_attr("gfx:search", {"score": "psnr"})  # as another that began at once
    with pytest.raises(InputError, match='score: there "psnr", here "l1"'):
        ledger.claim([])


def test_the_identity_of_a_search_says_what_decides_its_values(space):
    judge, asked = FormulaJudge(space), Search(evaluations=9)
    known = search_identity(space, judge, asked, 0, model="a")
    assert (
        search_identity(space, judge, Search(evaluations=90, pick="macs=1G"), 0, model="a") == known
    )
    others = [
        search_identity(space, judge, asked, 1, model="a"),
        search_identity(space, judge, asked, 0, model="b"),
        search_identity(small_space(0.3), judge, asked, 0, model="a"),
        search_identity(small_space(0.4, step=4), judge, asked, 0, model="a"),
        search_identity(space, judge, Search(by="random"), 0, model="a"),
    ]
    for other in others:
        assert other != known
