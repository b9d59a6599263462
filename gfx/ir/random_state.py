"""Saves and restores random number streams, and detects draws."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "ONE_DRAW",
    "Chance",
    "State",
    "drawn_in_python",
    "drawn_in_torch",
    "keep_random_state",
    "same",
    "seed_all",
    "seed_torch",
]

ONE_DRAW = "forward draws from Python's or numpy's random numbers: the graph holds one draw"

State = tuple[Tensor, ...]


@contextmanager
def keep_random_state(
    devices: Iterable[torch.device] = (), seed: int | None = None, *, python: bool = False
) -> Iterator[None]:
    """Puts torch's random state back on leaving: the CPU's, and that of the GPUs among `devices`.

    Args:
        devices: what is computed on; the CPU need not be named.
        seed: that torch begins with; None goes on from where its streams are.
        python: whether the streams of Python and numpy are put back too.

    Example:
        >>> before = torch.get_rng_state()
        >>> with keep_random_state():
        ...     _ = torch.rand(1)
        >>> torch.equal(before, torch.get_rng_state())
        True
    """
    with torch.random.fork_rng(devices=_gpus(devices)), _python_kept() if python else nullcontext():
        if seed is not None:
            seed_torch(seed)
        yield


def seed_torch(seed: int) -> None:
    """Seeds torch's streams: the CPU's alone where torch was built for no other device.

    Example:
        >>> with keep_random_state():
        ...     seed_torch(3)
        ...     torch.initial_seed()
        3
    """
    if torch.accelerator.current_accelerator() is None:
        # torch would note for each absent device, with a stack trace, what to do later
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def seed_all(seed: int) -> None:
    """Seeds the streams of torch, numpy and Python."""
    seed_torch(seed)
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


class Chance:
    """Reads and sets the state of the CPU's generator, and of those of the GPUs among `devices`."""

    def __init__(self, devices: Iterable[torch.device]) -> None:
        self.gpus = _gpus(devices)

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


def _gpus(devices: Iterable[torch.device]) -> list[torch.device]:
    return sorted({d for d in devices if d.type == "cuda"}, key=str)


@contextmanager
def _python_kept() -> Iterator[None]:
    python, legacy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)


def _torch_states() -> list[Tensor]:
    # a process that never used CUDA has no such states, and asking would start it
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cards = torch.cuda.get_rng_state_all() if started else []
    return [torch.get_rng_state(), *cards]


def _python_state() -> tuple[object, ...]:
    name, keys, position, *rest = np.random.get_state()
    return (random.getstate(), name, bytes(np.asarray(keys).data), position, *rest)
