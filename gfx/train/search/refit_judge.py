"""Judges nets that nobody trains: channels are removed, and the layers fitted again in closed form.

1. A net has the first channels of each group of a generator whose channels are sorted; its layers
   are then refitted to the generator's activations, on examples that it is not judged on.
2. It is compared with the ground truth, or with what the generator itself makes.
3. The net that is judged is the net that is delivered: the same widths give the same weights.

Source: He et al. 2017, arXiv:1707.06168 (channel pruning by least squares).
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from gfx.errors import InputError
from gfx.ir.preserve import devices_of, preserved
from gfx.ir.program import Program
from gfx.ir.random_state import keep_random_state
from gfx.pipeline import apply
from gfx.progress import each
from gfx.train.search.example_judge import ExampleJudge, UnitWidths
from gfx.train.search.judge_protocol import Widths
from gfx.train.search.judged_examples import (
    ExampleScores,
    JudgedExamples,
    scores_of,
)
from gfx.train.search.supernet_judge import arguments
from gfx.train.supernet import Supernet
from gfx.train.tasks import Batch

__all__ = ["REFIT", "RefitJudge"]

_KEPT = 16  # nets
REFIT: dict[str, Any] = {"relu": 1}  # fields of the pass, where none are given


class RefitJudge(ExampleJudge):
    """Judges nets that are pruned and refitted.

    Args:
        net: what `gfx.supernet` makes of the generator, its channels sorted; nothing is trained.
        on: the examples.
        fit: batches of other examples, that layers are refitted on.
        score: the name of the metric.
        fid_weights: a file, for fd[inception].
        refit: fields of the pass refit, such as {"ridge": 1e-3}. Layers before a ReLU are fitted
            again once, and not four times, if nothing is said: a fifth of the time, and as good.
        seed: of the positions that refit draws.

    Raises: InputError if the metric cannot be had, or the net has forms or blocks to skip.

    Example:
        >>> import gfx
        >>> from gfx.train import tasks
        >>> net = gfx.supernet(gfx.zoo.build("dcgan", ngf=4).eval(), widths=[0.5, 1.0])
        >>> task = tasks.inputs(torch.randn(72, 100, 1, 1))
        >>> on, fit = JudgedExamples.of(task, most=8), JudgedExamples.of(task, name="fit")
        >>> judge = RefitJudge(net, on, fit.batches)
        >>> judge.judge([net.largest()])[0].value
        0.0
    """

    def __init__(
        self,
        net: Supernet,
        on: JudgedExamples,
        fit: Sequence[Batch],
        score: str = "l1",
        *,
        fid_weights: str | None = None,
        refit: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        if net.options:
            raise InputError(
                "nets that nobody trains are pruned and refitted, in the form that they have; "
                f"{next(iter(net.options))} is a choice of another: train the supernet first"
            )
        super().__init__(net, on, score, fid_weights)
        self.fit, self.seed = tuple(fit), seed
        self.refit = {**REFIT, **(refit or {})}
        self._made: dict[
            UnitWidths, fx.GraphModule
        ] = {}  # the last ones; judges of the same nets share

    def anew(self, on: JudgedExamples) -> "RefitJudge":
        """Returns a judge of the same nets on other examples."""
        other = RefitJudge(
            self.net, on, self.fit, self.score,
            fid_weights=self._fid_weights, refit=self.refit, seed=self.seed,
        )  # fmt: skip
        other._made = self._made
        return other

    def deliver(self, widths: Widths) -> fx.GraphModule:
        """Returns the net of some widths as a generator of its own: what is judged (rule 3)."""
        return copy.deepcopy(self._refitted(widths))

    def images(self, widths: Widths, batch: Batch) -> Tensor:
        """Returns what a net makes of some examples, as it is judged."""
        return self._images(self._refitted(widths), batch)

    def _judge(self, missing: Mapping[UnitWidths, Widths], count: int) -> None:
        """Prunes, refits and judges nets, one by one."""
        for key, net in each(list(missing.items()), "pruning, refitting and judging nets"):
            small, scores = self._refitted(net), self._scorer()
            rows = [
                scores.of_batch(number, self._images(small, batch))
                for number, batch in enumerate(self.on.first(count))
            ]
            self._known[key, count] = scores.judgement(rows)

    def _refitted(self, widths: Widths) -> fx.GraphModule:
        """Returns a net; the last ones are kept, as a front is judged, drawn and delivered."""
        key = tuple(self.net.units(widths))
        found = self._made.pop(key, None)
        self._made[key] = self._make(widths) if found is None else found
        while len(self._made) > _KEPT:
            del self._made[next(iter(self._made))]
        return self._made[key]

    def _make(self, widths: Widths) -> fx.GraphModule:
        """Prunes, and refits (rule 1)."""
        full = self.net.largest()
        removed = {n: int(width) for n, width in widths.items() if int(width) < full[n]}
        if not removed:
            return self.net.extract(full).eval()
        recipe = {
            "seed": self.seed,
            "passes": [
                {"channel_prune": {"kept": {n: list(range(w)) for n, w in removed.items()}}},
                {"refit": self.refit},
            ],
        }
        program = self.net.program.copy()
        program.module.eval()
        with keep_random_state(devices_of(program), python=True):
            data = [arguments(self.on.task, batch) for batch in self.fit]
            return apply(recipe, program.module, program.example_inputs, data=data, verify=False)

    def _scorer(self) -> ExampleScores:
        """Returns what judges images, with what they are compared with (rule 2)."""
        if self._scores is None:
            whole = self.net.extract(self.net.largest())
            self._scores = scores_of(
                self.score, self.on, lambda batch: self._run(whole, batch), self._fid_weights
            )
        return self._scores

    def _images(self, net: fx.GraphModule, batch: Batch) -> Tensor:
        return self._scorer().picked(self._run(net, batch))

    def _run(self, net: fx.GraphModule, batch: Batch) -> Any:
        devices = devices_of(Program(net, self.net.program.example_inputs))
        with torch.no_grad(), preserved(net), keep_random_state(devices, 0, python=True):
            net.eval()
            return self.on.task.generate(net, batch.to(self._device))
