"""Holds one run of a system: what it was given, what its stages have left, what was assumed."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from torch import fx

from gfx.io.archive import load
from gfx.train.feeding import Loader
from gfx.train.loop.devices import Devices
from gfx.train.runs.build_stage import StageBuilder, length_of
from gfx.train.runs.critic_source import CriticSource
from gfx.train.runs.evaluation import DEFAULT_METRICS, Evaluation
from gfx.train.runs.examples_of import examples_of
from gfx.train.runs.held_out_set import HeldOutSet
from gfx.train.runs.logbook import Logbook
from gfx.train.runs.nets import Nets
from gfx.train.runs.partner_files import read_critic, read_partners
from gfx.train.runs.prepare_student import StageInputs, prepared_student
from gfx.train.runs.run_folder import RunFolder
from gfx.train.systems import System, SystemStage
from gfx.train.systems.fit_fields import GIVEN
from gfx.train.systems.run_length import StepCount
from gfx.train.tasks import Batch, Task

__all__ = ["RunSettings", "SystemRun"]


@dataclass(frozen=True)
class RunSettings:
    """How a run is made: nothing of it but `seed` and `scale` changes the result."""

    seed: int = 0
    scale: float = 1.0  # of all lengths
    metrics: tuple[str, ...] = ()
    fid_weights: str | None = None  # the file of fd[inception]
    evaluate: int | None = None  # steps between evaluations, where a stage does not say
    checkpoint_seconds: float = 60.0
    seconds: float | None = None  # for which the run may go on; then it stops, to be taken up again
    log: tuple[str, ...] = ()  # trackers
    storage: str | None = None  # of the ledger of a search, which workers share; None: a file


@dataclass
class SystemRun:
    """One run of a system in a folder.

    `said` are the assumptions, `stopped` tells that the time was over before the end.
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
    book: Logbook = field(init=False)  # opened when the stages run
    searched: Task | None = None  # examples that are kept for searches; None: those of training
    shows: Callable[[Path], str] = lambda folder: ""  # renders the folder; says what it could not
    shows_front: Callable[[Path], str] = lambda folder: ""  # renders the front of a search

    def __post_init__(self) -> None:
        self.nets = Nets({GIVEN: self.model}, {})
        self.first: fx.GraphModule | None = None  # the first student as the plan prepared it
        self.held = HeldOutSet(self.task)  # all stages are judged on the same
        self.trained: dict[str, int] = {}
        self._tasks: dict[str, Task] = {}  # by stage: a filter is asked once
        self.scores: dict[str, dict[str, Any]] = {}
        seconds = self.settings.seconds
        self.deadline = None if seconds is None else monotonic() + seconds

    @property
    def late(self) -> bool:
        """Whether the time of the run is over."""
        return self.deadline is not None and monotonic() > self.deadline

    def show(self) -> None:
        """Renders the page of the run, by the process that writes."""
        if self.devices.main:
            self.book.write_table()
            said = self.shows(self.folder.path)
            self.say([said] if said else [])

    def say(self, sentences: Any) -> None:
        """Keeps what was assumed, each sentence once."""
        self.said += [said for said in sentences if said not in self.said]

    def take(self, number: int, stage: SystemStage, ended: dict[str, Any]) -> None:
        """Reads what a finished stage left."""
        net = load(self.folder.stage_file(number, stage.name, ".gfx"))
        assert isinstance(net, fx.GraphModule)
        self.nets.generators[stage.name] = net
        self.nets.last = stage.name
        self.trained[stage.name] = ended["steps"]
        self.scores[stage.name] = ended["scores"]
        self.say(ended["said"])
        path = self.folder.stage_file(number, stage.name, ".critic.pt")
        if ".critic.pt" in ended["files"]:
            self.nets.critics[stage.name] = read_critic(self.critics.shell(), path)
        if stage.fit is not None and stage.fit.players:
            read_partners(
                [partner.name for partner in stage.fit.players],
                ended["files"],
                lambda ending: self.folder.stage_file(number, stage.name, ending),
                self.nets,
                self._way_back,
            )

    def _way_back(self) -> CriticSource:
        """Returns where discriminators of partners come from."""
        first = Batch.of([self.task.example(0, random.Random(0))])
        return self.critics.way_back(self.task.backwards(), first)

    def prepared(self, stage: SystemStage, steps: int) -> fx.GraphModule:
        """Applies the passes of a stage to what the stage before it left."""
        loader = self.loader_of(stage)
        data = StageInputs(self.task, loader) if stage.passes else None
        seed = self.settings.seed
        return prepared_student(stage, self.nets.student, steps, seed, self.example(), data)

    def example(self) -> tuple[Any, ...]:
        """Returns the generator's inputs for one example: what costs are counted for."""
        batch = Batch.of([self.task.example(0, random.Random(self.settings.seed))])
        return self.task.inputs(batch)

    def task_of(self, stage: SystemStage) -> Task:
        """Returns the task with the examples that a stage sees."""
        if stage.name not in self._tasks:
            self._tasks[stage.name] = examples_of(stage, self.task)
        return self._tasks[stage.name]

    def loader_of(self, stage: SystemStage) -> Loader:
        """Returns what feeds a stage."""
        batch = 4 if stage.fit is None else stage.fit.batch * stage.fit.accumulate
        task, seed = self.task_of(stage), self.settings.seed
        return Loader(task, batch, seed, self.devices.rank, self.devices.ranks)

    def builder(self, number: int, stage: SystemStage) -> StageBuilder:
        """Returns what builds the loop of a stage."""
        task, seed = self.task_of(stage), self.settings.seed
        return StageBuilder(stage, number, task, self.devices, self.nets, self.critics, seed)

    def length(self, stage: SystemStage, loader: Loader) -> StepCount:
        """Returns how many steps a stage trains."""
        assert stage.fit is not None
        return length_of(stage.fit, loader, self.settings.scale, self.trained)

    def teacher_of(self, stage: SystemStage) -> fx.GraphModule:
        """Returns what a stage's nets are compared with where there is no truth, on the device.

        That is its teacher; of a stage that does not fit, that of the last one before it that does;
        else the model as it was given.
        """
        stages = self.system.stages
        upto = stages[: [each.name for each in stages].index(stage.name) + 1]
        fit = next((each.fit for each in reversed(upto) if each.fit is not None), None)
        name = fit.teacher[0].stage if fit is not None and fit.teacher else GIVEN
        return self.nets.generators[name].to(self.devices.device)

    def evaluation(self, stage: SystemStage) -> Evaluation:
        """Returns what judges the student of a stage, beside its teacher."""
        metrics = self.settings.metrics or DEFAULT_METRICS
        shown = self.teacher_of(stage)
        weights = self.settings.fid_weights
        return Evaluation(self.held, metrics, shown, self.devices, fid_weights=weights)
