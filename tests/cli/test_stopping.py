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


# what an import that was cut off may do: it catches all, and fails later for another reason
CAUGHT = """
    try:
        tell()
    except BaseException:
        pass
    {then}
"""


@pytest.mark.parametrize(
    ("name", "word", "code"), [("SIGINT", "interrupted", 130), ("SIGTERM", "terminated", 143)]
)
@pytest.mark.parametrize(
    "then", ["raise ImportError('cannot load module more than once')", "raise SystemExit(1)"]
)
def test_what_fails_after_a_signal_that_something_caught_failed_for_it(name, word, code, then):
    done = run(name, inside=CAUGHT.format(then=then))
    assert done.stderr == f"error: {word}; nothing was written\n"
    assert done.returncode == code


def test_a_command_does_not_begin_after_a_signal_that_something_caught():
    command = """from gfx.cli.error_handling import guarded
    guarded(lambda: print("begun"))()"""
    done = run("SIGTERM", inside=CAUGHT.format(then=command))
    assert (done.stdout, done.stderr) == ("", "error: terminated; nothing was written\n")
    done = run("SIGTERM", inside=CAUGHT.format(then="print('done')"))
    assert (done.returncode, done.stdout) == (0, "done\n")
