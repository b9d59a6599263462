"""Folds each BatchNorm into the convolution or linear layer before it.

Before   y = bn(conv(x))
After    y = conv'(x)
         weight' = weight · s,  bias' = (bias - mean) · s + beta,  s = gamma / √(var + eps)
Source   Jacob et al. 2018, arXiv:1712.05877 (batch normalization folding).
"""

from collections import Counter
from dataclasses import dataclass
from operator import attrgetter
from typing import ClassVar, cast

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from gfx.contract import Context, Keeps, Outcome, Pass
from gfx.errors import PreconditionError
from gfx.ir.computed_tensors import folding
from gfx.ir.modules import is_known, penalised
from gfx.ir.node_origin import stands_for
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate

__all__ = ["FuseBatchNorm"]

Layer = _ConvNd | nn.Linear


@dataclass(frozen=True)
class FuseBatchNorm(Pass):
    """Folds an eval-mode BatchNorm into the Conv, ConvTranspose or Linear that feeds it.

    1. The norm is fed by a plain torch.nn convolution, or a Linear of (N, C), else skip.
    2. That layer feeds only the norm, else skip: other nodes read its own output.
    3. Layer and norm are called once and share no tensor, else skip: other places use them.
    4. The norm uses running statistics, else skip: there is nothing constant to fold.
    5. Neither has a hook or a parametrization, else skip: its tensors are not what runs.
    6. Norm or layer has a bias to hold the shift, else skip: parameters would grow.
    7. No penalty names the scale of the norm, else skip: it would name the layer's weight.
    8. A layer that masks its weight keeps its mask: zero times a scale is zero.

    Shapes: every activation keeps its own.
    Cost: parameters fall by 2·C per pair, by C if the layer had no bias.
    Raises: PreconditionError if the program is in training mode.

    Example:
        >>> import gfx
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval()
        >>> fused = gfx.apply({"passes": ["fuse_batch_norm"]}, model, torch.zeros(1, 3, 8, 8))
        >>> [type(m).__name__ for m in fused.children()]
        ['Conv2d']
    """

    name: ClassVar[str] = "fuse_batch_norm"
    keeps: ClassVar[Keeps] = Keeps.VALUES

    targets: tuple[str, ...] = ("*",)  # globs over the module paths of the norms

    def requires(self, program: Program) -> None:
        """Raises PreconditionError if the program is in training mode."""
        if program.training:
            raise PreconditionError(
                f"{self.name}: the model is in training mode, where BatchNorm uses the batch's own "
                "statistics; call model.eval() first"
            )

    def apply(self, program: Program, context: Context) -> Outcome:
        """Folds every pair that the rules allow."""
        outcome = Outcome()
        propagate(program)  # rule 1 needs the rank of a Linear's output
        uses = _Uses(program)
        for norm in program.nodes():
            if norm.op != "call_module" or not isinstance(program.submodule(norm), _BatchNorm):
                continue
            why = self._refusal(program, norm, uses)
            if why:
                outcome.skip(norm, why)
                continue
            layer = norm.all_input_nodes[0]
            _fold(*_pair(program, layer, norm))
            outcome.change(norm, f"folded into {layer.target}")
            stands_for(layer, norm)
            norm.replace_all_uses_with(layer)
            program.graph.erase_node(norm)
        program.recompile()
        return outcome

    def _refusal(self, program: Program, norm: fx.Node, uses: "_Uses") -> str:
        """Says why a norm cannot be folded; "" if it can."""
        if not self.named(str(norm.target)):
            return f"not in targets {', '.join(self.targets)}"
        layer = norm.all_input_nodes[0] if norm.all_input_nodes else None
        if layer is None or not _is_foldable(program, layer):
            fed = "nothing" if layer is None else _spell(program, layer)
            return f"fed by {fed}, not by a convolution, or a linear layer of (N, C)"  # rule 1
        if len(layer.users) > 1:  # rule 2
            return f"{layer.target} feeds {len(layer.users)} nodes"
        if penalised(program.module, norm):  # rule 7
            return "a penalty names its scale; run fold_masks before"
        return uses.shared(layer, norm) or _obstacle(*_pair(program, layer, norm))


class _Uses:
    """Counts the calls of each module and the owners of each tensor."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.calls: Counter[int] = Counter()
        # the modules that hold a tensor, and the nodes that read it by name
        tensors = program.module.named_parameters(remove_duplicate=False)
        self.owners = Counter(id(tensor) for _, tensor in tensors)
        for node in program.nodes():
            if node.op == "call_module":
                self.calls[id(program.submodule(node))] += 1
            elif node.op == "get_attr":
                self.owners[id(attrgetter(str(node.target))(program.module))] += 1

    def shared(self, *nodes: fx.Node) -> str:
        """Says which of some modules, or of their tensors, is used in another place (rule 3)."""
        for node in nodes:
            module = self.program.submodule(node)
            if self.calls[id(module)] > 1:
                return f"{node.target} is called {self.calls[id(module)]} times"
            for name, tensor in module.named_parameters():
                if self.owners[id(tensor)] > 1:
                    return f"{node.target}.{name} is shared with another place"
        return ""


def _is_foldable(program: Program, layer: fx.Node) -> bool:
    """Whether rule 1 holds for the node that feeds a norm."""
    module = program.submodule(layer) if layer.op == "call_module" else None
    if isinstance(module, nn.Linear):
        return bool(layer.meta["val"].ndim == 2)
    return isinstance(module, _ConvNd)


def _pair(program: Program, layer: fx.Node, norm: fx.Node) -> tuple[Layer, _BatchNorm]:
    return cast(Layer, program.submodule(layer)), cast(_BatchNorm, program.submodule(norm))


def _obstacle(layer: Layer, norm: _BatchNorm) -> str:
    """Says why a layer and its norm cannot be folded (rules 4, 5, 6); "" if they can."""
    if norm.training:
        return "the norm itself is in training mode"
    if norm.running_mean is None or norm.running_var is None:
        return "it keeps no running statistics (track_running_stats=False)"
    for module in (layer, norm):
        kind = type(module).__name__
        hooked = module._forward_hooks or module._forward_pre_hooks
        if hasattr(module, "parametrizations") or hooked:
            return f"its {kind} has a hook or parametrization; {folding(module)}"
        if not is_known(module):
            return f"{kind} is a class of its own: what it computes is not known"
    if layer.bias is None and norm.bias is None:
        return "neither the norm nor the layer has a bias to hold the shift"
    return ""


@torch.no_grad()
def _fold(layer: Layer, norm: _BatchNorm) -> None:
    """Writes a norm into a layer's weight and bias, in float64, stored in the layer's dtype."""
    old = layer.weight
    mean, var = cast(torch.Tensor, norm.running_mean), cast(torch.Tensor, norm.running_var)
    mean, scale = mean.double(), (var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -mean * scale
    if layer.bias is not None:
        shift = shift + layer.bias.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    weight = (old.double() * _along_outputs(layer, scale)).to(old.dtype)
    grad = (layer.bias if layer.bias is not None else norm.bias).requires_grad
    layer.weight = nn.Parameter(weight, requires_grad=old.requires_grad)
    layer.bias = nn.Parameter(shift.to(old.dtype), requires_grad=grad)


def _along_outputs(layer: Layer, scale: torch.Tensor) -> torch.Tensor:
    """Reshapes a (C,) scale so that it multiplies a layer's weight per output channel.

    Shapes: a transposed convolution's weight is (in, out / groups, ...), its outputs are ordered by
    group; every other weight is (out, ...).
    """
    if not isinstance(layer, _ConvTransposeNd):
        return scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
    per_group = scale.reshape(layer.groups, 1, -1)
    rows = per_group.expand(-1, layer.in_channels // layer.groups, -1).flatten(0, 1)
    return rows.reshape(*rows.shape, *[1] * (layer.weight.ndim - 2))


def _spell(program: Program, node: fx.Node) -> str:
    if node.op == "call_module":
        return f"{node.target} ({type(program.submodule(node)).__name__})"
    return node.name
