"""Interrupts commands at any moment: one line, the right exit code, no part of an output."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from attack.commands import Writing, check_left, started, writing
from attack.verdicts import AttackSucceeded, Verdict

__all__ = ["attack_signal"]


def attack_signal(dice: random.Random, folder: Path) -> Verdict | None:
    """Sends SIGINT or SIGTERM, and reads what was said."""
    asked = writing(dice, folder)
    number = dice.choice((signal.SIGINT, signal.SIGTERM))
    errors = folder / "errors.txt"
    if dice.random() < 0.75:
        child = started(lambda: _main(asked), errors)
        _wait_for_handlers(child)
        time.sleep(dice.random() ** 2 * 1.2)
        os.kill(child, number)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    else:  # a new process, which has everything to import
        command = [sys.executable, "-c", "from gfx.cli import main; main()", *asked.arguments]
        with open(errors, "wb") as into:
            process = subprocess.Popen(command, stdout=into, stderr=into)
        _wait_for_handlers(process.pid)
        time.sleep(dice.random() * 4)
        process.send_signal(number)
        code = process.wait()
    said = errors.read_text("utf-8", "replace")
    new = check_left(asked)
    if code == 0:  # it was done before
        if not new:
            raise AttackSucceeded("partial", f"exit 0 without output: {said}")
        return None
    if code != 128 + number:
        raise AttackSucceeded("traceback", f"{number.name}: exit {code}: {said[-2000:]}")
    lines = [line for line in said.splitlines() if "interrupted" in line or "terminated" in line]
    if len(lines) != 1 or "Traceback" in said:
        raise AttackSucceeded("traceback", f"{number.name}: exit {code}: {said[-2000:]}")
    if new == ("nothing was written" in lines[0]):
        raise AttackSucceeded("partial", f"{lines[0]}, and outputs are {'new' if new else 'old'}")
    return Verdict("refused", said)


def _wait_for_handlers(child: int) -> None:
    """Waits until gfx listens to signals, or has ended: what comes before, Python answers."""
    wanted = 1 << (signal.SIGTERM - 1)
    for _ in range(3000):
        status = Path(f"/proc/{child}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        ended = fields["State"].split()[0] == "Z"
        if ended or int(fields["SigCgt"], 16) & wanted:
            return
        time.sleep(0.01)


def _main(asked: Writing) -> None:
    from gfx.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.argv = ["gfx", *asked.arguments]
    main()
