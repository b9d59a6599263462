"""Reads how long a stage trains: `epochs: 5+15`, `steps: 1000+1000`, `steps: 5%`.

The first number is at a constant learning rate, the second at one that falls linearly to 0.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from gfx.errors import MOST, RecipeError
from gfx.io.plain_data import shown

__all__ = ["RunLength", "StepCount"]

Unit = Literal["epochs", "steps"]

_NUMBER = r"\d+(?:\.\d+)?"
_SUM = re.compile(rf"\s*({_NUMBER})\s*(?:\+\s*({_NUMBER})\s*)?")
_SHARES = ", or a share of the steps of the teacher, as 5%"
_SHARE = re.compile(rf"\s*({_NUMBER})\s*%\s*")


@dataclass(frozen=True)
class StepCount:
    """Counts optimizer steps: at a constant learning rate, then while it falls.

    Example:
        >>> steps = StepCount(2, 2)
        >>> [steps.rate(step) for step in range(steps.total)]
        [1.0, 1.0, 0.6666666666666667, 0.33333333333333337]
    """

    constant: int
    falling: int = 0

    @property
    def total(self) -> int:
        """All steps."""
        return self.constant + self.falling

    def rate(self, step: int) -> float:
        """Returns the factor of the learning rate at a step, counted from 0."""
        return 1.0 - max(0, step + 1 - self.constant) / (self.falling + 1)


@dataclass(frozen=True)
class RunLength:
    """The length of a stage, in epochs or steps, or as a share of its teacher's steps.

    Example:
        >>> RunLength.read("5+15", "epochs").steps(steps_per_epoch=450)
        StepCount(constant=2250, falling=6750)
        >>> RunLength.read("5%", "steps").steps(450, teacher=9000)
        StepCount(constant=450, falling=0)
        >>> RunLength.read(20, "epochs").steps(450, scale=0.001)
        StepCount(constant=9, falling=0)
    """

    constant: float
    falling: float = 0.0
    unit: Unit = "epochs"
    share: bool = False  # of the teacher's steps, 0 to 1

    @staticmethod
    def read(value: Any, unit: Unit) -> "RunLength":
        """Reads a number, `a+b`, or `p%`.

        Raises: RecipeError if it is none of these, or nothing is trained.
        """
        text = str(value) if isinstance(value, int | float | str) else ""
        share = _SHARE.fullmatch(text)
        if share and unit == "steps":
            length = RunLength(float(share[1]) / 100, unit=unit, share=True)
        elif found := _SUM.fullmatch(text):
            length = RunLength(float(found[1]), float(found[2] or 0), unit)
        else:
            raise RecipeError(
                f"{unit} is {shown(value)}; give a number, as 20, or the constant and the falling "
                f"part, as '5+15'{_SHARES * (unit == 'steps')}"
            )
        if isinstance(value, bool) or not 0 < length.constant + length.falling <= MOST * 1000:
            raise RecipeError(f"{unit} is {shown(value)}; train for more than 0 {unit}")
        return length

    def steps(
        self, steps_per_epoch: int, teacher: int | None = None, scale: float = 1.0
    ) -> StepCount:
        """Returns the steps of this length times `scale`, one step at least.

        `teacher` is the number of steps of the stage that trained the teacher.

        Raises: RecipeError if it is a share of what is not known.
        """
        unit = float(steps_per_epoch) if self.unit == "epochs" else 1.0
        if self.share:
            if teacher is None:
                raise RecipeError(
                    f"steps is {self}, a share of the steps of the teacher, which no stage of "
                    "this recipe trains; give a number of steps"
                )
            # the stage of the teacher is scaled already
            return StepCount(max(1, round(teacher * self.constant)))
        # exact: 0.1 of 30 epochs is 3
        constant, falling = (
            round(Fraction(str(part)) * Fraction(str(unit)) * Fraction(str(scale)))
            for part in (self.constant, self.falling)
        )
        return StepCount(constant, falling) if constant + falling else StepCount(1)

    def __str__(self) -> str:
        if self.share:
            return f"{100 * self.constant:g}%"
        return f"{self.constant:g}" + (f"+{self.falling:g}" if self.falling else "")
