"""Judges subnets of a supernet on examples, each on the same ones.

1. Value and order of examples are those of `judge_protocol`. Subnets that agree from the input on
   share what they compute (gfx/train/search/shared_prefixes.py); a task whose `call` is of the
   user's own is run net by net.
2. BatchNorms get moments of the subnet, pooled over the same calibration examples for all nets.
3. Images are compared with their ground truth; where there is none, with what the largest net makes
   of the same input, or with what `teacher` makes.
4. What is judged is delivered: `deliver` extracts the net, with its moments. The supernet is left
   as it was: its widths, modes, moments and buffers, and all random numbers.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from gfx.errors import InputError
from gfx.ir.preserve import devices_of, preserved
from gfx.ir.random_state import keep_random_state, seed_torch
from gfx.progress import step
from gfx.train.search.example_judge import ExampleJudge, UnitWidths
from gfx.train.search.judge_protocol import Widths
from gfx.train.search.judged_examples import (
    ExampleScores,
    JudgedExamples,
    scores_of,
)
from gfx.train.search.shared_prefixes import SharedPrefixes
from gfx.train.supernet import Supernet
from gfx.train.tasks import Batch, Task

__all__ = ["SupernetJudge"]

_CALIBRATED = 4  # batches, where none are given


class SupernetJudge(ExampleJudge):
    """Judges subnets by one metric of `gfx.metrics`.

    Args:
        net: the supernet.
        on: the examples.
        score: the name of the metric.
        teacher: what images are compared with where there is no ground truth; None: the largest.
        calibration: batches for the moments of BatchNorms; None: the first four that it judges on.
        memory: bytes of values that are kept for nets that go on from them.
        fid_weights: a file, for fd[inception].
        share: whether nets share what they agree in; False: they are run one by one.

    Raises: InputError if the metric cannot be had.

    Example:
        >>> import gfx
        >>> from gfx.train import tasks
        >>> net = gfx.supernet(gfx.zoo.build("dcgan", ngf=8), widths=[0.5, 1.0])
        >>> judge = SupernetJudge(net, JudgedExamples.of(tasks.inputs(torch.randn(8, 100, 1, 1))))
        >>> largest, smallest = judge.judge([net.largest(), net.smallest()])
        >>> largest.value, smallest.value > 0, smallest.examples
        (0.0, True, 8)
    """

    def __init__(
        self,
        net: Supernet,
        on: JudgedExamples,
        score: str = "l1",
        *,
        teacher: nn.Module | None = None,
        calibration: Sequence[Batch] | None = None,
        memory: int = 1 << 30,
        fid_weights: str | None = None,
        share: bool = True,
    ) -> None:
        super().__init__(net, on, score, fid_weights)
        self.teacher = teacher
        self.calibration = on.batches[:_CALIBRATED] if calibration is None else tuple(calibration)
        self.share = share and on.task.call is None
        self._devices = devices_of(net.program)
        self.prefixes = SharedPrefixes(net, memory=memory)
        self._rows: dict[tuple[UnitWidths, int], Tensor] = {}  # of whole batches, of means

    def anew(self, on: JudgedExamples) -> "SupernetJudge":
        """Returns a judge of the same nets on other examples; moments of BatchNorms stay."""
        other = SupernetJudge(
            self.net, on, self.score, teacher=self.teacher, calibration=self.calibration,
            fid_weights=self._fid_weights, share=self.share,
        )  # fmt: skip
        other.prefixes = self.prefixes
        return other

    def deliver(self, widths: Widths) -> fx.GraphModule:
        """Returns the net of some widths as a generator of its own: what is judged (rule 4)."""
        with self.undisturbed():
            self._set(widths)
            return self.net.extract(widths)

    def images(self, widths: Widths, batch: Batch) -> Tensor:
        """Returns what a net makes of some examples, as it is judged."""
        with self.undisturbed():
            ((_, made),) = self._made([widths], batch)
            return made

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Leaves the supernet and all random numbers as they were (rule 4)."""
        net = self.net
        current, before = net.current, net.kept_moments
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            preserved(net),
            keep_random_state(self._devices, python=True),
        ):
            net.eval()
            try:
                yield
            finally:
                net.restore_moments(before)
                net.set(current)

    def _judge(self, missing: Mapping[UnitWidths, Widths], count: int) -> None:
        """Judges nets, batch by batch."""
        with self.undisturbed():
            self.prefixes.trim()
            scores = self._scorer()
            keys, nets = list(missing), list(missing.values())
            rows: dict[UnitWidths, list[Tensor]] = {key: [] for key in keys}
            batches = self.on.first(count)
            with step("judging nets", len(batches) * len(nets)) as counted:
                self._calibrate(nets)
                for number, batch in enumerate(batches):
                    whole = len(batch) == len(self.on.batches[number])
                    held = {key for key in keys if whole and (key, number) in self._rows}
                    wanted = [key for key in keys if key not in held]
                    found = {key: self._rows[key, number] for key in held}
                    for at, images in self._made([missing[key] for key in wanted], batch):
                        found[wanted[at]] = scores.of_batch(number, images)
                        counted.advance()
                    counted.advance(len(held))
                    for key in keys:
                        rows[key].append(found[key])
                        if whole and scores.is_mean:
                            self._rows[key, number] = found[key]
            for key in keys:
                self._known[key, count] = scores.judgement(rows[key])

    def _made(self, nets: Sequence[Widths], batch: Batch) -> Iterator[tuple[int, Tensor]]:
        """Yields the number of a net, and the images that it makes."""
        moved, pick = batch.to(self._device), self._scorer().picked
        self._calibrate(nets)
        if self.share:
            for number, output in self.prefixes.outputs(nets, self.on.task.inputs(moved)):
                yield number, pick(output)
            return
        for number, net in enumerate(nets):
            self._set(net)
            seed_torch(self.prefixes.seed)
            yield number, pick(self.on.task.generate(self.net, moved))

    def _set(self, widths: Widths) -> None:
        """Sets widths, with the moments of their BatchNorms."""
        self._calibrate([widths])
        self.net.set(widths)
        if self.prefixes.norms:
            self.net.keep_moments(self.prefixes.moments(widths))

    def _calibrate(self, nets: Sequence[Widths]) -> None:
        """Measures BatchNorms (rule 2)."""
        if self.prefixes.norms:
            self.prefixes.calibrate(nets, self._calibrated_on)

    @cached_property
    def _calibrated_on(self) -> list[tuple[Any, ...]]:
        """The arguments of the generator for the calibration examples."""
        task = self.on.task
        return [arguments(task, batch.to(self._device)) for batch in self.calibration]

    def _scorer(self) -> ExampleScores:
        """Returns what judges images, with what they are compared with (rule 3)."""
        if self._scores is None:
            self._scores = scores_of(self.score, self.on, self._of_teacher, self._fid_weights)
        return self._scores

    def _of_teacher(self, batch: Batch) -> Any:
        """Returns what images are compared with where there is no ground truth."""
        task, moved = self.on.task, batch.to(self._device)
        seed_torch(self.prefixes.seed)
        if self.teacher is not None:
            with preserved(self.teacher):
                self.teacher.eval()
                return task.generate(self.teacher, moved)
        self._set(self.net.largest())
        return task.generate(self.net, moved)


class _ArgumentsKnown(Exception):
    """Ends a call of the user's own once its arguments are known."""


class _Recorder(nn.Module):
    """Notes how it is called."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Ends the call, with its arguments."""
        raise _ArgumentsKnown(args, kwargs)


def arguments(task: Task, batch: Batch) -> tuple[Any, ...]:
    """Returns the arguments that a task calls a generator with.

    Raises: InputError if it gives some by keyword.
    """
    if task.call is None:
        return task.inputs(batch)
    try:
        task.generate(_Recorder(), batch)
    except _ArgumentsKnown as called:
        args, kwargs = called.args
        if kwargs:
            raise InputError(
                f"call= gives {', '.join(kwargs)} by keyword, and BatchNorms are measured by "
                "arguments in their order; give them so"
            ) from None
        return cast(tuple[Any, ...], args)
    raise InputError("call= does not call the generator")
