"""The backend onnxruntime: a module as ONNX, in a session of its own."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from gfx.errors import InputError

__all__ = ["load", "session", "session_runner"]

_NEEDED = ("onnx", "onnxscript", "onnxruntime")


def session_runner(
    module: nn.Module, inputs: tuple[Any, ...], threads: int, device: str
) -> Callable[[], tuple[torch.Tensor, ...]]:
    """Returns what runs a module in onnxruntime on the inputs.

    Raises: InputError if a package is missing, or onnxruntime has nothing for the device;
    ExportError if the module cannot be written as ONNX.
    """
    made, feeds = session(module, inputs, threads, device)
    return lambda: tuple(map(torch.from_numpy, made.run(None, feeds)))


def session(
    module: nn.Module,
    inputs: tuple[Any, ...],
    threads: int,
    device: str,
    *,
    profile: str | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Makes a session and what to feed it; with a profile it writes times by node to that prefix.

    Raises: as session_runner.
    """
    runtime = load()
    provider = _provider(runtime, device)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    # else its threads go on spinning after a run, in the time of whoever runs next
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    written = import_module("gfx.exporting").onnx_bytes(module, inputs)
    made = runtime.InferenceSession(written, options, providers=[provider])
    tensors = [x for x in pytree.tree_leaves(inputs) if isinstance(x, torch.Tensor)]
    names = [item.name for item in made.get_inputs()]
    if len(names) != len(tensors):
        raise InputError(
            f"as ONNX the model has {len(names)} inputs ({', '.join(names)}) for "
            f"{len(tensors)} tensors; some of them do nothing, leave them out"
        )
    return made, {n: x.cpu().numpy() for n, x in zip(names, tensors, strict=True)}


def load() -> Any:
    """Imports onnxruntime, having looked that all is there to write ONNX too.

    Raises: InputError that names the extra if a package is missing.
    """
    for name in _NEEDED:
        try:
            import_module(name)
        except ImportError as error:
            raise InputError(
                f"the backend onnxruntime needs {name}, which is not installed: "
                "pip install 'gfx-compiler[onnx]'"
            ) from error
    return import_module("onnxruntime")


def _provider(runtime: Any, device: str) -> Any:
    if device == "cpu":
        return "CPUExecutionProvider"
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        raise InputError(
            f"this onnxruntime has nothing for the device {device!r}: it runs on cpu; "
            "pip install onnxruntime-gpu, or give cpu"
        )
    return ("CUDAExecutionProvider", {"device_id": int(device.partition(":")[2] or 0)})
