"""Shapes and dtypes on every node, without running the arithmetic."""

from typing import Any

import torch
from torch import fx

from gfx.ir.program import Program
from gfx.ir.shapes.fake_runner import FakeRunner, Watch
from gfx.ir.torch_logging import quiet_torch

__all__ = ["propagate", "rerun"]


def propagate(program: Program) -> None:
    """Writes the value of every node to `node.meta["val"]`.

    Tensors are fake (shape, dtype and device, no storage), integers and tuples are themselves.
    The example inputs decide the shapes. The program's tensors are not touched. Tensors on the
    meta device count as being where the others are, or on the CPU.

    An opaque leaf that cannot run on fake tensors runs once for real, as a copy, on zeros.
    Values that are there already stay, if nothing they follow from has changed since.

    Raises: InputError if a node does not run on the example inputs; it names the node.

    Example:
        >>> from torch import fx, nn
        >>> program = Program(fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 8, 3))),
        ...                   (torch.empty(1, 3, 1024, 1024),))
        >>> propagate(program)
        >>> [tuple(node.meta["val"].shape) for node in program.nodes() if node.op != "output"]
        [(1, 3, 1024, 1024), (1, 8, 1022, 1022)]
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    if program.shapes_hold():
        return
    with quiet_torch():
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        inputs = program.example_inputs
        FakeRunner(program.module, inputs, mode, known=program.leaves).run(*inputs)
    program.note_shapes()


def rerun(program: Program, node: fx.Node, watch: Watch) -> Any:
    """Runs one node of a propagated program again, on the values its inputs had.

    `watch` makes a context, such as a dispatch mode that counts, that is entered around the call.
    If a leaf refuses fake tensors it is called again with a new context: the last one counts.

    Raises: InputError if the node does not run.
    """
    runner = FakeRunner(program.module, program.example_inputs, _mode(program), watch)
    runner.env = {n: n.meta["val"] for n in node.all_input_nodes}
    with torch.no_grad():
        return runner.evaluate(node)


def _mode(program: Program) -> Any:
    """Returns the mode that the values on the graph live in."""
    from torch._subclasses.fake_tensor import FakeTensor

    for node in program.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, FakeTensor):
            return value.fake_mode
    raise AssertionError("rerun needs a propagated program")
