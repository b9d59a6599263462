"""Draws the latents of a generator, as many as a pass reads: data that need not be given."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from gfx.io.data.synthetic_inputs import synthetic
from gfx.ir.program import Program

__all__ = ["Latents", "reads_latents"]

_MOST = 512  # examples; more bring little, and a reader must come to an end


class Latents:
    """Draws batches like the example inputs, always the same for a seed.

    Example:
        >>> import gfx
        >>> latents = Latents(gfx.trace(gfx.zoo.build("dcgan", ngf=4)), seed=0)
        >>> [tuple(z.shape) for (z,), _ in zip(latents, range(2))]
        [(1, 100, 1, 1), (1, 100, 1, 1)]
    """

    def __init__(self, program: Program, seed: int) -> None:
        self.program, self.seed = program, seed

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        # far from the seeds by which checks draw theirs
        first = self.seed + 1_000_000
        for number in range(_MOST):
            yield synthetic(self.program, 1, first + number)[0]

    def __str__(self) -> str:
        return f"no data was given: latents were drawn like the example inputs (seed {self.seed})"


def reads_latents(program: Program) -> bool:
    """Returns whether every input is a floating vector, or maps of one pixel: no image, no label.

    Example:
        >>> import gfx
        >>> reads_latents(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        True
        >>> reads_latents(gfx.trace(gfx.zoo.build("resnet_9blocks", ngf=4)))
        False
    """
    inputs = program.example_inputs
    return bool(inputs) and all(
        isinstance(x, Tensor) and x.is_floating_point() and x.ndim > 1 and set(x.shape[2:]) <= {1}
        for x in inputs
    )
