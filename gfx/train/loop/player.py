"""A generator that learns, with its discriminator, its terms, and their optimizers.

1. One step: the generator runs once; the discriminator learns to tell; the generator is
   differentiated from its image and features on. `order` says whether the discriminator's weights
   change before the generator is judged.
2. What an objective has of parameters, as adapters, learns with the generator.
3. Terms may run the generator again, or one that leads back (`back`): their weights learn by them.
4. Where the generator has masks or penalties, their schedule steps after the optimizer, and what
   they add to the objective is the term `masks`.
5. Where a filter looks at the values of a step, the examples that count add as much as without it.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from gfx.errors import InputError
from gfx.train.filters import Filter
from gfx.train.loop.conditioned_critic import ConditionedCritic
from gfx.train.loop.counted_examples import StepOutputs
from gfx.train.loop.devices import Devices
from gfx.train.loop.image_pool import ImagePool
from gfx.train.loop.optimizers import Optimizers
from gfx.train.loop.player_state import load_player_state, player_state
from gfx.train.loop.quick_norms import quicken, restore
from gfx.train.loop.sampled_nets import NetTurn, SampledNets
from gfx.train.loop.split_scores import split_scores
from gfx.train.loop.step_values import Adding, CutValues, Reruns
from gfx.train.loop.tapped_run import TappedRun
from gfx.train.loop.teacher import TeacherValues
from gfx.train.loop.weight_average import WeightAverage
from gfx.train.schedule import Schedule
from gfx.train.schedule.find_masks import has_masks
from gfx.train.supernet import Supernet
from gfx.train.supernet.partial_updates import keep_unused_columns
from gfx.train.systems.fit_fields import Fit
from gfx.train.tasks import Batch, Task
from gfx.train.terms import Objective, Term

__all__ = ["Player", "Terms", "add_logged"]

Terms = Sequence[tuple[Term, Objective]]
_ALONE = NetTurn(None)


class Player:
    """Trains one generator; several share a loop where teachers learn online.

    `net` is the generator as it is kept; with `taps` the step runs it with its features.
    `teachers` show what they make of a batch.
    """

    def __init__(
        self,
        name: str,
        net: nn.Module,
        critic: nn.Module | None,
        terms: Terms,
        fit: Fit,
        task: Task,
        devices: Devices,
        *,
        taps: bool,
        teachers: Sequence[Callable[[Batch], TeacherValues]] = (),
        pool: ImagePool | None = None,
        nets: SampledNets | None = None,
    ) -> None:
        self.name, self.net, self.critic = name, net, critic
        self.fit, self.task, self.devices = fit, task, devices
        self.terms = list(terms)
        self.teachers = list(teachers)
        self.back: dict[str, Player] = {}  # those that lead back, by name
        self.sides: dict[str, Player] = {}  # those of plugins, by name
        self.added: dict[str, Adding] = {}  # by the names of the values that they add
        self.pool, self.nets, self._taps = pool, nets, taps
        self._run, self._again = TappedRun(net, task, taps=taps), TappedRun(net, task)
        self._quick = self._prepare(net)
        self._quick_in_critic = () if critic is None else self._prepare(critic)
        for _, objective in self.terms:  # adapters may have norms
            devices.synchronise(objective)
        self.learns = critic is not None and fit.discriminator.learns
        if critic is not None:
            critic.requires_grad_(self.learns)
        self._needs = {need for term, _ in self.terms for need in term.needs}
        self._own = [p for p in net.parameters() if p.requires_grad]
        self._extra = [p for _, objective in self.terms for p in objective.parameters()]
        self._judging = [] if critic is None else [p for p in critic.parameters()]
        chosen = fit.data
        self._counts = chosen if isinstance(chosen, Filter) and chosen.by_values else None
        self._adam = Optimizers(name, fit, devices)
        self._adam.add("generator", [*self._own, *self._extra], fit.lr)
        if self.learns:
            rate = fit.lr if fit.lr_discriminator is None else fit.lr_discriminator
            self._adam.add("discriminator", self._judging, rate)
        self.optimizers = self._adam.held
        if nets is not None:
            nets.net.attach(self.optimizers["generator"])
            keep_unused_columns(self._objectives(), self.optimizers["generator"])
        self.schedule = Schedule(net, self.optimizers["generator"]) if has_masks(net) else None
        self.average = WeightAverage(net, fit.ema) if fit.ema else None
        # of the step that is taken: what it computed, and each batch's share of it
        self._made: list[tuple[CutValues, float, NetTurn]] = []
        self._told: list[Tensor] = []  # of nets that wait for others of the step
        self._shown: tuple[Batch, tuple[TeacherValues, ...]] | None = None  # by the teachers
        self._fools = self._tells = False

    def _objectives(self) -> nn.ModuleList:
        return nn.ModuleList(objective for _, objective in self.terms)

    def _prepare(self, net: nn.Module) -> tuple[str, ...]:
        """Gives a net the norms that it trains with; returns their paths."""
        spread = self.nets is not None and self.nets.spread  # each process sees the whole batch
        layers = _layers(net, self._taps)
        return (*quicken(layers), *(() if spread else self.devices.synchronise(layers)))

    def begin(self, step: int, rate: float) -> None:
        """Begins step number `step`, counted from 0, at a factor of the learning rates."""
        self._adam.begin(rate)
        self.net.train()
        if self.critic is not None:
            self.critic.train(self.learns)
        self._fools = step % self.fit.steps_at_each("generator") == 0
        self._tells = self.learns and step % self.fit.steps_at_each("discriminator") == 0
        self._made, self._told, self._shown = [], [], None
        if self.nets is not None:
            self.nets.begin(step)

    def turns(self) -> Iterator[NetTurn]:
        """Iterates over the nets that the step runs on one batch: of a supernet its subnets."""
        if self.nets is None:
            yield NetTurn(None)
        else:
            yield from self.nets.turns()

    def loss(
        self, batch: Batch, share: float, logged: dict[str, Tensor], turn: NetTurn = _ALONE
    ) -> None:
        """Adds the gradients of both players for a batch, times its share of the step."""
        values = self.values(batch, turn)
        if self._counts is not None:
            share *= values.counted  # rule 5
            add_logged(
                logged, "counted", torch.tensor(share * turn.share, device=values.image.device)
            )
        told = isinstance(self.critic, ConditionedCritic)  # it judges each net by its widths
        for known, _, _ in [] if told else self._made[-1:]:
            if known.batch is values.batch:  # another net saw it; the weights have not changed
                values.shares_scores_of_real(known)
        if self.nets is not None and self.fit.order == "together":
            self._made = []  # the graph of another net is not needed any more
        self._made.append((values, share, turn))
        if self._tells and turn.judged:
            self._tell(values, share * turn.judged, logged, waits=turn.waits)
        if self._fools and self.fit.order == "together":
            self._fool(values, share, logged, turn)

    def step_discriminator(self) -> None:
        """Changes the weights of the discriminator by the gradients of the step."""
        if self._tells:
            self._adam.step("discriminator")

    def fool_again(self, logged: dict[str, Tensor]) -> None:
        """Adds the generator's gradients, where the discriminator steps before it is judged."""
        if self._fools and self.fit.order == "discriminator_first":
            for values, share, turn in self._made:
                if self.nets is not None:
                    self.nets.enter(turn)
                values.discriminator_changed()
                self._fool(values, share, logged, turn)

    def step_generator(self) -> None:
        """Changes the weights of the generator by the gradients of the step."""
        if not self._fools:
            return
        self._adam.step("generator")
        if self.schedule is not None and not self.schedule.done:
            self.schedule.step()
        if self.average is not None:
            self.average.update()

    def shown(self, batch: Batch, judge: Callable[[Tensor], Any]) -> TeacherValues:
        """Returns what this player made of a batch in the step it took last, as a teacher's."""
        values = self.made_of(batch)
        features = {tap: value.detach() for tap, value in values.features.items()}
        return TeacherValues(values.image.detach(), features, judge)

    def made_of(self, batch: Batch) -> CutValues:
        """Returns the values of a batch in the step that is taken."""
        return next(values for values, _, _ in self._made if values.batch is batch)

    @property
    def partners(self) -> dict[str, "Player"]:
        """The players that step with this one, by name."""
        return {**self.back, **self.sides}

    def values(self, batch: Batch, turn: NetTurn = _ALONE) -> CutValues:
        """Runs the generator on a batch."""
        with self.devices.autocast(self.fit.precision):
            image, features = self._run(batch)
        assert image is not None
        instead = None
        if self.nets is not None:
            self.nets.note(turn, batch, image)
            if turn.net is not None and turn.net.from_largest:
                instead = self.nets.image_of_largest(batch)
        show = partial(self._shown_by_teachers, batch)
        made = StepOutputs(batch, image, features, instead, show)
        if self._counts is not None:
            made = made.counting(self._counts, self._cut(made), self.scores)
        return self._cut(made)

    def _cut(self, made: StepOutputs) -> CutValues:
        """Returns the values of a step, from what the nets made of a batch."""
        batch = made.batch
        judge = None if self.critic is None else lambda x: self.judge(batch, x)
        back = {name: partial(player.rerun, batch) for name, player in self.back.items()}
        reruns = Reruns(partial(self.rerun, batch), back, self.added)
        return CutValues(
            self.task,
            batch,
            made.image,
            made.features,
            judge,
            made.teachers,
            reruns,
            made.instead,
            made.counted,
        )

    def _shown_by_teachers(self, batch: Batch) -> tuple[TeacherValues, ...]:
        """Returns what the teachers make of a batch; all nets of a step see the same."""
        if self._shown is None or self._shown[0] is not batch:
            self._shown = batch, tuple(teacher(batch) for teacher in self.teachers)
        return self._shown[1]

    def rerun(self, batch: Batch, image: Tensor) -> Tensor:
        """Runs the generator on another input, with gradients to its weights (rule 3)."""
        with self.devices.autocast(self.fit.precision):
            made, _ = self._again(self.task.with_input(batch, image))
        assert made is not None
        return made

    def scores(self, batch: Batch, image: Tensor) -> Any:
        """Returns the scores alone, without labels that it names."""
        return split_scores(self.task, self.judge(batch, image))[0]

    def judge(self, batch: Batch, image: Tensor) -> Any:
        """Returns what the discriminator says of images for a batch."""
        assert self.critic is not None
        with self.devices.autocast(self.fit.precision):
            return self.critic(*self.task.judged(batch, image))

    def _tell(
        self, values: CutValues, share: float, logged: dict[str, Tensor], *, waits: bool = False
    ) -> None:
        """Adds the gradients of the discriminator's loss to its weights.

        Where another net of the step is judged after this one, they are added together with its:
        all are told from the same real images, which are differentiated once.
        """
        seen = self._pooled(values)
        found = [objective.discriminator(seen) for _, objective in self.terms]
        told = [value for value in found if value is not None]
        if not told:
            return
        total = torch.stack(told).sum() * share
        add_logged(logged, "discriminator", total)
        self._told.append(total)
        if not waits:
            whole = torch.stack(self._told).sum()
            self._told = []
            torch.autograd.backward(whole, inputs=self._judging, retain_graph=True)

    def _pooled(self, values: CutValues) -> CutValues:
        """Returns the values as the discriminator learns from them: with fakes of the pool."""
        if self.pool is None:
            return values
        assert self.critic is not None
        fakes = self.pool.shown(self.task.judged(values.batch, values.image))
        with self.devices.autocast(self.fit.precision):
            return values.with_scores_of_fake(self.critic(*fakes))

    def _fool(
        self, values: CutValues, share: float, logged: dict[str, Tensor], turn: NetTurn = _ALONE
    ) -> None:
        """Adds the gradients of the generator's loss: up to the cut, and from there on (rule 1)."""
        total = torch.zeros((), device=values.image.device)
        for term, objective in self.terms:
            judges = "discriminator" in term.needs
            if judges and not turn.judged:
                continue
            value = objective.generator(values)
            if value is not None:
                total = total + term.weight * share * turn.share * value.float()
                add_logged(
                    logged, term.name, value * share * (turn.judged if judges else turn.share)
                )
        if total.requires_grad:
            waits = turn.waits and bool(self._told)  # the discriminator's gradients come later
            inputs = [*values.leaves(), *self._beside()]
            torch.autograd.backward(total, inputs=inputs, retain_graph=waits)
        made, gradients = values.gradients()
        if self.schedule is not None:  # rule 4
            penalty = self.schedule.loss() * share
            add_logged(logged, "masks", penalty)
            if penalty.requires_grad:
                made, gradients = [*made, penalty], [*gradients, torch.ones_like(penalty)]
        if not made and "rerun" not in self._needs:
            raise InputError(
                f"no term has a gradient to the generator of {self.name}; give a loss that depends "
                "on its image, such as l1, recon or gan"
            )
        if made:
            torch.autograd.backward(made, gradients)

    def _beside(self) -> list[nn.Parameter]:
        """Returns the weights that terms reach beside the cut (rules 2 and 3)."""
        found = [*self._extra, *(self._own if "rerun" in self._needs else ())]
        if "way back" in self._needs:
            found += [p for player in self.back.values() for p in player._own]
        return found

    def finished(self) -> fx.GraphModule:
        """Returns a copy of the student as `finish` would leave it."""
        made = copy.deepcopy(self.graph)
        if self.average is not None:
            with self.average.applied():
                made.load_state_dict(self.net.state_dict())
        if self.schedule is not None and self.schedule.thresholded:
            Schedule(made).binarize()
        if self.nets is None:
            restore(made, self._quick)
        return made

    @property
    def plain_critic(self) -> nn.Module | None:
        """The discriminator, without what tells it the widths of subnets."""
        return self.critic.critic if isinstance(self.critic, ConditionedCritic) else self.critic

    @property
    def graph(self) -> fx.GraphModule:
        """The student as a program: of a supernet its largest net."""
        net = self.net.program.module if isinstance(self.net, Supernet) else self.net
        assert isinstance(net, fx.GraphModule)
        return net

    def finish(self) -> None:
        """Ends the training: masks that are still to be cut off at a threshold become binary."""
        if self.average is not None:
            weights = self.average.state_dict()["weights"]
            own = dict(self.net.named_parameters())
            with torch.no_grad():
                for name, value in weights.items():
                    own[name].copy_(value)
        if self.schedule is not None and self.schedule.thresholded:
            self.schedule.binarize()
        restore(_layers(self.net, self._taps), self._quick)
        if self.critic is not None:
            restore(self.critic, self._quick_in_critic)

    def state_dict(self) -> dict[str, Any]:
        """Returns all that a step changes: plain data and tensors."""
        return player_state(self._parts(), self._objectives(), self.optimizers)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state.

        Raises: VerificationError if the state is of another player.
        """
        load_player_state(self.name, state, self._parts(), self._objectives(), self.optimizers)

    def _parts(self) -> dict[str, Any]:
        """Returns what holds a state, by name; None: there is none."""
        return {
            "net": self.net,
            "critic": self.critic,
            "schedule": self.schedule,
            "average": self.average,
            "pool": self.pool,
        }


def _layers(net: nn.Module, taps: bool) -> nn.Module:
    """Returns what holds the layers that run: a supernet's run as copies."""
    return net.running_layers(taps=taps) if isinstance(net, Supernet) else net


def add_logged(logged: dict[str, Tensor], name: str, value: Tensor) -> None:
    """Adds a share of a term to what a step logs."""
    value = value.detach()
    logged[name] = logged[name] + value if name in logged else value
