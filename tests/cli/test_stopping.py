"""When the shell is told to stop: one line and 128 plus the signal, or nothing where it is done."""

import subprocess
import sys

import pytest

BODY = """
import os, signal
from gfx.cli import stopping

def tell(): os.kill(os.getpid(), signal.{name})
{before}
with stopping.stoppable():
    {inside}
{after}
"""
# the first thing that the way out does, told to stop just before it
ON_THE_WAY_OUT = """
setting = signal.signal
def told(number, handler):
    if handler is signal.SIG_IGN:
        signal.signal = setting
        tell()
    return setting(number, handler)
signal.signal = told
"""


def run(name, *, before="", inside="pass", after=""):
    code = BODY.format(name=name, before=before, inside=inside, after=after)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("name", "word", "code"), [("SIGINT", "interrupted", 130), ("SIGTERM", "terminated", 143)]
)
@pytest.mark.parametrize("where", [{"inside": "tell()"}, {"before": ON_THE_WAY_OUT}])
def test_a_signal_while_it_works_is_told_in_one_line(name, word, code, where):
    done = run(name, **where)
    assert done.stderr == f"error: {word}; nothing was written\n"
    assert done.returncode == code


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_after_the_work_changes_nothing(name):
    done = run(name, after="tell()")
    assert (done.returncode, done.stderr) == (0, "")
