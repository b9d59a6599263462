"""The first half of an export: a module becomes an ExportedProgram of torch."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from gfx.copies import deepcopy
from gfx.quiet import quiet_torch

__all__ = ["capture", "hushed"]


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Keeps what torch and onnxscript say to programmers from the screen inside a with block."""
    with quiet_torch(), warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
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
    with hushed(), torch.no_grad():
        return torch.export.export(twin, inputs, dynamic_shapes=dynamic_shapes, strict=False)
