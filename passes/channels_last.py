"""Stores the weights of 2d convolutions in channels-last order, which CPU kernels read faster.

Before   conv.weight is stored as (out, in, height, width)
After    conv.weight is stored as (out, height, width, in), and activations in the same order
Source   torch's channels-last memory format: https://docs.pytorch.org/tutorials/intermediate/
         memory_format_tutorial.html
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import fx, nn
from torch.nn.modules.instancenorm import _InstanceNorm

from gfx.contract import Context, Keeps, Outcome, Pass
from gfx.ir.interpreter import descendants
from gfx.ir.modules import FAST, is_known
from gfx.ir.node_origin import stands_for
from gfx.ir.ops import is_inplace, op_name
from gfx.ir.parametrizations import folding_in
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate

__all__ = ["ChannelsLast"]

_CONVS = (nn.Conv2d, nn.ConvTranspose2d)
_VIEWS = {"view": "reshape", "view_as": "reshape_as"}
# the same memory under another shape, if the layout allows it
_RESHAPES = frozenset(["view", "view_as", "reshape", "reshape_as", "flatten", "ravel"])
_LAYOUT = frozenset(["as_strided", "stride", "is_contiguous", "storage_offset", "view_as_complex"])
_DRAWS = ("bernoulli", "normal", "uniform", "exponential", "cauchy", "geometric", "log_normal")


@dataclass(frozen=True)
class ChannelsLast(Pass):
    """Stores the weights of 2d convolutions in channels-last order; activations follow.

    A shape stays (N, C, H, W): only the order in memory changes. Kernels read all channels of a
    position at once, and nothing is reordered between two convolutions. Run this pass last: later
    passes keep the order of what they cut, fold or split, but may add activations in another.

    1. Views of activations become reshapes, which copy where the order in memory requires it.
    2. Outputs are made contiguous, as they were.
    3. A weight that has only one order (one row and column, or one channel) stays.
    4. A weight that a hook or parametrization computes is skipped.
    5. The whole program is skipped if a result depends on the order in memory: opaque leaves,
       strides that are read, writes into views, random numbers shaped like an activation.
    6. It is skipped if the order is slower or less exact: plain InstanceNorms copy their input (run
       fast_instance_norm before); GroupNorms compute the variance as E[x²] - E[x]².
    7. It is skipped on devices other than a CPU, where the gain was not measured.

    Shapes: every activation keeps its own.
    Cost: none of the counts changes.

    Example:
        >>> import gfx
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 3)).eval()
        >>> last = gfx.apply({"passes": ["channels_last"]}, model, torch.zeros(1, 3, 8, 8))
        >>> last.get_submodule("2").weight.stride()
        (72, 1, 24, 8)
    """

    name: ClassVar[str] = "channels_last"
    keeps: ClassVar[Keeps] = Keeps.VALUES

    targets: tuple[str, ...] = ("*",)  # globs over the module paths of the convolutions

    def apply(self, program: Program, context: Context) -> Outcome:
        """Stores every weight that the rules allow, and adapts views and outputs."""
        outcome = Outcome()
        found = dict(self._convolutions(program, outcome))
        propagate(program)
        reached = descendants(found)
        why = next(_obstacles(program, reached), "") if found else ""
        if why:  # rules 5, 6, 7
            for node in found:
                outcome.skip(node, why)
            return outcome
        for node, module in found.items():
            last = torch.channels_last
            if not module.weight.is_contiguous(memory_format=last):  # a call before may store it
                module.weight.data = module.weight.data.contiguous(memory_format=last)
                outcome.change(node, "weight", "row-major", "channels last")
        if found:
            _reshape(program, reached, outcome)
            _make_outputs_contiguous(program, reached, outcome)
        program.recompile()
        return outcome

    def _convolutions(
        self, program: Program, outcome: Outcome
    ) -> Iterator[tuple[fx.Node, nn.Conv2d]]:
        """Yields the convolutions whose weight has another order, and skips those it may not."""
        for node in program.nodes():
            module = program.submodule(node) if node.op == "call_module" else None
            if not isinstance(module, _CONVS):
                continue
            why = self._refusal(program, str(node.target), module)
            if why:
                outcome.skip(node, why)
            elif not module.weight.is_contiguous(memory_format=torch.channels_last):  # rule 3
                yield node, module  # type: ignore[misc]

    def _refusal(self, program: Program, path: str, module: nn.Module) -> str:
        """Says why a weight keeps its order; "" if it can be stored channels-last."""
        if not self.named(path):
            return f"not in targets {', '.join(self.targets)}"
        weight = module._parameters.get("weight")
        if weight is None or module._forward_pre_hooks:  # rule 4
            return f"its weight is computed before it runs; {folding_in(program, path)}"
        if not is_known(module):
            kind = type(module).__name__
            return f"{kind} is a class of its own: what it computes is not known"
        return ""


def _obstacles(program: Program, reached: set[fx.Node]) -> Iterator[str]:
    """Yields what depends on the order in memory, or is slow or inexact in another one."""
    if any(tensor.device.type != "cpu" for tensor in program.module.parameters()):
        yield "the model is not on a CPU: what the order brings elsewhere was not measured"
    for node in program.nodes():
        name = op_name(node)
        if node not in reached:
            continue
        if node.op == "call_module":
            yield from _slow(node, program.submodule(node))
        elif name == "instance_norm":
            yield f"{node.name} would copy what it normalises; write it as an nn.InstanceNorm2d"
        elif name == "group_norm":
            yield f"{node.name}: {_INEXACT}"
        elif name in _LAYOUT:
            yield f"{node.name} asks how its input lies in memory"
        elif name.startswith(_DRAWS) or (name.startswith("rand") and name.endswith("_like")):
            yield f"{node.name} draws random numbers in the order of memory"
        if name == "view" and any(isinstance(arg, torch.dtype) for arg in node.args):
            yield f"{node.name} reads memory as another type"
        if _writes_into_view(program, node):
            yield f"{node.name} writes into a view, which would be a copy"


_INEXACT = "the group_norm for channels-last input takes variances as E[x²] - E[x]², inexactly"


def _slow(node: fx.Node, module: nn.Module) -> Iterator[str]:
    if not is_known(module):
        yield f"{node.target} is opaque: its code may ask how its input lies in memory"
    elif isinstance(module, _InstanceNorm) and type(module) not in FAST.values():
        hooked = module._forward_hooks or module._forward_pre_hooks or module.track_running_stats
        does = "" if hooked or type(module) not in FAST else "; run fast_instance_norm before"
        yield f"{node.target} would copy what it normalises{does}"
    elif isinstance(module, nn.GroupNorm) and node.meta["val"].ndim == 4:
        yield f"{node.target}: {_INEXACT}"


def _writes_into_view(program: Program, node: fx.Node) -> bool:
    """Whether a node writes into the memory of an activation through another shape of it."""
    inplace = node.op == "call_module" and getattr(program.submodule(node), "inplace", False)
    if not (inplace or is_inplace(node)):
        return False
    written, seen = node.all_input_nodes[0], False
    while written.all_input_nodes and (op_name(written) in _MOVES or is_inplace(written)):
        seen = seen or op_name(written) in _RESHAPES
        written = written.all_input_nodes[0]
    return seen


# results that may share the memory of their input
_MOVES = _RESHAPES | frozenset(
    "unflatten squeeze unsqueeze permute transpose movedim t getitem select narrow chunk split "
    "tensor_split unbind expand contiguous to detach unfold diagonal".split()
)


def _reshape(program: Program, reached: set[fx.Node], outcome: Outcome) -> None:
    """Turns views into reshapes (rule 1)."""
    for node in program.nodes():
        if node.op == "call_method" and node in reached and node.target in _VIEWS:
            before, node.target = node.target, _VIEWS[str(node.target)]
            outcome.change(node, "method", before, node.target)


def _make_outputs_contiguous(program: Program, reached: set[fx.Node], outcome: Outcome) -> None:
    """Makes the outputs contiguous (rule 2)."""
    output = next(node for node in program.nodes() if node.op == "output")
    for node in output.all_input_nodes:
        if node not in reached or not isinstance(node.meta.get("val"), torch.Tensor):
            continue
        if op_name(node) == "contiguous" and not node.kwargs:
            continue
        with program.graph.inserting_before(output):
            put = program.graph.call_method("contiguous", (node,))
        stands_for(put, node)
        output.replace_input_with(node, put)
        outcome.change(put, "output", "in any order", "contiguous")
