"""Captures a module as an ExportedProgram, the first half of an export."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn

from gfx.deploy.export.workarounds import apply_workarounds
from gfx.ir.deepcopy import deepcopy
from gfx.ir.torch_logging import quiet_torch
from gfx.objects.call_form import set_call_form

__all__ = ["capture", "hushed", "origin"]

_NOTE = "gfx_node"  # torch records the origin of a node only where there is some such note


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Hides messages of torch and onnxscript to developers inside a with block."""
    with (
        quiet_torch(onnx=True),
        warnings.catch_warnings(),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


def capture(
    module: nn.Module, inputs: tuple[Any, ...], dynamic_shapes: Any = None
) -> torch.export.ExportedProgram:
    """Exports a copy of a module, in eval mode and without gradients.

    Raises: whatever torch.export raises.

    Example:
        >>> program = capture(nn.Linear(2, 3), (torch.ones(1, 2),))
        >>> program.graph_signature.user_inputs
        ('input',)
    """
    twin = deepcopy(module).eval()  # torch.export may leave tensors of its own on a module
    if isinstance(twin, fx.GraphModule):
        set_call_form(twin.graph)  # a file returns the tensors, in order
        apply_workarounds(twin)
        for node in twin.graph.nodes:
            node.meta[_NOTE] = node.name
    with hushed(), torch.no_grad():
        exported = torch.export.export(twin, inputs, dynamic_shapes=dynamic_shapes, strict=False)
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)  # files of this machine
    return exported


def origin(node: fx.Node) -> str | None:
    """Names the node of the module's graph that a node of the ExportedProgram comes from."""
    made: Any = node.meta.get("from_node")
    name: str | None = None
    while made:
        name, made = made[-1].name, made[-1].from_node
    return name
