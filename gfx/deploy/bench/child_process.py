"""Measures peak memory in its own process: `python -m ….child_process FOLDER` prints JSON.

1. It loads the model and runs it once, which loads libraries and compiles.
2. It reads its resident memory, resets the kernel's peak, and runs the model again.
3. The figure is the peak less the resident memory read before.

Where the kernel does not reset the peak, the peak since the process began is taken.
"""

import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["beyond", "main"]

_RUNS = 2
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_HOW = "RSS of a run at its peak beyond that of the loaded, warm model, in a process of its own"


def main(folder: Path) -> dict[str, Any]:
    """Measures the model of a folder that gfx.deploy.bench.memory wrote.

    Units: bytes.
    """
    request = json.loads((folder / "request.json").read_text("utf-8"))
    return beyond(_loaded(folder, request["backend"], request["threads"]))


def beyond(run: Callable[[], object]) -> dict[str, Any]:
    """Returns how far a run raises resident memory above that of the warm process, and how.

    Units: bytes; None where the system does not say.
    """
    run()
    gc.collect()
    if not _STATUS.exists():
        return {"bytes": None, "how": "this system has no /proc, which tells resident memory"}
    exact = _reset()
    before = _read("VmRSS")
    for _ in range(_RUNS):
        run()
    after = _read("VmHWM")
    how = _HOW if exact else f"{_HOW}; at most, as the kernel sets no peak back here"
    return {"bytes": max(after - before, 0), "how": how}


def _loaded(folder: Path, backend: str, threads: int) -> Callable[[], object]:
    """Returns what runs the model."""
    import torch

    inputs = torch.load(folder / "inputs.pt", weights_only=False)
    onnx = folder / "model.onnx"
    if onnx.exists():
        from gfx.deploy.timing.onnxruntime_session import feeds, session

        made = session(onnx.read_bytes(), threads, arena=False)
        given = feeds([item.name for item in made.get_inputs()], inputs)
        return lambda: made.run(None, given)
    from gfx.deploy.timing import prepare

    model = _module(folder)
    return prepare(model, inputs, "compile" if backend == "compile" else "eager", threads=threads)


def _module(folder: Path) -> Any:
    import torch

    from gfx.io.archive.loading import load

    archive = folder / "model.gfx"
    if archive.exists():
        return load(archive)
    return torch.load(folder / "model.pt", weights_only=False)


def _reset() -> bool:
    """Resets the kernel's peak of this process to its current memory; False if it refuses."""
    try:
        _CLEAR.write_text("5", "ascii")
    except OSError:
        return False
    return True


def _read(name: str) -> int:
    line = next(x for x in _STATUS.read_text("ascii").splitlines() if x.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]))) + "\n")
