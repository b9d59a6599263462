"""Gives one stage of a system to a loop of the user's own.

player = gfx.train.prepare("gan-compression-distill", generator, data="shoes")
for batch in player.batches():
    terms = player.loss(batch)
    player.step()
small = gfx.train.convert(player)
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from torch import Tensor, fx, nn

from gfx.errors import InputError, RecipeError
from gfx.io.archive import ModelPath, as_module
from gfx.ir.ambient_modes import in_neutral_modes
from gfx.ir.model_kinds import require_module
from gfx.pipeline import apply
from gfx.train.feeding import Loader
from gfx.train.loop.devices import devices as devices_of
from gfx.train.loop.joint_step import JointStep
from gfx.train.loop.player import Player
from gfx.train.runs.build_stage import StageBuilder, length_of
from gfx.train.runs.examples_of import examples_of
from gfx.train.runs.given_players import given_players
from gfx.train.runs.logbook import flat
from gfx.train.runs.nets import Nets
from gfx.train.runs.opened_run import open_run
from gfx.train.runs.prepare_student import StageInputs, prepared_student
from gfx.train.systems.fit_fields import GIVEN
from gfx.train.systems.read_system import SystemSource, load_system
from gfx.train.systems.run_length import StepCount
from gfx.train.tasks import Batch
from gfx.train.tasks.held_out import keep_for_search

__all__ = ["PreparedPlayer", "convert", "prepare"]


class PreparedPlayer:
    """A student with its discriminator, teachers, terms and optimizers, for a loop of your own.

    `net` is the student, `critic` its discriminator (None: there is none), `optimizers` by player,
    `steps` how many the recipe takes.
    """

    def __init__(self, player: Player, loader: Loader, steps: StepCount) -> None:
        self._player, self._loader, self.steps = player, loader, steps
        self.net, self.critic, self.optimizers = player.net, player.critic, player.optimizers
        self.taken = 0  # steps
        self._step = JointStep(player)
        self._terms: dict[str, dict[str, Tensor]] = {}
        self._begun = False

    def batches(self) -> Iterator[Batch]:
        """Iterates over the batches of the steps that are left."""
        with closing(self._loader.stream(self.taken)) as stream:
            for _ in range(self.taken, self.steps.total):
                yield next(stream)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Computes the terms of a batch, and adds the gradients of all players.

        Several calls before `step` add up. Terms of a generator that leads back have its name
        before theirs, as `back.cycle`.

        Raises: InputError if a term is not finite.
        """
        if not self._begun:
            self._terms = self._step.begin(self.taken, self.steps.rate(self.taken))
            self._begun = True
        self._step.loss(batch.to(self._player.devices.device), 1.0, self._terms)
        return flat(self._terms, self._player.name)

    def step(self) -> None:
        """Changes the weights, and goes on to the next step; masks and averages follow.

        Raises: InputError if there was no loss.
        """
        if not self._begun:
            raise InputError("step() comes after loss(batch), and there was none since the last")
        self._step.step(self._terms)
        self._begun = False
        self.taken += 1

    def state_dict(self) -> dict[str, Any]:
        """Returns all that a step changes."""
        partners = {name: player.state_dict() for name, player in self._player.partners.items()}
        return {"taken": self.taken, "players": partners, **self._player.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a state.

        Raises: VerificationError if it is of another player.
        """
        self._player.load_state_dict(state)
        for name, player in self._player.partners.items():
            player.load_state_dict(state["players"][name])
        self.taken = state["taken"]


@in_neutral_modes
def prepare(
    recipe: SystemSource,
    model: nn.Module | ModelPath,
    *,
    data: Any = None,
    preset: str | None = None,
    stage: str | None = None,
    discriminator: nn.Module | ModelPath | None = None,
    players: Mapping[str, nn.Module | ModelPath] | None = None,
    task: str | None = None,
    seed: int = 0,
    scale: float = 1.0,
    device: str | None = None,
    example_inputs: Any = None,
    **images: Any,
) -> PreparedPlayer:
    """Prepares the student of one stage for a loop of your own.

    Args:
        recipe: as `gfx.compress` takes it.
        model: the generator, or what `gfx.open_model` opens; it is left unchanged.
        data: as `gfx.compress` takes it.
        preset: a name under `presets:` of the recipe.
        stage: which one; None: the only one that trains.
        discriminator: a trained one, its file, or what builds one.
        players: trained ones that lead back, as `gfx.compress`.
        task: the task; None: by model and data.
        seed: of data, weights and noise.
        scale: what the number of steps is multiplied by.
        device: "cpu", "cuda"; None: the accelerator, if there is one.
        example_inputs: for the generator, where they cannot be inferred.
        images: size, crop, flip, range, val, labels, attributes, call: as `gfx.compress`.

    Raises: GfxError of the kind of what does not fit.

    Example:
        >>> import gfx, torch
        >>> images = torch.zeros(8, 3, 64, 64)
        >>> recipe = {"stages": {"train": {"fit": {"losses": {"gan": "hinge"}, "steps": 2}}}}
        >>> player = prepare(recipe, gfx.zoo.build("dcgan", ngf=4), data=images)
        >>> for batch in player.batches():
        ...     terms = player.loss(batch)
        ...     player.step()
        >>> sorted(terms), player.taken, type(convert(player)).__name__
        (['discriminator', 'gan'], 2, 'GraphModule')
    """
    system = load_system(recipe, preset).with_labels(images.get("labels"))
    system.refuse_unrunnable()
    trained = [each for each in system.stages if each.fit is not None]
    named = [each for each in trained if stage in (None, each.name)]
    if len(named) != 1:
        names = ", ".join(each.name for each in trained) or "none"
        raise RecipeError(
            f"stage={stage!r}: the stages that train are {names}; name one of them, as stage="
            f"{(trained[0].name if trained else '')!r}"
        )
    chosen = named[0]
    assert chosen.fit is not None
    module = as_module(model)
    require_module(module)
    devices = devices_of(device)
    images["labels"] = system.labels
    opened = open_run(module, data, discriminator, example_inputs, task=task, seed=seed, **images)
    trained_on, _ = keep_for_search(opened.task, system.data.get("search"), seed)
    trained_on = examples_of(chosen, trained_on)
    missing = [g.stage for g in chosen.fit.teacher if g.stage != GIVEN]
    if missing:
        raise RecipeError(
            f"stage {chosen.name}: its teacher is the stage {missing[0]}, which a loop of your own "
            "does not run; give that stage's net as the model, and `teacher: given`"
        )
    nets = Nets({GIVEN: opened.given}, {})
    given_players(players, system, nets)
    builder = StageBuilder(chosen, 0, trained_on, devices, nets, opened.critics, seed)
    steps = length_of(chosen.fit, builder.loader, scale, {})
    example = opened.task.inputs(Batch.of([opened.task.example(0, random.Random(seed))]))
    measured = StageInputs(trained_on, builder.loader) if chosen.passes else None
    student = prepared_student(chosen, opened.given, steps.total, seed, example, measured)
    loop = builder.loop(student, steps)
    player = loop.players[-1]
    if len(loop.players) > 1 + len(player.partners):
        raise RecipeError(
            f"stage {chosen.name}: has a teacher that learns online: that takes the loop of gfx; "
            "run it by gfx.compress"
        )
    return PreparedPlayer(player, builder.loader, steps)


def convert(player: PreparedPlayer, path: str | Path | None = None) -> fx.GraphModule:
    """Returns the student as it ships: the average of its weights, no taps, masks taken out.

    The player goes on as it was. A path is where to save it, as `gfx.save` does.

    Raises: GfxError if the result is not what the student computes.
    """
    net = player._player.finished()
    small = apply({"passes": ["strip_taps"]}, net)
    small = apply("convert", small)
    if path is not None:
        from gfx.io.archive import save

        save(small, path)
    return small
