"""Prepares a module to run repeatedly by one of several backends.

- eager: torch, one operation after the other, as the model runs in training.
- compile: torch.compile with its default backend, which fuses operations.
- onnxruntime: the module as ONNX, in onnxruntime.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Literal, get_args

import torch
from torch import nn

from gfx.deploy.export import onnx_bytes
from gfx.deploy.export.onnx import needed
from gfx.deploy.timing.onnxruntime_session import session_runner
from gfx.errors import GfxError, InputError
from gfx.frontend.private_copy import private_copy
from gfx.ir.random_state import keep_random_state
from gfx.ir.torch_logging import quiet_torch
from gfx.objects.take_apart import leaves, mapped

__all__ = ["BACKENDS", "Backend", "Runner", "on_device", "prepare", "threads_of", "using_threads"]

Backend = Literal["eager", "compile", "onnxruntime"]
_THREADS = 256  # that may be asked for on any machine
BACKENDS: tuple[Backend, ...] = get_args(Backend)


@dataclass(frozen=True)
class Runner:
    """Runs one module on one set of inputs; `prepare` makes it, warmed up.

    Each call runs it once, without gradients, on its number of threads, and returns when it is
    done; torch's own number of threads is then restored.
    """

    backend: Backend
    threads: int
    device: str
    run: Callable[[], Any]
    written: bytes | None = None  # the ONNX file that it runs, with the backend onnxruntime

    def __call__(self) -> None:
        """Runs once."""
        self._once()

    def outputs(self) -> tuple[torch.Tensor, ...]:
        """Runs once and returns the output tensors, in order."""
        return tuple(x for x in leaves(self._once()) if isinstance(x, torch.Tensor))

    def _once(self) -> Any:
        with using_threads(self.threads), torch.inference_mode():
            result = self.run()
            if self.device.startswith("cuda"):
                torch.cuda.synchronize(self.device)
        return result


def prepare(
    module: nn.Module,
    inputs: tuple[Any, ...],
    backend: Backend = "eager",
    *,
    threads: int | None = None,
    device: str | None = None,
) -> Runner:
    """Prepares a module for timing: copies it, puts it in eval mode, compiles it, runs it once.

    The module is left unchanged. None threads are as many as torch uses, for every backend; None
    as the device is the module's.

    Raises: InputError if a backend or device is unknown or missing, or if the module does not
    run on the inputs by that backend.

    Example:
        >>> runner = prepare(nn.Conv2d(3, 8, 3), (torch.ones(1, 3, 8, 8),), threads=1)
        >>> runner()
        >>> [tuple(output.shape) for output in runner.outputs()]
        [(1, 8, 6, 6)]
    """
    if backend not in BACKENDS:
        raise InputError(f"backend {backend!r} is unknown; choose one of {', '.join(BACKENDS)}")
    count, where = threads_of(threads), on_device(module, device)
    twin = private_copy(module).eval().to(where)
    moved = mapped(lambda x: x.detach().to(where), inputs)
    with keep_random_state(), using_threads(count):
        return _started(backend, twin, moved, count, where)


def threads_of(threads: int | None) -> int:
    """Returns a number of threads; None is as many as torch uses.

    Raises: InputError if it is below 1, or far beyond what the machine runs.
    """
    if threads is not None and threads < 1:
        raise InputError(f"threads={threads}: give 1 or more")
    most = max(_THREADS, 4 * (os.cpu_count() or 1))
    if threads is not None and threads > most:
        raise InputError(
            f"threads={threads}: this machine runs {os.cpu_count()} at once; give {most} or fewer"
        )
    return torch.get_num_threads() if threads is None else threads


def on_device(module: nn.Module, device: str | None) -> str:
    """Returns the device to run on: cpu, cuda or cuda:N; None is the module's.

    Raises: InputError if it is another one, or missing.

    Example:
        >>> on_device(nn.Conv2d(3, 8, 3), None)
        'cpu'
    """
    tensors = [*module.parameters(), *module.buffers()]
    if any(tensor.is_meta for tensor in tensors):
        raise InputError(
            f"{type(module).__name__} is on the meta device, without values to compute with; "
            "build it on the cpu"
        )
    wanted = str(tensors[0].device) if device is None and tensors else device or "cpu"
    kind, _, index = wanted.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()) or wanted.endswith(":"):
        raise InputError(f"device {wanted!r} cannot be timed; give cpu, cuda or cuda:0")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {wanted!r}: this torch finds no CUDA device; give cpu")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {wanted!r}: there are {torch.cuda.device_count()} CUDA devices")
    return kind if kind == "cpu" else wanted


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Sets torch's number of threads inside of a with block, and restores it.

    Example:
        >>> before = torch.get_num_threads()
        >>> with using_threads(2):
        ...     torch.get_num_threads()
        2
        >>> torch.get_num_threads() == before
        True
    """
    before = torch.get_num_threads()
    if before == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _started(
    backend: Backend, module: nn.Module, inputs: tuple[Any, ...], threads: int, device: str
) -> Runner:
    """Builds a runner and runs it once, which compiles lazily compiled code.

    Raises: InputError with the first line of the failure.
    """
    written = None
    try:
        with quiet_torch(onnx=True):
            if backend == "onnxruntime":
                needed("onnxruntime")  # before the long work
                written = onnx_bytes(module, inputs)
                run = session_runner(written, inputs, threads, device)
            else:
                run = _compiled(module, inputs) if backend == "compile" else _eager(module, inputs)
            runner = Runner(backend, threads, device, run, written)
            runner()
    except GfxError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or ["no message"])[0]
        raise InputError(
            f"{type(module).__name__} does not run on these inputs with the backend {backend} "
            f"({type(error).__name__}: {first}); give other inputs, or another backend"
        ) from error
    return runner


def _eager(module: nn.Module, inputs: tuple[Any, ...]) -> Callable[[], Any]:
    return lambda: module(*inputs)


def _compiled(module: nn.Module, inputs: tuple[Any, ...]) -> Callable[[], Any]:
    def forward() -> Any:
        return module(*inputs)

    # torch caches compiled code by code object, and keeps few versions for one class of modules:
    # this function has its own code object
    code = forward.__code__.replace(co_name="forward")
    own = FunctionType(code, forward.__globals__, "forward", None, forward.__closure__)
    return torch.compile(own, dynamic=False)
