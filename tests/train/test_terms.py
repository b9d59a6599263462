"""Each term trains the student alone, by its weight times its loss; wrong ones are refused."""

import copy
import itertools
import sys
import types
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pytest
import torch
from torch import nn

import gfx
from gfx.errors import InputError, RecipeError, RegistryError
from gfx.train import losses, tasks
from gfx.train.loop.teacher import Teacher
from gfx.train.terms import TERMS, Objective, Term, read_terms, terms
from gfx.train.terms.term_registry import GROUP
from support.training_runs import Patch, generator, pairs, state_of, two_sets

EXAMPLE = torch.zeros(1, 3, 8, 8)


class Layers(Patch):
    """A discriminator that returns the outputs of its layers, the score last."""

    def forward(self, x):
        found = []
        for layer in self:
            x = layer(x)
            found.append(x)
        return found


class Namer(nn.Module):
    """A discriminator of images that names two attributes beside its scores."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.body, self.score = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 1, 3)
        self.names = nn.Linear(4, 2)

    def forward(self, x):
        x = self.body(x).relu()
        return self.score(x), self.names(x.mean((2, 3)))


class Editor(nn.Module):
    """Image and two attributes to image."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.mix = nn.Conv2d(5, 3, 1)

    def forward(self, x, c):
        planes = c.view(-1, 2, 1, 1).expand(-1, -1, x.shape[-2], x.shape[-1])
        return torch.tanh(self.mix(torch.cat((x, planes), 1)))


CRITICS = {"feature_matching": Layers}
# SSIM's windows are of 11 pixels
SIZES = {"ssim": 16}
UNPAIRED = ("cycle", "identity")


def prepared(given, **fit):
    """Prepares a student of half of the channels for a loop of one's own."""
    (name,) = given
    recipe = {"do": [{"channel_prune": {"ratio": 0.5}}], "fit": {"losses": given, "batch": 2}}
    recipe["fit"] |= {"teacher": "given", "taps": "auto", "steps": 2, **fit}
    if name == "labels":
        del recipe["do"], recipe["fit"]["taps"]
        images, _ = pairs(8)
        said = (torch.arange(16).view(8, 2) % 3 == 0).float()
        return gfx.train.prepare(
            {"stages": {"it": recipe}},
            Editor(),
            data=tasks.attributes(list(zip(images, said, strict=True))),
            discriminator=Namer(),
            example_inputs=(EXAMPLE, torch.zeros(1, 2)),
        )
    if name in UNPAIRED:
        # a cycle of its own, that another term's gradient is not mixed with
        back = {"back": {"losses": {"cycle": 0}}}
        if name == "identity":
            recipe["fit"]["losses"] = {**given, "cycle": 0}
        recipe["fit"] |= {"players": back}
        return gfx.train.prepare(
            {"stages": {"it": recipe}},
            generator(norm=False),
            data=two_sets(8),
            discriminator=Patch(3),
            example_inputs=EXAMPLE,
        )
    size = SIZES.get(name, 8)
    return gfx.train.prepare(
        {"stages": {"it": recipe}},
        generator(norm=False),
        data=pairs(8, size),
        discriminator=CRITICS.get(name, Patch)(),
        example_inputs=torch.zeros(1, 3, size, size),
    )


def objective_of(player):
    term, objective = player._player.terms[0]
    return term, objective


def values_of(player):
    return player._player.values(next(player.batches()))


def through_student(player, values):
    """The gradients that the objective leaves where the student was cut off."""
    leaves = values.leaves()
    _, objective = objective_of(player)
    found = torch.autograd.grad(objective.generator(values), leaves, allow_unused=True)
    return [grad for grad in found if grad is not None]


def test_the_terms_that_ship_are_those_of_the_entry_point():
    assert set(terms().values()) == set(TERMS)
    assert {name: kind.name for name, kind in terms().items()} == {n: n for n in terms()}


@pytest.mark.parametrize("name", terms())
def test_a_term_trains_the_student_and_leaves_the_others_alone(name):
    player = prepared({name: 1})
    batch = next(player.batches())
    inner = player._player
    # what shows a frozen teacher to a player holds it
    held = [cell.cell_contents for show in inner.teachers for cell in show.__closure__]
    (teacher,) = (each.net for each in held if isinstance(each, Teacher))
    before, shown = state_of(player.net), state_of(teacher)
    found = player.loss(batch)
    assert bool(torch.isfinite(found[name]))
    assert any(bool(p.grad is not None and p.grad.any()) for p in player.net.parameters())
    player.step()
    assert state_of(player.net) != before
    assert state_of(teacher) == shown
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("name", terms())
def test_the_generator_s_loss_has_a_gradient_to_the_student_and_none_to_the_discriminator(name):
    player = prepared({name: 1})
    inner = player._player
    values = values_of(player)
    logged = {}
    inner.begin(0, 1.0)
    inner._fool(values, 1.0, logged)
    reruns = "rerun" in terms()[name].needs  # of the student's own weights, beside the cut
    assert reruns or through_student(player, values_of(player))
    assert any(bool(p.grad.any()) for p in player.net.parameters())
    if player.critic is not None:
        assert all(p.grad is None for p in player.critic.parameters())


@pytest.mark.parametrize("name", terms())
def test_the_discriminator_s_loss_has_no_gradient_to_the_student(name):
    player = prepared({name: 1})
    values = values_of(player)
    _, objective = objective_of(player)
    told = objective.discriminator(values)
    if told is None:
        assert name not in ("gan", "labels", "self_supervised")
        return
    player._player._tell(values, 1.0, {})
    assert any(bool(p.grad.any()) for p in player.critic.parameters() if p.grad is not None)
    assert all(p.grad is None for p in player.net.parameters())
    assert all(leaf.grad is None for leaf in values.leaves())


@pytest.mark.parametrize("name", terms())
def test_a_weight_multiplies_the_gradient_and_not_what_is_logged(name):
    one, many = prepared({name: 1}), prepared({name: 3})
    batch = next(one.batches())
    values = [player.loss(batch)[name] for player in (one, many)]
    torch.testing.assert_close(*values, rtol=1e-5, atol=1e-7)
    pairs_of = zip(one.net.parameters(), many.net.parameters(), strict=True)
    for a, b in pairs_of:
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            torch.testing.assert_close(3 * a.grad, b.grad, rtol=1e-3, atol=1e-6)


def stripped(player):
    """The adapters of the term's loss to its one teacher."""
    _, objective = objective_of(player)
    return getattr(objective.losses[0], "adapters", None)


WANTED = {
    "l1": lambda v, _: losses.ReconstructionLoss(paired=True)(v.image, v.target),
    "recon": lambda v, _: losses.ReconstructionLoss(paired=True)(v.image, v.target),
    "mimic": lambda v, _: losses.OutputLoss()(v.image, v.teachers[0].image),
    "ssim": lambda v, _: losses.SSIMLoss(2.0)(v.image, v.teachers[0].image),
    "cycle": lambda v, _: losses.ReconstructionLoss()(v.led_back("back"), v.given),
    "identity": lambda v, _: losses.ReconstructionLoss()(v.rerun(v.real), v.real),
    "total_variation": lambda v, _: losses.TotalVariationLoss(reduction="mean")(v.image),
    "gan": lambda v, _: losses.GeneratorLoss("hinge")(v.scores_of_fake),
    "taps": lambda v, a: losses.FeatureLoss(a)(v.features, v.teachers[0].features),
    "content": lambda v, a: losses.ContentLoss(a)(v.features, v.teachers[0].features),
    "texture": lambda v, a: losses.TextureLoss(a, scale="code")(v.features, v.teachers[0].features),
    "attention": lambda v, _: losses.AttentionLoss()(v.features, v.teachers[0].features),
    "channel_means": lambda v, a: losses.ChannelLoss(a)(v.features, v.teachers[0].features),
    "flows": lambda v, a: losses.FSPLoss(a)(v.features, v.teachers[0].features),
    "kernel_alignment": lambda v, _: losses.KernelAlignmentLoss()(
        v.features, v.teachers[0].features
    ),
}
ADAPTED = {"taps", "content", "texture", "channel_means", "flows"}


@pytest.mark.parametrize("name", WANTED)
def test_a_term_is_its_loss(name):
    player = prepared({name: 1})
    values = values_of(player)
    adapters = stripped(player) if name in ADAPTED else None
    assert (name in ADAPTED) == (adapters is not None)
    _, objective = objective_of(player)
    torch.testing.assert_close(objective.generator(values), WANTED[name](values, adapters))


def test_the_terms_that_are_compared_with_no_loss_alone_are_these():
    alone = {"feature_matching", "labels", "perceptual", "self_supervised"}
    assert terms().keys() - WANTED.keys() == alone


class Eyes(nn.Module):
    """A network of one's own that returns two maps."""

    def __init__(self, seed=5):
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3)

    def forward(self, x):
        x = self.first(x).relu()
        return [x, self.second(x)]


@pytest.fixture
def eyes(monkeypatch):
    module = types.ModuleType("my_eyes")
    module.Eyes, module.none = Eyes, lambda: "no module"
    monkeypatch.setitem(sys.modules, "my_eyes", module)
    return module


def test_the_perceptual_term_weighs_the_maps_of_ones_own_network(eyes):
    player = prepared({"perceptual": {"net": "my_eyes:Eyes", "layers": [0.25, 2]}})
    values = values_of(player)
    _, objective = objective_of(player)
    maps = zip(Eyes()(values.image), Eyes()(values.target), strict=True)
    first, second = (torch.nn.functional.l1_loss(one, other) for one, other in maps)
    torch.testing.assert_close(objective.generator(values), 0.25 * first + 2 * second)
    assert not list(objective.parameters())
    assert not objective.state_dict()


def test_the_perceptual_term_takes_the_teacher_s_image_where_there_is_no_truth(eyes):
    from gfx.train.terms import TermSetting

    values = values_of(prepared({"perceptual": "my_eyes:Eyes"}))
    (term,) = read_terms({"perceptual": "my_eyes:Eyes"})
    objective = term.build(TermSetting({}, (), 0))
    blind = types.SimpleNamespace(
        image=values.image, target=None, teachers=values.teachers, target_else=lambda other: other
    )
    maps = zip(Eyes()(values.image), Eyes()(values.teachers[0].image), strict=True)
    wanted = sum(torch.nn.functional.l1_loss(one, other) for one, other in maps)
    torch.testing.assert_close(objective.generator(blind), wanted)


def test_the_perceptual_term_takes_the_truth_of_each_example_that_has_one(eyes):
    fit = {"losses": {"perceptual": "my_eyes:Eyes"}, "teacher": "given", "batch": 12, "steps": 1}
    recipe = {"data": {"labelled": 0.5}, "stages": {"it": {"fit": fit | {"discriminator": "none"}}}}
    player = gfx.train.prepare(
        recipe, generator(), data=pairs(), example_inputs=EXAMPLE, val=0, flip=False
    )
    (batch,) = player.batches()
    assert 0 < int(batch.labelled.sum()) < 12
    image, made = player.net(batch.tensors["x"]), generator()(batch.tensors["x"])
    known = batch.labelled.view(-1, 1, 1, 1)
    maps = zip(Eyes()(image), Eyes()(torch.where(known, batch.tensors["y"], made)), strict=True)
    wanted = sum(torch.nn.functional.l1_loss(one, other) for one, other in maps)
    assert float(player.loss(batch)["perceptual"]) == pytest.approx(
        float(wanted.detach()), rel=1e-5
    )


def test_maps_of_the_network_that_ships_are_what_it_pools():
    from gfx.metrics import feature_network

    made = feature_network("efficientnet_lite0")
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    maps = made(image)
    assert [x.shape[-1] for x in maps] == [32, 16, 8, 4, 2]
    last = torch.nn.functional.relu6(made.net._bn1(made.net._conv_head(maps[-1])))
    torch.testing.assert_close(last.mean((2, 3)), made.net((image + 1) / 2))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("vgg19", "the features 'vgg19' are not known; give efficientnet_lite0, or module:factory"),
        ("my_eyes:none", "the features my_eyes:none are a str; give a module"),
        ("my_eyes:Ears", "the features my_eyes:Ears cannot be made: AttributeError"),
        ({"net": "my_eyes:Eyes", "layers": [1]}, "layers has 1 weights and my_eyes:Eyes returns 2"),
    ],
)
def test_wrong_networks_of_the_perceptual_term_are_refused(eyes, given, said):
    with pytest.raises(InputError, match=said):
        _loss_of({"perceptual": given})


def _loss_of(terms):
    player = prepared(terms)
    return player.loss(next(player.batches()))


def test_a_run_with_other_weights_of_the_network_is_another_run(eyes, tmp_path):
    recipe = {"stages": {"it": {"fit": {"losses": {"perceptual": "my_eyes:Eyes"}, "steps": 1}}}}
    how = {"data": pairs(8), "example_inputs": EXAMPLE, "run": tmp_path, "val": 0}
    gfx.compress(recipe, generator(), **how)
    assert gfx.compress(recipe, generator(), **how).finished
    eyes.Eyes = lambda: Eyes(seed=6)
    with pytest.raises(InputError, match="networks"):
        gfx.compress(recipe, generator(), **how)


def test_the_self_supervised_term_is_its_loss():
    player = prepared({"self_supervised": {"kind": "lsgan", "lam": 0.3}})
    values = values_of(player)
    _, objective = objective_of(player)
    fool, tell = losses.GeneratorLoss("lsgan"), losses.DiscriminatorLoss("lsgan")
    real, ours, theirs = values.scores_of_real, values.scores_of_fake, values.teachers[0].scores
    wanted = losses.SelfSupervisedLoss(lam=0.3)(
        fool(ours), fool(theirs), tell(real, ours), tell(real, theirs)
    )
    torch.testing.assert_close(objective.generator(values), wanted)
    torch.testing.assert_close(objective.discriminator(values), tell(real, ours))


def test_feature_matching_is_the_mean_difference_of_the_layers_but_the_score():
    player = prepared({"feature_matching": 1})
    values = values_of(player)
    _, objective = objective_of(player)
    layers = zip(values.scores_of_fake[:-1], values.scores_of_real[:-1], strict=True)
    wanted = sum((fake - real).abs().mean() for fake, real in layers)
    torch.testing.assert_close(objective.generator(values), wanted)


def test_the_loss_of_a_discriminator_counts_as_it_is_told():
    values = values_of(prepared({"gan": 1}))
    told = losses.DiscriminatorLoss("hinge")(values.scores_of_real, values.scores_of_fake)
    for factor in (0.5, 2.0):
        (term,) = read_terms({"gan": {"of_discriminator": factor, "weight": 7}})
        found = term.build(None).discriminator(values)
        torch.testing.assert_close(found, factor * told)


@pytest.mark.parametrize("name", sorted(ADAPTED))
def test_adapters_learn_with_the_generator(name):
    player = prepared({name: 1})
    before = copy.deepcopy(stripped(player).state_dict())
    assert len(before) > 0
    player.loss(next(player.batches()))
    player.step()
    after = stripped(player).state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)


def test_weights_by_tap_leave_the_others_at_1():
    values = values_of(player := prepared({"taps": 1}))
    first, *_ = player._player.terms[0][1].losses[0].adapters or values.features
    none = {tap: 0.0 for tap in values.features if tap != first}
    _, alone = objective_of(only := prepared({"taps": {"taps": none}}))
    seen = values_of(only)
    error = stripped(only)(dict(seen.features))[first] - seen.teachers[0].features[first]
    torch.testing.assert_close(alone.generator(seen), error.square().mean())


# what is refused


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"gann": 1}, r"losses: unknown term 'gann'; did you mean 'gan'"),
        ({"gan": "hing"}, r"losses: gan: kind: .*hinge"),
        ({"gan": {"kinds": "hinge"}}, r"losses: gan: unknown field 'kinds'.*kind"),
        ({"gan": {"of_discriminator": 0}}, r"gan: of_discriminator"),
        ({"l1": -1}, r"l1: weight"),
        ({"l1": float("nan")}, r"l1: weight"),
        ({"l1": "much"}, r"losses: l1: give a weight or fields, not 'much'"),
        ({"l1": True}, r"losses: l1: give a weight or fields, not True"),
        ({"l1": None}, r"losses: l1: give a weight or fields"),
        ({"mimic": [1]}, r"losses: mimic: give a weight, the kind as a word or fields"),
        ({"taps": {"taps": {"a": -1}}}, r"taps: taps: a"),
        ({"taps": {"init": "guess"}}, r"losses: taps: init"),
        ({"attention": {"taps": {"a": 1}}}, r"attention: every tap counts as much"),
        ({"self_supervised": {"lam": -1}}, r"self_supervised: lam"),
        (["l1"], r"losses: a mapping of terms to weights is expected"),
    ],
    ids=str,
)
def test_what_no_term_takes_is_refused(given, said):
    with pytest.raises(RecipeError, match=said):
        read_terms(given)


def test_a_discriminator_without_layers_is_refused_for_feature_matching():
    player = gfx.train.prepare(
        {"stages": {"it": {"fit": {"losses": {"feature_matching": 1}, "steps": 1}}}},
        generator(),
        data=pairs(),
        discriminator=Patch(),
        example_inputs=EXAMPLE,
    )
    with pytest.raises(InputError, match="the discriminator returns scores alone"):
        player.loss(next(player.batches()))


def test_a_discriminator_that_names_no_labels_is_refused():
    player = gfx.train.prepare(
        {"stages": {"it": {"fit": {"losses": {"labels": 1}, "steps": 1}}}},
        generator(),
        data=pairs(),
        discriminator=Patch(),
        example_inputs=EXAMPLE,
    )
    with pytest.raises(InputError, match="labels: the discriminator returns no logits of labels"):
        player.loss(next(player.batches()))


# terms of one's own

NUMBERS = itertools.count()


@dataclass(frozen=True)
class Brightness(Term):
    """The squared distance of the mean from a level."""

    name = "brightness"
    level: float = 0.0

    def build(self, setting):
        return _Level(self.level)


class _Level(Objective):
    def __init__(self, level):
        super().__init__()
        self.level = level

    def generator(self, values):
        return (values.image.mean() - self.level) ** 2


@dataclass(frozen=True)
class Fussy(Term):
    """Fails as it is made."""

    name = "fussy"

    def __post_init__(self):
        raise ZeroDivisionError("of mine")

    def build(self, setting):
        raise NotImplementedError


@pytest.fixture
def offered(monkeypatch):
    """Installs a plugin whose TERMS is what a test says, beside those that ship."""

    def install(value):
        name = f"acme_terms_{next(NUMBERS)}"  # what is installed is read once a process
        module = types.ModuleType(name)
        module.TERMS = value
        monkeypatch.setitem(sys.modules, name, module)
        points = [
            EntryPoint("gfx", "gfx.train.terms:TERMS", GROUP),
            EntryPoint(name, f"{name}:TERMS", GROUP),
        ]
        monkeypatch.setattr("gfx.train.named_kinds.entry_points", lambda group: tuple(points))

    return install


def test_a_term_of_one_s_own_is_read_and_trains(offered):
    offered((Brightness,))
    assert read_terms({"brightness": {"level": 1, "weight": 2}}) == [Brightness(2.0, 1.0)]
    player = prepared({"brightness": {"level": 1, "weight": 100}}, steps=20, lr=0.01)
    logged = []
    for batch in player.batches():
        logged.append(float(player.loss(batch)["brightness"]))
        player.step()
    assert logged[-1] < 0.8 * logged[0]


def test_a_field_of_a_term_of_one_s_own_that_is_wrong_is_refused(offered):
    offered((Brightness,))
    with pytest.raises(RecipeError, match="losses: brightness: level: "):
        read_terms({"brightness": {"level": "high"}})


def test_a_term_that_fails_as_it_is_made_is_named(offered):
    offered((Fussy,))
    with pytest.raises(RecipeError, match="losses: fussy: ZeroDivisionError: of mine"):
        read_terms({"fussy": 1})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ((int,), r"acme_terms_\d+:TERMS offers <class 'int'>, which is no Term"),
        ((type("Nameless", (Term,), {}),), r"offers Nameless, which has no name; give it one"),
        ((Brightness(),), r"acme_terms_\d+:TERMS offers Brightness\(.*, which is no Term"),
        (3, r"the terms of acme_terms_\d+:TERMS cannot be loaded: TypeError"),
        (
            (type("L1", (Brightness,), {"name": "l1"}),),
            r"two terms are called 'l1': gfx\.train\.terms\.image_terms and .*; uninstall one",
        ),
    ],
    ids=["int", "no name", "instance", "no tuple", "clash"],
)
def test_a_plugin_that_offers_no_terms_is_named(offered, value, said):
    offered(value)
    with pytest.raises(RegistryError, match=said):
        terms()


def test_a_plugin_that_cannot_be_imported_is_named(monkeypatch):
    points = (EntryPoint("lost", "no_such_module:TERMS", GROUP),)
    monkeypatch.setattr("gfx.train.named_kinds.entry_points", lambda group: points)
    with pytest.raises(RegistryError, match=r"no_such_module:TERMS cannot be loaded: ModuleNot"):
        terms()
