"""Generators that lead back learn with the student, as CycleGAN's authors' loop has it."""

import copy
import random

import pytest
import torch
import torch.nn.functional as F

import gfx
from support.training_runs import Patch, cycled, generator, state_of, two_sets

EXAMPLE = torch.zeros(1, 3, 8, 8)


def prepared(fit=None, model=None, **how):
    recipe = cycled(steps=5, **(fit or {}))
    return gfx.train.prepare(
        recipe,
        generator(norm=False) if model is None else model,
        data=two_sets(),
        discriminator=Patch(3),
        example_inputs=EXAMPLE,
        val=0,
        **how,
    )


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


def by_hand(nets, batches, order, pool, rate=2e-4, every_back=1):
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
