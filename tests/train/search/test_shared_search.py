"""Workers judge nets of the search of a run of gfx.compress: the ledger stays exact."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gfx
from gfx.errors import ArchiveError, InputError
from gfx.train.search.front_file import read_front
from support.training_runs import compressed, generator, pairs, state_of

ROOT = Path(__file__).parents[3]
COUNT = 18
optuna = pytest.importorskip("optuna")


def shared(folder, storage, **how):
    """Runs a supernet that nobody trains, and a search in it."""
    asked = {"by": "evolution", "evaluations": COUNT, "population": 6, "batch": 3}
    widths = {"widths": {"values": {"*": [2, 4, 5, 6, 8]}, "min_channels": 1}}
    fit = {"losses": {"l1": 1}, "discriminator": "none", "steps": 1, "batch": 2}
    stages = {"many": {"do": ["sort_channels", widths]}, "search": {"search": asked}}
    recipe = {"stages": {**stages, "tuned": {"fit": fit}}}
    given = {"data": pairs(32), "discriminator": None, "val": 0.25, "run": folder, **how}
    return compressed(recipe, generator(norm=False), storage=storage, **given)


def worker(folder, storage, seconds, own):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    script = ROOT / "tests" / "support" / "joining_worker.py"
    return subprocess.Popen(
        [sys.executable, script, folder, storage, str(seconds), own],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def study_of(log):
    backend = optuna.storages.journal.JournalFileBackend(str(log))
    return optuna.load_study(study_name="gfx", storage=optuna.storages.JournalStorage(backend))


def until(log, key, count):
    """Waits until a journal holds some entries."""
    ends = time.monotonic() + 120
    while not log.exists() or log.read_text().count(f'"gfx:{key}"') < count:
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_workers_of_a_run_that_stopped_and_goes_on_judge_each_net_once(tmp_path):
    folder, log = tmp_path / "run", tmp_path / "search.log"
    storage = f"journal:{log}"
    assert not shared(folder, storage, time=0.0).finished
    before = {path.name for path in folder.iterdir()}
    killed = worker(folder, storage, 0.3, tmp_path / "first")
    until(log, "sign", 6)  # a batch is judged, and the next one claimed
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    other = worker(folder, storage, 0.3, tmp_path / "second")
    until(log, "sign", 9)
    assert {path.name for path in folder.iterdir()} == before
    made = shared(folder, storage)
    said = other.communicate(timeout=120)[0]
    assert (other.returncode, said.strip().splitlines()[-1]) == (0, f"{COUNT} True"), said
    assert made.finished
    done = [t for t in study_of(log).trials if t.state.name == "COMPLETE"]
    rows = [tuple(t.user_attrs["gfx:row"]) for t in done]
    assert len(rows) == len({*rows}) == COUNT
    assert len({t.user_attrs["gfx:trial"]["worker"] for t in done}) >= 2
    mine, theirs = (read_front(p) for p in (folder / "02-search", tmp_path / "second"))
    assert mine.judged == theirs.judged == COUNT
    assert [net.widths for net in mine.nets] == [net.widths for net in theirs.nets]
    values = {tuple(t.user_attrs["gfx:row"]): t.value for t in done}
    assert len({*values.values()}) > 3
    with pytest.raises(InputError, match="stage search: its search is finished"):
        gfx.search(folder, storage=storage, data=pairs(32))
    again = shared(folder, None)  # what is finished needs no storage
    assert state_of(again.model) == state_of(made.model)


def test_a_run_alone_with_a_storage_finds_what_it_finds_without(tmp_path):
    alone = shared(tmp_path / "alone", None)
    stored = shared(tmp_path / "stored", f"journal:{tmp_path / 'search.log'}")
    assert state_of(alone.model) == state_of(stored.model)
    assert not (tmp_path / "stored" / "02-search.search.jsonl").exists()


def test_joins_that_would_judge_for_nothing_are_refused(tmp_path):
    folder, storage = tmp_path / "run", f"journal:{tmp_path / 'search.log'}"
    shared(tmp_path / "alone", None, time=0.0)
    with pytest.raises(InputError, match="whose search is not shared: give its gfx compress"):
        gfx.search(tmp_path / "alone", storage=storage, data=pairs(32))
    shared(folder, storage, time=0.0)
    x, y = pairs(32)
    with pytest.raises(InputError, match="holds another search: data: there"):
        gfx.search(folder, storage=storage, data=(x, -y))
    for how, said in (
        ({"data": pairs(31)}, r"examples: the run has 24, and these data 23"),
        ({"data": pairs(32), "score": "psnr"}, "whose recipe says how.*leave out score"),
    ):
        with pytest.raises(InputError, match=said):
            gfx.search(folder, storage=storage, **how)
    with pytest.raises(InputError, match="keeps the ledger of its search in journal:"):
        shared(folder, None)
    other = tmp_path / "other.log"
    shared(tmp_path / "another", f"journal:{other}", seed=1)
    with pytest.raises(InputError, match="holds another search: seed: there 1, here 0"):
        gfx.search(folder, storage=f"journal:{other}", data=pairs(32))
    with pytest.raises(InputError, match="holds another search"):
        shared(folder, f"journal:{other}")
    spoilt = folder / "model.gfx"
    spoilt.write_bytes(spoilt.read_bytes()[:-1] + b"x")
    with pytest.raises((ArchiveError, InputError), match=r"model\.gfx is not what the run wrote"):
        gfx.search(folder, storage=storage, data=pairs(32))


def test_a_storage_is_refused_before_the_first_stage_where_it_serves_nothing(tmp_path):
    with pytest.raises(InputError, match="this recipe has no search; leave storage out"):
        compressed(storage=f"journal:{tmp_path / 'log'}")
    with pytest.raises(InputError, match="cannot be reached"):
        shared(tmp_path / "run", f"sqlite:///{tmp_path / 'none' / 'x.db'}")
    assert not (tmp_path / "run").exists()


def test_what_was_judged_in_a_file_is_not_judged_again_in_a_storage(tmp_path):
    shared(tmp_path, None, time=0.0)
    ledger = tmp_path / "02-search.search.jsonl"
    assert json.loads(ledger.read_text().splitlines()[0])["search"]
    with pytest.raises(InputError, match=r"is in .*02-search\.search\.jsonl, and a storage"):
        shared(tmp_path, f"journal:{tmp_path / 'search.log'}")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://me:word@host/nets", r"mysql://me:\*\*\*@host/nets is a database whose driver is "
         r"not installed: pip install mysqlclient \(or name another driver: mysql\+pymysql"),
        ("mysql+pymysql://me:word@host/nets", "not installed: pip install pymysql; give journal"),
        ("postgresql+psycopg://me@host/nets", r"not installed: pip install 'psycopg\[binary\]'"),
        ("postgresql+psycopg2://me@host/nets", "not installed: pip install psycopg2-binary"),
        ("mongodb://host/nets", "mongodb://host/nets is of a kind that Optuna does not take"),
        ("redis://host", "redis://host is of a kind that Optuna does not take; give journal:FILE"),
    ],
)  # fmt: skip
def test_a_database_without_its_driver_says_what_to_install(url, said, tmp_path, monkeypatch):
    for driver in ("MySQLdb", "pymysql", "psycopg", "psycopg2"):
        monkeypatch.setitem(sys.modules, driver, None)
    with pytest.raises(InputError, match=said) as caught:
        shared(tmp_path / "run", url)
    assert "word" not in str(caught.value)
    net = gfx.supernet(generator(norm=False), widths=[0.5, 1.0], example_inputs=pairs(1)[0])
    with pytest.raises(InputError, match=said):
        gfx.search(net, data=pairs(32), storage=url, run=tmp_path / "search")
