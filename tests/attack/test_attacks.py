"""A short run of all attacks, always the same; and the judge, who must see what attacks reach.

`make attack` runs fresh ones for an hour.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gfx
from attack.verdicts import AttackSucceeded, forked, said_well

ROOT = Path(__file__).parents[2]
# how many of each in the short run: what takes a process of its own is dear
SHORT = {
    "recipe": 10,
    "archive": 22,
    "picture": 8,
    "model": 8,
    "option": 6,
    "system": 8,
    "run": 8,
    "search": 6,
    "kill": 3,
    "disk": 4,
    "signal": 3,
}


def test_no_attack_of_the_short_run_succeeds():
    done = subprocess.run(
        [sys.executable, "-m", "attack", "--short", ",".join(f"{k}={n}" for k, n in SHORT.items())],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert f"{sum(SHORT.values())} attacks: " in done.stdout
    assert "0 tracebacks, 0 executed, 0 partial, 0 hangs, 0 crashes" in done.stdout


def refuse():
    raise gfx.InputError("the model is a str, not a torch.nn.Module")


def refuse_badly():
    raise gfx.InputError("no")


def leave_part():
    raise AttackSucceeded("partial", "half a file")


@pytest.mark.parametrize(
    ("action", "outcome"),
    [
        (lambda: None, "done"),
        (refuse, "refused"),
        (refuse_badly, "traceback"),
        (lambda: 1 / 0, "traceback"),
        (lambda: sys.exit(3), "traceback"),
        (leave_part, "partial"),
        (lambda: time.sleep(60), "hang"),
        (lambda: os._exit(7), "crash"),
    ],
)
def test_the_judge_sees_what_an_attack_reaches(action, outcome):
    assert forked(action, seconds=2).outcome == outcome


@pytest.mark.parametrize(
    "text", ["", "no", "internal error (KeyError)", "a" * 9000, "half \ud83d is it"]
)
def test_a_refusal_that_nobody_can_read_is_a_fault(text):
    assert said_well(text)
    assert not said_well("a.gfx does not exist; check the path")
