"""Random numbers: the user's streams are left where they were, and draws are noticed.

The state of the random number generators that a program draws from.
"""

import random
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from gfx.compression.importance.session import tensors
from gfx.ir.program import Program

__all__ = [
    "ONE_DRAW",
    "Chance",
    "State",
    "drawn_in_python",
    "drawn_in_torch",
    "private_chance",
    "seed_all",
]

ONE_DRAW = "forward draws from Python's or numpy's random numbers: the graph holds one draw"


@contextmanager
def private_chance(devices: Collection[torch.device] = ()) -> Iterator[None]:
    """Puts the random streams of torch, numpy and Python back on leaving.

    Example:
        >>> before = torch.get_rng_state()
        >>> with private_chance():
        ...     _ = torch.rand(1)
        >>> torch.equal(before, torch.get_rng_state())
        True
    """
    python, legacy = random.getstate(), np.random.get_state()
    cards = sorted((d for d in devices if d.type == "cuda"), key=str)
    with torch.random.fork_rng(devices=cards):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)


def seed_all(seed: int) -> None:
    """Seeds the streams of torch, numpy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


@contextmanager
def drawn_in_torch() -> Iterator[list[bool]]:
    """Fills in, on leaving, whether torch drew random numbers; seeds the streams first."""
    seed_all(0)
    before, answer = _torch_states(), [False]
    yield answer
    pairs = zip(before, _torch_states(), strict=False)
    answer[0] = not all(torch.equal(old, new) for old, new in pairs)


@contextmanager
def drawn_in_python() -> Iterator[list[bool]]:
    """Fills in, on leaving, whether Python or numpy drew; seeds the streams first."""
    seed_all(0)
    before, answer = _python_state(), [False]
    yield answer
    answer[0] = _python_state() != before


def _torch_states() -> list[torch.Tensor]:
    # a process that never used CUDA has no such states, and asking would start it
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cards = torch.cuda.get_rng_state_all() if started else []
    return [torch.get_rng_state(), *cards]


def _python_state() -> tuple[object, ...]:
    name, keys, position, *rest = np.random.get_state()
    return (random.getstate(), name, bytes(np.asarray(keys).data), position, *rest)


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
