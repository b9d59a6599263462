"""Runs modules in onnxruntime: as ONNX, each in its own session."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from gfx.deploy.export.onnx import needed
from gfx.errors import InputError

__all__ = ["feeds", "session", "session_runner"]


def session_runner(
    written: bytes, inputs: tuple[Any, ...], threads: int, device: str
) -> Callable[[], tuple[torch.Tensor, ...]]:
    """Returns a call that runs an ONNX file in onnxruntime on the inputs.

    Raises: InputError if onnxruntime is missing, or does not support the device.
    """
    made = session(written, threads, device)
    given = feeds([item.name for item in made.get_inputs()], inputs)
    return lambda: tuple(map(torch.from_numpy, made.run(None, given)))


def session(
    written: bytes,
    threads: int,
    device: str = "cpu",
    *,
    arena: bool = True,
    profile: str | None = None,
) -> Any:
    """Creates a session; with a profile it writes times by node into a file of that prefix.

    `arena=False` returns memory after each run, so that a peak can be measured.

    Raises: InputError if onnxruntime is missing, or does not support the device.
    """
    runtime = needed("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    options.enable_cpu_mem_arena = arena
    # otherwise its threads spin after a run, during the next runner's time
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    return runtime.InferenceSession(written, options, providers=[_provider(runtime, device)])


def feeds(names: Sequence[str], inputs: tuple[Any, ...]) -> dict[str, Any]:
    """Returns the tensors of the inputs as arrays, by the session's input names.

    Raises: InputError if there are more or fewer.

    Example:
        >>> list(feeds(["image"], (torch.ones(1, 3, 8, 8),)))
        ['image']
    """
    tensors = [x for x in pytree.tree_leaves(inputs) if isinstance(x, torch.Tensor)]
    if len(names) != len(tensors):
        raise InputError(
            f"as ONNX the model has {len(names)} inputs ({', '.join(names)}) for "
            f"{len(tensors)} tensors; some of them do nothing, leave them out"
        )
    return {n: x.cpu().numpy() for n, x in zip(names, tensors, strict=True)}


def _provider(runtime: Any, device: str) -> Any:
    if device == "cpu":
        return "CPUExecutionProvider"
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        raise InputError(
            f"this onnxruntime has nothing for the device {device!r}: it runs on cpu; "
            "pip install onnxruntime-gpu, or give cpu"
        )
    return ("CUDAExecutionProvider", {"device_id": int(device.partition(":")[2] or 0)})
