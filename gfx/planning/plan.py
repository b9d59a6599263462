"""Defines plans (forms of layers and widths of groups), and builds the resulting program."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gfx.compression.factor import Form, refusal, skeleton
from gfx.costs import Cost
from gfx.coupling import Groups
from gfx.coupling.removal import narrowed
from gfx.ir.layers import layers_of
from gfx.ir.program import Program
from gfx.ir.random_state import keep_random_state
from gfx.ir.rewrite import split

__all__ = ["Decision", "Plan", "rewritten"]


@dataclass(frozen=True)
class Plan:
    """Maps layers to forms and groups to widths; what is not listed stays unchanged.

    Example:
        >>> Plan(widths={"conv": 8}) == Plan(widths={"conv": 4})
        False
    """

    forms: Mapping[str, Form] = field(default_factory=dict)  # by layer
    widths: Mapping[str, int] = field(default_factory=dict)  # by group: channels that stay
    damage: float = 0.0  # the sum of those of the options taken, where it was measured

    def __hash__(self) -> int:
        return hash((frozenset(self.forms.items()), frozenset(self.widths.items())))


@dataclass(frozen=True)
class Decision:
    """Holds a plan that was tried, and the cost of the resulting program."""

    plan: Plan
    cost: Cost
    predicted: Mapping[str, float] = field(default_factory=dict)  # by budget on latency: ms
    measured: Mapping[str, float] = field(default_factory=dict)  # the same, if it was measured

    @property
    def forms(self) -> Mapping[str, Form]:
        """The forms of the layers that are rewritten."""
        return self.plan.forms

    @property
    def widths(self) -> Mapping[str, int]:
        """The widths of the groups that are narrowed."""
        return self.plan.widths

    @property
    def damage(self) -> float:
        """The sum of the damages of the options taken."""
        return self.plan.damage

    @property
    def timings(self) -> dict[str, Any]:
        """Returns the latencies for the report; empty if none was measured."""
        if not self.measured:
            return {}
        return {"foreseen": dict(self.predicted), "measured": dict(self.measured)}


def rewritten(groups: Groups, plan: Plan, *, content: bool = False) -> Program:
    """Returns the program that results from a plan, to count it or time it.

    Its values mean nothing: the last channels of narrowed groups are removed, and other forms have
    weights as torch draws them. Without content, the program has shapes only.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> small = rewritten(groups, Plan({"to_rgb": Form()}, {"project.conv": 20}))
        >>> small.tensor("to_rgb.depthwise.weight").shape, small.tensor("project.conv.weight").shape
        (torch.Size([4, 1, 4, 4]), torch.Size([100, 20, 4, 4]))
    """
    small = narrowed(groups, plan.widths, content=content)
    with keep_random_state():  # later random numbers stay the same
        for layer in layers_of(small):
            form = plan.forms.get(layer.path)
            if form is not None and not refusal(layer.module, form):
                device = layer.convolution.weight.device
                split(small, layer.path, skeleton(layer.convolution, form, device))
    small.recompile()
    return small
