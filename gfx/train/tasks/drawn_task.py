"""A task without data: inputs are drawn, and what the original makes of them is the target."""

import copy
import random
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from torch import Tensor

from gfx.errors import InputError
from gfx.io.data.latents import reads_latents
from gfx.io.data.synthetic_inputs import synthetic
from gfx.ir.execute import tensors
from gfx.ir.program import Program
from gfx.train.tasks.task import Batch, Example, Task

__all__ = ["DrawnTask"]

_EPOCH, _HELD_OUT = 1024, 64  # examples
_SEEDS = 2**31


class DrawnTask(Task):
    """Draws the inputs of a generator that takes latents, other ones each time.

    Example:
        >>> import gfx
        >>> task = DrawnTask(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> task.name, task.length, task.example(0, random.Random(0)).tensors["x0"].shape
        ('self', 1024, torch.Size([100, 1, 1]))
    """

    name: ClassVar[str] = "self"

    def __init__(self, program: Program) -> None:
        if not reads_latents(program):
            shapes = ", ".join("x".join(map(str, x.shape)) for x in tensors(program.example_inputs))
            raise InputError(
                f"data=None draws latents, and this generator takes {shapes}; give data, in the "
                "shell --data DIR"
            )
        self.program, self._length = program, _EPOCH
        self.held_out = self.part(range(_HELD_OUT))
        self.about = ("no data was given: latents are drawn like the example inputs",)

    @property
    def length(self) -> int:
        """The number of examples that are called an epoch."""
        return self._length

    def example(self, index: int, dice: random.Random) -> Example:
        """Draws inputs."""
        (drawn,) = synthetic(self.program, 1, dice.randrange(_SEEDS))
        return Example({f"x{n}": value[0].detach() for n, value in enumerate(drawn)})

    def part(self, indices: Sequence[int]) -> Self:
        """Returns the task with an epoch of as many examples."""
        made = copy.copy(self)
        made._length = len(indices)
        return made

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """Returns the inputs, in order."""
        return tuple(batch.tensors.values())

    def real(self, batch: Batch) -> Tensor:
        """Refuses: there are no real images.

        Raises: InputError.
        """
        raise InputError("no data was given: there are no real images for a discriminator")

    def default_discriminator(self, made: Tensor, batch: Batch) -> str:
        """Refuses, as `real` does.

        Raises: InputError.
        """
        raise InputError("no data was given: the original is the target, without a discriminator")
