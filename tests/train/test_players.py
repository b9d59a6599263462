"""Kinds of players that plugins bring learn beside the student, each by its own losses."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gfx
from gfx.errors import InputError, RecipeError, RegistryError
from gfx.io.yaml_text import parse
from gfx.train.players import Back, PlayerKind, players, read_player
from gfx.train.systems import load_system
from support.installed_kinds import install
from support.side_players import Encode, Latent
from support.training_runs import (
    Patch,
    compressed,
    cycled,
    files_of,
    generator,
    own_loop,
    state_of,
    two_sets,
)


@pytest.fixture(autouse=True)
def plugin(monkeypatch):
    install(monkeypatch, players=(Encode,), terms=(Latent,))


def recipe(player=None, also=(), **fit):
    """Returns a system of one stage whose student has an encoder beside it."""
    encoder = {"kind": "encode", "losses": {"latent": 1}} | (player or {})
    held = {"losses": {"l1": 1, "latent": 2}, "discriminator": "none", "batch": 2, "steps": 6}
    others = {"players": {"encoder": encoder, **dict(also)}}
    return {"stages": {"one": {"fit": held | others | fit}}}


def prepared(system, **how):
    return own_loop(system, generator(norm=False), **how)


def encoder_of(player):
    return player._player.sides["encoder"]


def test_each_learns_by_its_own_losses_as_by_hand():
    player = prepared(recipe({"lr": 1e-2}, accumulate=1))
    side, net = encoder_of(player), player.net
    side.net.get_submodule("drop").p = 0.0
    batch = next(player.batches())
    x, y = batch.tensors["x"], batch.tensors["y"]
    side.net.train()
    made = net(x)
    found = F.mse_loss(side.net(made), x.mean((2, 3)))
    theirs = torch.autograd.grad(found, list(side.net.parameters()), retain_graph=True)
    ours = torch.autograd.grad(F.l1_loss(made, y) + 2 * found, list(net.parameters()))
    logged = player.loss(batch)
    assert set(logged) == {"l1", "latent", "encoder.latent"}
    for module, wanted in ((net, ours), (side.net, theirs)):
        for parameter, gradient in zip(module.parameters(), wanted, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)
    before = state_of(net), state_of(side.net)
    player.step()
    after = state_of(net), state_of(side.net)
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert side.optimizers["generator"].param_groups[0]["lr"] == 1e-2


def test_a_student_without_the_term_is_as_it_is_alone():
    alone = recipe(losses={"l1": 1}, players={})
    beside = recipe(losses={"l1": 1})
    ends = []
    for system in (alone, beside):
        player = prepared(system)
        for batch in player.batches():
            player.loss(batch)
            player.step()
        ends.append(state_of(player.net))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("order", ["together", "discriminator_first"])
def test_it_learns_what_it_is_told_beside_a_discriminator(order):
    losses = {"gan": "hinge", "l1": 1, "latent": 1}
    system = recipe({"lr": 1e-2}, losses=losses, discriminator="fresh", order=order, steps=60)
    player = prepared(system)
    terms = []
    for batch in player.batches():
        terms.append(float(player.loss(batch)["encoder.latent"]))
        player.step()
    assert sum(terms[-10:]) < 0.5 * sum(terms[:10])


def test_a_side_player_steps_at_each_nth_step_and_gradients_of_parts_are_those_of_the_whole():
    player = prepared(recipe(every={"encoder": 2}))
    changed = []
    for batch in player.batches():
        before = [p.detach().clone() for p in encoder_of(player).net.parameters()]
        player.loss(batch)
        player.step()
        now = encoder_of(player).net.parameters()
        changed.append(not all(torch.equal(a, b) for a, b in zip(now, before, strict=True)))
    assert changed == [n % 2 == 0 for n in range(6)]


def run(folder, recipe_=None, **how):
    asked = recipe({"kind": {"encode": {"width": 4}}}, ema=0.9) if recipe_ is None else recipe_
    return compressed(asked, run=folder, checkpoint_seconds=0.0, seed=4, val=0, **how)


def test_two_runs_and_one_that_was_stopped_end_with_the_same_bits(tmp_path):
    whole, again = run(tmp_path / "whole"), run(tmp_path / "again")
    from gfx.train.runs.checkpoint_files import CheckpointFiles

    write, written = CheckpointFiles.write, []

    def stops(self, step, state):
        write(self, step, state)
        written.append(step)
        if step == 3:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointFiles, "write", stops)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped")
    stopped = run(tmp_path / "stopped")
    assert written == [1, 2, 3]
    folders = [tmp_path / name for name in ("whole", "again", "stopped")]
    nets = [state_of(gfx.load(folder / "01-one.encoder.gfx")) for folder in folders]
    assert nets[0] == nets[1] == nets[2]
    assert state_of(whole.model) == state_of(again.model) == state_of(stopped.model)
    assert files_of(folders[0]) == files_of(folders[1]) == files_of(folders[2])
    assert "encoder.latent" in whole.history[0]
    assert whole.plan.stages[-1].sides == stopped.plan.stages[-1].sides == {"encoder": 135}
    assert "; beside it encoder, 135 parameters; 6 steps" in str(whole.plan)
    assert not list(folders[0].glob("*critic*"))
    said = parse((folders[0] / "recipe.yaml").read_text("utf-8"), "recipe")
    kept = said["stages"]["one"]["fit"]["players"]["encoder"]["kind"]
    assert kept == {"encode": {"width": 4, "of": "image", "drop": 0.2}}


def test_a_later_stage_and_a_later_run_go_on_with_its_net(tmp_path):
    system = recipe()
    inherit = {"kind": "encode", "losses": {"latent": 1}, "begins": "inherit"}
    fit = {"like": "one", "steps": 1, "lr": 1e-9, "players": {"encoder": inherit}}
    system["stages"]["two"] = {"fit": fit}
    made = run(tmp_path / "run", system)
    assert not any("new weights" in each and "encoder" in each for each in made.assumed)
    first, second = (
        gfx.load(tmp_path / "run" / f"{name}.encoder.gfx") for name in ("01-one", "02-two")
    )
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7)  # of the rate 1e-9
    alone = recipe({"begins": "inherit"})
    player = prepared(alone, players={"encoder": tmp_path / "run" / "01-one.encoder.gfx"})
    assert state_of(encoder_of(player).net) == state_of(first)
    # nobody left one: it says so
    with pytest.raises(InputError, match="no player 'encodr'"):
        prepared(alone, players={"encodr": tmp_path / "run" / "01-one.encoder.gfx"})


def test_a_side_player_stands_beside_a_way_back():
    system = cycled(3)
    fit = system["stages"]["train"]["fit"]
    fit["losses"] = {**fit["losses"], "latent": 1}
    fit["players"]["encoder"] = {"kind": {"encode": "real"}, "losses": {"latent": 1}}
    player = prepared(system, data=two_sets(), discriminator=Patch(3))
    assert list(player._player.partners) == ["back", "encoder"]
    for batch in player.batches():
        terms = player.loss(batch)
        player.step()
    assert {"latent", "back.cycle", "encoder.latent"} <= set(terms)


def test_a_recipe_says_the_kind_and_is_read_back():
    system = load_system(recipe({"kind": {"encode": {"width": 4}}}))
    fit = system.stages[0].fit
    assert fit.players[0].kind == Encode(width=4)
    assert type(fit).__name__ == "Fit"
    again = load_system({"stages": {"one": {"fit": parse_back(fit)}}})
    assert again.stages[0].fit == fit
    back = cycled()
    back["stages"]["train"]["fit"]["players"]["back"]["kind"] = "back"
    # what says nothing of its kind is written as it was before there were kinds
    assert load_system(back) == load_system(cycled())
    assert "kind" not in load_system(back).stages[0].fit.players[0].spec()


def parse_back(fit):
    return {key: value for key, value in fit.spec().items() if value is not None}


@pytest.mark.parametrize(
    ("player", "fit", "said"),
    [
        ({"kind": "encod"}, {}, "encoder: kind: unknown kind of player 'encod'.*did you mean 'enc"),
        ({"kind": {"encode": {"widht": 4}}}, {}, "encode: unknown field 'widht'.*'width'"),
        ({"losses": {"l1": 1}}, {}, "none of its losses needs latent, which it adds"),
        ({"losses": {"latent": 1, "gan": "hinge"}}, {}, "term gan needs 'discriminator', which si"),
        ({"losses": {"latent": 1, "mimic": 1}}, {}, "the term mimic needs 'teacher'"),
        ({"discriminator": "fresh"}, {}, "the kind encode has no discriminator in this version"),
        ({"like": "given"}, {}, "the kind encode builds a net of its own; leave like out"),
        ({"begins": "given"}, {}, "give begins: fresh or inherit"),
        ({}, {"sample": "uniform"}, "does not learn beside a supernet"),
        ({}, {"every": {"encoder.discriminator": 2}}, "there is no player 'encoder.discrim"),
        ({}, {"players": {}}, "the term latent needs 'latent', which no player adds for it"),
    ],
)
def test_what_a_side_player_does_not_have_is_refused_by_name(player, fit, said):
    with pytest.raises(RecipeError, match=said):
        prepared(recipe(player, **fit))


def test_a_value_that_no_player_adds_is_refused_with_the_nearest_name(monkeypatch):
    @dataclass(frozen=True)
    class Latents(Latent):
        name: ClassVar[str] = "latents"
        needs: ClassVar[frozenset[str]] = frozenset({"latnet"})

    install(monkeypatch, terms=(Latent, Latents), players=(Encode,))
    said = r"term latents needs 'latnet', which no player adds for it \(players add latent\).*'lat"
    with pytest.raises(RecipeError, match=said):
        prepared(recipe(losses={"l1": 1, "latents": 1}))
    with pytest.raises(RecipeError, match="adds 'latent', and so does encoder"):
        prepared(recipe(also={"other": {"kind": "encode", "losses": {"latent": 1}}}))
    # a generator that leads back sees no side players
    system = cycled()
    fit = system["stages"]["train"]["fit"]
    fit["players"]["back"]["losses"] = {**fit["losses"], "latent": 1}
    fit["players"] |= {"encoder": {"kind": "encode", "losses": {"latent": 1}}}
    with pytest.raises(
        RecipeError, match=r"players: back: the term latent needs 'latent'.*nothing"
    ):
        prepared(system, data=two_sets(), discriminator=Patch(3))


def test_a_net_that_is_not_what_its_kind_says_is_refused_before_the_first_step(monkeypatch):
    def kind(**methods):
        made = type("Encode", (Encode,), {"name": "encode", **methods})
        install(monkeypatch, terms=(Latent,), players=(made,))
        return recipe()

    with pytest.raises(InputError, match=r"encode: build\(setting\): ValueError: no"):
        prepared(kind(build=lambda self, setting: raises(ValueError("no"))))
    with pytest.raises(InputError, match=r"build\(setting\) returns no module"):
        prepared(kind(build=lambda self, setting: 3))
    with pytest.raises(InputError, match="nothing of it can learn"):
        prepared(kind(build=lambda self, setting: nn.Flatten()))
    with pytest.raises(InputError, match="returns no tuple of tensors"):
        prepared(kind(inputs=lambda self, values: values.image))
    with pytest.raises(
        InputError, match=r"no tensor|2 values.*kind adds latent; return one tensor"
    ):
        prepared(kind(build=lambda self, setting: Twice()))
    with pytest.raises(RecipeError, match="needs 'teacher', which side players do not see"):
        prepared(kind(needs=frozenset({"teacher"})))


def raises(error):
    raise error


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.head(x), x


def test_kinds_that_cannot_be_players_are_refused_where_they_are_found(monkeypatch):
    for base, given, said in (
        (PlayerKind, {}, "nothing to build; derive it from gfx.train.players.Side"),
        (Encode, {"adds": ("teacher",)}, "adds 'teacher', which steps have without it"),
        (Encode, {"adds": ()}, "give the names of its outputs"),
        (Encode, {"name": "back"}, "two player kinds are called 'back'"),
    ):
        made = type("Odd", (base,), {"name": "odd", **given})
        install(monkeypatch, players=(made,))
        with pytest.raises(RegistryError, match=said):
            players()
    install(monkeypatch, players=(Encode,))
    assert (read_player("back"), read_player("encode")) == (Back(), Encode())
