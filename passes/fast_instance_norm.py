"""Replaces each InstanceNorm by one that computes the same without copying its input.

Before   nn.InstanceNorm2d: copies its input to (1, N·C, H, W), then runs training-mode batch norm
After    gfx.ir.modules.FastInstanceNorm2d: the fastest torch kernel for the input's layout
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.nn.modules.instancenorm import _InstanceNorm

from gfx.contract import Context, Keeps, Outcome, Pass
from gfx.ir.modules import FAST, is_own
from gfx.ir.parametrizations import folding_in
from gfx.ir.program import Program

__all__ = ["FastInstanceNorm"]


@dataclass(frozen=True)
class FastInstanceNorm(Pass):
    """Replaces each InstanceNorm by one that computes the same, faster on a CPU.

    Inside torch.compile, torch.export and the ONNX exporter, and on other devices, the new layer
    calls torch's own instance_norm, which these optimise themselves.

    1. The norm is a layer of torch.nn, else skip: what a custom class computes is not known.
    2. It computes its statistics from its input, also in eval mode, else skip: with running
       statistics it is a scale and a shift.
    3. It has no hook or parametrization, else skip: these may depend on the class that runs.

    Shapes: every activation keeps its own; parameters keep their names.
    Cost: no count changes, `output+norm` included.

    Example:
        >>> import gfx, torch
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8)).eval()
        >>> quick = gfx.apply({"passes": ["fast_instance_norm"]}, model, torch.zeros(1, 3, 8, 8))
        >>> [type(m).__name__ for m in quick.children()]
        ['Conv2d', 'FastInstanceNorm2d']
    """

    name: ClassVar[str] = "fast_instance_norm"
    keeps: ClassVar[Keeps] = Keeps.VALUES

    targets: tuple[str, ...] = ("*",)  # globs over the module paths of the norms

    def apply(self, program: Program, context: Context) -> Outcome:
        """Replaces every norm that the rules allow."""
        outcome = Outcome()
        seen: set[int] = set()
        for node in program.nodes():
            module = program.submodule(node) if node.op == "call_module" else None
            if not isinstance(module, _InstanceNorm) or is_own(module) or id(module) in seen:
                continue
            seen.add(id(module))
            why = self._refusal(program, str(node.target), module)
            if why:
                outcome.skip(node, why)
                continue
            before = type(module).__name__
            # the same object under another class: it may be registered under several names
            module.__class__ = FAST[type(module)]
            outcome.change(node, "class", before, type(module).__name__)
        program.recompile()
        return outcome

    def _refusal(self, program: Program, path: str, module: nn.Module) -> str:
        """Says why a norm cannot be replaced; "" if it can."""
        if not self.named(path):
            return f"not in targets {', '.join(self.targets)}"
        if type(module) not in FAST:  # rule 1
            return f"{type(module).__name__} is a class of its own: what it computes is not known"
        if module.track_running_stats:  # rule 2
            return "it uses running statistics (track_running_stats=True)"
        hooks = (*module._forward_hooks, *module._forward_pre_hooks)
        if hooks or hasattr(module, "parametrizations"):  # rule 3
            return f"it has a hook or parametrization; {folding_in(program, path)}"
        return ""
