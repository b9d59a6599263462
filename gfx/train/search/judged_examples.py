"""Holds the examples that nets are judged on, and turns images into values with their errors.

1. An example is made once; noise and latents belong to it. Examples of another `name` are others.
2. Metrics that are means over images have a value for each. Distances of sets have jackknife
   pseudo-values: of as many groups of examples, the same for all nets, each is left out in turn.
"""

import hashlib
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gfx.errors import InputError
from gfx.metrics import Reference, check_metrics
from gfx.metrics.evaluate import distance_of_sets
from gfx.metrics.extractors import make_extractor
from gfx.metrics.image_batches import batched
from gfx.metrics.image_pairs import PairedMeans
from gfx.metrics.metric_name import PAIRED, parse_metric
from gfx.train.runs.held_out_set import HeldOutSet, unit
from gfx.train.runs.real_images import image_range
from gfx.train.search.judge_protocol import Judgement
from gfx.train.tasks import Batch, Task

__all__ = ["ExampleScores", "JudgedExamples", "higher_is_better", "scores_of", "standard_error"]

_BATCH = 8
_MOST = 200  # examples
_GROUPS = 10  # of examples that a jackknife leaves out in turn


@dataclass(frozen=True)
class JudgedExamples:
    """Examples of a task in batches, and what images are compared with.

    `truths` are their targets by batch, in [-1, 1]; None: there are none, and what the largest net
    makes is taken. `reals` are the real images that sets are compared with.

    Example:
        >>> from gfx.train import tasks
        >>> found = JudgedExamples.of(tasks.inputs(torch.rand(20, 3, 8, 8)), most=12)
        >>> found.count, [len(batch) for batch in found.first(9)], found.truths
        (12, [8, 1], None)
    """

    task: Task
    batches: tuple[Batch, ...]
    truths: tuple[Tensor, ...] | None
    reals: Reference | None

    @staticmethod
    def of(
        task: Task,
        *,
        most: int = _MOST,
        name: str = "searched",
        seed: int = 0,
        reals: Reference | None = None,
        batch: int = _BATCH,
    ) -> "JudgedExamples":
        """Makes some of the examples of a task, without augmentation.

        `name` and `seed` choose them (rule 1); `reals` are by default the task's own.
        """
        judged = task.for_judging()
        indices = list(range(judged.length))
        random.Random(f"{name} {seed}").shuffle(indices)
        chosen = indices[:most]
        batches = [
            Batch.of([judged.example(i, random.Random(f"{name} {seed} {i}")) for i in part])
            for part in (chosen[at : at + batch] for at in range(0, len(chosen), batch))
        ]
        return _held(judged, batches, HeldOutSet(task).reals if reals is None else reals)

    @staticmethod
    def of_held_out(held: HeldOutSet) -> "JudgedExamples":
        """Takes the examples that a run judges its stages on."""
        return _held(held.task, held.batches, held.reals)

    @property
    def count(self) -> int:
        """How many examples there are."""
        return sum(map(len, self.batches))

    @property
    def fingerprint(self) -> str:
        """A hash of what nets are judged on: inputs, noise and truths, to the bit."""
        digest = hashlib.sha256()
        for batch in self.batches:
            for name, value in sorted(batch.tensors.items()):
                held = value.detach().cpu().contiguous()
                digest.update(f"{name} {held.dtype} {tuple(held.shape)}".encode())
                digest.update(held.reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    def first(self, count: int | None = None) -> list[Batch]:
        """Returns the first examples, in the same batches; None: all."""
        found: list[Batch] = []
        left = self.count if count is None else count
        for batch in self.batches:
            if left >= len(batch):
                found.append(batch)
            elif left > 0:
                found.append(batch.rows(slice(0, left)))
            left -= len(batch)
        return found

    def unit(self, output: Any) -> Tensor:
        """Picks the images out of an output, and scales them to [-1, 1]."""
        return unit(self.task.image(output).float().cpu(), image_range(self.task))

    def are_images(self, output: Any) -> bool:
        """Whether an output holds images, and not values of any kind and range."""
        made = self.task.image(output)
        if made.ndim != 4 or made.shape[1] not in (1, 3):
            return False
        return self.task.name != "self" or float(made.abs().max()) <= 1.0


class ExampleScores:
    """Judges images by one metric, batch by batch.

    `wanted` are what images are compared with, by batch: truth, or what the largest net makes. Of
    outputs that are no images, `plain`, the score l1 can be had alone.

    Raises: InputError if the metric is unknown, or needs what there is not.

    Example:
        >>> from gfx.train import tasks
        >>> on = JudgedExamples.of(tasks.inputs(torch.rand(4, 3, 8, 8)))
        >>> scores = ExampleScores("l1", on, [torch.zeros(4, 3, 8, 8)])
        >>> scores.judgement([scores.of_batch(0, torch.ones(4, 3, 8, 8))]).value
        1.0
    """

    def __init__(
        self,
        score: str,
        on: JudgedExamples,
        wanted: Sequence[Tensor] = (),
        *,
        plain: bool = False,
        fid_weights: str | None = None,
        extractors: dict[str, nn.Module] | None = None,
    ) -> None:
        (self.name,) = check_metrics([score], reals=on.reals is not None, targets=True)
        if plain and score != "l1":
            raise InputError(
                f"the score {score} judges images in [-1, 1], and what this model returns are "
                "none; take l1"
            )
        self.on, self.plain = on, plain
        self.wanted = list(wanted)
        self._means = PairedMeans(self.name.kind) if self.is_mean else None
        self._network = (
            None
            if self.is_mean
            else make_extractor(self.name, fid_weights=fid_weights, extractors=extractors)
        )

    @property
    def is_mean(self) -> bool:
        """Whether the metric is a mean over examples."""
        return self.name.kind in PAIRED

    def picked(self, output: Any) -> Tensor:
        """Picks out of an output what is judged: images in [-1, 1], or values as they are."""
        return self.on.task.image(output).float().cpu() if self.plain else self.on.unit(output)

    def of_batch(self, number: int, images: Tensor) -> Tensor:
        """Returns what the metric needs of a batch of images: values (N,), or features (N, d)."""
        if self._means is None:
            assert self._network is not None
            return torch.cat(
                [self._network(part) for part in batched(images, len(images), "fakes")]
            )
        wanted = self.wanted[number][: len(images)]
        if wanted.shape != images.shape:
            raise InputError(
                f"an image is {_shape(images)} and its target {_shape(wanted)}; give data whose "
                "targets have the size of what the model makes"
            )
        if self.plain:
            return (images.double() - wanted.double()).abs().flatten(1).mean(1)
        return self._means.of_each(images, wanted)

    def judgement(self, rows: Sequence[Tensor]) -> Judgement:
        """Returns the value of what batches gave, with its standard error (rule 2)."""
        joined = torch.cat(list(rows))
        count = len(joined)
        if self.is_mean:
            each = tuple(joined.tolist())
            return Judgement(sum(each) / count, standard_error(each), count, each)
        value = self._distance(joined)
        groups = min(_GROUPS, count // 2)
        place = torch.arange(count) % max(groups, 1)
        try:
            without = [self._distance(joined[place != g]) for g in range(groups)]
        except InputError:  # too few are left
            return Judgement(value, 0.0, count)
        pseudo = tuple(groups * value - (groups - 1) * other for other in without)
        return Judgement(value, standard_error(pseudo), count, pseudo=pseudo)

    def _distance(self, features: Tensor) -> float:
        assert self._network is not None
        assert self.on.reals is not None
        return distance_of_sets(self.name, self._network, features, self.on.reals).value


def scores_of(
    score: str,
    on: JudgedExamples,
    make: Callable[[Batch], Any],
    fid_weights: str | None = None,
) -> ExampleScores:
    """Returns what judges images by a metric, where `make` says what the whole net makes.

    Images are compared with the truth; where there is none, with what the whole net makes.
    """
    wanted, plain = list(on.truths or ()), False
    if not wanted:
        outputs = [make(batch) for batch in on.batches]
        plain = not all(map(on.are_images, outputs))
        wanted = [on.task.image(y).float().cpu() if plain else on.unit(y) for y in outputs]
    return ExampleScores(score, on, wanted, plain=plain, fid_weights=fid_weights)


def standard_error(values: Sequence[float]) -> float:
    """Returns the standard error of a mean; 0 if it cannot be known.

    Example:
        >>> standard_error((1.0, 3.0))
        1.0
    """
    count = len(values)
    if count < 2 or not all(map(math.isfinite, values)):
        return 0.0
    mean = sum(values) / count
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (count * (count - 1)))


def higher_is_better(score: str) -> bool:
    """Whether a larger value of a metric is a better one.

    Example:
        >>> higher_is_better("psnr"), higher_is_better("l1")
        (True, False)
    """
    return parse_metric(score).higher_is_better


def _held(task: Task, batches: Sequence[Batch], reals: Reference | None) -> JudgedExamples:
    truths = [task.target(batch) for batch in batches]
    known = [unit(t.float().cpu(), image_range(task)) for t in truths if t is not None]
    whole = len(known) == len(batches)
    return JudgedExamples(task, tuple(batches), tuple(known) if whole else None, reals)


def _shape(images: Tensor) -> str:
    return "x".join(map(str, images.shape[1:]))
