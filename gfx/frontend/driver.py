"""Traces any generator into a Program: tries each front end in turn."""

from typing import Any

from torch import fx, nn

from gfx.frontend.call_arguments import by_place
from gfx.frontend.equivalence import EquivalenceCheck
from gfx.frontend.front_end_search import FrontEndSearch, written_out
from gfx.frontend.inputs.bind import bind
from gfx.frontend.inputs.infer import Inferred, infer, remembered
from gfx.frontend.private_copy import private_copy
from gfx.io.archive import ModelPath, as_module
from gfx.ir.program import Program, Provenance
from gfx.ir.shapes.fake_runner import leaf_results
from gfx.ir.shapes.propagate import note_shapes
from gfx.objects.call_form import is_plain_call, stand_ins
from gfx.progress import Progress, reported

__all__ = ["trace", "traced"]


@reported
def trace(
    model: nn.Module | ModelPath,
    example_inputs: Any = None,
    *,
    check: bool = True,
    progress: Progress = False,
) -> Program:
    """Turns a generator into a program; the model is left unchanged.

    1. torch.fx symbolic trace, with torch.nn layers whole.
    2. Where that fails or computes something else: torch.export, raised to the same form.
    3. Where one submodule defeats both, it stays whole, with a reason in `provenance.opaque`.
    4. A GraphModule is copied and used as it is, but for attention: nn.MultiheadAttention is
       written out as operations on its parameters, as in the graphs of both front ends.

    `model` may be a path, which is opened as `gfx.open_model` does, or `zoo:NAME`; so it is with
    every function that takes a model. `example_inputs` is a tensor, a tuple of arguments, or a
    dictionary of arguments by name. None takes those that a graph of gfx's own was made with, or
    infers them from the model and states in `provenance.assumed` what was assumed. Arguments that
    are no tensors are fixed at the value given, or at their default.

    `check=True` runs the model and the graph once each on the example inputs, in eval mode, and
    compares the results; `check=False` only checks that the shapes fit. `progress=True` shows a
    line on stderr; a function is called with each `gfx.progress.ProgressEvent`.

    Raises: InputError if the model does not run on the inputs, or none can be inferred;
    TraceError if no front end can take the model.

    Example:
        >>> import torch
        >>> program = trace(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), torch.ones(1, 3, 8, 8))
        >>> print(program.text())
        program Sequential (symbolic)
          input_1 = placeholder[input]
          _0 = Conv2d[0](input_1)
          _1 = ReLU[1](_0)
          return _1
    """
    program = traced(as_module(model), example_inputs, check=check)
    if "_code" not in vars(program.module):
        program.module.recompile()
    return program


def traced(model: nn.Module, example_inputs: Any, *, check: bool) -> Program:
    """Does what `trace` does; without the check, the graph is not compiled before it runs."""
    twin = private_copy(model)
    lost = _gradient_hooks(model)
    if example_inputs is not None:
        inputs = Inferred(bind(twin, example_inputs))
    else:
        inputs = remembered(twin) or infer(twin, smaller=check)
    if isinstance(twin, fx.GraphModule) and is_plain_call(twin.graph):
        return _given(twin, inputs, type(model).__name__, check, lost)
    return FrontEndSearch(twin, inputs, check, lost).run()


def _gradient_hooks(model: nn.Module) -> tuple[str, ...]:
    """Says which gradients hooks on parameters change: no copy of a model has these hooks."""
    paths = [path for path, parameter in model.named_parameters() if parameter._backward_hooks]
    return tuple(
        f"the gradient hook of {path} is not in the result: register it there anew to train it so"
        for path in paths
    )


def _given(
    module: fx.GraphModule, inputs: Inferred, source: str, check: bool, lost: tuple[str, ...]
) -> Program:
    """Takes a GraphModule as it is (rule 4), but for the places of arguments."""
    if by_place(module, module.graph):
        module.recompile()
    equivalence = EquivalenceCheck(module, inputs.arguments, check=False)
    if not equivalence.fits(module, keep=not check):
        equivalence.result(training=False)
    written_out(module, equivalence)
    notes = tuple(
        f"the graph returns {what}; gfx.open_model(file, trust=True) imports the class"
        for what in stand_ins(module.graph)
    )
    provenance = Provenance(source, "given", inputs.assumed, notes=(*notes, *lost))
    program = Program(module, inputs.arguments.inputs(), provenance)
    leaf_results(provenance).update(equivalence.leaves)
    note_shapes(program)
    return program
