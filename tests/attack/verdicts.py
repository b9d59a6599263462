"""Runs one attack in a process of its own, within limits, and says how it ended."""

import os
import pickle
import resource
import select
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from gfx.errors import GfxError

__all__ = ["FAULTS", "AttackSucceeded", "Verdict", "forked", "run_shell", "said_well"]

# done and refused are as it should be; the rest are faults of gfx
FAULTS = ("traceback", "executed", "partial", "hang", "crash")
_MEMORY = 12 << 30  # bytes of address space beyond what the process has


class AttackSucceeded(Exception):
    """What an attack reached that it should not have."""

    def __init__(self, fault: str, what: str) -> None:
        super().__init__(fault, what)
        self.fault, self.what = fault, what


@dataclass(frozen=True)
class Verdict:
    """How an attack ended, and what was said."""

    outcome: str  # "done", "refused", or one of FAULTS
    text: str = ""

    @property
    def bad(self) -> bool:
        return self.outcome in FAULTS


def forked(action: Callable[[], Any], *, seconds: float = 30) -> Verdict:
    """Runs an action in a fork of this process; GfxErrors are refusals, and must read well."""
    out, into = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside other threads
        child = os.fork()
    if child == 0:
        os.close(out)
        _child(action, into)
    os.close(into)
    data = _read(out, time.monotonic() + seconds)
    os.close(out)
    if data is None:
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if data is None:
        return Verdict("hang", f"not done after {seconds:g} s")
    try:
        verdict: Verdict = pickle.loads(data)
    except Exception:
        return Verdict("crash", f"the process ended with status {status}")
    return verdict


def _child(action: Callable[[], Any], into: int) -> None:
    """Runs the action, sends the verdict, and ends the process."""
    os.setsid()
    with open("/proc/self/statm", encoding="ascii") as pages:
        used = int(pages.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, used + _MEMORY))
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    try:
        verdict = _judged(action)
    except BaseException as error:
        verdict = Verdict("traceback", f"{type(error).__name__}: {error}")
    data = pickle.dumps(verdict)
    while data:
        data = data[os.write(into, data) :]
    os._exit(0)


def _judged(action: Callable[[], Any]) -> Verdict:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = action()
    except GfxError as error:
        problem = said_well(str(error))
        return Verdict("traceback", problem) if problem else Verdict("refused", str(error))
    except AttackSucceeded as error:
        return Verdict(error.fault, error.what)
    except BaseException as error:
        return Verdict("traceback", _short(error))
    return found if isinstance(found, Verdict) else Verdict("done")


def _short(error: BaseException) -> str:
    """Writes a traceback whose message is short."""
    frames = "".join(traceback.format_tb(error.__traceback__))[-3000:]
    return f"{frames}{type(error).__name__}: {str(error)[:500]}"


def said_well(text: str) -> str:
    """Says what is wrong with the text of a refusal; nothing if it is fit to be read."""
    if len(text.strip()) < 10:
        return f"the refusal says nothing: {text!r}"
    if "Traceback (most" in text or "internal error" in text:
        return f"the refusal is a traceback: {text}"
    if len(text) > 4000:
        return f"the refusal has {len(text)} characters: {text[:200]}"
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"the refusal cannot be printed: {text!a}"
    return ""


def run_shell(arguments: list[str]) -> Verdict:
    """Runs a command line in this process; exit codes 1 and 2 must come with their paragraph."""
    from typer.testing import CliRunner

    from gfx.cli import app

    result = CliRunner().invoke(app, arguments)
    error = result.exception
    if error is not None and not isinstance(error, SystemExit | click.exceptions.Exit):
        raise AttackSucceeded("traceback", _short(error))
    if result.exit_code == 0:
        return Verdict("done", result.output)
    if result.exit_code not in (1, 2):
        raise AttackSucceeded("traceback", f"exit code {result.exit_code}: {result.output[-500:]}")
    problem = said_well(result.stderr)
    if problem:
        raise AttackSucceeded("traceback", f"{arguments}: {problem}")
    return Verdict("refused", result.stderr)


def _read(out: int, deadline: float) -> bytes | None:
    """Reads all that comes; None if the deadline passes first."""
    data = b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([out], [], [], left)[0]:
            return None
        part = os.read(out, 1 << 16)
        if not part:
            return data
        data += part
    return None
