"""Says which widths every channel group may have, for a supernet that is trained next.

Before   y = f(x)
After    y = f(x)          and the program keeps the widths of its groups
Source   Li et al. 2020, arXiv:2003.08936 (GAN Compression), section 3.3 and appendix 6.2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from gfx.compression.selection.width_choices import SUPERNET, Values, WidthChoices, require_choice
from gfx.contract import Context, Keeps, Outcome, Pass, Skip
from gfx.coupling import analyse
from gfx.errors import prefixed
from gfx.ir.program import Program

__all__ = ["Widths"]


@dataclass(frozen=True)
class Widths(Pass):
    """Notes in the program which widths its groups may have.

    `gfx.supernet` and the `sample:` of a stage make a supernet of it; `gfx.save` writes the widths
    too. A subnet has the first channels of each group: sort them first, by `sort_channels`.

    1. By default a group may have every multiple of `step` from the share `at_least` of it on, and
       all of its channels.
    2. `values` lists widths instead, in channels or shares, by glob over modules.
    3. `together` lists globs of groups that are chosen together: the k-th width of one is the k-th
       of all.

    Shapes: all stay.
    Cost: none.
    Raises: PreconditionError if no group has a choice.

    Example:
        >>> import gfx
        >>> recipe = {"passes": ["sort_channels", {"widths": {"values": {"*": [0.5, 1.0]}}}]}
        >>> gfx.supernet(gfx.apply(recipe, gfx.zoo.build("dcgan", ngf=8))).widths["up.0.conv"]
        (16, 32)
    """

    name: ClassVar[str] = "widths"
    keeps: ClassVar[Keeps] = Keeps.VALUES

    step: int = 8  # channels
    at_least: float = 0.25  # share of a group, 0 ≤ at_least ≤ 1
    min_channels: int = 4  # a group keeps at least as many, or all of its own
    values: Mapping[str, Values] = field(default_factory=dict)  # glob: widths, in place of rule 1
    together: tuple[tuple[str, ...], ...] = ()  # globs over modules

    def __post_init__(self) -> None:
        self._choices()

    def _choices(self) -> WidthChoices:
        return WidthChoices.read(
            {
                "step": self.step,
                "at_least": self.at_least,
                "min_channels": self.min_channels,
                "values": self.values,
                "together": self.together,
            }
        )

    def apply(self, program: Program, context: Context) -> Outcome:
        """Notes the widths, and reports those of each group."""
        groups = analyse(program)
        found, kept_whole = self._choices().of(groups)
        with prefixed(self.name):
            require_choice(found, kept_whole)
        outcome = Outcome()
        outcome.skips += [Skip(name, why) for name, why in kept_whole.items()]
        ties = self._choices().tied(groups, found)
        noted = {name: list(widths) for name, widths in found.items()}
        program.module.meta[SUPERNET] = {"widths": noted, "together": [list(t) for t in ties]}
        outcome.details["widths"] = noted
        return outcome
