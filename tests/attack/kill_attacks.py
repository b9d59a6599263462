"""Kills commands that write files, at any moment, and looks at what is left.

Half of the kills come at a random time, half when the process is about to ask the system for
something with a file, between the names of several outputs too: the next command undoes those.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from attack.commands import Writing, check_left, started, writing
from attack.verdicts import AttackSucceeded, Verdict
from gfx.io.write_journal import recover

__all__ = ["attack_kill"]

EVENTS = ("open", "os.link", "os.rename", "os.remove")


def attack_kill(dice: random.Random, folder: Path) -> Verdict | None:
    """Kills a command, checks what it left, runs it again, and checks that it is tidy."""
    asked = writing(dice, folder)
    errors = folder / "errors.txt"
    if dice.random() < 0.5:
        child = started(lambda: _main(asked), errors)
        time.sleep(dice.random() ** 2 * 1.5)
        os.kill(child, signal.SIGKILL)
    else:
        number = dice.randrange(1, 24)
        child = started(lambda: _dying(asked, number), errors)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise AttackSucceeded(
            "traceback", f"exit {os.WEXITSTATUS(status)}: {errors.read_text()[-2000:]}"
        )
    recover(asked.outputs[0].parent)  # as the next command does first
    check_left(asked)
    child = started(lambda: _main(asked), errors)
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise AttackSucceeded("traceback", f"the next run: {status}: {errors.read_text()[-2000:]}")
    if not check_left(asked):
        raise AttackSucceeded("partial", "the next run wrote nothing new")
    return None


def _main(asked: Writing) -> None:
    from gfx.cli import app

    app(asked.arguments)


def _dying(asked: Writing, number: int) -> None:
    """Runs a command that is killed at the n-th event near its outputs, before it happens."""
    seen = {"events": 0}
    near = str(asked.outputs[0].parent)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in EVENTS or not any(near in str(a) for a in arguments):
            return
        seen["events"] += 1
        if seen["events"] >= number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    _main(asked)
