"""Shapes and dtypes on every node, without running the arithmetic."""

from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode

from gfx.errors import InputError
from gfx.program import Program

__all__ = ["propagate"]


def propagate(program: Program) -> None:
    """Writes the value of every node to `node.meta["val"]`.

    Tensors are fake (shape, dtype and device, no storage), integers and tuples are themselves.
    The example inputs decide the shapes. The program's tensors are not touched.

    Raises: InputError if a node does not run on the example inputs; it names the node.
    """
    _Propagator(program).run()


class _Propagator(fx.Interpreter):
    """Runs a graph on fake tensors, one leaf at a time."""

    def __init__(self, program: Program) -> None:
        super().__init__(program.module, garbage_collect_values=False)
        self.program = program
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)

    def run(self) -> Any:  # type: ignore[override]
        inputs = torch.utils._pytree.tree_map_only(
            torch.Tensor, self.mode.from_tensor, self.program.example_inputs
        )
        with self.mode, torch.no_grad():
            return super().run(*inputs)

    def run_node(self, n: fx.Node) -> Any:
        try:
            value = super().run_node(n)
        except Exception as error:
            shapes = ", ".join(_shape(a) for a in n.all_input_nodes)
            raise InputError(
                f"node {n.name} does not run on inputs of shape ({shapes}): {error}"
            ) from error
        n.meta["val"] = value
        return value

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        module = self.fetch_attr(target)
        # hooks of the old spectral_norm write a (here fake) weight onto the module: put it back
        saved = [(m, dict(m.__dict__)) for m in module.modules() if m._forward_pre_hooks]
        try:
            return module(*args, **kwargs)
        finally:
            for owner, attributes in saved:
                owner.__dict__.update(attributes)


def _shape(node: fx.Node) -> str:
    value = node.meta.get("val")
    return "x".join(map(str, value.shape)) if isinstance(value, torch.Tensor) else repr(value)
