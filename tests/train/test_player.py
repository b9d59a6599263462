"""A step of the loop is the step that one would write by hand, and does nothing twice."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gfx
from gfx.errors import InputError
from support.training_runs import (
    DISTIL,
    EXAMPLE,
    Patch,
    generator,
    own_loop,
    pairs,
    state_of,
)


def prepared(fit, model=None, critic=None, **how):
    recipe = {"stages": {"train": {"fit": {"batch": 2, "steps": 4, **fit}}}}
    return own_loop(recipe, model, **({} if critic is None else {"discriminator": critic}) | how)


def by_hand(net, critic, batches, order, rate=2e-4):
    """Trains as the papers say it: every term from scratch, D run anew for each player."""
    net, critic = copy.deepcopy(net).train(), copy.deepcopy(critic).train()
    og = torch.optim.Adam(net.parameters(), rate, (0.5, 0.999))
    od = torch.optim.Adam(critic.parameters(), rate, (0.5, 0.999))
    for batch in batches:
        x, y = batch.tensors["x"], batch.tensors["y"]
        fake = net(x)

        def told(fake=fake, x=x, y=y):
            of_fake = critic(torch.cat((x, fake.detach()), 1))
            of_real = critic(torch.cat((x, y), 1))
            return 0.5 * (F.relu(1 + of_fake).mean() + F.relu(1 - of_real).mean())

        def fooled(fake=fake, x=x, y=y):
            gan = -critic(torch.cat((x, fake), 1)).mean()
            return gan + 100 * (fake - y).abs().mean()

        od.zero_grad()
        told().backward()
        if order == "discriminator_first":
            od.step()
        kept = [p.grad.clone() for p in critic.parameters()]
        og.zero_grad()
        fooled().backward()
        for p, grad in zip(critic.parameters(), kept, strict=True):
            p.grad = grad
        if order == "together":
            od.step()
        og.step()
    return net, critic


@pytest.mark.parametrize("order", ["together", "discriminator_first"])
def test_steps_are_those_of_a_loop_by_hand(order):
    # no norm: a bias before one has no gradient but noise, which Adam would make large
    fit = {"losses": {"gan": "hinge", "l1": 100}, "order": order}
    player = prepared(fit, generator(norm=False))
    net, critic = copy.deepcopy(player.net), copy.deepcopy(player.critic)
    batches = list(player.batches())
    for batch in batches:
        player.loss(batch)
        player.step()
    wanted_net, wanted_critic = by_hand(net, critic, batches, order)
    for ours, wanted in ((player.net, wanted_net), (player.critic, wanted_critic)):
        for a, b in zip(ours.parameters(), wanted.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def test_the_discriminator_sees_the_fake_once_where_both_players_judge_it_together():
    for order, runs in (("together", 2), ("discriminator_first", 4)):
        critic = Patch()
        player = prepared({"losses": {"gan": "hinge"}, "order": order}, critic=critic)
        seen = []
        player.critic.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        player.loss(next(player.batches()))
        player.step()
        # of the real images and of the fake; with new weights, of the fake again
        assert len(seen) == (runs if order == "together" else 3)


def test_gradients_of_batches_that_are_accumulated_are_those_of_one_batch():
    whole = prepared({"losses": {"gan": "hinge", "l1": 100}, "batch": 4}, generator(norm=False))
    parts = prepared(
        {"losses": {"gan": "hinge", "l1": 100}, "batch": 2, "accumulate": 2}, generator(norm=False)
    )
    player, other = whole._player, parts._player
    batch = next(whole.batches())
    player.begin(0, 1.0)
    player.loss(batch, 1.0, {})
    other.begin(0, 1.0)
    for part in (slice(0, 2), slice(2, 4)):
        other.loss(batch.rows(part), 0.5, {})
    for net, twin in ((player.net, other.net), (player.critic, other.critic)):
        for a, b in zip(net.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-7)


def test_a_player_steps_at_each_nth_step():
    player = prepared({"losses": {"gan": "hinge"}, "every": {"generator": 2}})
    changed = []
    for batch in player.batches():
        before = state_of(player.net)
        player.loss(batch)
        player.step()
        changed.append(state_of(player.net) != before)
    assert changed == [True, False, True, False]


def test_gradients_are_clipped_to_the_norm():
    player = prepared({"losses": {"l1": 1000}, "clip": 0.01})
    player.loss(next(player.batches()))
    player.step()
    norms = torch.stack([p.grad.norm() for p in player.net.parameters()]).norm()
    assert float(norms) <= 0.0101


def test_bf16_is_near_float32_and_weights_stay_float32():
    exact = prepared({"losses": {"l1": 1}}, generator(norm=False))
    short = prepared({"losses": {"l1": 1}, "precision": "bf16"}, generator(norm=False))
    batch = next(exact.batches())
    a, b = exact.loss(batch)["l1"], short.loss(batch)["l1"]
    assert a != b
    torch.testing.assert_close(a, b, rtol=0.02, atol=0)
    assert {p.dtype for p in short.net.parameters()} == {torch.float32}


def test_a_frozen_discriminator_judges_and_stays():
    critic = Patch()
    player = prepared({"losses": {"gan": "hinge"}, "discriminator": "frozen"}, critic=critic)
    net = state_of(player.net)
    for batch in player.batches():
        terms = player.loss(batch)
        player.step()
    assert state_of(player.critic) == state_of(critic)
    assert state_of(player.net) != net
    assert "discriminator" not in terms


def test_the_user_s_generator_and_discriminator_stay():
    model, critic = generator(), Patch()
    before = state_of(model), state_of(critic)
    player = gfx.train.prepare(
        DISTIL, model, data=pairs(), discriminator=critic, example_inputs=EXAMPLE
    )
    for batch in player.batches():
        player.loss(batch)
        player.step()
    assert (state_of(model), state_of(critic)) == before
    assert not any(p.grad is not None for p in [*model.parameters(), *critic.parameters()])


def test_what_is_converted_is_the_average_and_the_player_goes_on():
    player = gfx.train.prepare(
        DISTIL, generator(), data=pairs(), discriminator=Patch(), example_inputs=EXAMPLE
    )
    batches = player.batches()
    for _ in range(3):
        player.loss(next(batches))
        player.step()
    now = state_of(player.net)
    small = gfx.train.convert(player)
    average = player._player.average.state_dict()["weights"]
    assert state_of(player.net) == now
    assert small(EXAMPLE).shape == (1, 3, 8, 8)
    for name, value in small.named_parameters():
        assert torch.equal(value, average[name])
    player.loss(next(batches))
    player.step()
    assert player.taken == 4


def test_a_state_goes_on_bit_for_bit_and_does_not_fit_another_model(tmp_path):
    def fresh():
        return gfx.train.prepare(
            DISTIL, generator(), data=pairs(), discriminator=Patch(), example_inputs=EXAMPLE
        )

    one = fresh()
    for number, batch in enumerate(one.batches()):
        if number == 3:
            torch.save(one.state_dict(), tmp_path / "state.pt")
        one.loss(batch)
        one.step()
    other = fresh()
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for batch in other.batches():
        other.loss(batch)
        other.step()
    assert other.taken == one.taken == 6
    assert state_of(one.net) == state_of(other.net)
    assert state_of(one.critic) == state_of(other.critic)
    third = prepared({"losses": {"gan": "hinge"}})
    with pytest.raises(gfx.VerificationError, match=r"(?s)does not fit train.*has changed since"):
        third.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))


def test_a_step_without_a_loss_is_refused():
    with pytest.raises(InputError, match=r"step\(\) comes after loss\(batch\)"):
        prepared({"losses": {"l1": 1}}).step()


def test_a_generator_that_has_nothing_to_learn_is_refused():
    with pytest.raises(InputError, match="has no parameters that learn"):
        prepared({"losses": {"l1": 1}}, nn.Sequential(nn.Tanh()))


def test_the_student_of_a_frozen_generator_learns():
    model = generator().requires_grad_(False)
    player = prepared({"losses": {"l1": 1}}, model)
    assert all(parameter.requires_grad for parameter in player.net.parameters())
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("sick", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_its_term(sick):
    player = prepared({"losses": {"l1": 1}})
    with torch.no_grad():
        next(player.net.parameters()).fill_(sick)
    with pytest.raises(InputError, match="l1"):
        player.loss(next(player.batches()))


def test_masks_are_scheduled_inside_and_an_averaged_model_converts_to_the_masked_width():
    recipe = {
        "stages": {
            "mask": {
                "do": [{"mask": {"sparsity": 0.5, "end": "50%", "granularity": "channel"}}],
                "fit": {"losses": {"l1": 1}, "steps": 6, "batch": 2, "ema": 0.9},
            }
        }
    }
    player = gfx.train.prepare(recipe, generator(norm=False), data=pairs(), example_inputs=EXAMPLE)
    for batch in player.batches():
        player.loss(batch)
        player.step()
    small = gfx.train.convert(player)
    widths = [m.out_channels for m in small.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [4, 4, 3]
