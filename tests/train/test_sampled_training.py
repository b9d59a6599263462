"""A step of a supernet trains the subnets that its sampler draws, and nothing beside them."""

import copy
import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gfx
from gfx.errors import RecipeError
from gfx.train.sampling import SampledNet, Sampler, TeacherSampler, UniformSampler, read_sampler
from support.training_runs import (
    EXAMPLE,
    Patch,
    compressed,
    generator,
    own_loop,
    pairs,
    state_of,
)

WIDTHS = ["sort_channels", {"widths": {"values": {"*": [4, 6, 8]}}}]
PLAIN = {"discriminator": "none", "losses": {"l1": 1}}
GAN = {"losses": {"gan": "hinge", "l1": 100}}
TAUGHT = {"teacher": "given", "taps": "auto", "losses": {"gan": "hinge", "recon": 100, "taps": 1}}


def recipe(sample, do=WIDTHS, **fit):
    fit = {"batch": 2, "steps": 4, "sample": sample, **(fit or PLAIN)}
    return {"stages": {"many": {"do": do, "fit": fit}}}


def prepared(sample, model=None, **fit):
    return own_loop(recipe(sample, **fit), model)


@pytest.mark.parametrize("sample", ["uniform", {"uniform": {"ends": 0.25}}])
def test_one_subnet_a_step_learns_as_its_extracted_net_does(sample):
    player = prepared(sample, **GAN)
    net, critic = player.net, copy.deepcopy(player.critic)
    told = torch.optim.Adam(critic.parameters(), 2e-4, (0.5, 0.999))
    sampler = read_sampler(sample)
    for step, batch in enumerate(player.batches()):
        (drawn,) = sampler.subnets(net, 0, step)
        small = net.extract(drawn.widths).train()
        state = {k: copy.deepcopy(v) for k, v in player.optimizers["generator"].state.items()}
        before = {n: p.detach().clone() for n, p in net.named_parameters()}
        player.loss(batch)
        player.step()
        assert net.current == dict(drawn.widths)
        x, y = batch.tensors["x"], batch.tensors["y"]
        fake = small(x)
        said = critic(torch.cat((x, fake), 1))
        fooled = -said.mean() + 100 * (fake - y).abs().mean()
        gradients = torch.autograd.grad(fooled, list(small.parameters()), retain_graph=True)
        told.zero_grad()
        of_real = critic(torch.cat((x, y), 1))
        of_fake = critic(torch.cat((x, fake.detach()), 1))
        (0.5 * (F.relu(1 + of_fake).mean() + F.relu(1 - of_real).mean())).backward()
        told.step()
        parts = net.parts(drawn.widths)
        for (name, p), gradient in zip(net.named_parameters(), gradients, strict=True):
            part = parts.get(name)
            mine = p.grad if part is None else part.of(p.grad)
            torch.testing.assert_close(mine, gradient, rtol=1e-4, atol=1e-5)
            if part is not None:  # what the subnet does not use keeps value and state
                mask = torch.ones_like(p, dtype=torch.bool)
                part.write(mask, torch.zeros_like(part.of(mask)))
                assert torch.equal(p.detach()[mask], before[name][mask])
                for key, value in state.get(p, {}).items():
                    if value.ndim:
                        now = player.optimizers["generator"].state[p][key]
                        assert torch.equal(now[mask], value[mask])
    for mine, wanted in zip(player.critic.parameters(), critic.parameters(), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-3, atol=1e-6)


class Watched(Patch):
    """Keeps the images that it judges."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x[:, 3:].detach().clone())
        return super().forward(x)


@pytest.mark.parametrize("order", ["together", "discriminator_first"])
@pytest.mark.parametrize("sample", ["uniform", "sandwich", "teacher"])
def test_discriminator_and_generator_of_a_step_see_the_same_subnets(sample, order, monkeypatch):
    player = prepared(sample, order=order, **GAN)
    watched = Watched()
    watched.load_state_dict(player.critic.state_dict())
    player._player.critic = watched
    ran = []
    forward = type(player.net).forward

    def noted(net, *args):
        made = forward(net, *args)
        if torch.is_grad_enabled():
            ran.append((net.current, made.detach()))
        return made

    monkeypatch.setattr(type(player.net), "forward", noted)
    for step, batch in enumerate(player.batches()):
        ran.clear(), watched.seen.clear()
        player.loss(batch)
        player.step()
        nets = read_sampler(sample).subnets(player.net, 0, step)
        assert [widths for widths, _ in ran] == [dict(net.widths) for net in nets]
        judged = {i for i, net in enumerate(nets) if net.judged}
        assert judged
        real = batch.tensors["y"]
        fakes = [image for image in watched.seen if not torch.equal(image, real)]
        for i in judged:
            times = sum(torch.equal(image, ran[i][1]) for image in fakes)
            assert times == (1 if order == "together" else 2)
        assert len(fakes) == len(judged) * (1 if order == "together" else 2)


def test_the_gradient_of_several_nets_is_the_mean_of_theirs():
    player = prepared({"sandwich": {"random": 2, "learn_from_largest": False}})
    net = player.net
    (batch, *_) = player.batches()
    nets = read_sampler({"sandwich": {"random": 2}}).subnets(net, 0, 0)
    assert len(nets) == 4
    assert dict(nets[0].widths) == net.largest()
    assert dict(nets[1].widths) == net.smallest()
    wanted = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for each in nets:
        twin = copy.deepcopy(net)
        twin.set(each.widths)
        (twin(batch.tensors["x"]) - batch.tensors["y"]).abs().mean().backward()
        for name, p in twin.named_parameters():
            wanted[name] += p.grad / 4
    player.loss(batch)
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.grad, wanted[name], rtol=1e-4, atol=1e-6)


def test_the_nets_of_a_sandwich_learn_from_the_largest():
    player = prepared("sandwich")
    net = player.net
    (batch, *_) = player.batches()
    x, y = batch.tensors["x"], batch.tensors["y"]
    twin = copy.deepcopy(net)
    truth = y
    for each in read_sampler("sandwich").subnets(net, 0, 0):
        twin.set(each.widths)
        made = twin(x)
        ((made - truth).abs().mean() / 3).backward()
        if each.from_largest:
            continue
        truth = made.detach()
    player.loss(batch)
    for (name, p), q in zip(net.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_a_smaller_subnet_is_compared_with_its_teacher_by_the_first_channels_of_the_adapters():
    player = prepared("uniform", **TAUGHT, lr=0.01)
    (term,) = [o for t, o in player._player.terms if t.name == "taps"]
    layers = [m for m in term.modules() if hasattr(m, "first_columns")]
    assert [m.weight.shape[1] for m in layers] == [8, 8]  # also where widths are equal
    narrow = 0
    for step, batch in enumerate(player.batches()):
        (drawn,) = UniformSampler().subnets(player.net, 0, step)
        before = [m.weight.detach().clone() for m in layers]
        assert torch.isfinite(player.loss(batch)["taps"])
        counts = [m.used for m in layers]
        player.step()
        assert sorted(counts) == sorted(drawn.widths.values())
        for layer, count, old in zip(layers, counts, before, strict=True):
            assert torch.equal(layer.weight[:, count:], old[:, count:])
            assert not torch.equal(layer.weight[:, :count], old[:, :count])
            narrow += count < 8
    assert narrow


class Noisy(nn.Module):
    """A generator that draws noise as wide as its image."""

    def __init__(self):
        super().__init__()
        self.body = generator(norm=False)

    def forward(self, x):
        return self.body(x + torch.randn_like(x))


def test_all_nets_of_a_step_see_the_same_noise(monkeypatch):
    player = prepared("sandwich", Noisy())
    drawn = []
    real = torch.randn_like

    def noted(x, **how):
        drawn.append(real(x, **how))
        return drawn[-1]

    monkeypatch.setattr(torch, "randn_like", noted)
    for layer in (player.net.running_layers(),):
        for node in layer.graph.nodes:
            if node.target is real:
                node.target = noted
        layer.recompile()
    for batch in player.batches():
        drawn.clear()
        player.loss(batch)
        player.step()
        assert len(drawn) == 3
        assert torch.equal(drawn[0], drawn[1])
        assert torch.equal(drawn[0], drawn[2])


def test_the_teacher_sampler_trains_all_ends_and_shows_the_discriminator_one_net_a_step():
    net = gfx.supernet(generator(), EXAMPLE, widths=[4, 6, 8])
    sampler = TeacherSampler()
    judged = {"largest": 0, "smallest": 0, "random": 0}
    for step in range(8):
        nets = sampler.subnets(net, 3, step)
        names = ["largest"] * (step % 4 == 0) + ["smallest", "random"]
        assert len(nets) == len(names)
        assert dict(nets[names.index("smallest")].widths) == net.smallest()
        assert dict(nets[-1].widths) == net.sample(3, step)
        (seen,) = [name for name, each in zip(names, nets, strict=True) if each.judged]
        judged[seen] += 1
    assert judged == {"largest": 2, "smallest": 2, "random": 4}
    ends = UniformSampler(ends=0.25)
    drawn = [dict(ends.subnets(net, 3, step)[0].widths) for step in range(400)]
    assert drawn[1::4] == [net.smallest()] * 100
    assert drawn[3::4] == [net.largest()] * 100


@pytest.mark.parametrize("sample", ["uniform", "teacher", {"sandwich": {"random": 1}}])
def test_a_stage_of_a_supernet_goes_on_bit_for_bit_and_leaves_its_widths(sample, tmp_path):
    made = compressed(recipe(sample, **TAUGHT, ema=0.9, evaluate=2), run=tmp_path / "whole")
    stopped = compressed(
        recipe(sample, **TAUGHT, ema=0.9, evaluate=2), run=tmp_path / "parts", time=0.0
    )
    assert not stopped.finished
    while not stopped.finished:
        stopped = compressed(
            recipe(sample, **TAUGHT, ema=0.9, evaluate=2), run=tmp_path / "parts", time=0.0
        )
    assert state_of(made.model) == state_of(stopped.model)
    assert made.history == stopped.history
    assert set(made.scores["many"]) == {"l1", "psnr", "smallest.l1", "smallest.psnr"}
    gfx.save(made.model, tmp_path / "net.gfx")
    net = gfx.supernet(tmp_path / "net.gfx")
    assert set(net.widths.values()) == {(4, 6, 8)}
    # what was judged is what is there
    held = [row for row in made.history if "kept.smallest.l1" in row][-1]
    assert held["kept.smallest.l1"] == made.scores["many"]["smallest.l1"]


def test_norms_of_the_largest_net_have_moments_of_their_own_in_the_file(tmp_path):
    torch.manual_seed(0)
    made = compressed(recipe("uniform", steps=6, **PLAIN), generator(nn.BatchNorm2d))
    norm = next(m for m in made.model.modules() if isinstance(m, nn.BatchNorm2d))
    first = next(m for m in made.model.modules() if isinstance(m, nn.Conv2d))
    images = torch.cat([x[None] for x, _ in zip(*pairs(), strict=True)])
    seen = first(images)
    # of the training batches; the running average of all subnets is far from it
    assert torch.allclose(norm.running_mean, seen.mean((0, 2, 3)), atol=0.02)
    assert torch.allclose(norm.running_var, seen.var((0, 2, 3)), rtol=0.2)


def test_a_norm_that_is_called_twice_is_judged_with_the_moments_that_all_share():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.first, self.mid = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
            self.norm, self.last = nn.BatchNorm2d(8), nn.Conv2d(8, 3, 1)

        def forward(self, x):
            x = self.norm(self.first(x)).relu()
            return self.last(self.norm(self.mid(x)).relu()).tanh()

    made = compressed(recipe("uniform", **PLAIN), Twice().eval())
    assert set(made.scores["many"]) == {"l1", "psnr", "smallest.l1", "smallest.psnr"}


def test_a_supernet_stage_is_followed_by_one_that_trains_the_whole(tmp_path):
    system = recipe("uniform", **TAUGHT)
    system["stages"]["end"] = {"fit": {"like": "many", "steps": 2, "sample": None}}
    made = compressed(system, run=tmp_path)
    assert made.finished
    assert set(made.scores["end"]) == {"l1", "psnr"}


def test_a_conditioned_discriminator_learns_what_widths_mean_and_leaves_a_plain_one(tmp_path):
    told = {"begins": "inherit", "conditioned": True}
    fields = {**GAN, "discriminator": told, "lr": 0.01}
    player = prepared("uniform", **fields)
    for batch in player.batches():
        player.loss(batch)
        player.step()
    net, critic = player.net, player.critic
    x = torch.cat(pairs(), 1)
    net.set(net.largest())
    assert torch.equal(critic(x), critic.critic(x))  # of the largest net it is the plain one
    net.set(net.smallest())
    assert not torch.allclose(critic(x), critic.critic(x), atol=1e-3)
    assert not critic.critic[0]._forward_pre_hooks
    made = compressed(recipe("uniform", **fields), run=tmp_path / "whole")
    left = torch.load(tmp_path / "whole" / "01-many.critic.pt", weights_only=True)
    assert left.keys() == Patch().state_dict().keys()
    stopped = compressed(recipe("uniform", **fields), run=tmp_path / "parts", time=0.0)
    while not stopped.finished:
        stopped = compressed(recipe("uniform", **fields), run=tmp_path / "parts", time=0.0)
    again = torch.load(tmp_path / "parts" / "01-many.critic.pt", weights_only=True)
    assert all(torch.equal(left[name], again[name]) for name in left)
    assert state_of(made.model) == state_of(stopped.model)


@pytest.mark.parametrize("conditioned", [False, True])
def test_real_images_are_judged_once_a_step_or_for_the_widths_of_each_net(conditioned):
    told = {"begins": "inherit", "conditioned": conditioned}
    player = prepared("sandwich", **{**GAN, "discriminator": told})
    seen = []
    critic = player.critic.critic if conditioned else player.critic
    critic.register_forward_hook(lambda m, args, out: seen.append((player.net.current, args[0])))
    for batch in player.batches():
        seen.clear()
        player.loss(batch)
        player.step()
        nets = read_sampler("sandwich").subnets(player.net, 0, player.taken - 1)
        real = torch.cat((batch.tensors["x"], batch.tensors["y"]), 1)
        widths = [current for current, images in seen if torch.equal(images, real)]
        assert widths == [dict(net.widths) for net in nets][: 3 if conditioned else 1]
        assert len(seen) == len(nets) + len(widths)


class Fixed(Sampler):
    """A sampler of the user's own: the smallest net."""

    name = "fixed"

    def subnets(self, net, seed, step):
        return (SampledNet(net.smallest()),)


def test_a_sampler_of_one_s_own_is_found(monkeypatch):
    monkeypatch.setattr("gfx.train.sampling.sampler_registry.samplers", lambda: {"fixed": Fixed})
    player = prepared("fixed")
    for batch in player.batches():
        player.loss(batch)
        player.step()
    assert player.net.current == player.net.smallest()


def test_a_sampler_that_draws_nothing_is_named(monkeypatch):
    monkeypatch.setattr(Fixed, "subnets", lambda *args: ())
    monkeypatch.setattr("gfx.train.sampling.sampler_registry.samplers", lambda: {"fixed": Fixed})
    with pytest.raises(gfx.InputError, match="sample: fixed has drawn no subnet for step 1"):
        compressed(recipe("fixed"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (recipe("uniform", do=["sort_channels"]), "nothing says which widths they may have; add"),
        (
            recipe("uniform", do=[*WIDTHS, {"mask": {"sparsity": 0.5}}]),
            "the student has masks or penalties",
        ),
        (
            recipe("uniform", **GAN, discriminator={"begins": "frozen", "conditioned": True}),
            "does not learn, and one that is conditioned learns",
        ),
        (
            recipe("uniform", **GAN, discriminator={"conditioned": True, "pool": 5}),
            "fakes of earlier steps are of other widths",
        ),
        (
            recipe(None, **GAN, discriminator={"conditioned": True}),
            "it is told the widths of the subnets that a student samples",
        ),
        (recipe("unifrom"), "unknown sampler 'unifrom'; did you mean 'uniform'"),
        (recipe({"uniform": {}, "teacher": {}}), "sample: the name of a sampler is expected"),
        (recipe({"sandwich": {"randm": 1}}), "sample: sandwich: unknown field 'randm'"),
        (recipe({"sandwich": {"random": -1}}), "sandwich: random"),
        (recipe({"uniform": {"ends": 0.7}}), "uniform: ends"),
        (
            recipe("uniform", do=[{"widths": {"min_channels": 64}}]),
            "widths: no group has a choice of widths",
        ),
    ],
)
def test_what_cannot_be_sampled_is_said_before_the_first_step(given, said, tmp_path):
    with pytest.raises((RecipeError, gfx.PreconditionError), match=said):
        compressed(given, run=tmp_path / "run")


def test_a_sampler_is_written_with_its_defaults(tmp_path):
    made = compressed(recipe("sandwich"), run=tmp_path)
    from gfx.train.systems import load_system

    system = load_system(recipe("sandwich"))
    assert load_system(system.spec()) == system
    assert json.loads(json.dumps(system.spec()))["stages"]["many"]["fit"]["sample"] == {
        "sandwich": {"random": 1, "learn_from_largest": True}
    }
    assert "learn_from_largest: true" in (made.folder / "recipe.yaml").read_text()
