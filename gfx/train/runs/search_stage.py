"""Runs the search of a stage: judges subnets of the supernet that the stage before it left.

1. Nets are judged on the examples that the run kept for searches (`data: {search: 0.2}`), else on
   examples of the training set; the front again on those that all stages are judged on. Without a
   truth they are compared with the teacher that the supernet had.
2. Fractions of a budget are of the model as it was given.
3. Each judged net is written down at once: a search that was stopped goes on after the last.
4. What the front is picked from, and what it is judged by, is in the folder `NN-name` of the run.
5. Of several processes all judge; the first proposes, keeps the ledger and makes the front.
6. With a storage the ledger is there, and workers of `gfx search RUN` judge too.
"""

from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from torch import fx

from gfx.compression.selection.width_choices import SUPERNET
from gfx.costs import cost_of, parse_budget
from gfx.errors import BudgetError, InputError, PreconditionError
from gfx.frontend.driver import traced
from gfx.io.guards import printable
from gfx.pipeline import apply
from gfx.progress import stage as report_stage
from gfx.train.runs.evaluation import DEFAULT_METRICS
from gfx.train.runs.run_identity import fingerprint
from gfx.train.runs.run_system import SystemRun
from gfx.train.runs.spread_judge import SpreadJudge
from gfx.train.search.front import Front, FrontNet, pick
from gfx.train.search.judge_protocol import Judge
from gfx.train.search.judged_examples import JudgedExamples
from gfx.train.search.ledger import FileLedger, Ledger, search_identity
from gfx.train.search.optuna_ledger import OptunaLedger
from gfx.train.search.run_search import run_search
from gfx.train.search.search_space import SearchSpace
from gfx.train.search.searched_front import write_searched_front
from gfx.train.search.supernet_judge import SupernetJudge
from gfx.train.search.trial import Trial
from gfx.train.supernet import Assignment, Supernet, supernet
from gfx.train.systems import SystemStage
from gfx.train.tasks import Batch

__all__ = ["StageSearch"]

_SEARCHED = 200  # examples, where the recipe does not say
_CALIBRATED = 8  # batches that moments of BatchNorms are pooled over


class StageSearch:
    """The search of one stage; `student` is the supernet's largest net, with its widths."""

    def __init__(
        self, run: SystemRun, number: int, stage: SystemStage, student: fx.GraphModule
    ) -> None:
        assert stage.search is not None
        self.system, self.number, self.stage = run, number, stage
        count = max(1, round(run.settings.scale * stage.search.evaluations))
        self.asked = replace(stage.search, evaluations=count)
        if SUPERNET not in student.meta:
            raise PreconditionError(
                f"stage {stage.name}: search: what the stage before it left has no widths to "
                "choose among; train a supernet first: the passes sort_channels and widths, then "
                "a fit with `sample: teacher`"
            )
        self.net: Supernet = supernet(student, run.example(), verify=False)
        given = cost_of(traced(run.model, run.example(), check=False))
        self.limits = parse_budget(self.asked.budget or None, given)
        try:
            self.space = SearchSpace(self.net, self.limits)
        except BudgetError as error:
            raise BudgetError(f"stage {stage.name}: {error}") from error

    def some_net(self) -> fx.GraphModule:
        """Returns a large net that the budgets let be: what is picked may be like it."""
        rows = [tuple(round(n * k / 16) for n in self.space.largest) for k in range(17)]
        kept = [row for row, fits in zip(rows, self.space.allowed(rows), strict=True) if fits]
        return self.net.extract(self.space.widths(kept[-1]))

    def run(self) -> fx.GraphModule | None:
        """Searches, and returns the net that is picked.

        None if the time was over, and in a process that does not write.
        """
        run, asked = self.system, self.asked
        report_stage(f"stage {self.stage.name}")
        judge = self._judge()
        spread = SpreadJudge(judge, run.devices)
        if not run.devices.main:
            spread.follow()
            return None
        with spread.led():
            trials = self._trials(judge, spread)
        if len(trials) < min(asked.evaluations, self.space.size) and run.late:
            return None
        front = self._front(trials, judge)
        best = _picked(front, asked.picked)
        run.say(
            [
                f"stage {self.stage.name}: {front.sentence}; picked {asked.picked}: "
                f"{best.prices['exact']:,} MACs, {front.score} {best.value:.4g}"
            ]
        )
        return self._delivered(best.widths, judge)

    def check(self) -> float:
        """Judges one net on few examples; returns how many seconds the search will take.

        Raises: GfxError if the score cannot be had, or nothing can be judged.
        """
        judge = self._judge()
        few = min(8, judge.examples)
        begun, cpu = perf_counter(), process_time()
        judge.judge([self.net.smallest()], few)
        seconds = min(perf_counter() - begun, max(process_time() - cpu, 1e-9) * 2)
        return seconds / few * judge.examples * self.asked.evaluations

    def _delivered(self, widths: Assignment, judge: SupernetJudge) -> fx.GraphModule:
        """Cuts the net out of the supernet, by the pass that reports what went."""
        judged = judge.deliver(widths).to("cpu")
        options = {name: value for name, value in widths.items() if name in self.net.options}
        self.net.to("cpu")
        whole = self.net.extract(options) if options else self.net.program.module
        kept = self.net.kept_channels(whole, widths)
        passes = [{"channel_prune": {"kept": kept}}] if kept else []
        small = apply({"passes": passes}, whole, self.system.example())
        small.load_state_dict(judged.state_dict())  # with the moments of its BatchNorms
        small.meta.pop(SUPERNET, None)
        return small

    @property
    def folder(self) -> Path:
        """Where the front is."""
        return self.system.folder.stage_file(self.number, self.stage.name, "")

    def _judge(self) -> SupernetJudge:
        run = self.system
        task = run.searched or run.task
        on = JudgedExamples.of(
            task,
            most=self.asked.images or _SEARCHED,
            seed=run.settings.seed,
            reals=run.held.reals,
        )
        metrics = run.settings.metrics or DEFAULT_METRICS
        return SupernetJudge(
            self.net.to(run.devices.device),
            on,
            self.asked.score or metrics[0],
            teacher=run.teacher_of(self.stage),
            calibration=self._calibration(),
            fid_weights=run.settings.fid_weights,
        )

    def _calibration(self) -> list[Batch]:
        loader = self.system.loader_of(self.stage)
        return [loader.at(step) for step in range(min(_CALIBRATED, loader.steps_per_epoch))]

    def join(self) -> tuple[list[Trial], SupernetJudge]:
        """Judges nets beside the run that searches, or for one that has stopped (rule 6).

        Returns: all that were judged, and by whom; nothing is written into the run's folder.
        """
        judge = self._judge()
        return self._trials(judge, judge), judge

    def _trials(self, judge: SupernetJudge, shared: Judge) -> list[Trial]:
        """Judges nets, from where the ledger stopped (rules 3, 5 and 6)."""
        run, asked = self.system, self.asked
        weights = fingerprint(self.net.program.module)
        seed = run.settings.seed
        identity = search_identity(self.space, judge, asked, seed, supernet=weights)
        if run.settings.storage is not None:  # others judge on data of their own
            identity["data"] = judge.on.fingerprint
        ledger = self._ledger(identity)
        try:
            return run_search(self.space, shared, asked, ledger, seed=seed, deadline=run.deadline)
        finally:
            ledger.close()

    def _ledger(self, identity: dict[str, Any]) -> Ledger:
        """Opens the ledger: a file of the run, or the storage (rule 6).

        Raises: InputError if what was judged is in the other of the two.
        """
        run = self.system
        path = run.folder.stage_file(self.number, self.stage.name, ".search.jsonl")
        if run.settings.storage is None:
            return FileLedger(path, identity, self.asked.evaluations)
        if path.exists():
            raise InputError(
                f"stage {self.stage.name}: what its search has judged is in {printable(path)}, and "
                "a storage was given; leave storage out, or delete the file: nets are then judged "
                "anew"
            )
        return OptunaLedger(run.settings.storage, identity, self.space, self.asked.evaluations)

    def _front(self, trials: list[Trial], judge: SupernetJudge) -> Front:
        """Judges the front again, and writes it (rules 1 and 4)."""
        run = self.system
        fresh = JudgedExamples.of_held_out(run.held)
        about = tuple(run.said)
        front = write_searched_front(self.folder, trials, judge, fresh, self.limits, about=about)
        said = run.shows_front(self.folder)
        run.say([said] if said else [])
        return front


def _picked(front: Front, how: str) -> FrontNet:
    """Returns the net that becomes the program: the best of the front, or the best at a cost."""
    if how != "best":
        return pick(front, how)
    sign = -1 if front.higher_is_better else 1
    return min(front.nets, key=lambda net: (sign * net.value, net.prices[front.measure]))
