"""What a layer's output should be, told by the original program.

The original tells the output of the layer itself, or, where the layer only leads to a sum whose
other operand is known, that sum: what the other operand lacks is then made up for. Norms on the
way are undone, with the statistics that they have at present.

    wanted = norm⁻¹(original sum - other operand), or the original's output

Where a ReLU follows, what it cuts off need not be met: there every output below zero is right.

Source: He et al. 2017, arXiv:1707.06168, section 3.3 (multi-branch networks); Zhang et al. 2015,
arXiv:1505.06798, section 3.2 (nonlinear responses).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from gfx.compression.refit.stepper import Steps
from gfx.ir.node_origin import Origin, origin_in
from gfx.ir.ops import op_name
from gfx.ir.program import Program

__all__ = ["Goal", "goal_of", "has_statistics", "own_goal", "source"]

_LEAST = 1e-6  # a scale below this share of the largest cannot be undone


@dataclass(frozen=True)
class Goal:
    """What one call of a layer should give."""

    call: fx.Node
    at: fx.Node  # where the original is met: the call, or the sum that it leads to
    between: tuple[fx.Node, ...]  # norms on the way, in order
    other: fx.Node | None  # the other operand of the sum
    old: fx.Node  # of the original program
    origin: Origin
    cut: bool = False  # whether only a ReLU reads what is met

    @property
    def reads(self) -> tuple[fx.Node, ...]:
        """The nodes of the present program whose values `wanted` looks at."""
        others = () if self.other is None else (self.other,)
        return (source(self.call), self.call, *self.between, *others)

    def wanted(self, program: Program, values: Mapping[fx.Node, Any], old: Tensor) -> Tensor:
        """Returns what the call should give; `old` is the value of `self.old`."""
        found = self.origin.of(old)
        if self.other is not None:
            found = found - values[self.other]
        return found if self.at is self.call else self._back(program, values, found)

    def let_through(
        self, program: Program, values: Mapping[fx.Node, Any], wanted: Tensor
    ) -> Tensor:
        """Returns what the call should give so that the ReLU gives what it gives for `wanted`.

        Where both are cut off, that is what the call gives at present.
        """
        present = values[self.call]
        zero = torch.zeros_like(present)
        if self.other is not None:
            zero = zero - values[self.other]
        level, sign = self._back(program, values, zero), self._sign(program, present)
        own = level if self.at is not self.call else self._back(program, values, zero, wanted)
        cut = sign * (wanted - own) <= 0
        missed = torch.where(sign * (present - level) <= 0, present, level)
        return torch.where(cut, missed, wanted)

    def _back(
        self,
        program: Program,
        values: Mapping[fx.Node, Any],
        found: Tensor,
        read: Tensor | None = None,
    ) -> Tensor:
        """Undoes the norms, which read their present inputs, or, the first of them, `read`."""
        for norm in reversed(self.between):
            x = values[source(norm)] if read is None or len(self.between) > 1 else read
            found = _undone(program.submodule(norm), found, x)
        return found

    def _sign(self, program: Program, like: Tensor) -> Tensor:
        """Returns whether more of the call's output is more of what the ReLU reads, by channel."""
        sign = torch.ones((), dtype=like.dtype, device=like.device)
        for norm in self.between:
            weight: Any = program.submodule(norm).weight
            if weight is not None:
                sign = sign * weight.sign().view([1, -1] + [1] * (like.ndim - 2))
        return sign


def source(node: fx.Node) -> fx.Node:
    """Returns what a module call reads.

    Example:
        >>> graph = fx.Graph()
        >>> x = graph.placeholder("x")
        >>> source(graph.call_module("conv", (x,)))
        x
    """
    return cast(fx.Node, node.args[0] if node.args else node.kwargs["input"])


def goal_of(program: Program, original: Program, steps: Steps, call: fx.Node) -> Goal | None:
    """Finds what a call should give; None if the original does not tell.

    Both programs have shapes.
    """
    between: list[fx.Node] = []
    node = call
    while len(node.users) == 1:
        user = next(iter(node.users))
        other = _other(user, node)
        if other is not None and steps.place[other] < steps.place[call]:
            met = _met(original, user)
            if met is not None:
                return Goal(call, user, tuple(between), other, *met, _is_cut(program, user))
            break
        if not _is_norm(program, user) or source(user) is not node:
            break
        between.append(user)
        node = user
    met = _met(original, call)
    if met is None or not _is_cut(program, node):
        return own_goal(original, call)
    return Goal(call, call, tuple(between), None, *met, True)


def own_goal(original: Program, call: fx.Node) -> Goal | None:
    """Lets a call give what the original's own gives; None if it is not known."""
    met = _met(original, call)
    return None if met is None else Goal(call, call, (), None, *met)


def _met(original: Program, node: fx.Node) -> tuple[fx.Node, Origin] | None:
    """Finds what a node stands for, if that has its shape."""
    met = origin_in(original, node)
    if met is None:
        return None
    old, new = met[0].meta.get("val"), node.meta.get("val")
    if not isinstance(old, Tensor) or not isinstance(new, Tensor) or old.ndim != new.ndim:
        return None
    shape = [len(met[1].kept.get(d, range(n))) for d, n in enumerate(old.shape)]
    return met if shape == list(new.shape) else None


def _other(user: fx.Node, node: fx.Node) -> fx.Node | None:
    """Returns the other operand, of the same shape, if a node adds two."""
    if op_name(user) != "add" or user.kwargs or len(user.args) != 2:
        return None
    others = [arg for arg in user.args if arg is not node]
    if len(others) != 1 or not isinstance(others[0], fx.Node):
        return None
    shapes = [getattr(n.meta.get("val"), "shape", None) for n in (others[0], node)]
    return others[0] if shapes[0] is not None and shapes[0] == shapes[1] else None


def _is_cut(program: Program, node: fx.Node) -> bool:
    """Whether nothing but one ReLU reads a node."""
    if len(node.users) != 1:
        return False
    user = next(iter(node.users))
    if user.op == "call_module":
        return type(program.submodule(user)) is nn.ReLU
    return op_name(user) == "relu"


def _is_norm(program: Program, node: fx.Node) -> bool:
    """Whether a node calls a norm that can be undone."""
    if node.op != "call_module":
        return False
    module = program.submodule(node)
    if isinstance(module, _InstanceNorm):
        return _invertible(module.weight)
    return isinstance(module, _BatchNorm) and has_statistics(module) and _invertible(module.weight)


def has_statistics(module: nn.Module) -> bool:
    """Whether a norm uses running statistics in eval mode."""
    return getattr(module, "running_mean", None) is not None


def _invertible(weight: Tensor | None) -> bool:
    if weight is None:
        return True
    sizes = weight.detach().abs()
    return bool(sizes.min() > _LEAST * sizes.max())


def _undone(module: nn.Module, y: Tensor, x: Tensor) -> Tensor:
    """Returns what a norm should read to give y, while it reads x."""
    norm = cast(Any, module)
    view = [1, -1] + [1] * (y.ndim - 2)
    if norm.weight is not None:
        y = (y - norm.bias.view(view)) / norm.weight.view(view)
    if has_statistics(module):
        mean, var = norm.running_mean.view(view), norm.running_var.view(view)
    else:
        dims = tuple(range(2, x.ndim))
        var, mean = torch.var_mean(x, dims, correction=0, keepdim=True)
    found: Tensor = y * torch.sqrt(var + norm.eps) + mean
    return found
