"""What is fitted at once: a layer with all its calls, or a norm."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gfx.compression.refit.stepper import Steps
from gfx.compression.refit.targets import Goal, goal_of, has_statistics, own_goal, source
from gfx.compression.refit.unfold import FitLayer, Layer, refusal
from gfx.ir.program import Program

__all__ = ["FitRefusal", "NormStatistics", "Target", "Unit", "units"]


@dataclass(frozen=True)
class Target:
    """A layer whose weights are solved for."""

    path: str
    layer: FitLayer
    goals: tuple[Goal, ...]  # one for each call, in order
    shift: "NormStatistics | None"  # takes up the constant that a layer without bias cannot hold

    @property
    def olds(self) -> tuple[fx.Node, ...]:
        """The nodes of the original that are looked at."""
        return tuple(goal.old for goal in self.goals)


@dataclass(frozen=True)
class NormStatistics:
    """A norm whose running statistics are estimated anew."""

    path: str
    module: _BatchNorm
    original: _BatchNorm
    goals: tuple[Goal, ...]

    @property
    def before(self) -> tuple[Tensor, Tensor]:
        """The original's running mean and variance, of the channels that are left, in float64."""
        mean, var = self.original.running_mean, self.original.running_var
        assert mean is not None
        assert var is not None
        kept = self.goals[0].origin.kept.get(1)
        index = torch.arange(len(mean)) if kept is None else torch.tensor(kept)
        index = index.to(mean.device)
        return mean.double()[index], var.double()[index]

    @property
    def drift(self) -> Tensor:
        """How far the running mean is from the original's."""
        assert self.module.running_mean is not None
        return self.module.running_mean.double() - self.before[0]

    @property
    def olds(self) -> tuple[fx.Node, ...]:
        """The nodes of the original that are looked at: what its norm reads."""
        return tuple(source(goal.old) for goal in self.goals)


@dataclass(frozen=True)
class FitRefusal:
    """A layer that cannot be fitted."""

    path: str
    why: str


Unit = Target | NormStatistics


def units(program: Program, original: Program, new: Steps) -> Iterator[Unit | FitRefusal]:
    """Lists what can be fitted in the order in which the program first calls it."""
    calls: dict[int, list[fx.Node]] = {}
    for node in new.nodes:
        if node.op == "call_module":
            calls.setdefault(id(program.submodule(node)), []).append(node)
    owners = _owners(program)
    for nodes in calls.values():
        module, path = program.submodule(nodes[0]), str(nodes[0].target)
        if isinstance(module, _BatchNorm):
            found: Unit | FitRefusal | None = _norm(program, original, nodes)
        elif list(module.parameters(recurse=False)):
            found = _target(program, original, new, nodes)
        else:
            continue
        tied = [n for n, t in module.named_parameters() if owners[id(t)] > 1]
        if tied and isinstance(found, Target):
            found = FitRefusal(path, f"its {tied[0]} serves another place too")
        if found is not None:
            yield found


def _target(
    program: Program, original: Program, new: Steps, nodes: list[fx.Node]
) -> Target | FitRefusal | None:
    module, path = program.submodule(nodes[0]), str(nodes[0].target)
    why = refusal(module, program, path)
    if why:
        return FitRefusal(path, why) if "is no convolution" not in why else None
    goals = []
    for node in nodes:
        goal = goal_of(program, original, new, node)
        if goal is None:
            return FitRefusal(path, "no activation of the original is known to be its output")
        goals.append(goal)
    shift = _shift(program, original, nodes) if module.bias is None else None
    return Target(path, FitLayer(cast(Layer, module)), tuple(goals), shift)


def _shift(program: Program, original: Program, nodes: list[fx.Node]) -> NormStatistics | None:
    """Finds the norm that a layer alone feeds, and that nothing else feeds."""
    users = [user for node in nodes for user in node.users]
    if len(nodes) != 1 or len(users) != 1 or users[0].op != "call_module":
        return None
    module = program.submodule(users[0])
    called = sum(
        n.op == "call_module" and program.submodule(n) is module for n in program.graph.nodes
    )
    if not isinstance(module, _BatchNorm) or called != 1:
        return None
    return _norm(program, original, users)


def _norm(program: Program, original: Program, nodes: list[fx.Node]) -> NormStatistics | None:
    """Finds a norm's counterpart; None if it keeps no statistics, or has none."""
    module = cast(_BatchNorm, program.submodule(nodes[0]))
    if not has_statistics(module):
        return None
    goals = []
    for node in nodes:
        goal = own_goal(original, node)
        if goal is None:
            return None
        goals.append(goal)
    olds = [goal.old for goal in goals]
    if any(old.op != "call_module" for old in olds):
        return None
    other: nn.Module = original.submodule(olds[0])
    if not isinstance(other, _BatchNorm) or not has_statistics(other):
        return None
    return NormStatistics(str(nodes[0].target), module, other, tuple(goals))


def _owners(program: Program) -> Counter[int]:
    """Counts the modules that hold each parameter, and the nodes that read it by name."""
    tensors = dict(program.module.named_parameters(remove_duplicate=False))
    owners: Counter[int] = Counter()
    for module in program.module.modules():
        owners.update(id(t) for t in module._parameters.values() if t is not None)
    for node in program.graph.nodes:
        if node.op == "get_attr" and str(node.target) in tensors:
            owners[id(tensors[str(node.target)])] += 1
    return owners
