"""Generators that lead back learn with the student, as CycleGAN's authors' loop has it."""

import copy
import random
import re

import pytest
import torch
import torch.nn.functional as F

import gfx
from gfx.errors import InputError, RecipeError
from gfx.reports.run.resume_command import command_of
from gfx.reports.run.run_facts import run_facts
from gfx.train import tasks
from gfx.train.systems import load_system
from support.training_runs import (
    CYCLE,
    EXAMPLE,
    Patch,
    compressed,
    cycled,
    generator,
    own_loop,
    pairs,
    state_of,
    two_sets,
)


def prepared(fit=None, model=None, **how):
    recipe = cycled(steps=5, **(fit or {}))
    model = generator(norm=False) if model is None else model
    return own_loop(recipe, model, **{"data": two_sets(), "discriminator": Patch(3)} | how)


class Pool:
    """The pool of the authors' code, as the papers say it, with the dice of ours."""

    def __init__(self, size):
        self.size, self.kept, self.seen = size, [], 0

    def query(self, images):
        shown = []
        for image in images.detach():
            dice = random.Random(f"pool 0 {self.seen}")
            self.seen += 1
            if len(self.kept) < self.size:
                self.kept.append(image.clone())
            elif dice.random() >= 0.5:
                place = dice.randrange(self.size)
                image, self.kept[place] = self.kept[place], image.clone()
            shown.append(image)
        return torch.stack(shown)


def by_hand(nets, batches, order, pool, rate=2e-4):
    """Trains as CycleGAN's code does: one optimizer of both generators, one of both critics."""
    there, back, critic, back_critic = (copy.deepcopy(net).train() for net in nets)
    critic.requires_grad_(True)
    generators = [*there.parameters(), *back.parameters()]
    og = torch.optim.Adam(generators, rate, (0.5, 0.999))
    od = torch.optim.Adam([*critic.parameters(), *back_critic.parameters()], rate, (0.5, 0.999))
    pools = [Pool(pool), Pool(pool)]

    def told(judge, real, fake, held):
        seen = held.query(fake) if pool else fake.detach()
        return 0.5 * ((judge(real) - 1).square().mean() + judge(seen).square().mean())

    for batch in batches:
        a, b = batch.tensors["x"], batch.tensors["y"]
        fake_b, fake_a = there(a), back(b)

        def fooled(a=a, b=b, fake_a=fake_a, fake_b=fake_b):
            gan = (critic(fake_b) - 1).square().mean() + (back_critic(fake_a) - 1).square().mean()
            cycle = F.l1_loss(back(fake_b), a) + F.l1_loss(there(fake_a), b)
            same = F.l1_loss(there(b), b) + F.l1_loss(back(a), a)
            return gan + 10 * cycle + 5 * same

        # the backward pool is asked first: partners come before the student
        loss = told(back_critic, a, fake_a, pools[1]) + told(critic, b, fake_b, pools[0])
        if order == "discriminator_first":
            od.zero_grad()
            loss.backward()
            od.step()
            og.zero_grad()
            fooled().backward()
            og.step()
        else:
            og.zero_grad()
            fooled().backward()
            og.step()
            od.zero_grad()
            loss.backward()
            od.step()
    return there, back, critic, back_critic


@pytest.mark.parametrize("pool", [0, 3])
@pytest.mark.parametrize("order", ["together", "discriminator_first"])
def test_steps_are_those_of_the_authors_loop_by_hand(order, pool):
    player = prepared({"order": order, "pool": pool})
    partner = player._player.back["back"]
    nets = (player.net, partner.net, player.critic, partner.critic)
    assert len({str(state_of(net)) for net in nets}) == 4
    begun = copy.deepcopy(nets)
    batches = list(player.batches())
    for batch in batches:
        player.loss(batch)
        player.step()
    wanted = by_hand(begun, batches, order, pool)
    for ours, theirs in zip(nets, wanted, strict=True):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_partner_has_rates_of_its_own_and_steps_at_each_nth_step():
    back = {"losses": CYCLE, "lr": 1e-3, "lr_discriminator": 1e-4}
    every = {"back": 2, "back.discriminator": 3, "generator": 1}
    player = prepared({"players": {"back": back}, "every": every})
    partner = player._player.back["back"]
    rates = {name: o.param_groups[0]["lr"] for name, o in partner.optimizers.items()}
    assert rates == {"generator": 1e-3, "discriminator": 1e-4}
    changed = []
    nets = (player.net, player.critic, partner.net, partner.critic)
    for batch in player.batches():
        before = [state_of(net) for net in nets]
        player.loss(batch)
        player.step()
        changed.append([state_of(n) != b for n, b in zip(nets, before, strict=True)])
    assert changed == [[True, True, n % 2 == 0, n % 3 == 0] for n in range(5)]


def test_a_step_is_that_of_its_batches_together():
    whole, parts = (prepared({"batch": 4, "pool": 0}) for _ in range(2))
    batch = next(whole.batches())
    whole._step.loss(batch, 1.0, whole._step.begin(0, 1.0))
    logged = parts._step.begin(0, 1.0)
    for rows in (slice(0, 2), slice(2, 4)):
        parts._step.loss(batch.rows(rows), 0.5, logged)
    for one, other in zip(whole._step.players, parts._step.players, strict=True):
        for net, twin in ((one.net, other.net), (one.critic, other.critic)):
            for a, b in zip(net.parameters(), twin.parameters(), strict=True):
                torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)


def test_a_state_goes_on_bit_for_bit_with_pools_and_partners(tmp_path):
    one = prepared({"ema": 0.9})
    for number, batch in enumerate(one.batches()):
        if number == 3:
            torch.save(one.state_dict(), tmp_path / "state.pt")
        one.loss(batch)
        one.step()
    other = prepared({"ema": 0.9})
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert len(other._player.pool.rows) == 3
    for batch in other.batches():
        other.loss(batch)
        other.step()
    for ours, theirs in zip(one._step.players, other._step.players, strict=True):
        assert state_of(ours.net) == state_of(theirs.net)
        assert state_of(ours.critic) == state_of(theirs.critic)


def test_a_step_leaves_the_user_s_nets_and_the_teacher_as_they_are():
    model, critic = generator(), Patch(3)
    before = state_of(model), state_of(critic)
    recipe = cycled(3, teacher="given", losses={**CYCLE, "recon": 1})
    player = gfx.train.prepare(
        recipe, model, data=two_sets(), discriminator=critic, example_inputs=EXAMPLE, val=0
    )
    for batch in player.batches():
        player.loss(batch)
        player.step()
    assert (state_of(model), state_of(critic)) == before
    assert not any(p.grad is not None for p in [*model.parameters(), *critic.parameters()])


def run(recipe, tmp_path, **how):
    given = {"data": two_sets(), "discriminator": Patch(3), "run": tmp_path, **how}
    return compressed(recipe, **given)


def test_a_stage_leaves_its_partners_with_their_averages_for_later_stages(tmp_path):
    recipe = cycled(4, ema=0.9)
    inherit = {"begins": "inherit", "losses": CYCLE, "discriminator": {"begins": "inherit"}}
    recipe["stages"]["slim"] = {
        "do": [{"channel_prune": {"ratio": 0.5}}],
        "fit": {"like": "train", "steps": 1, "lr": 1e-9, "ema": 0, "players": {"back": inherit}},
    }
    made = run(recipe, tmp_path)
    names = {path.name for path in tmp_path.glob("0*.gfx")} | {
        path.name for path in tmp_path.glob("*.critic.pt")
    }
    assert names == {
        f"{stage}{ending}"
        for stage in ("01-train", "02-slim")
        for ending in (".gfx", ".back.gfx", ".critic.pt", ".back.critic.pt")
    }
    first, second = (gfx.load(tmp_path / f"{n}.back.gfx") for n in ("01-train", "02-slim"))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7)  # of the rate 1e-9
    assert {"cycle", "back.cycle", "back.discriminator"} <= made.history[0].keys()
    assert not any("new weights" in said and "back" in said for said in made.assumed)


def test_what_a_partner_leaves_is_its_average_and_the_average_changes_no_step(tmp_path):
    run(cycled(4, ema=0.9), tmp_path / "averaged")
    run(cycled(4), tmp_path / "last")
    critics = [torch.load(p, weights_only=True) for p in tmp_path.glob("*/01-train.back.critic.pt")]
    nets = [state_of(gfx.load(p)) for p in tmp_path.glob("*/01-train.back.gfx")]
    assert all(torch.equal(value, critics[1][name]) for name, value in critics[0].items())
    assert nets[0] != nets[1]


def test_a_call_of_the_user_s_own_runs_both_ways():
    first, second = (torch.rand(6, 3, 8, 8) for _ in range(2))

    def call(net, batch):
        return net(batch.tensors["x"])

    found = []
    for how in ({}, {"call": call}):
        player = gfx.train.prepare(
            cycled(2),
            generator(),
            data=tasks.unpaired(first, second, **how),
            discriminator=Patch(3),
            example_inputs=EXAMPLE,
        )
        found.append(player.loss(next(player.batches())))
    assert found[0] == found[1]


def test_the_way_back_is_the_task_on_the_same_batches_with_its_ranges_swapped():
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    there = tasks.unpaired(images, images, range=(0, 1))
    there.target_range = (-1.0, 1.0)
    back = there.backwards()
    one, other = (task.example(1, random.Random(3)).tensors for task in (there, back))
    assert all(torch.equal(one[key], other[key]) for key in "xy")
    assert (back.range, back.target_range) == ((-1.0, 1.0), (0, 1))
    assert torch.equal(back.backwards().example(1, random.Random(3)).tensors["x"], one["x"])


def test_norms_of_partners_are_torch_s_own_when_the_stage_has_ended(tmp_path):
    run(cycled(2), tmp_path)
    kinds = {type(m) for m in gfx.load(tmp_path / "01-train.back.gfx").modules()}
    assert torch.nn.InstanceNorm2d in kinds


def test_a_partner_with_nothing_to_inherit_begins_anew_and_says_so(tmp_path):
    made = run("cyclegan", tmp_path, preset="go-on", scale=1e-4)
    said = [each for each in made.assumed if "players" in each]
    begins = "was left or given"
    assert said == [f"stage train: players: no generator back {begins}: it begins with new weights"]


def test_players_that_are_given_are_what_a_stage_begins_with(tmp_path):
    run(cycled(3), tmp_path / "one")
    back, critic = tmp_path / "one" / "01-train.back.gfx", Patch(3, seed=7)
    inherit = {"begins": "inherit", "losses": CYCLE, "discriminator": "inherit"}
    recipe = cycled(1, players={"back": inherit})
    given = {"back": str(back), "back.discriminator": critic}
    player = gfx.train.prepare(
        recipe,
        generator(),
        data=two_sets(),
        discriminator=Patch(3),
        players=given,
        example_inputs=EXAMPLE,
    )
    partner = player._player.back["back"]
    assert state_of(partner.net) == state_of(gfx.load(back))
    assert state_of(partner.critic) == state_of(critic)
    before = state_of(critic)
    made = run(recipe, tmp_path / "two", players=given)
    assert made.finished
    assert state_of(critic) == before
    command = command_of(run_facts(tmp_path / "two"))
    assert "--player back=PLAYER --player back.discriminator=PLAYER" in command
    with pytest.raises(InputError, match=r"run\.players\.back: was 'Seq"):
        run(recipe, tmp_path / "two", players=given | {"back": generator(seed=5)})


@pytest.mark.parametrize(
    ("players", "said"),
    [
        (
            {"bakc": generator()},
            "no player 'bakc' (it has back, back.discriminator); did you mean 'back'",
        ),
        ({"back": generator()}, "back was given, and no stage begins with it: give it `begins: "),
    ],
)
def test_players_that_no_stage_takes_are_refused(players, said, tmp_path):
    with pytest.raises(InputError, match=re.escape(said)):
        run(cycled(1), tmp_path, players=players)


def test_a_generator_that_does_not_lead_back_is_refused():
    grey = torch.zeros(4, 1, 8, 8)
    with pytest.raises(InputError, match=r"players: back: .*2x1x8x8.*; give `like:` a net that"):
        gfx.train.prepare(
            cycled(2),
            torch.nn.Sequential(torch.nn.Conv2d(3, 1, 1)),
            data=tasks.unpaired(torch.zeros(4, 3, 8, 8), grey),
            discriminator=Patch(1),
            example_inputs=EXAMPLE,
        )


def test_a_task_without_a_way_back_is_refused():
    with pytest.raises(InputError, match=r"task paired has no way back.*task unpaired"):
        gfx.train.prepare(
            cycled(2), generator(), data=pairs(), discriminator=Patch(), example_inputs=EXAMPLE
        )


def test_what_is_not_finite_names_the_partner():
    player = prepared()
    with torch.no_grad():
        next(player._player.back["back"].net.parameters()).fill_(float("nan"))
    with pytest.raises(InputError, match=r"^back: "):
        player.loss(next(player.batches()))


@pytest.mark.parametrize(
    ("fit", "said"),
    [
        ({"losses": {"cycle": 10}}, "the term cycle goes through a generator that leads back, and"),
        ({"players": {"back": {}}}, "players: back: losses is empty"),
        ({"players": {"back": {"losses": CYCLE, "begin": "fresh"}}}, "did you mean 'begins'"),
        ({"players": {"generator": {"losses": CYCLE}}}, "called 'generator'; give another name"),
        ({"players": {"begin": {"losses": CYCLE}}}, "called 'begin'; give another name"),
        ({"losses": CYCLE, "players": {"one": {"losses": CYCLE}}}, "is the name of the stage too"),
        ({"losses": CYCLE, "discriminator": {"begins": "frozen", "pool": 9}}, "leave pool out"),
        ({"losses": {"l1": 1}, "players": {"back": {"losses": CYCLE}}},
         "no term of the student goes through back"),
        ({"losses": {"cycle": {"by": "bakc"}}, "players": {"back": {"losses": CYCLE}}},
         "there is no generator 'bakc' that leads back; did you mean 'back'"),
        ({"losses": CYCLE, "players": {n: {"losses": CYCLE} for n in ("there", "two")}},
         "finds there, two that lead back; say which, as {cycle: {weight: 10, by: there}}"),
        ({"losses": CYCLE, "players": {"back": {"losses": {**CYCLE, "taps": 1}}},
          "teacher": "given"}, "compares with taps, and teachers are the student's alone"),
        ({"losses": CYCLE, "players": {"back": {"losses": CYCLE, "like": "giben"}}},
         "like: there is no net 'giben'; did you mean 'given'"),
        ({"losses": CYCLE, "players": {"back": {"losses": CYCLE, "discriminator": "given"}}},
         "discriminator: given: the one that is given judges the student"),
        ({"losses": CYCLE, "players": {"back": {"losses": CYCLE, "discriminator": "none"}}},
         "players: back: the term gan goes through the discriminator, and discriminator is none"),
        ({"losses": CYCLE, "players": {"back": {"losses": CYCLE}}, "every": {"bakc": 2}},
         "every: there is no player 'bakc'; did you mean 'back'"),
        ({"losses": CYCLE, "players": ["back"]}, "players: a mapping of names to fields"),
        ({"losses": {"l1": 1}, "discriminator": {"begins": "fresh", "pool": -1}}, "pool"),
        ({"losses": {"l1": 1}, "teacher": {"online": True, "losses": {"cycle": 1}}},
         "the teacher given that learns online has none"),
    ],
)  # fmt: skip
def test_players_that_do_not_fit_are_refused_when_the_recipe_is_read(fit, said):
    with pytest.raises(RecipeError, match=re.escape(said)):
        load_system({"stages": {"one": {"fit": fit}}})
