"""A run that is killed at any moment goes on by the same command, and ends with the same bits."""

import os
import random
import signal
import time
import warnings

import pytest
import torch

import gfx
from gfx.errors import ArchiveError
from gfx.train.runs.checkpoint_files import CheckpointFiles
from support.training_runs import Patch, compressed, cycled, files_of, state_of, two_sets

KILLS = int(os.environ.get("GFX_KILLS", "20"))
RECIPE = {
    "stages": {
        "teacher": {
            "fit": {"losses": {"gan": "hinge", "l1": 10}, "steps": 8, "batch": 2, "evaluate": 3},
            "keep": "best",
        },
        "mask": {
            "do": [{"mask": {"sparsity": 0.5, "end": "50%", "granularity": "channel"}}],
            "fit": {
                "teacher": "teacher",
                "losses": {"mimic": 1},
                "steps": 8,
                "batch": 2,
                "ema": 0.9,
            },
        },
    }
}


RUNS = {
    "masks": {"recipe": RECIPE},
    "partners": {
        "recipe": cycled(12, ema=0.9),
        "data": two_sets(),
        "discriminator": Patch(3),
    },
}


def run(folder, kind="masks"):
    return compressed(**RUNS[kind], run=folder, checkpoint_seconds=0.0, seed=4)


def forked(folder, kind):
    """Starts the run in a fork of this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside other threads
        child = os.fork()
    if child == 0:
        code = 1
        try:
            torch.set_num_threads(1)
            run(folder, kind)
            code = 0
        finally:
            os._exit(code)
    return child


@pytest.fixture(scope="module", params=RUNS)
def whole(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    kind = request.param
    run(folder / "first", kind)  # which has everything to import
    began = time.monotonic()
    made = run(folder / "second", kind)
    left = state_of(made.model), nets_of(folder / "second"), files_of(folder / "second")
    return kind, left, time.monotonic() - began


def nets_of(folder):
    """The weights of what stages left beside their generators."""
    critics = {p.name: torch.load(p, weights_only=True) for p in folder.glob("*.critic.pt")}
    held = {name: {k: v.numpy().tobytes() for k, v in c.items()} for name, c in critics.items()}
    return held | {p.name: state_of(gfx.load(p)) for p in folder.glob("*.gfx")}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a fork of the process")
def test_a_run_that_is_killed_at_random_moments_ends_with_the_same_bits(whole, tmp_path):
    kind, left, seconds = whole
    dice = random.Random(20261128)
    killed = runs = 0
    folder = tmp_path / "0"
    share = KILLS * 3 // 5  # the others are of the second kind
    while killed < (share if kind == "masks" else KILLS - share):
        child = forked(folder, kind)
        deadline = time.monotonic() + dice.random() * seconds
        ended = 0
        while time.monotonic() < deadline and not ended:
            ended, status = os.waitpid(child, os.WNOHANG)
            time.sleep(0.005)
        if not ended:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            killed += 1
        else:  # it had ended; another run is killed in its turn
            assert os.waitstatus_to_exitcode(status) == 0
            runs += 1
            assert files_of(folder) == left[2]
            folder = tmp_path / str(runs)
    for number in range(runs + 1):
        made = run(tmp_path / str(number), kind)
        folder = tmp_path / str(number)
        assert (state_of(made.model), nets_of(folder), files_of(folder)) == left
        assert not list((tmp_path / str(number)).glob("checkpoints/*"))


def state(value):
    return {"players": [{"net": torch.full((3,), value)}], "best": None, "low": 0}


def test_the_last_two_checkpoints_stay_and_a_spoilt_one_is_not_taken(tmp_path):
    files = CheckpointFiles(tmp_path, 0)
    assert files.latest() is None
    for step in (10, 20, 30):
        files.write(step, state(step))
    assert len(list(tmp_path.glob("*.pt"))) == 2
    assert files.latest()["step"] == 30
    spoilt = tmp_path / "01-step-000000030.pt"
    spoilt.write_bytes(spoilt.read_bytes()[:-7])
    assert files.latest()["step"] == 20
    (tmp_path / "01-step-000000020.sha256").unlink()
    assert files.latest() is None
    assert CheckpointFiles(tmp_path, 1).latest() is None  # of another stage


def test_a_full_disk_keeps_the_last_good_checkpoint_and_says_so(tmp_path, monkeypatch):
    files = CheckpointFiles(tmp_path, 0)
    files.write(10, state(1.0))

    def full(writers):
        raise ArchiveError("No space left on device")

    monkeypatch.setattr("gfx.train.runs.checkpoint_files.write_files", full)
    with pytest.raises(ArchiveError, match=r"step 20 is not written, that of step 10 stays: make"):
        files.write(20, state(2.0))
    assert files.latest()["step"] == 10


def test_a_folder_is_written_by_one_run_at_a_time(tmp_path):
    import fcntl

    (tmp_path / "run").mkdir()
    with open(tmp_path / "run" / ".lock", "a+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Exception, match="is in use by another process"):
            compressed(run=tmp_path / "run")
