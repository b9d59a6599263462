"""Measures the peak memory of a run, beyond the model and its runtime.

On a CPU it is the resident memory (RSS) of a child process, which loads the model, runs it once,
and reads its RSS; the figure is how far further runs raise the peak above that. In the calling
process, memory that earlier work freed but did not return would hide some of it. On CUDA, torch
counts its own allocations.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gfx.deploy.bench.timed_model import TimedModel
from gfx.deploy.timing import Runner
from gfx.errors import GfxError
from gfx.io.archive import save
from gfx.ir.program import Program
from gfx.objects.take_apart import mapped

__all__ = ["UNASKED", "MemoryPeak", "peak_memory"]

_PATIENCE = 900.0  # seconds until a silent process is given up
# glibc keeps freed memory for later, and RSS does not fall; blocks above this size it returns
_GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


@dataclass(frozen=True)
class MemoryPeak:
    """A peak of memory, and how it was measured; None, and why, if it was not.

    Units: bytes.
    """

    bytes: int | None
    how: str

    def to_dict(self) -> dict[str, Any]:
        """Returns the figure as plain data.

        Example:
            >>> MemoryPeak(None, "not asked for").to_dict()
            {'bytes': None, 'how': 'not asked for'}
        """
        return {"bytes": self.bytes, "how": self.how}


UNASKED = MemoryPeak(None, "not asked for")


def peak_memory(subject: TimedModel, runner: Runner, program: "Program | str") -> MemoryPeak:
    """Measures the peak memory of one run; `program` is the traced subject, or why it has none.

    Example: `peak_memory(subject, prepare(subject.module, subject.inputs), "not traced").bytes`.
    """
    if runner.device.startswith("cuda"):
        return _on_cuda(runner)
    with tempfile.TemporaryDirectory(prefix="gfx-") as folder:
        try:
            written = _request(Path(folder), subject, runner, program)
        except (GfxError, OSError) as error:
            return MemoryPeak(None, str(error))
        return _asked(written, runner)


def _asked(folder: Path, runner: Runner) -> MemoryPeak:
    """Runs the child process that measures, and reads its answer."""
    paths = [str(Path(p).absolute()) for p in sys.path]
    environment = {**os.environ, **_GIVE_BACK, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "gfx.deploy.bench.child_process", str(folder)]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
        answer = json.loads(done.stdout.splitlines()[-1])
        return MemoryPeak(answer["bytes"], answer["how"])
    except subprocess.TimeoutExpired:
        return MemoryPeak(None, f"a process of its own said nothing for {_PATIENCE:.0f} s")
    except (IndexError, KeyError, ValueError):
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return MemoryPeak(None, f"a process of its own failed: {last}")


def _request(folder: Path, subject: TimedModel, runner: Runner, program: "Program | str") -> Path:
    """Writes the model for the child process: an ONNX file, a pickle, or the program as an archive.

    Raises: ArchiveError if the model can be written in none of these forms.
    """
    facts = {"backend": runner.backend, "threads": runner.threads}
    (folder / "request.json").write_text(json.dumps(facts), "utf-8")
    inputs = mapped(lambda x: x.detach().cpu(), subject.inputs)
    torch.save(inputs, folder / "inputs.pt")
    if runner.written is not None:
        (folder / "model.onnx").write_bytes(runner.written)
    elif not _pickled(subject, folder / "model.pt"):
        _archived(program, folder / "model.gfx")
    return folder


def _pickled(subject: TimedModel, path: Path) -> bool:
    """Pickles the module; returns False if another process could not read it."""
    if any(type(part).__module__ == "__main__" for part in subject.module.modules()):
        return False  # there `__main__` is another one
    try:
        torch.save(subject.module, path)
    except Exception:  # whatever a user's class raises; the archive is tried next
        path.unlink(missing_ok=True)
        return False
    return True


def _archived(program: "Program | str", path: Path) -> None:
    if isinstance(program, str):
        raise GfxError(f"the model can neither be pickled nor traced ({program})")
    save(program.module, path)


def _on_cuda(runner: Runner) -> MemoryPeak:
    before = torch.cuda.memory_allocated(runner.device)
    torch.cuda.reset_peak_memory_stats(runner.device)
    runner()
    peak = torch.cuda.max_memory_allocated(runner.device)
    return MemoryPeak(
        max(peak - before, 0), "what torch allocated on the device in one run, at its peak"
    )
