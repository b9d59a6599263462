"""Streams the user's data: reads it anew for each iteration, and never holds it whole.

1. Data is what `batches_of` takes. A tensor is cut along its first dimension, a map-style Dataset
   gives single examples; both are brought into batches of one size, and so is everything else.
2. Batches that cannot be cut, since their inputs do not agree in their first dimension, stay.
3. Every reading draws from the same random state: a DataLoader that shuffles gives the same order
   each time, and the global random state stays what it was.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gfx.io.data.batches import each_of, replayable
from gfx.ir.execute import tensors
from gfx.ir.program import Program
from gfx.ir.random_state import keep_random_state

__all__ = ["Stream", "cut", "examples_in"]

Inputs = tuple[Any, ...]

_END = object()


class Stream:
    """Reads batches of a program's inputs from the user's data, again for every iteration.

    Raises: InputError naming the batch, what was expected and what came.

    Example:
        >>> import gfx
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> stream = Stream(program, torch.zeros(10, 100, 1, 1), size=4)
        >>> [len(z) for z, in stream]
        [4, 4, 2]
    """

    def __init__(
        self,
        program: Program,
        data: Any,
        *,
        size: int,
        examples: int | None = None,
        seed: int = 0,
    ) -> None:
        self.program = program
        self.data = replayable(data)
        self.size = size  # examples in a batch
        self.examples = examples  # read at most; None: all there are
        self.seed = seed

    def __iter__(self) -> Iterator[Inputs]:
        left = self.examples
        waiting: list[Inputs] = []
        for inputs in _seeded(lambda: each_of(self.program, self.data), self.seed):
            count = examples_in(inputs)
            if count is None:  # rule 2
                yield inputs
                continue
            if left is not None:
                inputs = cut(inputs, 0, min(count, left))
                left -= min(count, left)
            if waiting and not _alike(waiting[0], inputs):
                yield _joined(waiting)
                waiting = []
            waiting.append(inputs)
            full, waiting = _full(waiting, self.size)
            yield from full
            if left == 0:
                break
        if waiting:
            yield _joined(waiting)


def examples_in(inputs: Inputs) -> int | None:
    """Counts the examples of a batch; None if its tensors do not agree in their first dimension.

    Example:
        >>> examples_in((torch.zeros(4, 3), torch.zeros(4)))
        4
    """
    sizes = {x.shape[0] if x.ndim else 0 for x in tensors(inputs)}
    return sizes.pop() if len(sizes) == 1 else None


def cut(inputs: Inputs, start: int, stop: int) -> Inputs:
    """Takes some examples of a batch.

    Example:
        >>> cut((torch.arange(5),), 1, 3)
        (tensor([1, 2]),)
    """
    part: Inputs = pytree.tree_map_only(Tensor, lambda x: x[start:stop], inputs)
    return part


def _full(waiting: list[Inputs], size: int) -> tuple[list[Inputs], list[Inputs]]:
    """Makes as many full batches as there are of what waits, and returns what is left."""
    count = sum(examples_in(inputs) or 0 for inputs in waiting)
    if count < size:
        return [], waiting
    whole = _joined(waiting)
    full = [cut(whole, start, start + size) for start in range(0, count - size + 1, size)]
    rest = count % size
    return full, [cut(whole, count - rest, count)] if rest else []


def _joined(parts: list[Inputs]) -> Inputs:
    """Puts batches together."""
    if len(parts) == 1:
        return parts[0]
    flat = [pytree.tree_flatten(inputs) for inputs in parts]
    spec = flat[0][1]
    leaves = [
        torch.cat(values) if isinstance(values[0], Tensor) else values[0]
        for values in zip(*(leaves for leaves, _ in flat), strict=True)
    ]
    inputs: Inputs = pytree.tree_unflatten(leaves, spec)
    return inputs


def _alike(a: Inputs, b: Inputs) -> bool:
    """Whether two batches can be put together."""
    shapes = [[x.shape[1:] for x in tensors(inputs)] for inputs in (a, b)]
    return shapes[0] == shapes[1]


def _seeded(source: Callable[[], Iterator[Inputs]], seed: int) -> Iterator[Inputs]:
    """Iterates with a random state of its own (rule 3)."""
    with keep_random_state(seed=seed):
        items = source()
        state = torch.get_rng_state()
    while True:
        with keep_random_state():
            torch.set_rng_state(state)
            item: Any = next(items, _END)
            state = torch.get_rng_state()
        if item is _END:
            return
        yield item
