"""Makes activations and sums write into an operand that nothing else reads.

Before   y = relu(norm(x)),   z = x + y
After    y = relu_(norm(x)),  z = y.add_(x)
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from gfx.contract import Context, Keeps, Outcome, Pass
from gfx.ir.modules import is_known
from gfx.ir.ops import is_inplace, op_name
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate

__all__ = ["WriteInPlace"]

# autograd computes their gradient from the result, so training does not change
_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.ReLU6, nn.Hardtanh, nn.ELU, nn.SELU, nn.CELU)
_FUNCTIONS = ("relu", "leaky_relu")
# their result is new memory, which their own gradient does not need
_FRESH_LAYERS = (_ConvNd, nn.Linear, _NormBase, nn.GroupNorm, nn.LayerNorm)
_FRESH = frozenset(["add", "sub", "cat", "conv2d", "conv_transpose2d", "linear", "batch_norm"])


@dataclass(frozen=True)
class WriteInPlace(Pass):
    """Makes activations and residual sums overwrite an operand, which saves allocating memory.

    On a CPU new memory costs more than the arithmetic: its pages are mapped on first use. Values
    and gradients stay the same to the bit.

    1. The operand that is overwritten has one reader, which is not an output.
    2. It is the result of a convolution, linear layer, norm, sum or cat, which is new memory and
       not needed for their gradients; else skip.
    3. The gradient of an activation can be computed from its result, as that of ReLU; else skip.
    4. A sum has the shape and dtype of the operand that it overwrites.
    5. A layer that is called several times is changed if all calls allow it.

    Shapes: every activation keeps its own.
    Cost: no count changes; peak memory falls.

    Example:
        >>> import gfx
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval()
        >>> lean = gfx.apply({"passes": ["write_in_place"]}, model, torch.zeros(1, 3, 8, 8))
        >>> lean.get_submodule("1")
        ReLU(inplace=True)
    """

    name: ClassVar[str] = "write_in_place"
    keeps: ClassVar[Keeps] = Keeps.VALUES

    targets: tuple[str, ...] = ("*",)  # globs over module paths of activations, or node names

    def apply(self, program: Program, context: Context) -> Outcome:
        """Changes every activation and sum that the rules allow."""
        outcome = Outcome()
        propagate(program)  # rule 4 needs shapes
        fresh = {node for node in program.nodes() if _is_fresh(program, node)}  # before any edit
        calls: dict[int, list[fx.Node]] = defaultdict(list)
        for node in program.nodes():
            if node.op == "call_module" and _may_write(program.submodule(node)):
                calls[id(program.submodule(node))].append(node)
            elif not self._takes(node) or is_inplace(node):
                continue
            elif op_name(node) in _FUNCTIONS and node.args and node.args[0] in fresh:
                _write_function(node, outcome)
            elif op_name(node) == "add":
                _write_sum(node, fresh, outcome)
        for nodes in calls.values():
            self._write_layer(program, nodes, fresh, outcome)
        program.recompile()
        return outcome

    def _takes(self, node: fx.Node) -> bool:
        path = str(node.target) if node.op == "call_module" else node.name
        return self.named(path)

    def _write_layer(
        self, program: Program, nodes: list[fx.Node], fresh: set[fx.Node], outcome: Outcome
    ) -> None:
        """Sets a layer to write in place, if all its calls allow it (rule 5)."""
        first = nodes[0]
        module: Any = program.submodule(first)
        if not all(self._takes(node) for node in nodes):
            outcome.skip(first, f"not in targets {', '.join(self.targets)}")
            return
        read = [operand for node in nodes for operand in node.all_input_nodes]
        held = next((operand for operand in read if operand not in fresh), None)
        if held is not None:
            outcome.skip(first, _why_held(program, held))
            return
        module.inplace = True
        outcome.change(first, "inplace", False, True)


def _may_write(module: nn.Module) -> bool:
    """Whether a layer is an activation that rule 3 allows, and does not write in place yet."""
    if type(module) not in _ACTIVATIONS or getattr(module, "inplace", True):
        return False
    if module._forward_hooks or module._forward_pre_hooks:
        return False
    return not isinstance(module, nn.LeakyReLU) or module.negative_slope >= 0


def _is_fresh(program: Program, node: fx.Node) -> bool:
    """Whether a node's result may be overwritten by its only reader (rules 1, 2)."""
    if len(node.users) != 1 or next(iter(node.users)).op == "output":
        return False
    if node.op == "call_module":
        module = program.submodule(node)
        hooked = module._forward_hooks or module._forward_pre_hooks
        return isinstance(module, _FRESH_LAYERS) and is_known(module) and not hooked
    return op_name(node) in _FRESH and not is_inplace(node) and "out" not in node.kwargs


def _why_held(program: Program, node: fx.Node) -> str:
    if len(node.users) > 1:
        return f"{node.name} is read by {len(node.users)} nodes"
    return f"{node.name} may not be overwritten: its memory may be another's, or be asked for again"


def _write_function(node: fx.Node, outcome: Outcome) -> None:
    """Makes relu or leaky_relu write in place, by the function that takes `inplace`."""
    if op_name(node) == "relu":
        node.args, node.kwargs = (node.args[0],), {"inplace": True}
        node.target = F.relu
    else:
        slope: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("negative_slope", 0.01)
        if not isinstance(slope, int | float) or slope < 0:  # rule 3
            outcome.skip(node, "its slope is negative: the result does not tell the sign")
            return
        node.args, node.kwargs = (node.args[0], slope), {"inplace": True}
        node.target = F.leaky_relu
    node.op = "call_function"
    outcome.change(node, "inplace", False, True)


def _write_sum(node: fx.Node, fresh: set[fx.Node], outcome: Outcome) -> None:
    """Makes a sum write into one of its terms (rule 4)."""
    if len(node.args) != 2 or node.kwargs:
        return
    first, second = node.args
    for term, other in ((second, first), (first, second)):
        if not isinstance(term, fx.Node) or term not in fresh or term is other:
            continue
        if not _fits(term, other, node):
            continue
        node.op, node.target, node.args = "call_method", "add_", (term, other)
        outcome.change(node, "sum", "in memory of its own", f"written into {term.name}")
        return
    if any(isinstance(a, fx.Node) and a.op != "get_attr" for a in (first, second)):
        outcome.skip(node, "none of its terms is fresh memory of its shape that nobody else reads")


def _fits(term: fx.Node, other: Any, node: fx.Node) -> bool:
    """Whether a sum has the shape and dtype of a term, and the other term is a tensor too."""
    values = [n.meta.get("val") if isinstance(n, fx.Node) else None for n in (term, other, node)]
    if not all(isinstance(value, torch.Tensor) for value in values):
        return False
    mine, _, whole = values
    return bool(mine.shape == whole.shape and mine.dtype == whole.dtype)  # type: ignore[union-attr]
