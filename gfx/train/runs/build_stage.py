"""Builds the players of a stage: student, teachers, discriminator, terms.

1. Taps of `fit.taps`, and those among the passes, go into the student first and into every teacher
   at the same places.
2. A discriminator is refused, with the shapes, before the first step if it does not fit.
3. Weights that are drawn anew are drawn from the seed.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from gfx.errors import InputError
from gfx.ir.preserve import preserved
from gfx.ir.random_state import keep_random_state
from gfx.pipeline import apply
from gfx.train.feeding import Loader
from gfx.train.loop.conditioned_critic import ConditionedCritic
from gfx.train.loop.devices import Devices
from gfx.train.loop.fit_loop import FitLoop
from gfx.train.loop.image_pool import ImagePool
from gfx.train.loop.player import Player
from gfx.train.loop.shown_teachers import shown_to
from gfx.train.loop.synced_norms import alone
from gfx.train.loop.tapped_run import TappedRun
from gfx.train.loop.teacher import Teacher
from gfx.train.runs.build_partner import named_seed, partner_critic, partner_net
from gfx.train.runs.build_side import first_values, side_player
from gfx.train.runs.critic_source import CriticSource, fresh
from gfx.train.runs.nets import Nets
from gfx.train.runs.prepare_student import taps_of
from gfx.train.runs.real_images import real_images
from gfx.train.runs.sampled_student import sampled_student
from gfx.train.runs.stage_critic import StageCritic, shape_text
from gfx.train.runs.stage_terms import StageTerms
from gfx.train.systems import Critic, Fit, Guide, Partner, SystemStage
from gfx.train.systems.player_fields import STUDENT
from gfx.train.systems.run_length import StepCount
from gfx.train.tasks import Batch, Task
from gfx.train.terms import TermSetting

__all__ = ["StageBuilder", "length_of"]

_KEPT_BYTES = 1 << 30  # of teachers' values of examples that come again


class StageBuilder:
    """Builds the loop of one stage from its prepared student."""

    def __init__(
        self,
        stage: SystemStage,
        number: int,
        task: Task,
        devices: Devices,
        nets: Nets,
        source: CriticSource,
        seed: int,
    ) -> None:
        assert stage.fit is not None
        self.stage, self.number, self.fit = stage, number, stage.fit
        self.task, self.devices, self.nets = task, devices, nets
        self.source, self.seed = source, seed
        self.said: list[str] = []  # what was assumed
        size = self.fit.batch * self.fit.accumulate
        self.loader = Loader(task, size, seed, devices.rank, devices.ranks)
        # of all processes: what begins with it, as adapters, begins alike in each
        self.first = Loader(task, size * devices.ranks, seed).at(0).to(devices.device)
        self.real = real_images(task, self.first)
        self.terms = StageTerms(stage, task, self.first, devices.device, seed)
        self.critics = StageCritic(
            stage.name, source, nets.critics, task, self.first, self.said.append
        )

    def loop(self, student: fx.GraphModule, steps: StepCount) -> FitLoop:
        """Returns the loop that trains a student, ready for its first step.

        Raises: InputError or RecipeError if something does not fit.
        """
        student = student.to(self.devices.device)
        if not any(parameter.requires_grad for parameter in student.parameters()):
            student.requires_grad_(True)
            self.said.append("the parameters of the model are frozen; those of its students learn")
        tapped = bool(taps_of(self.stage))
        keep = _KEPT_BYTES if self.fit.cache and self._comes_again(steps) else 0
        players: list[Player] = []
        teachers: list[Any] = []
        for guide in self.fit.teacher:
            theirs = self._teacher_net(guide, tapped)
            if guide.online:
                players.append(self._online(guide, theirs, tapped))
                teachers.append(players[-1])
            else:
                asked = self._asks_for_images()
                teachers.append(Teacher(theirs, self.task, taps=tapped, image=asked, keep=keep))
        needs = {need for asking in self.fit.asking for need in asking.needs}
        critic = self._critic(self.fit.discriminator) if "discriminator" in needs else None
        sampled = (self.stage, student, critic, self.task, self.first, self.devices, self.seed)
        nets = sampled_student(*sampled)
        net = student if nets is None else nets.net
        if nets is not None and critic is not None and self.fit.discriminator.conditioned:
            critic = ConditionedCritic(critic, nets.net)
        if nets is not None and nets.spread:  # each process sees the batches of all
            size = self.loader.batch_size * self.devices.ranks
            self.loader = Loader(self.task, size, self.seed)
        shown = [self._features(t) if tapped else {} for t in teachers]
        image, seen = self._run(net, tapped)
        self._check_image(image)
        setting = TermSetting(seen, tuple(shown), self.seed, elastic=nets is not None)
        terms = self.terms.built(self.fit.losses, setting)
        # before the student's player, which changes the classes of its norms for a while
        backs = [each for each in self.fit.players if each.leads_back]
        partners = [(each, self._partner_net(each, student)) for each in backs]
        made = Player(
            self.stage.name,
            net,
            critic,
            terms,
            self.fit,
            self.task,
            self.devices,
            taps=tapped,
            pool=self._pool(self.fit.discriminator),
            nets=nets,
        )
        made.back = {each.name: self._partner(each, back, made) for each, back in partners}
        values = first_values(self.task, self.first, image, seen)
        sides = [each for each in self.fit.players if not each.leads_back]
        built = (made, values, self.nets, self.terms, self.seed, self._say)
        made.sides = {each.name: side_player(each, *built) for each in sides}
        made.teachers = [shown_to(made, teacher) for teacher in teachers]
        players += [*made.partners.values(), made]
        self._note_norms(players)
        return FitLoop(
            self.stage.name,
            players,
            self._stream,
            steps,
            self.devices,
            seed=self.seed,
            stage=self.number,
        )

    def _note_norms(self, players: Sequence[Player]) -> None:
        """Says which norms see the share of their process alone."""
        if self.devices.ranks == 1:
            return
        nets = [net for player in players for net in (player.net, player.critic) if net is not None]
        found = [path for net in nets for path in alone(net)]
        if found:
            self.said.append(
                f"stage {self.stage.name}: {len(found)} batch norms, {found[0]} the first, are not "
                "layers of torch's own: each process sees the moments of its share of the batch"
            )

    def _stream(self, start: int) -> Generator[Sequence[Batch]]:
        parts = self.fit.accumulate
        size = self.loader.batch_size // parts
        with closing(self.loader.stream(start)) as batches:
            for batch in batches:
                yield [batch.rows(slice(k * size, (k + 1) * size)) for k in range(parts)]

    def _comes_again(self, steps: StepCount) -> bool:
        """Whether teachers see the same example often enough for keeping to pay."""
        variants = self.task.variants
        if variants is None or not all(self.first.input_keys):
            return False
        seen = steps.total * self.fit.batch * self.fit.accumulate * self.devices.ranks
        return seen >= 3 * variants * self.task.length

    def _asks_for_images(self) -> bool:
        """Whether a term compares with a teacher's images, and not with its features alone."""
        without_truth = self.task.target(self.first) is None or self.task.partly_labelled
        return any(
            ("teacher" in term.needs and "taps" not in term.needs)
            or ("target or teacher" in term.needs and without_truth)
            for term in self.fit.losses
        )

    def _teacher_net(self, guide: Guide, tapped: bool) -> fx.GraphModule:
        """Returns a copy of a teacher, with taps where the student has them (rule 1)."""
        net = self.nets.generators[guide.stage]
        example = self.task.inputs(self.first.rows(slice(0, 1)))
        passes = taps_of(self.stage) if tapped else []
        return apply({"passes": passes}, net, example, verify=bool(passes)).to(self.devices.device)

    def _online(self, guide: Guide, net: fx.GraphModule, tapped: bool) -> Player:
        """Builds a teacher that learns from new weights, by losses of its own."""
        fresh(net, self.seed)
        needs = {need for term in guide.losses for need in term.needs}
        critic = self._critic(Critic("fresh")) if "discriminator" in needs else None
        terms = self.terms.built(guide.losses, TermSetting({}, (), self.seed))
        name = f"teacher {guide.stage}"
        fit = replace(self.fit, discriminator=Critic("fresh"), ema=0.0, data=None)
        return Player(name, net, critic, terms, fit, self.task, self.devices, taps=tapped)

    def _partner_net(self, partner: Partner, student: fx.GraphModule) -> fx.GraphModule:
        """Returns the generator of a partner, on the device."""
        task, device = self.task.backwards(), self.devices.device
        net = partner_net(partner, student, self.nets, task, self.first, self.seed, self._say)
        return net.to(device)

    def _say(self, said: str) -> None:
        self.said.append(f"stage {self.stage.name}: players: {said}")

    def _partner(self, partner: Partner, net: fx.GraphModule, student: Player) -> Player:
        """Builds a generator that leads back, and learns with the student."""
        task = self.task.backwards()
        fit, seed = self.fit.of(partner), self.seed
        critic = None
        if any("discriminator" in term.needs for term in partner.losses):
            source = self.source.way_back(task, self.first)
            critic = partner_critic(partner, self.nets, source, seed, self._say)
        if critic is not None:
            critic = critic.to(self.devices.device)
            self.critics.check(critic, task)
        setting = TermSetting({}, (), named_seed(seed, partner.name))
        terms = self.terms.built(partner.losses, setting)
        made = Player(
            partner.name,
            net,
            critic,
            terms,
            fit,
            task,
            self.devices,
            taps=False,
            pool=self._pool(partner.discriminator),
        )
        made.back = {STUDENT: student}
        return made

    def _pool(self, critic: Critic) -> ImagePool | None:
        return ImagePool(critic.pool, self.seed, self.devices) if critic.pool else None

    def _features(self, teacher: Teacher | Player) -> dict[str, Tensor]:
        """Returns what a teacher with taps shows of the first batch."""
        if isinstance(teacher, Teacher):
            return teacher.show(self.first)[1]
        return self._run(teacher.net, True)[1]

    def _run(self, net: nn.Module, tapped: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Runs a net that learns on the first batch; nothing of it stays."""
        with torch.no_grad(), preserved(net), keep_random_state():
            image, features = TappedRun(net, self.task, taps=tapped)(self.first)
        assert image is not None
        return image, features

    def _critic(self, wanted: Critic) -> nn.Module | None:
        """Returns the discriminator that a player begins with (rule 2)."""
        made = self.critics.begin(wanted, [guide.stage for guide in self.fit.teacher], self.seed)
        self.task = self.critics.task  # with the arguments that it takes
        return made

    def _check_image(self, image: Tensor) -> None:
        """Refuses a generator whose images have another shape than the real ones."""
        real = self.real
        if real is None or real.ndim != 4:
            return
        if image.shape[1:] != real.shape[1:]:
            raise InputError(
                f"stage {self.stage.name}: the generator makes images of {shape_text(image)}, and "
                f"the real ones are {shape_text(real)}; give data of the size and channels that it "
                "makes (size=, in the shell --size)"
            )


def length_of(fit: Fit, loader: Loader, scale: float, trained: Mapping[str, int]) -> StepCount:
    """Returns the steps of a fit; `trained` are those of the stages before it.

    Raises: RecipeError if it is a share of what is not known.
    """
    teacher = next((trained[g.stage] for g in fit.teacher if g.stage in trained), None)
    return fit.length.steps(loader.steps_per_epoch, teacher, scale)
