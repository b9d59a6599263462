"""Fills the disk while commands write: the file system's own end, or a limit on a file's size."""

import os
import random
import resource
import signal
import subprocess
from pathlib import Path

from attack.commands import check_left, started, writing
from attack.verdicts import AttackSucceeded, Verdict, said_well

__all__ = ["attack_disk"]


def attack_disk(dice: random.Random, folder: Path) -> Verdict | None:
    """Runs a command where it cannot write all: one paragraph, no output."""
    mounted = dice.random() < 0.5 and _mounted(folder, dice.choice((36, 48, 64, 128)))
    errors = folder.parent / f"{folder.name}.errors"
    try:
        return _attack(dice, folder, errors, mounted)
    finally:
        errors.unlink(missing_ok=True)
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


def _attack(dice: random.Random, folder: Path, errors: Path, mounted: bool) -> Verdict | None:
    try:
        asked = writing(dice, folder)
    except OSError:
        return None  # too small a disk to begin on
    limit = dice.choice((4096, 5000, 8192, 12_000, 20_000))
    screen = not mounted and dice.random() < 0.2

    def action() -> None:
        from gfx.cli import app

        if screen:
            full = os.open("/dev/full", os.O_WRONLY)
            os.dup2(full, 1)
        elif not mounted:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        app(asked.arguments)

    child = started(action, errors)
    _, status = os.waitpid(child, 0)
    said = errors.read_text("utf-8", "replace")
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, 1):
        raise AttackSucceeded("crash" if code < 0 else "traceback", f"exit {code}: {said[-2000:]}")
    problem = said_well(said) if code else ""
    if problem or "Traceback" in said or "internal error" in said:
        raise AttackSucceeded("traceback", f"exit {code}: {problem} {said[-2000:]}")
    new = check_left(asked)
    if new is not (code == 0) and not screen:
        raise AttackSucceeded(
            "partial", f"exit {code}, outputs {'new' if new else 'old'}: {said[-500:]}"
        )
    return Verdict("refused", said) if code else None


def _mounted(folder: Path, kilobytes: int) -> bool:
    """Mounts a small file system over the folder; False where that is not allowed."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "attack", str(folder)]
    try:
        done = subprocess.run(command, check=False, capture_output=True).returncode == 0
    except OSError:
        return False
    if done:
        os.chdir(folder)
    return done
