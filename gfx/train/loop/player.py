"""A generator that learns, with its discriminator, its terms, and their optimizers.

1. One step: the generator runs once; the discriminator learns to tell; the generator is
   differentiated from its image and features on. `order` says whether the discriminator's weights
   change before the generator is judged.
2. What an objective has of parameters, as adapters, learns with the generator.
3. Where the generator has masks or penalties, their schedule steps after the optimizer, and what
   they add to the objective is the term `masks`.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from gfx.errors import InputError, VerificationError
from gfx.train.loop.devices import Devices
from gfx.train.loop.quick_norms import quicken, restore
from gfx.train.loop.split_scores import split_scores
from gfx.train.loop.step_values import CutValues
from gfx.train.loop.tapped_run import TappedRun
from gfx.train.loop.teacher import Teacher, TeacherValues
from gfx.train.loop.weight_average import WeightAverage
from gfx.train.schedule import Schedule
from gfx.train.schedule.find_masks import masked_in, penalised_in
from gfx.train.systems.fit_fields import Fit
from gfx.train.tasks import Batch, Task
from gfx.train.terms import Objective, Term

__all__ = ["Player", "has_masks"]

Terms = Sequence[tuple[Term, Objective]]


def has_masks(net: nn.Module) -> bool:
    """Whether a net holds masks or penalties, which a schedule steps."""
    return any(True for _ in masked_in(net)) or any(True for _ in penalised_in(net))


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
    ) -> None:
        self.name, self.net, self.critic = name, net, critic
        self.fit, self.task, self.devices = fit, task, devices
        self.terms = list(terms)
        self.teachers = list(teachers)
        self._run = TappedRun(net, task, taps=taps)
        self._quick = self._prepare(net)
        self._quick_in_critic = () if critic is None else self._prepare(critic)
        for _, objective in self.terms:  # adapters may have norms
            devices.synchronise(objective)
        self.learns = critic is not None and fit.discriminator.learns
        if critic is not None:
            critic.requires_grad_(self.learns)
        self._own = [p for p in net.parameters() if p.requires_grad]
        self._extra = [p for _, objective in self.terms for p in objective.parameters()]
        self._judging = [] if critic is None else [p for p in critic.parameters()]
        self.optimizers = {"generator": self._adam([*self._own, *self._extra], fit.lr)}
        if self.learns:
            rate = fit.lr if fit.lr_discriminator is None else fit.lr_discriminator
            self.optimizers["discriminator"] = self._adam(self._judging, rate)
        self.rates = {name: o.param_groups[0]["lr"] for name, o in self.optimizers.items()}
        self.schedule = Schedule(net, self.optimizers["generator"]) if has_masks(net) else None
        self.average = WeightAverage(net, fit.ema) if fit.ema else None
        self._made: list[tuple[Batch, CutValues, float]] = []  # of the step that is taken
        self._fools = self._tells = False

    def _prepare(self, net: nn.Module) -> tuple[str, ...]:
        """Gives a net the norms that it trains with; returns their paths."""
        return (*quicken(net), *self.devices.synchronise(net))

    def update(self, batches: Sequence[Batch], step: int, rate: float) -> dict[str, Tensor]:
        """Takes a step on some batches, whose gradients are averaged; returns the terms."""
        logged: dict[str, Tensor] = {}
        self.begin(step, rate)
        for batch in batches:
            self.loss(batch, 1 / len(batches), logged)
        self.step(logged)
        return logged

    def begin(self, step: int, rate: float) -> None:
        """Begins step number `step`, counted from 0, at a factor of the learning rates."""
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self.rates[name] * rate
            optimizer.zero_grad()
        self.net.train()
        if self.critic is not None:
            self.critic.train(self.learns)
        self._fools = step % self.fit.steps_at_each("generator") == 0
        self._tells = self.learns and step % self.fit.steps_at_each("discriminator") == 0
        self._made = []

    def loss(self, batch: Batch, share: float, logged: dict[str, Tensor]) -> None:
        """Adds the gradients of both players for a batch, times its share of the step."""
        values = self.values(batch)
        self._made.append((batch, values, share))
        if self._tells:
            self._tell(values, share, logged)
        if self._fools and self.fit.order == "together":
            self._fool(values, share, logged)

    def step(self, logged: dict[str, Tensor]) -> None:
        """Changes the weights by the gradients of the step."""
        if self._tells:
            self._step("discriminator", self._judging)
        if self._fools:
            if self.fit.order == "discriminator_first":
                for _, values, share in self._made:
                    values.discriminator_changed()
                    self._fool(values, share, logged)
            self._generator_step()

    def shown(self, batch: Batch, judge: Callable[[Tensor], Any]) -> TeacherValues:
        """Returns what this player made of a batch in the step it took last, as a teacher's."""
        values = next(values for given, values, _ in self._made if given is batch)
        features = {tap: value.detach() for tap, value in values.features.items()}
        return TeacherValues(values.image.detach(), features, judge)

    def values(self, batch: Batch) -> CutValues:
        """Runs the generator on a batch."""
        with self.devices.autocast(self.fit.precision):
            image, features = self._run(batch)
        assert image is not None
        judge = None if self.critic is None else lambda x: self.judge(batch, x)
        show = [lambda t=teacher: t(batch) for teacher in self.teachers]
        return CutValues(self.task, batch, image, features, judge, show)

    def scores(self, batch: Batch, image: Tensor) -> Any:
        """Returns the scores alone, without labels that it names."""
        return split_scores(self.task, self.judge(batch, image))[0]

    def judge(self, batch: Batch, image: Tensor) -> Any:
        """Returns what the discriminator says of images for a batch."""
        assert self.critic is not None
        with self.devices.autocast(self.fit.precision):
            return self.critic(*self.task.judged(batch, image))

    def _tell(self, values: CutValues, share: float, logged: dict[str, Tensor]) -> None:
        """Adds the gradients of the discriminator's loss to its weights."""
        found = [objective.discriminator(values) for _, objective in self.terms]
        told = [value for value in found if value is not None]
        if told:
            total = torch.stack(told).sum() * share
            torch.autograd.backward(total, inputs=self._judging, retain_graph=True)
            _add(logged, "discriminator", total)

    def _fool(self, values: CutValues, share: float, logged: dict[str, Tensor]) -> None:
        """Adds the gradients of the generator's loss: up to the cut, and from there on (rule 1)."""
        total = torch.zeros((), device=values.image.device)
        for term, objective in self.terms:
            value = objective.generator(values)
            if value is not None:
                total = total + term.weight * share * value.float()
                _add(logged, term.name, value * share)
        if total.requires_grad:
            torch.autograd.backward(total, inputs=[*values.leaves(), *self._extra])
        made, gradients = values.gradients()
        if self.schedule is not None:  # rule 3
            penalty = self.schedule.loss() * share
            _add(logged, "masks", penalty)
            if penalty.requires_grad:
                made, gradients = [*made, penalty], [*gradients, torch.ones_like(penalty)]
        if not made:
            raise InputError(
                f"no term has a gradient to the generator of {self.name}; give a loss that depends "
                "on its image, such as l1, recon or gan"
            )
        torch.autograd.backward(made, gradients)

    def _generator_step(self) -> None:
        self._step("generator", [*self._own, *self._extra])
        if self.schedule is not None and not self.schedule.done:
            self.schedule.step()
        if self.average is not None:
            self.average.update()

    def _step(self, name: str, parameters: Sequence[nn.Parameter]) -> None:
        self.devices.average(parameters)
        if self.fit.clip is not None:
            nn.utils.clip_grad_norm_(parameters, self.fit.clip)
        self.optimizers[name].step()

    def _adam(self, parameters: Sequence[nn.Parameter], rate: float) -> torch.optim.Optimizer:
        if not parameters:
            raise InputError(f"{self.name} has no parameters that learn; nothing can be trained")
        fit = self.fit
        kind = torch.optim.AdamW if fit.weight_decay else torch.optim.Adam
        # one kernel for all parameters; it needs floating tensors on a device that has one
        fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
        return kind(
            parameters, lr=rate, betas=fit.betas, weight_decay=fit.weight_decay, fused=fused
        )

    def finished(self) -> fx.GraphModule:
        """Returns a copy of the student as `finish` would leave it."""
        assert isinstance(self.net, fx.GraphModule)
        made = copy.deepcopy(self.net)
        if self.average is not None:
            with self.average.applied():
                made.load_state_dict(self.net.state_dict())
        if self.schedule is not None and self.schedule.thresholded:
            Schedule(made).binarize()
        restore(made, self._quick)
        return made

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
        restore(self.net, self._quick)
        if self.critic is not None:
            restore(self.critic, self._quick_in_critic)

    def state_dict(self) -> dict[str, Any]:
        """Returns all that a step changes: plain data and tensors."""
        return {
            "net": self.net.state_dict(),
            "critic": None if self.critic is None else self.critic.state_dict(),
            "objectives": [objective.state_dict() for _, objective in self.terms],
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state.

        Raises: VerificationError if the state is of another player.
        """
        try:
            self.net.load_state_dict(state["net"])
            if self.critic is not None:
                self.critic.load_state_dict(state["critic"])
            for (_, objective), each in zip(self.terms, state["objectives"], strict=True):
                objective.load_state_dict(each)
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(state["optimizers"][name])
            if self.schedule is not None:
                self.schedule.load_state_dict(state["schedule"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise VerificationError(
                f"the checkpoint does not fit {self.name}: {str(error)[:300]}; the model or the "
                "recipe has changed since: give another run folder"
            ) from error


def shown_by(teacher: Teacher, player: "Player") -> Callable[[Batch], TeacherValues]:
    """Returns what a frozen teacher shows to a player."""

    def show(batch: Batch) -> TeacherValues:
        with player.devices.autocast(player.fit.precision):
            image, features = teacher.show(batch)
        return TeacherValues(image, features, lambda x: player.scores(batch, x))

    return show


def _add(logged: dict[str, Tensor], name: str, value: Tensor) -> None:
    value = value.detach()
    logged[name] = logged[name] + value if name in logged else value
