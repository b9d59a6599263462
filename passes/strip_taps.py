"""Removes the taps that distill_taps inserted.

Before   y = f(tap(h))
After    y = f(h)
"""

from dataclasses import dataclass
from typing import ClassVar

from gfx.compression.taps import strip, taps
from gfx.contract import Context, Keeps, Outcome, Pass
from gfx.errors import PreconditionError, nearest
from gfx.ir.globs import matches
from gfx.ir.program import Program

__all__ = ["StripTaps"]


@dataclass(frozen=True)
class StripTaps(Pass):
    """Removes taps; the program is then the same as if they had not been inserted.

    1. The other nodes keep their names and their order; modules and tensors stay.

    Shapes: all stay.
    Cost: none.
    Raises: PreconditionError if a glob names no tap.

    Example:
        >>> import gfx
        >>> model = gfx.zoo.build("dcgan", ngf=4)
        >>> tapped = gfx.apply({"passes": ["distill_taps"]}, model)
        >>> plain = gfx.apply({"passes": ["strip_taps"]}, tapped)
        >>> plain.code == gfx.trace(model).module.code
        True
    """

    name: ClassVar[str] = "strip_taps"
    keeps: ClassVar[Keeps] = Keeps.VALUES

    targets: tuple[str, ...] = ("*",)  # globs over the names of taps

    def requires(self, program: Program) -> None:
        """Raises PreconditionError if a glob names no tap."""
        names = list(taps(program.module))
        for glob in self.targets:
            if glob != "*" and not matches(names, glob):
                near = nearest(glob, names, 3, cutoff=0.4) or names
                raise PreconditionError(
                    f"strip_taps: targets: no tap is named {glob!r}; "
                    f"there are {', '.join(near) or 'none: distill_taps puts them in'}"
                )

    def apply(self, program: Program, context: Context) -> Outcome:
        """Removes every tap that a glob names."""
        outcome = Outcome()
        for name, tap in taps(program.module).items():
            if not self.named(name):
                outcome.skip(name, f"not in targets {', '.join(self.targets)}")
                continue
            strip(program, tap)
            outcome.change(name, "tap", name, None)
        program.recompile()
        return outcome
