"""Runs a system: its stages in their order, each from what is finished or the last checkpoint.

1. Before the first step every stage is built and takes one step, on copies (`preflight`).
2. A finished stage is skipped; its net is read from its file, also by the run that wrote it: what
   follows is the same either way.
3. The state of a stage is written by time and at its evaluations; nothing of the result depends on
   when. A state with a weight that is not finite is not written.
"""

import io
import json
from contextlib import nullcontext
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import torch
from torch import fx, nn

from gfx.io.archive import load, save
from gfx.io.atomic_writes import write_files
from gfx.io.guards import reading_file
from gfx.metrics import Score
from gfx.pipeline import apply
from gfx.progress import stage as report_stage
from gfx.train.feeding import Loader
from gfx.train.loop.devices import Devices
from gfx.train.loop.fit_loop import FitLoop, StepLog, finite
from gfx.train.loop.player import Player
from gfx.train.runs.build_stage import (
    Nets,
    StageBuilder,
    length_of,
    prepared_student,
)
from gfx.train.runs.checkpoint_files import CheckpointFiles
from gfx.train.runs.critic_source import CriticSource
from gfx.train.runs.evaluation import Evaluation, default_metrics
from gfx.train.runs.logbook import Logbook, flat
from gfx.train.runs.run_folder import RunFolder
from gfx.train.runs.sample_grids import write_grid
from gfx.train.systems import System, SystemStage
from gfx.train.systems.fit_fields import GIVEN
from gfx.train.systems.run_length import Steps
from gfx.train.tasks import Task

__all__ = ["SystemRun", "RunSettings"]

_ROWS = 200  # rows of the log that a stage has at most, beside those of evaluations


@dataclass(frozen=True)
class RunSettings:
    """How a run is made: nothing of it but `seed` and `scale` changes the result."""

    seed: int = 0
    scale: float = 1.0  # of all lengths
    metrics: tuple[str, ...] = ()
    checkpoint_seconds: float = 60.0
    seconds: float | None = None  # for which the run may go on; then it stops, to be taken up again
    log: tuple[str, ...] = ()  # trackers


@dataclass
class SystemRun:
    """One run of a system in a folder.

    `stopped` tells that the time was over before the end.
    """

    system: System
    model: fx.GraphModule
    task: Task
    critics: CriticSource
    folder: RunFolder
    devices: Devices
    settings: RunSettings
    said: list[str] = field(default_factory=list)
    stopped: bool = False

    def __post_init__(self) -> None:
        self.nets = Nets({GIVEN: self.model}, {})
        self.trained: dict[str, int] = {}
        self.scores: dict[str, dict[str, Any]] = {}
        self.deadline = (
            None if self.settings.seconds is None else monotonic() + self.settings.seconds
        )

    def run(self) -> None:
        """Runs the stages that are not finished.

        Raises: GfxError of the kind of what went wrong; what is finished stays.
        """
        self.book = Logbook(self.folder.path, self.settings.log, self.folder.path.name)
        try:
            for number, stage in enumerate(self.system.stages):
                ended = self.folder.finished(number, stage.name)
                if ended is None:
                    ended = self._run_stage(number, stage)
                if ended is None:
                    self.stopped = True
                    return
                self._take(number, stage, ended)
            self.book.write_table()
        finally:
            self.book.close()

    def _take(self, number: int, stage: SystemStage, ended: dict[str, Any]) -> None:
        """Reads what a finished stage left (rule 2)."""
        net = load(self.folder.stage_file(number, stage.name, ".gfx"))
        assert isinstance(net, fx.GraphModule)
        self.nets.generators[stage.name] = net
        self.nets.last = stage.name
        self.trained[stage.name] = ended["steps"]
        self.scores[stage.name] = ended["scores"]
        path = self.folder.stage_file(number, stage.name, ".critic.pt")
        if ended["critic"]:
            critic = self.critics.new(self.settings.seed)
            with reading_file(path, "give another run folder"):
                critic.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
            self.nets.critics[stage.name] = critic

    def _run_stage(self, number: int, stage: SystemStage) -> dict[str, Any] | None:
        """Runs one stage; None if the time was over."""
        report_stage(f"stage {stage.name}")
        files = CheckpointFiles(self.folder.checkpoints, number)
        student = self._begun(number, stage)
        if stage.fit is None:
            return self._ended(number, stage, student, None, 0, {})
        builder = self.builder(number, stage)
        steps = self.length(stage, builder.loader)
        loop = builder.loop(student, steps)
        self.said += [said for said in builder.said if said not in self.said]
        judge = self._evaluation(builder)
        state = files.latest()
        self.best: dict[str, Any] | None = None
        begun = 0
        if state is not None:
            begun = state["step"]
            for player, each in zip(loop.players, state["players"], strict=True):
                player.load_state_dict(each)
            self.best = state["best"]
        self.book.go_on_from(number + 1, begun)
        if begun == 0 and stage.keep != "last":
            self._judge(number, stage, loop, judge, 0)
        taken = self._train(number, stage, loop, judge, files, begun)
        if taken < steps.total:
            return None
        player = loop.players[-1]
        player.finish()
        kept, scores = self._kept(stage, player, judge)
        self._log(number, stage, taken, {f"kept.{k}": v for k, v in scores.items()})
        ended = self._ended(number, stage, kept, player.critic, taken, scores)
        files.clear()
        return ended

    def _train(
        self,
        number: int,
        stage: SystemStage,
        loop: FitLoop,
        judge: Evaluation,
        files: CheckpointFiles,
        begun: int,
    ) -> int:
        """Takes the steps, and writes what is seen and the state on the way; returns how many."""
        total = loop.steps.total
        rows = max(1, total // _ROWS)
        interval = stage.fit.evaluate if stage.fit is not None else None
        written = monotonic()

        def after(log: StepLog) -> bool:
            nonlocal written
            taken = log.step
            if taken % rows == 0 or taken == total:
                means = {name: self.devices.mean(terms) for name, terms in log.terms.items()}
                self._log(number, stage, taken, {**flat(means, stage.name), "rate": log.rate})
            if interval is not None and taken % interval == 0 and taken < total:
                self._judge(number, stage, loop, judge, taken)
            over = self.deadline is not None and monotonic() > self.deadline
            due = monotonic() - written > self.settings.checkpoint_seconds
            if taken < total and (due or over) and self.devices.main:
                self._checkpoint(files, loop, taken)
                written = monotonic()
            return not over

        return loop.run(begun, after)

    def _checkpoint(self, files: CheckpointFiles, loop: FitLoop, taken: int) -> None:
        """Writes the state, if it is worth going on from (rule 3)."""
        if finite(loop.players):
            players = [player.state_dict() for player in loop.players]
            files.write(taken, {"players": players, "best": self.best})

    def _begun(self, number: int, stage: SystemStage) -> fx.GraphModule:
        """Returns the student before its first step; read from its file (rule 2)."""
        path = self.folder.stage_file(number, stage.name, ".begin.gfx")
        if not path.exists():
            builder = self.loader_of(stage)
            steps = 0 if stage.fit is None else self.length(stage, builder).total
            save(self.prepared(stage, steps), path)
        net = load(path)
        assert isinstance(net, fx.GraphModule)
        return net

    def prepared(self, stage: SystemStage, steps: int) -> fx.GraphModule:
        """Applies the passes of a stage to what the stage before it left."""
        loader = self.loader_of(stage)
        example = self.task.inputs(loader.at(0))
        data = [self.task.inputs(loader.at(n)) for n in range(min(8, loader.steps_per_epoch))]
        return prepared_student(
            stage, self.nets.student, steps, self.settings.seed, example, data
        )

    def loader_of(self, stage: SystemStage) -> Loader:
        """Returns what feeds a stage."""
        batch = 4 if stage.fit is None else stage.fit.batch * stage.fit.accumulate
        return Loader(self.task, batch, self.settings.seed, self.devices.rank, self.devices.ranks)

    def builder(self, number: int, stage: SystemStage) -> StageBuilder:
        """Returns what builds the loop of a stage."""
        return StageBuilder(
            stage, number, self.task, self.devices, self.nets, self.critics, self.settings.seed
        )

    def length(self, stage: SystemStage, loader: Loader) -> Steps:
        """Returns how many steps a stage trains."""
        assert stage.fit is not None
        return length_of(stage.fit, loader, self.settings.scale, self.trained)

    def _evaluation(self, builder: StageBuilder) -> Evaluation:
        guides = builder.fit.teacher
        teacher = self.nets.generators[guides[0].stage] if guides else None
        metrics = self.settings.metrics or default_metrics(self.task)
        shown = None if teacher is None else teacher.to(self.devices.device)
        return Evaluation(self.task, metrics, shown, self.devices)

    def _judge(
        self, number: int, stage: SystemStage, loop: FitLoop, judge: Evaluation, taken: int
    ) -> None:
        """Evaluates the student, and remembers the best."""
        player = loop.players[-1]
        average = nullcontext() if player.average is None else player.average.applied()
        with average:
            judged = judge.judge(player.net)
            values = {name: score.value for name, score in judged.scores.items()}
            self._log(number, stage, taken, {f"held.{k}": v for k, v in values.items()})
            if judged.picture is not None and self.devices.main:
                name = f"{number + 1:02d}-{stage.name}-{taken:09d}.png"
                write_grid(self.folder.path / "samples" / name, judged.picture)
            first, score = next(iter(judged.scores.items()))
            if stage.keep != "last" and self._is_better(score):
                state = {k: v.detach().cpu().clone() for k, v in player.net.state_dict().items()}
                self.best = {
                    "step": taken,
                    "metric": first,
                    "value": score.value,
                    "higher": score.higher_is_better,
                    "net": state,
                    "scores": values,
                }

    def _is_better(self, score: Score) -> bool:
        if self.best is None:
            return True
        if score.higher_is_better:
            return bool(score.value > self.best["value"])
        return bool(score.value < self.best["value"])

    def _kept(
        self, stage: SystemStage, player: Player, judge: Evaluation
    ) -> tuple[fx.GraphModule, dict[str, float]]:
        """Returns what a stage keeps, and its scores."""
        net = player.net
        assert isinstance(net, fx.GraphModule)
        judged = judge.judge(net)
        self.picture = judged.picture
        scores = {name: score.value for name, score in judged.scores.items()}
        if stage.keep == "last" or self._is_better(next(iter(judged.scores.values()))):
            return net, scores
        assert self.best is not None
        begun = self.best["step"] == 0
        self.said.append(
            f"stage {stage.name}: kept what {'it began with' if begun else 'it had'} at step "
            f"{self.best['step']}, as {self.best['metric']} was {self.best['value']:.4g} there, and "
            f"{scores[self.best['metric']]:.4g} at the end"
        )
        net.load_state_dict(self.best["net"])
        return net, self.best["scores"]

    def _ended(
        self,
        number: int,
        stage: SystemStage,
        net: fx.GraphModule,
        critic: nn.Module | None,
        steps: int,
        scores: dict[str, float],
    ) -> dict[str, Any]:
        """Writes the files of a stage; the last says that it is finished."""
        program = apply({"passes": ["strip_taps"]}, net.to("cpu"), verify=False)
        save(program, self.folder.stage_file(number, stage.name, ".gfx"))
        if critic is not None:
            buffer = io.BytesIO()
            torch.save(critic.to("cpu").state_dict(), buffer)
            path = self.folder.stage_file(number, stage.name, ".critic.pt")
            write_files({path: lambda file: file.write(buffer.getvalue())})
        picture = getattr(self, "picture", None)
        if picture is not None and steps:
            name = f"{number + 1:02d}-{stage.name}-{steps:09d}.png"
            write_grid(self.folder.path / "samples" / name, picture)
        ended = {"steps": steps, "scores": scores, "critic": critic is not None, "said": self.said}
        text = json.dumps(ended)
        path = self.folder.stage_file(number, stage.name, ".json")
        write_files({path: lambda file: file.write(text.encode())})
        self.folder.stage_file(number, stage.name, ".begin.gfx").unlink(missing_ok=True)
        return ended

    def _log(self, number: int, stage: SystemStage, step: int, values: dict[str, float]) -> None:
        if self.devices.main:
            self.book.add({"stage": number + 1, "name": stage.name, "step": step, **values})
