"""What follows a run beside its own files: a fake that notes what it gets, and tensorboard."""

import importlib
import json
import sys

import pytest

from gfx.errors import InputError
from support.training_runs import compressed, state_of

tracking = pytest.importorskip("accelerate.tracking")

TWO = {
    "stages": {
        "teacher": {"fit": {"losses": {"gan": "hinge", "l1": 10}, "steps": 3, "batch": 2}},
        "slim": {
            "do": [{"channel_prune": {"ratio": 0.5}}],
            "fit": {"teacher": "teacher", "losses": {"mimic": 1}, "steps": 2, "batch": 2},
        },
    }
}
FAKE = """
calls = []
fails = False

class Run:
    def log(self, values, step=None):
        if fails:
            raise OSError("no network")
        calls.append((step, values))

    def finish(self):
        calls.append("finished")

def init(project):
    calls.append(project)
    return Run()
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A package of the name of a tracker that notes what it is given."""
    site = tmp_path / "site"
    about = site / "trackio-9.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: trackio\nVersion: 9.0\n")
    (site / "trackio.py").write_text(FAKE)
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "trackio", raising=False)
    # accelerate looks for packages once, when it is imported
    monkeypatch.setattr(tracking, "_available_trackers", [tracking.LoggerType.TRACKIO])
    yield importlib.import_module("trackio")
    sys.modules.pop("trackio", None)


def expected(history):
    """The rows of a run as trackers get them: the second stage comes after the first."""
    before = {1: 0, 2: 3}
    for row in history:
        values = {k: v for k, v in row.items() if k not in ("stage", "name", "step")}
        step = before[row["stage"]] + row["step"]
        yield step, {f"{row['name']}/{key}": value for key, value in values.items()}


def test_a_tracker_gets_every_row_and_changes_nothing(fake, tmp_path):
    done = compressed(TWO, run=tmp_path / "shoes", log=["trackio"])
    assert fake.calls == ["shoes", *expected(done.history), "finished"]
    steps = [call[0] for call in fake.calls[1:-1]]
    assert steps == sorted(steps)
    assert state_of(done.model) == state_of(compressed(TWO, run=tmp_path / "without").model)


def test_a_run_that_goes_on_goes_on_in_its_tracker(fake, tmp_path):
    compressed(TWO, run=tmp_path / "run", log=["trackio"], time=1e-9)
    first = len(fake.calls)
    done = compressed(TWO, run=tmp_path / "run", log=["trackio"])
    whole = list(expected(done.history))
    assert fake.calls[first:] == ["run", *whole[first - 2 :], "finished"]


def test_a_tracker_that_fails_is_given_up_and_told_of(fake, tmp_path):
    fake.fails = True
    done = compressed(TWO, run=tmp_path / "run", log=["trackio"])
    assert done.finished
    told = [said for said in done.assumed if "trackio" in said]
    assert told == [
        "log: trackio failed, and gets no more: OSError: no network; log.jsonl has all rows"
    ]


def test_a_tracker_that_cannot_begin_ends_the_run_before_it_trains(fake, tmp_path, monkeypatch):
    def refuses(project):
        raise RuntimeError("no account")

    monkeypatch.setattr(fake, "init", refuses)
    with pytest.raises(InputError, match="log: trackio cannot be used: RuntimeError: no account"):
        compressed(TWO, run=tmp_path / "run", log=["trackio"])
    assert not (tmp_path / "run" / "log.jsonl").exists()


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_package_that_is_missing_is_an_error_with_its_extra(name, monkeypatch, tmp_path):
    monkeypatch.setattr("gfx.train.runs.trackers.find_spec", lambda package: None)
    with pytest.raises(InputError) as caught:
        compressed(TWO, run=tmp_path / "run", log=[name])
    assert str(caught.value) == (
        f"log: {name} needs the package {name}, which is not installed; install the extra: "
        f"pip install 'gfx-compiler[{name}]'"
    )
    assert not (tmp_path / "run").exists()


def test_an_unknown_tracker_is_refused(tmp_path):
    with pytest.raises(InputError, match="log: there is no tracker 'mlflow'; choose tensorboard"):
        compressed(TWO, run=tmp_path / "run", log=["mlflow"])


def test_tensorboard_reads_what_a_run_wrote(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = compressed(TWO, run=tmp_path / "shoes", log=["tensorboard"])
    written = EventAccumulator(str(tmp_path / "shoes" / "shoes")).Reload()
    found = {
        name: [(event.step, event.value) for event in written.Scalars(name)]
        for name in written.Tags()["scalars"]
    }
    wanted: dict[str, list[tuple[int, float]]] = {}
    for step, values in expected(done.history):
        for name, value in values.items():
            wanted.setdefault(name, []).append((step, pytest.approx(value, rel=1e-6)))
    assert found == wanted
    assert json.loads((tmp_path / "shoes" / "given.json").read_text())["scores"]
