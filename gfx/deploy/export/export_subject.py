"""Holds the model that an exported file is compared with: as given, in eval mode."""

from typing import Any

from torch import fx, nn

from gfx.frontend import trace
from gfx.frontend.inputs.bind import Arguments, bind
from gfx.frontend.private_copy import private_copy
from gfx.ir.ops import op_name
from gfx.ir.program import Program

__all__ = ["ExportSubject", "depends_on_mode", "subject"]


class ExportSubject:
    """A program to export, and the model it was traced from; both are private copies.

    Comparisons run the model itself, which may differ from its trace at other sizes.
    """

    def __init__(self, program: Program, model: nn.Module, training: bool) -> None:
        self.program = program
        self.model = model
        self.training = training and depends_on_mode(program)  # of the given model


def subject(model: nn.Module | Program, example_inputs: Any = None) -> ExportSubject:
    """Traces a copy of a model in eval mode.

    Raises: GfxError if it cannot be traced.

    Example:
        >>> import torch
        >>> found = subject(nn.Sequential(nn.Conv2d(3, 8, 3)), torch.ones(1, 3, 8, 8))
        >>> found.training, found.program.training, found.model(torch.ones(1, 3, 8, 8)).shape
        (False, False, torch.Size([1, 8, 6, 6]))
    """
    if isinstance(model, Program):
        program = model.copy()
        program.module.eval()
        return ExportSubject(program, program.module, model.training)
    twin = private_copy(model).eval()
    program = trace(twin, example_inputs)
    program.module.eval()
    if isinstance(twin, fx.GraphModule):
        return ExportSubject(program, program.module, model.training)
    given = program.example_inputs if example_inputs is None else example_inputs
    return ExportSubject(program, _Called(twin, bind(twin, given)).eval(), model.training)


def depends_on_mode(program: Program) -> bool:
    """Whether a program has a norm or a dropout that computes something else in training."""
    kinds = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
    modules = [m for m in program.module.modules() if isinstance(m, kinds)]
    tracked = [m for m in modules if getattr(m, "running_mean", True) is not None]
    return bool(tracked) or any(op_name(node) == "dropout" for node in program.nodes())


class _Called(nn.Module):
    """Calls a model, with inputs for those arguments that its graph takes."""

    def __init__(self, model: nn.Module, arguments: Arguments) -> None:
        super().__init__()
        self.model = model
        self.arguments = arguments

    def forward(self, *inputs: Any) -> Any:
        given = iter(inputs)
        items = self.arguments.items
        values = [next(given) if item.is_input else item.value for item in items]
        return self.arguments.call(self.model, values)
