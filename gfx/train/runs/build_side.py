"""Builds the side players of a stage, whose nets plugins make.

New weights are drawn from the seed and the player's name, as those of partners are.
"""

import torch
from torch import Tensor, fx, nn

from gfx.errors import InputError, RecipeError, prefixed
from gfx.io.guards import calling
from gfx.ir.preserve import preserved
from gfx.ir.random_state import keep_random_state
from gfx.pipeline import apply
from gfx.train.loop.player import Player
from gfx.train.loop.side_player import SidePlayer, named_outputs
from gfx.train.loop.step_values import CutValues, Reruns
from gfx.train.players import Side, SideSetting
from gfx.train.runs.build_partner import Say, named_seed
from gfx.train.runs.nets import Nets
from gfx.train.runs.stage_terms import StageTerms
from gfx.train.systems import Partner
from gfx.train.tasks import Batch, Task
from gfx.train.terms import TermSetting
from gfx.train.terms.term import Features

__all__ = ["first_values", "side_player"]


def first_values(task: Task, first: Batch, image: Tensor, features: Features) -> CutValues:
    """Returns the values of the first batch, as side players are built from them."""
    return CutValues(task, first, image, features, None, tuple, Reruns(_refuse_rerun))


def _refuse_rerun(image: Tensor) -> Tensor:
    raise InputError("what a side player is called with may not run the generator again")


def side_player(
    partner: Partner, student: Player, values: CutValues, nets: Nets, terms: StageTerms, seed: int,
    say: Say,
) -> SidePlayer:  # fmt: skip
    """Returns a side player as its training begins; `values` are those of the first batch.

    Raises: RecipeError or InputError if the task does not have what it needs, or its net does not
    do what its kind says.
    """
    kind, where = partner.kind, f"players: {partner.name}: the kind {partner.kind.name}"
    assert isinstance(kind, Side)
    if "target" in kind.needs and (values.target is None or student.task.partly_labelled):
        raise RecipeError(
            f"{where} needs the ground truth, and not every example has one; give pairs, or the "
            "fit `data: labelled`"
        )
    own = named_seed(seed, partner.name)
    net = _net(partner, kind, values, nets, own, say, where)
    built = terms.built(partner.losses, TermSetting({}, (), own))
    return SidePlayer(partner.name, kind, net, built, student.fit.of(partner), student)


def _net(
    partner: Partner, kind: Side, values: CutValues, nets: Nets, seed: int, say: Say, where: str
) -> fx.GraphModule:
    """Returns the net, and runs it once; nothing of the run stays."""
    with calling(f"{where}: inputs(values)"):
        given = kind.inputs(values)
    if not isinstance(given, tuple) or not all(isinstance(each, Tensor) for each in given):
        raise InputError(f"{where}: inputs(values) returns no tuple of tensors; return (tensor,)")
    given = tuple(each.detach() for each in given)
    left = nets.partners.get(partner.name)
    if partner.begins == "inherit" and left is not None:
        made: nn.Module = left
    else:
        if partner.begins == "inherit":
            say(f"no net {partner.name} was left or given: it begins with new weights")
        setting = SideSetting(given, values.image.detach(), seed)
        with keep_random_state(seed=seed), calling(f"{where}: build(setting)"):
            made = kind.build(setting)
        if not isinstance(made, nn.Module):
            raise InputError(f"{where}: build(setting) returns no module of torch; return one")
    with keep_random_state(seed=seed), prefixed(f"{where}: its net"):
        net = apply({"passes": []}, made.to(values.image.device), given, verify=False)
    with torch.no_grad(), preserved(net), keep_random_state():
        with calling(f"{where}: its net"):
            outputs = net(*given)
        named_outputs(kind, outputs)
    net.requires_grad_(True)
    if not any(True for _ in net.parameters()):
        raise InputError(f"{where}: its net has no parameters, and nothing of it can learn")
    return net
