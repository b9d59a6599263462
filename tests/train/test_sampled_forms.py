"""A step of a supernet with forms and blocks to skip trains what its subnets have, and no more."""

import copy

import pytest
import torch
from torch import nn

import gfx
from gfx.errors import InputError
from gfx.train.sampling import read_sampler
from support.training_runs import (
    EXAMPLE,
    Patch,
    Residual,
    compressed,
    own_loop,
    pairs,
    state_of,
)

FORMS = {"step": 2, "min_channels": 2, "forms": ["block.*", "stem"], "skip": True}
PLAIN = {"discriminator": "none", "losses": {"l1": 1}}
TAUGHT = {"teacher": "given", "losses": {"gan": "hinge", "recon": 100, "taps": 1}}


def residual():
    return Residual(nn.InstanceNorm2d(8))


def recipe(sample, **fit):
    fit = {"batch": 2, "steps": 6, "sample": sample, **(fit or PLAIN)}
    return {"stages": {"many": {"do": ["sort_channels", {"widths": FORMS}], "fit": fit}}}


def prepared(sample, **fit):
    return own_loop(recipe(sample, **fit), residual())


def test_one_subnet_a_step_learns_as_its_extracted_net_does():
    player = prepared("uniform")
    net, sampler, seen = player.net, read_sampler("uniform"), set[str]()
    for step, batch in enumerate(player.batches()):
        (drawn,) = sampler.subnets(net, 0, step)
        seen |= {f"{name}={drawn.widths[name]}" for name in net.options}
        small = net.extract(drawn.widths).train()
        optimizer = player.optimizers["generator"]
        state = {k: copy.deepcopy(v) for k, v in optimizer.state.items()}
        before = {n: p.detach().clone() for n, p in net.named_parameters()}
        player.loss(batch)
        player.step()
        x, y = batch.tensors["x"], batch.tensors["y"]
        loss = (small(x) - y).abs().mean()
        found = torch.autograd.grad(loss, list(small.parameters()), allow_unused=True)
        wanted = dict(zip((n for n, _ in small.named_parameters()), found, strict=True))
        parts = net.parts(drawn.widths)
        for name, p in net.named_parameters():
            part = parts.get(name)
            if name not in wanted:  # no part of it, whose value and state stay to the bit
                assert part.none
                assert torch.equal(p, before[name])
                for key, value in state.get(p, {}).items():
                    assert torch.equal(optimizer.state[p][key], value)
            elif wanted[name] is not None:
                mine = p.grad if part is None else part.of(p.grad)
                torch.testing.assert_close(mine, wanted[name], rtol=1e-4, atol=1e-5)
    assert {"block.skip=skipped", "block.skip=kept", "stem.form=separable"} <= seen


def test_a_stage_goes_on_bit_for_bit_and_leaves_its_choices(tmp_path):
    fit = {**PLAIN, "steps": 2}
    how = {"data": pairs(), "discriminator": Patch(), "val": 0.25}
    whole = compressed(recipe("uniform", **fit), residual(), run=tmp_path / "whole", **how)
    for _ in range(20):
        again = compressed(
            recipe("uniform", **fit), residual(), run=tmp_path / "parts", time=0.0, **how
        )
        if again.finished:
            break
    assert state_of(again.model) == state_of(whole.model)
    net = gfx.supernet(whole.model)
    assert [*net.options] == ["stem.form", "block.0.form", "block.2.form", "block.skip"]
    assert gfx.supernet(tmp_path / "whole" / "01-many.gfx", EXAMPLE).choices == net.choices
    assert whole.scores["many"].keys() >= {"l1", "smallest.l1"}


def test_a_conditioned_discriminator_is_told_the_forms():
    player = prepared("uniform", losses={"gan": "hinge"}, discriminator={"conditioned": True})
    net = player.net
    assert net.shares(net.largest()) == [1.0] * len(net.choices)
    assert net.shares({"block.skip": "skipped"})[-1] == 0.0
    for batch in player.batches():
        player.loss(batch)
        player.step()
    scales = dict(player.critic.named_parameters())["scales.0"]
    assert scales.shape[1] == len(net.choices)
    assert scales[:, len(net.widths) :].abs().sum() > 0


def test_taps_of_a_block_are_behind_its_choice(tmp_path):
    player = prepared("teacher", taps={"layers": ["stem", "tail"]}, **TAUGHT)
    net = player.net
    net.set({"stem.form": "separable"})
    _, features = net.tapped()(torch.rand(1, 3, 8, 8))
    assert [*features] == ["stem", "tail"]
    small = gfx.tapped(net.extract())
    for (_, mine), (_, wanted) in zip(features.items(), small(EXAMPLE)[1].items(), strict=True):
        assert mine.shape == wanted.shape
    batch = next(iter(player.batches()))
    assert torch.isfinite(player.loss(batch)["taps"])
    player.step()


def test_taps_that_a_block_may_hide_are_refused_before_the_first_step(tmp_path):
    how = {"data": pairs(), "discriminator": Patch(), "val": 0, "run": tmp_path}
    with pytest.raises(InputError, match=r"tap block_0 is not in every subnet: block\.skip may"):
        compressed(recipe("teacher", taps={"layers": ["block.0"]}, **TAUGHT), residual(), **how)
    assert not list(tmp_path.glob("01-*.gfx"))


@pytest.mark.parametrize("sample", [None, "uniform"])
def test_a_stage_that_trains_the_whole_behind_a_supernet_computes_one_form(sample, tmp_path):
    fit = {**PLAIN, "batch": 2, "steps": 2}
    stages = recipe("uniform", **PLAIN)["stages"] | {"whole": {"fit": {**fit, "sample": sample}}}
    how = {"data": pairs(), "discriminator": Patch(), "val": 0.25}
    made = compressed({"stages": stages}, residual(), run=tmp_path, **how)
    net = gfx.supernet(tmp_path / "01-many.gfx", EXAMPLE)
    if sample is not None:  # it trains subnets too, and has what they have
        assert gfx.supernet(made.model, EXAMPLE).choices == net.choices
        return
    largest = net.extract(net.largest())
    assert state_of(made.model).keys() == state_of(largest).keys()
    assert gfx.cost(made.model, EXAMPLE) == gfx.cost(largest, EXAMPLE)
    assert "gfx_supernet" not in made.model.meta
    planned = {stage.name: stage.params for stage in made.plan.stages}
    assert planned["whole"] == gfx.cost(largest, EXAMPLE).params
    assert [step.name for step in gfx.report(made.model).passes].count("widths") == 1
    begun = gfx.load(tmp_path / "01-many.gfx")
    x = torch.rand(2, 3, 8, 8)
    with torch.no_grad():  # two steps away from where the supernet ended
        assert 0 < (made.model(x) - begun.eval()(x)).abs().max() < 0.1
