"""Two programs on the same data: one part to fit on, one held out to judge by.

1. The data is read as batches of one size; the last share of them is held out. Of a single batch
   the last share of its examples is.
2. The error is the relative L2 distance of the outputs, ‖present - original‖ / ‖original‖ over all
   outputs of a batch, averaged over the batches held out.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, fx

from gfx.compression.refit.stepper import Frontiers, Stepper, Steps
from gfx.errors import InputError, PreconditionError
from gfx.io.data import Stream
from gfx.io.data.stream import cut, examples_in
from gfx.ir.execute import tensors
from gfx.ir.preserve import evaluating
from gfx.ir.program import Program

__all__ = ["PairedRuns"]

Inputs = tuple[Any, ...]

_SHARE = 16  # of the memory that one activation of a batch may take


class PairedRuns:
    """Moves the present program and the original over the data, in step.

    Both programs have shapes.

    Raises: InputError if the programs do not run on the data; PreconditionError if there are fewer
    than two examples, or if the original's outputs are not finite.
    """

    def __init__(
        self,
        program: Program,
        original: Program,
        data: Any,
        *,
        examples: int,
        held_out: float,
        memory: float,
        seed: int,
    ) -> None:
        self.program, self.original = program, original
        self.new, self.old = Steps(program), Steps(original)
        self.seed = seed
        size = self._size(data, memory)
        self.stream = Stream(program, data, size=size, examples=examples, seed=seed)
        self.sizes = [examples_in(inputs) or 1 for inputs in self.stream]
        self.share = held_out
        if sum(self.sizes) < 2:
            raise PreconditionError(
                f"the data has {sum(self.sizes)} example, and one part of it is held out; "
                "give at least 2, better some dozens"
            )
        self.split = self._split()
        self.memory = memory
        self.restart()
        self.truth: list[Any] = []

    def restart(self) -> None:
        """Goes back to the inputs."""
        third, fit, held = self.memory / 3, lambda: self._part(True), lambda: self._part(False)
        self.fit_old = Frontiers(self.old, fit, third, self.seed)
        self.fit_new = Frontiers(self.new, fit, third, self.seed)
        self.held_new = Frontiers(self.new, held, third, self.seed)

    @property
    def examples(self) -> tuple[int, int]:
        """How many examples are fitted on, and how many are held out."""
        counts = [sum(examples_in(x) or 1 for _, x in self._part(fit)) for fit in (True, False)]
        return counts[0], counts[1]

    @property
    def batches(self) -> int:
        """How many batches are fitted on."""
        return max(self.split[0], 1)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Runs both programs in eval mode, and leaves their modes, buffers and random state."""
        with evaluating(self.original, self.program):
            self._learn()
            yield

    def pairs(
        self, place: int, old_place: int, keep: Collection[fx.Node]
    ) -> Iterator[tuple[Stepper, Stepper]]:
        """Yields each fitting batch in the original and the present program, run up to a place."""
        olds, news = self.fit_old.at(old_place, keep), self.fit_new.at(place)
        yield from zip(olds, news, strict=True)

    def error(self, place: int) -> float:
        """Measures the held-out error, running only what lies behind a place (rule 2)."""
        errors = [
            _distance(truth, frontier.output())
            for truth, frontier in zip(self.truth, self.held_new.at(place), strict=True)
        ]
        return sum(errors) / len(errors)

    def _learn(self) -> None:
        """Remembers what the original gives on the part that is held out."""
        self.truth = []
        for number, inputs in self._part(False):
            frontier = Stepper(self.old, inputs, f"{self.seed}/{number}")
            output = frontier.output()
            if not all(bool(torch.isfinite(x).all()) for x in _floating(output)):
                self._blame(frontier)
            self.truth.append(output)

    def _blame(self, frontier: Stepper) -> None:
        """Names the first node of the original that is not finite."""
        bad: list[fx.Node] = []

        def see(node: fx.Node, value: Any) -> Any:
            if not all(bool(torch.isfinite(x).all()) for x in _floating(value)):
                bad.append(node)
            return value

        frontier.ahead((self.old.nodes[-1],), see)
        name = bad[0].target if bad and bad[0].op == "call_module" else bad[0] if bad else "input"
        raise PreconditionError(
            f"the original gives values that are not finite at {name}; repair its "
            "weights, or leave out the data that does it"
        )

    def _size(self, data: Any, memory: float) -> int:
        """Chooses how many examples a batch has, by memory and by what the programs take."""
        example = examples_in(self.program.example_inputs) or 1
        values = [node.meta.get("val") for node in self.old.nodes if node.op != "output"]
        largest = max(v.numel() * v.element_size() for v in values if isinstance(v, Tensor))
        fitting = int(memory / _SHARE / max(largest / example, 1))
        size = max(example, min(fitting, 32))
        sizes = dict.fromkeys((size, example))
        for i, tried in enumerate(sizes):
            try:
                return self._tried(data, tried)
            except InputError:
                if i + 1 == len(sizes):
                    raise
        return example

    def _tried(self, data: Any, size: int) -> int:
        """Runs both programs on the first batch of a size."""
        stream = Stream(self.program, data, size=size, examples=size, seed=self.seed)
        for inputs in islice(stream, 1):
            for steps in (self.old, self.new):
                with evaluating(steps.program):
                    self._run(steps, inputs)
        return size

    def _run(self, steps: Steps, inputs: Inputs) -> None:
        try:
            Stepper(steps, inputs, "").output()
        except Exception as error:
            shapes = ", ".join("x".join(map(str, x.shape)) for x in tensors(inputs))
            text = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"the model does not run on a batch of shape {shapes}: {text}; give "
                "data of the example inputs' shape"
            ) from error

    def _split(self) -> tuple[int, int]:
        """Returns the first batch that is held out and, of a single batch, the first example."""
        if len(self.sizes) == 1:
            count = self.sizes[0]
            return 0, min(max(round(count * (1 - self.share)), 1), count - 1)
        held = min(max(round(len(self.sizes) * self.share), 1), len(self.sizes) - 1)
        return len(self.sizes) - held, 0

    def _part(self, fit: bool) -> Iterator[tuple[int, Inputs]]:
        """Iterates over the batches to fit on, or over those held out."""
        batch, example = self.split
        for number, inputs in enumerate(self.stream):
            if len(self.sizes) == 1:
                count = self.sizes[0]
                yield int(not fit), cut(inputs, *((0, example) if fit else (example, count)))
            elif (number < batch) == fit:
                yield number, inputs


def _distance(truth: Any, got: Any) -> float:
    """Measures the relative L2 distance over all floating outputs together."""
    gap = scale = 0.0
    for a, b in zip(_floating(truth), _floating(got), strict=True):
        wide = torch.complex128 if a.is_complex() else torch.float64
        gap += float((a.to(wide) - b.to(wide)).abs().square().sum())
        scale += float(a.to(wide).abs().square().sum())
    found = (gap / scale if scale > 0 else gap) ** 0.5
    return found if found == found else float("inf")


def _floating(value: Any) -> list[Tensor]:
    return [x for x in tensors(value) if x.is_floating_point() or x.is_complex()]
