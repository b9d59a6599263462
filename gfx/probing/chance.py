"""The state of the random number generators that a program draws from."""

from typing import Any

import torch

from gfx.importance.running import tensors
from gfx.program import Program

__all__ = ["Chance", "State"]

State = tuple[torch.Tensor, ...]


class Chance:
    """Reads and sets the state of the CPU's generator, and of those of a program's GPUs."""

    def __init__(self, program: Program) -> None:
        held: list[Any] = [*program.module.parameters(), *program.module.buffers()]
        held += tensors(program.example_inputs)
        self.gpus = sorted({t.device.index for t in held if t.device.type == "cuda"})

    def get(self) -> State:
        """Returns the state."""
        return (torch.get_rng_state(), *(torch.cuda.get_rng_state(i) for i in self.gpus))

    def set(self, state: State) -> None:
        """Sets the state."""
        torch.set_rng_state(state[0])
        for gpu, part in zip(self.gpus, state[1:], strict=True):
            torch.cuda.set_rng_state(part, gpu)


def same(a: State, b: State) -> bool:
    """Whether nothing was drawn between two states."""
    return a is b or all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
