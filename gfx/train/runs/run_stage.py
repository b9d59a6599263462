"""Runs one stage: trains its student from the first step or the last checkpoint, keeps the best.

1. The state is written by time, nothing of the result depends on when. A state with a weight that
   is not finite is not written.
2. The student before its first step is written too: its passes are not run again.
3. Of several processes the first writes the files; all of them stop at the same step.
"""

from contextlib import nullcontext
from pathlib import Path
from time import monotonic
from typing import Any

from torch import fx

from gfx.io.archive import load, save
from gfx.io.atomic_writes import write_files
from gfx.metrics import Score
from gfx.pipeline import apply
from gfx.pipeline.report import attach, report
from gfx.progress import stage as report_stage
from gfx.train.loop.fit_loop import StepLog, finite
from gfx.train.loop.player import Player
from gfx.train.runs.checkpoint_files import CheckpointFiles
from gfx.train.runs.evaluation import Judged
from gfx.train.runs.judge_ends import judge_ends
from gfx.train.runs.logbook import flat
from gfx.train.runs.partner_files import endings_of, write_partners
from gfx.train.runs.preflight import give_back_memory
from gfx.train.runs.prepare_student import StageInputs
from gfx.train.runs.run_report import attach_joined
from gfx.train.runs.run_system import SystemRun
from gfx.train.runs.sample_grids import write_grid
from gfx.train.runs.sealed_files import read_sealed, seal_path
from gfx.train.runs.search_stage import StageSearch
from gfx.train.systems import SystemStage
from gfx.train.systems.run_length import StepCount

__all__ = ["StageRun"]

_ROWS = 200  # rows of the log that a stage has at most, beside those of evaluations

Scores = dict[str, float]


class StageRun:
    """One stage of a run; `number` counts from 0."""

    def __init__(self, run: SystemRun, number: int, stage: SystemStage) -> None:
        self.system, self.number, self.stage = run, number, stage
        self.files = CheckpointFiles(run.folder.checkpoints, number, run.folder.key)
        self.best: dict[str, Any] | None = None

    def run(self) -> dict[str, Any] | None:
        """Runs the stage, and returns how it ended; None if the time was over."""
        report_stage(f"stage {self.stage.name}")
        student = self._begun()
        self.begun = report(student)
        modes = {path: part.training for path, part in student.named_modules()}
        if self.stage.search is not None:
            return self._searched(student)
        if self.stage.fit is None:
            return self._ended(student, None, 0, {}, None)
        builder = self.system.builder(self.number, self.stage)
        steps = self.system.length(self.stage, builder.loader)
        self.loop = builder.loop(student, steps)
        self.system.say((*builder.said, *builder.loader.about))
        self.judge = self.system.evaluation(self.stage)
        begun = self._restored()
        # at its beginning nothing is kept of it: the row of step 0 comes again too
        self.system.book.go_on_from(self.number + 1, begun or -1)
        if begun == 0 and self.stage.keep != "last":
            self._judge(0)
        if self._train(begun, steps) < steps.total:
            return None
        player = self.loop.players[-1]
        for each in (*player.partners.values(), player):
            each.finish()
        give_back_memory()  # judging takes its own
        self.system.say(f"stage {self.stage.name}: {said}" for said in self.loop.warnings)
        kept, judged, scores = self._kept(player)
        self._log(steps.total, {f"kept.{name}": value for name, value in scores.items()})
        for path, part in kept.named_modules():  # as they were given
            part.training = modes.get(path, part.training)
        return self._ended(kept, player, steps.total, scores, judged)

    def _searched(self, student: fx.GraphModule) -> dict[str, Any] | None:
        """Searches with all processes; those that do not write read what was found."""
        run = self.system
        found = StageSearch(run, self.number, self.stage, student).run()
        if run.devices.any(run.devices.main and found is None):
            return None
        if found is None:
            return {}
        self.begun = report(found)
        judged = run.evaluation(self.stage).judge(found.to(run.devices.device))
        scores = _values(judged)
        self._log(0, {f"kept.{name}": value for name, value in scores.items()})
        return self._ended(found, None, 0, scores, judged)

    def _begun(self) -> fx.GraphModule:
        """Returns the student before its first step, read from its file (rule 2)."""
        run = self.system
        path = self._file(".begin.gfx")
        with run.devices.main_first():
            if read_sealed(path, run.folder.key) is None:
                loader = run.loader_of(self.stage)
                steps = 0 if self.stage.fit is None else run.length(self.stage, loader).total
                first = run.first if self.number == 0 else None
                save(run.prepared(self.stage, steps) if first is None else first, path)
                known = run.folder.seal(path.read_bytes())
                write_files({seal_path(path): lambda file: file.write(known.encode())})
        net = load(path)
        assert isinstance(net, fx.GraphModule)
        return net

    def _restored(self) -> int:
        """Goes on from the last good checkpoint; returns the steps that are taken."""
        state = self.files.latest()
        if state is None:
            return 0
        for player, each in zip(self.loop.players, state["players"], strict=True):
            player.load_state_dict(each)
        self.best = state["best"]
        self.loop.low = state["low"]
        return int(state["step"])

    def _train(self, begun: int, steps: StepCount) -> int:
        """Takes the steps, and writes what is seen and the state on the way; returns how many."""
        run, fit = self.system, self.stage.fit
        assert fit is not None
        rows = max(1, steps.total // _ROWS)
        interval = run.settings.evaluate if fit.evaluate is None else fit.evaluate
        written = monotonic()

        def after(log: StepLog) -> bool:
            nonlocal written
            taken = log.step
            last = taken == steps.total
            if taken % rows == 0 or last:
                means = {name: run.devices.mean(terms) for name, terms in log.terms.items()}
                self._log(taken, {**flat(means, self.stage.name), "rate": log.rate})
            if interval is not None and taken % interval == 0 and not last:
                self._judge(taken)
                run.show()
            over = run.deadline is not None and run.devices.any(run.late)
            due = monotonic() - written > run.settings.checkpoint_seconds
            if not last and (due or over) and run.devices.main:
                self._checkpoint(taken)
                written = monotonic()
            return not over

        return self.loop.run(begun, after)

    def _checkpoint(self, taken: int) -> None:
        """Writes the state, if it is worth going on from (rule 1)."""
        if finite(self.loop.players):
            players = [player.state_dict() for player in self.loop.players]
            state = {"players": players, "best": self.best, "low": self.loop.low}
            self.files.write(taken, state)

    def _judge(self, taken: int) -> None:
        """Evaluates the student, and remembers the best."""
        player = self.loop.players[-1]
        with nullcontext() if player.average is None else player.average.applied():
            judged, values = self._scored(player)
            self._log(taken, {f"held.{name}": value for name, value in values.items()})
            self._show(judged, taken)
            first, score = next(iter(judged.scores.items()))
            if self.stage.keep != "last" and self._is_better(score):
                state = {k: v.detach().cpu().clone() for k, v in player.net.state_dict().items()}
                self.best = {
                    "step": taken,
                    "metric": first,
                    "value": score.value,
                    "higher": score.higher_is_better,
                    "net": state,
                    "scores": values,
                }

    def _scored(self, player: Player) -> tuple[Judged, Scores]:
        """Judges the student; of a supernet its largest net, and the smallest for the record."""
        if player.nets is None:
            judged = self.judge.judge(player.net)
            return judged, _values(judged)
        inputs = StageInputs(self.system.task, self.system.loader_of(self.stage))
        judged, least = judge_ends(player.nets.net, self.judge, inputs)
        smallest = {f"smallest.{name}": value for name, value in _values(least).items()}
        return judged, {**_values(judged), **smallest}

    def _is_better(self, score: Score) -> bool:
        if self.best is None:
            return True
        if score.higher_is_better:
            return bool(score.value > self.best["value"])
        return bool(score.value < self.best["value"])

    def _kept(self, player: Player) -> tuple[fx.GraphModule, Judged, Scores]:
        """Returns what the stage keeps, how its end was judged, and the scores of what is kept."""
        net = player.graph
        judged, scores = self._scored(player)
        if self.stage.keep == "last" or self._is_better(next(iter(judged.scores.values()))):
            return net, judged, scores
        assert self.best is not None
        begun = self.best["step"] == 0
        metric = self.best["metric"]
        self.system.say(
            [
                f"stage {self.stage.name}: kept what it {'began with' if begun else 'was'} at step "
                f"{self.best['step']:,}, where {metric} was {self.best['value']:.4g}; at the end "
                f"it is {scores[metric]:.4g}"
            ]
        )
        net.load_state_dict(self.best["net"])
        return net, self._scored(player)[0], self.best["scores"]

    def _ended(
        self,
        net: fx.GraphModule,
        player: Player | None,
        steps: int,
        scores: Scores,
        judged: Judged | None,
    ) -> dict[str, Any]:
        """Writes the files of the stage; the last says that it is finished."""
        run = self.system
        files = endings_of(player)
        ended = {"steps": steps, "scores": scores, "files": files, "said": run.said}
        if not run.devices.main:
            return ended
        program = apply({"passes": ["strip_taps"]}, net.to("cpu"))
        attach(net, self.begun)
        attach_joined(program, net)
        save(program, self._file(".gfx"))
        if player is not None:
            write_partners(player, self._file)
        if judged is not None:
            self._show(judged, steps)
        run.folder.finish(self.number, self.stage.name, ended)
        begun = self._file(".begin.gfx")
        for path in (begun, seal_path(begun)):
            path.unlink(missing_ok=True)
        return ended

    def _file(self, ending: str) -> Path:
        return self.system.folder.stage_file(self.number, self.stage.name, ending)

    def _show(self, judged: Judged, taken: int) -> None:
        if judged.picture is not None and self.system.devices.main:
            name = f"{self.number + 1:02d}-{self.stage.name}-{taken:09d}.png"
            write_grid(self.system.folder.path / "samples" / name, judged.picture)

    def _log(self, step: int, values: Scores) -> None:
        row = {"stage": self.number + 1, "name": self.stage.name, "step": step}
        self.system.book.add({**row, **values})


def _values(judged: Judged) -> Scores:
    return {name: score.value for name, score in judged.scores.items()}
