"""Builds the further generators of a stage, which lead back, with their discriminators.

1. A partner has the layers of the net that it is like, without taps; what it inherits has its own.
2. Weights that are drawn anew are drawn from the seed and its name: no two nets begin alike.
"""

import hashlib
from collections.abc import Callable

import torch
from torch import fx, nn

from gfx.errors import InputError
from gfx.ir.preserve import preserved
from gfx.ir.random_state import keep_random_state
from gfx.pipeline import apply
from gfx.train.runs.critic_source import CriticSource, fresh
from gfx.train.runs.nets import Nets
from gfx.train.runs.stage_critic import shape_text
from gfx.train.systems import Partner
from gfx.train.systems.player_fields import STUDENT
from gfx.train.tasks import Batch, Task

__all__ = ["named_seed", "partner_critic", "partner_net"]

Say = Callable[[str], None]


def named_seed(seed: int, name: str) -> int:
    """Returns the seed of the new weights of a partner (rule 2).

    Example:
        >>> named_seed(0, "back") == named_seed(0, "back") != named_seed(1, "back")
        True
    """
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:4], "big")


def partner_net(
    partner: Partner,
    student: fx.GraphModule,
    nets: Nets,
    task: Task,
    first: Batch,
    seed: int,
    say: Say,
) -> fx.GraphModule:
    """Returns the generator of a partner as its training begins; `task` is that of the way back.

    Raises: InputError if it does not take the images of the second set, or makes others than those
    of the first.
    """
    left = nets.partners.get(partner.name)
    inherited = partner.begins == "inherit" and left is not None
    base = student if partner.like == STUDENT else nets.generators[partner.like]
    if inherited:
        assert left is not None
        base = left
    net = apply({"passes": ["strip_taps"]}, base, verify=False)
    if partner.begins == "inherit" and not inherited:
        say(f"no generator {partner.name} was left or given: it begins with new weights")
    if partner.begins != "given" and not inherited:
        advice = f"`begins: given` to the player {partner.name}, and the weights stay"
        fresh(net, named_seed(seed, partner.name), partner.std, advice=advice)
    net.requires_grad_(True)
    _check(partner, net, task, first)
    return net


def partner_critic(
    partner: Partner, nets: Nets, source: CriticSource, seed: int, say: Say
) -> nn.Module | None:
    """Returns the discriminator that a partner begins with; None where there is none."""
    begins = partner.discriminator.begins
    if begins == "none":
        return None
    left = nets.partner_critics.get(partner.name)
    if begins == "inherit" and left is not None:
        return source.copy_of(left)
    if begins == "inherit":
        say(
            f"no discriminator of {partner.name} was left or given: a fresh {source.name} begins "
            "with new weights"
        )
    return source.new(named_seed(seed, partner.name))


def _check(partner: Partner, net: nn.Module, task: Task, first: Batch) -> None:
    """Runs the way back once, and compares the shapes of its images."""
    where = f"players: {partner.name}: the generator like {partner.like}"
    change = "give `like:` a net that leads from the second set of images to the first"
    given = task.inputs(first)
    try:
        with torch.no_grad(), preserved(net), keep_random_state():
            made = task.image(task.generate(net, first))
    except Exception as error:  # of anyone's module
        raise InputError(
            f"{where} does not take images of the second set, {shape_text(given[0])}: "
            f"{str(error)[:200]}; {change}"
        ) from error
    real = task.real(first)
    if made.shape != real.shape:
        raise InputError(
            f"{where} makes images of {shape_text(made)}, and those of the first set are "
            f"{shape_text(real)}; {change}"
        )
