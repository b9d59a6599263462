"""Weights drawn anew: from the seed alone, where they are asked for, or not at all."""

import copy

import pytest
import torch
from hypothesis import given, reject
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import gfx
from passes.reinitialise import Reinitialise
from support.laws import law
from support.strategies import specs
from support.training_runs import state_of

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def net():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.PReLU(8)]
    model = nn.Sequential(*layers, nn.ConvTranspose2d(8, 4, 2), nn.GroupNorm(2, 4))
    with torch.no_grad():
        for value in model.state_dict().values():
            value.add_(1)
    return model.eval()


def drawn(model=None, recipe_seed=0, **fields):
    given = net() if model is None else model
    return gfx.apply({"seed": recipe_seed, "passes": [{"reinitialise": fields}]}, given, X)


def test_the_same_seed_gives_the_same_weights_and_another_gives_others():
    assert state_of(drawn(recipe_seed=3)) == state_of(drawn(recipe_seed=3))
    one, other = (
        dict(drawn(recipe_seed=3).named_parameters()),
        dict(drawn(recipe_seed=4).named_parameters()),
    )
    assert all(not torch.equal(one[f"{n}.weight"], other[f"{n}.weight"]) for n in "03")


def test_a_seed_of_its_own_is_before_that_of_the_recipe():
    assert state_of(drawn(recipe_seed=3)) == state_of(drawn(recipe_seed=7, seed=3))


def test_weights_of_the_model_do_not_matter():
    other = net()
    nn.init.zeros_(other[0].weight)
    assert state_of(drawn(other)) == state_of(drawn())


def test_the_random_stream_of_the_caller_goes_on_as_if_nothing_was_drawn():
    given = net()
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    drawn(given)
    assert torch.equal(torch.rand(3), wanted)


@law(12, swept=40)
@given(specs(wraps=True))
def test_every_weight_is_drawn_shapes_stay_and_the_model_is_left_alone(spec):
    model, inputs = spec.build()
    before = copy.deepcopy(model.state_dict())
    traced = dict(gfx.trace(model, inputs).module.named_parameters())
    try:
        new = gfx.apply({"passes": [{"reinitialise": {}}]}, model, inputs)
    except gfx.PreconditionError:
        new = None
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    if new is None:
        reject()
    shapes = {name: value.shape for name, value in traced.items()}
    assert {name: value.shape for name, value in new.named_parameters()} == shapes
    assert all(bool(value.isfinite().all()) for value in new.parameters())


@pytest.mark.parametrize("std", [0.0, 0.02, 1.0])
def test_std_draws_weights_around_0_norms_around_1_and_sets_biases_to_0(std):
    model = nn.Sequential(nn.Conv2d(3, 64, 5, padding=2), nn.BatchNorm2d(64)).eval()
    new = {k: v.detach() for k, v in drawn(model, std=std).named_parameters()}
    assert all(not new[f"{n}.bias"].any() for n in "01")
    weight, norm = new["0.weight"], new["1.weight"]
    assert float(weight.mean()) == pytest.approx(0, abs=0.05 * std + 1e-9)
    assert float(weight.std()) == pytest.approx(std, rel=0.05)
    assert float(norm.mean()) == pytest.approx(1, abs=0.5 * std + 1e-9)


def test_running_statistics_begin_anew():
    new = drawn().get_submodule("1")
    assert torch.equal(new.running_mean, torch.zeros(8))
    assert torch.equal(new.running_var, torch.ones(8))
    assert int(new.num_batches_tracked) == 0


def test_only_targets_are_drawn_and_the_report_names_the_others():
    given = net()
    new = drawn(given, targets=["3"])
    kept, changed = state_of(given), state_of(new)
    assert {name for name in kept if kept[name] != changed[name]} == {"3.weight", "3.bias"}
    (step,) = gfx.report(new).passes
    assert {skip.node: skip.why for skip in step.skips} == dict.fromkeys("0124", "not in targets 3")


def test_modes_and_gradients_of_the_model_stay():
    given = net()
    given[0].weight.requires_grad_(False)
    new = dict(drawn(given).named_parameters())
    assert [new[n].requires_grad for n in ("0.weight", "3.weight")] == [False, True]


class Odd(nn.Module):
    """Has a parameter of its own, and does not say how it begins."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, x):
        return x * self.gain


def with_conv(layer):
    return nn.Sequential(nn.Conv2d(3, 3, 1), layer).eval()


def masked(layer):
    return prune.l1_unstructured(layer, "weight", 0.5)


COMPUTED = {
    "parametrized spectral norm": parametrizations.spectral_norm,
    "parametrized weight norm": parametrizations.weight_norm,
    "old spectral norm": spectral_norm,
    "old weight norm": weight_norm,
    "mask of torch": masked,
    "orthogonal": parametrizations.orthogonal,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("fields", [{}, {"std": 0.02}, {"targets": ["1"]}], ids=str)
@pytest.mark.parametrize("wrap", COMPUTED.values(), ids=list(COMPUTED))
def test_computed_weights_are_refused_and_drawn_once_they_are_folded(wrap, fields, bias):
    model = with_conv(wrap(nn.Conv2d(3, 3, 3, padding=1, bias=bias)))
    before = state_of(model)
    with pytest.raises(
        gfx.PreconditionError,
        match=r"reinitialise: 1 \(\w+\) computes its weight: it cannot be drawn anew; "
        "run fold_parametrizations before",
    ):
        drawn(model, **fields)
    assert state_of(model) == before
    folded = {"passes": ["fold_parametrizations", {"reinitialise": fields}]}
    new, plain = (gfx.apply(r, model, X) for r in (folded, {"passes": folded["passes"][:1]}))
    assert not torch.equal(new.get_parameter("1.weight"), plain.get_parameter("1.weight"))


def test_a_layer_that_does_not_say_how_is_refused_and_the_others_can_be_named():
    model = with_conv(Odd())
    with pytest.raises(
        gfx.PreconditionError,
        match=r"1 \(Module\) has the parameters gain and no reset_parameters\(\): gfx does not "
        "know how to draw them anew; name the others in `targets`",
    ):
        drawn(model)
    assert drawn(model, recipe_seed=5, targets=["0"])(X).shape == X.shape


def test_what_a_new_layer_is_already_is_no_change():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)).eval()
    (step,) = gfx.report(drawn(model, recipe_seed=5)).passes
    assert [change.node for change in step.changes] == ["0"]
    assert [(skip.node, skip.why) for skip in step.skips] == [("1", "it is what a new one is")]


def test_where_no_layer_can_be_drawn_no_others_are_advised():
    with pytest.raises(gfx.PreconditionError, match="gain") as error:
        drawn(nn.Sequential(Odd(), Odd()))
    assert "targets" not in str(error.value)
    assert "as 1 more" in str(error.value)


def test_std_refuses_parameters_that_are_neither_weight_nor_bias():
    with pytest.raises(gfx.PreconditionError, match="gain: with std gfx draws weight and bias"):
        drawn(with_conv(Odd()), std=0.02)


@pytest.mark.parametrize("std", [-1.0, float("nan"), float("inf")])
def test_a_std_that_is_none_is_refused(std):
    with pytest.raises(gfx.RecipeError, match="std"):
        Reinitialise(std=std)
