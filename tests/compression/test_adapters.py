"""Layers between features of different widths."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, reject
from hypothesis import strategies as st
from torch import nn

import gfx
from gfx.compression.taps import Adapters
from support.laws import law
from support.oracle import alike
from support.strategies import specs
from support.tap_checks import tap as put
from support.tap_checks import taps_of


def tap(model, x, *layers):
    return put(model, x, layers=layers)


def convs(width, stride=1):
    torch.manual_seed(width)
    layers = nn.Conv2d(3, width, 3, stride), nn.ReLU(), nn.Conv2d(width, 3, 3)
    return nn.Sequential(*layers)


def pair(ours=4, theirs=8, size=9):
    x = torch.randn(2, 3, size, size)
    return tap(convs(ours), x, "1"), tap(convs(theirs), x, "1"), x


@pytest.mark.parametrize(
    ("direction", "sizes"), [("student_to_teacher", (4, 8)), ("teacher_to_student", (8, 4))]
)
def test_an_adapter_is_a_1x1_convolution_between_the_widths(direction, sizes):
    student, teacher, x = pair()
    layers = gfx.adapters(student, teacher, x, direction=direction)
    (layer,) = layers.layers.values()
    assert isinstance(layer, nn.Conv2d)
    assert (layer.in_channels, layer.out_channels, layer.kernel_size) == (*sizes, (1, 1))
    source, target = (student, teacher) if sizes == (4, 8) else (teacher, student)
    adapted = layers(gfx.tapped(source)(x)[1])
    assert adapted["1"].shape == gfx.tapped(target)(x)[1]["1"].shape


def test_equal_widths_get_the_identity():
    student, teacher, x = pair(8, 8)
    layers = gfx.adapters(student, teacher, x)
    assert list(layers.parameters()) == []
    features = gfx.tapped(student)(x)[1]
    assert layers(features)["1"] is features["1"]


def test_adapters_without_bias():
    student, teacher, x = pair()
    assert [n for n, _ in gfx.adapters(student, teacher, x, bias=False).named_parameters()] == [
        "layers.1.weight"
    ]


def test_the_seed_decides_the_weights_and_the_global_state_is_left_alone():
    student, teacher, x = pair()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = gfx.adapters(student, teacher, x, seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    again = gfx.adapters(student, teacher, x, seed=1).state_dict()
    other = gfx.adapters(student, teacher, x, seed=2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["layers.1.weight"], other["layers.1.weight"])


def test_without_inputs_each_models_own_are_taken():
    student, teacher, _ = pair()
    assert isinstance(gfx.adapters(student, teacher).layers["1"], nn.Conv2d)


def test_only_shapes_are_computed():
    with torch.device("meta"):
        nets = [convs(width) for width in (4, 8)]
    x = torch.zeros(1, 3, 9, 9, device="meta")
    student, teacher = (tap(net, x, "1") for net in nets)
    assert isinstance(gfx.adapters(student, teacher, x).layers["1"], nn.Conv2d)


def test_dtype_is_that_of_the_features():
    x = torch.randn(1, 3, 9, 9, dtype=torch.float64)
    student, teacher = (tap(convs(width).double(), x, "1") for width in (4, 8))
    layers = gfx.adapters(student, teacher, x)
    assert {p.dtype for p in layers.parameters()} == {torch.float64}


class Tokens(nn.Module):
    """Channels last, as in a transformer: (N, L, C)."""

    def __init__(self, width):
        super().__init__()
        self.widen = nn.Linear(3, width)
        self.act = nn.GELU()
        self.narrow = nn.Linear(width, 3)

    def forward(self, x):
        return self.narrow(self.act(self.widen(x)))


def test_tokens_with_channels_last_get_a_linear_layer():
    x = torch.randn(2, 5, 3)
    student, teacher = (tap(Tokens(width), x, "act") for width in (4, 8))
    layer = gfx.adapters(student, teacher, x).layers["act"]
    assert isinstance(layer, nn.Linear)
    assert layer(gfx.tapped(student)(x)[1]["act"]).shape == (2, 5, 8)


def test_maps_with_channels_last_get_a_linear_layer():
    x = torch.randn(2, 5, 5, 3)
    student, teacher = (tap(Tokens(width), x, "act") for width in (4, 8))
    assert isinstance(gfx.adapters(student, teacher, x).layers["act"], nn.Linear)


@pytest.mark.parametrize(
    ("layer", "shape", "kind"),
    [(nn.Conv1d, (2, 3, 7), nn.Conv1d), (nn.Conv3d, (2, 3, 4, 4, 4), nn.Conv3d)],
)
def test_other_numbers_of_dimensions(layer, shape, kind):
    x = torch.randn(shape)
    nets = [nn.Sequential(layer(3, w, 1), nn.ReLU(), layer(w, 3, 1)) for w in (4, 8)]
    student, teacher = (tap(net, x, "1") for net in nets)
    assert isinstance(gfx.adapters(student, teacher, x).layers["1"], kind)


def test_vectors_get_a_linear_layer():
    x = torch.randn(2, 3)
    student, teacher = (tap(Tokens(width), x, "act") for width in (4, 8))
    assert isinstance(gfx.adapters(student, teacher, x).layers["act"], nn.Linear)


def test_different_taps_are_an_error_that_names_both():
    x = torch.randn(1, 3, 9, 9)
    student, teacher = tap(convs(4), x, "0", "1"), tap(convs(8), x, "0")
    with pytest.raises(
        gfx.InputError, match="the student and the teacher have different taps: 0, 1; and 0;"
    ):
        gfx.adapters(student, teacher, x)


def test_maps_of_different_size_are_an_error_with_both_shapes():
    x = torch.randn(1, 3, 9, 9)
    student, teacher = tap(convs(4), x, "1"), tap(convs(8, stride=2), x, "1")
    with pytest.raises(
        gfx.InputError,
        match="tap 1: the student's feature is 1x4x7x7, the teacher's 1x8x4x4; an adapter changes",
    ):
        gfx.adapters(student, teacher, x)


def test_maps_of_which_only_the_width_differs_are_no_channels():
    x = torch.randn(1, 3, 9, 9)
    student, teacher = tap(convs(4), x, "1"), tap(convs(4, stride=(1, 2)), x, "1")
    with pytest.raises(gfx.InputError, match="an adapter changes the channels alone"):
        gfx.adapters(student, teacher, x)


def test_features_of_different_rank_are_an_error():
    student = tap(Tokens(4), torch.randn(2, 3), "act")
    teacher = tap(Tokens(8), torch.randn(2, 5, 3), "act")
    with pytest.raises(gfx.InputError, match="features of different rank cannot match"):
        gfx.adapters(student, teacher)


def test_a_model_without_taps_is_an_error():
    _, teacher, x = pair()
    with pytest.raises(gfx.InputError, match=r"the student \(Sequential\) has no taps"):
        gfx.adapters(convs(4), teacher, x)


def test_an_unknown_direction_is_an_error():
    student, teacher, x = pair()
    with pytest.raises(gfx.InputError, match="direction is 'both'; give"):
        gfx.adapters(student, teacher, x, direction="both")


def test_features_of_other_taps_are_an_error():
    layers = Adapters({"mid": nn.Identity()})
    with pytest.raises(gfx.InputError, match="the adapters and the features have different taps"):
        layers({"end": torch.zeros(1)})


def test_adapters_learn_to_match_a_teacher():
    student, teacher, x = pair()
    layers = gfx.adapters(student, teacher, x)
    wanted = gfx.tapped(teacher)(x)[1]["1"].detach()
    source = gfx.tapped(student)
    optimizer = torch.optim.Adam([*layers.parameters(), *student.parameters()], lr=0.05)
    losses = []
    for _ in range(40):
        loss = (layers(source(x)[1])["1"] - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("layer", "shape", "dim"),
    [
        (nn.Conv1d, (4, 5, 9), 1),
        (nn.Conv2d, (4, 5, 3, 3), 1),
        (nn.Conv3d, (3, 5, 2, 3, 3), 1),
        (nn.Linear, (40, 5), 1),
        (nn.Linear, (4, 9, 5), 2),
    ],
)
def test_fitted_adapters_are_those_of_numpy(layer, shape, dim, bias):
    torch.manual_seed(0)
    kernel = () if layer is nn.Linear else (1,)
    layers = Adapters({"mid": layer(5, 3, *kernel, bias=bias)}).double()
    given = torch.randn(shape, dtype=torch.float64)
    wanted = torch.randn([*shape[:dim], 3, *shape[dim + 1 :]], dtype=torch.float64)
    layers.fit({"mid": given}, {"mid": wanted})
    known, asked = (np.moveaxis(x.numpy(), dim, -1) for x in (given, wanted))
    known = known.reshape(-1, 5)
    known = np.hstack([known, np.ones((len(known), 1))]) if bias else known
    best = known @ np.linalg.lstsq(known, asked.reshape(-1, 3), rcond=None)[0]
    made = np.moveaxis(layers({"mid": given})["mid"].detach().numpy(), dim, -1).reshape(-1, 3)
    assert np.abs(made - best).max() < 1e-9 * np.abs(best).max()


def test_adapters_that_are_fitted_have_nothing_left_to_learn():
    torch.manual_seed(0)
    student, teacher, x = pair(ours=6, theirs=8)
    with torch.no_grad():
        student.get_submodule("0").weight[:2] = 0  # dead channels leave the solution open
        student.get_submodule("0").bias[:2] = 0
    layers = gfx.adapters(student, teacher, x)
    seen, wanted = gfx.tapped(student)(x)[1], gfx.tapped(teacher)(x)[1]

    def slope():
        loss = (layers(seen)["1"] - wanted["1"]).square().mean()
        gradients = torch.autograd.grad(loss, list(layers.parameters()), retain_graph=True)
        return max(float(gradient.abs().max()) for gradient in gradients)

    before = slope()
    layers.fit(seen, wanted)
    assert slope() < 1e-4 * before


def test_fitting_leaves_identities_and_refuses_what_does_not_fit():
    layers = Adapters({"mid": nn.Identity()})
    x = torch.zeros(2, 3, 4, 4)
    layers.fit({"mid": x}, {"mid": x + 1})
    assert torch.equal(layers({"mid": x})["mid"], x)
    with pytest.raises(gfx.InputError, match="the adapters and what is wanted have different taps"):
        layers.fit({"mid": x}, {"end": x})
    with pytest.raises(gfx.InputError, match="the adapter gives 2x3x4x4, and 1x3x4x4 is"):
        layers.fit({"mid": x}, {"mid": x[:1]})


def test_adapters_are_found_by_tap():
    student, teacher, x = pair()
    layers = gfx.adapters(student, teacher, x)
    assert (len(layers), list(layers), layers["1"].out_channels) == (1, ["1"], 8)


def test_adapters_copy_and_pickle():
    student, teacher, x = pair()
    layers = gfx.adapters(student, teacher, x)
    features = gfx.tapped(student)(x)[1]
    for twin in (copy.deepcopy(layers), pickle.loads(pickle.dumps(layers))):
        assert alike(twin(features)["1"], layers(features)["1"])


def test_adapters_between_a_teacher_and_its_pruned_student():
    model = gfx.zoo.build("resnet_9blocks", ngf=4, n_blocks=3, image_size=16).eval()
    taps = {"distill_taps": {"rule": "gan_compression"}}
    teacher = gfx.apply({"passes": [taps]}, model)
    student = gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5, "min_channels": 1}}]}, teacher)
    layers = gfx.adapters(student, teacher)
    assert {name: layer.out_channels for name, layer in layers.layers.items()} == {
        "down_1_act": 16,
        "blocks_2": 16,
    }


@law(4, swept=8)
@given(specs(), st.sampled_from(("student_to_teacher", "teacher_to_student")))
def test_adapters_fit_a_pruned_student_to_its_teacher(spec, direction):
    model, inputs = spec.build()
    teacher = put(model, inputs, layers=["*"])
    try:
        student = gfx.apply(
            {"passes": [{"channel_prune": {"ratio": 0.5, "min_channels": 1}}]}, teacher, inputs
        )
    except gfx.PreconditionError:
        reject()
    if not taps_of(teacher):
        return
    layers = gfx.adapters(student, teacher, inputs, direction=direction)
    source, target = (student, teacher) if direction.startswith("s") else (teacher, student)
    adapted, wanted = layers(gfx.tapped(source)(*inputs)[1]), gfx.tapped(target)(*inputs)[1]
    assert [(n, f.shape) for n, f in adapted.items()] == [(n, f.shape) for n, f in wanted.items()]
