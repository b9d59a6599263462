"""Importances against hand-computed scores, measured damage, torch-pruning, and their own laws."""

import copy
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch_pruning
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

import gfx
from gfx.cli import app
from gfx.compression.importance import Importance, Reduce, notes, rank
from gfx.coupling import Groups
from gfx.coupling.removal import masked
from gfx.io.data.image_folder import images
from gfx.ir.execute import draw, run
from support.patterns import PATTERNS

EVERY: tuple[Importance, ...] = get_args(Importance)
RUNNING: tuple[Importance, ...] = ("activation", "taylor", "fisher", "reconstruction")
Scores = np.ndarray[Any, np.dtype[np.float64]]


def analysed(model: nn.Module, *inputs: Tensor) -> Groups:
    return gfx.channels(gfx.trace(model, inputs))


def scores(model: nn.Module, x: Tensor, importance: Importance, **options: Any) -> Scores:
    """The scores of the only free group."""
    groups = analysed(model, x)
    (group,) = groups.free
    return rank(groups, groups.free, importance, **options)[group.name]


def double(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


class Two(nn.Module):
    """y = w2 · (w1 @ x), three channels between."""

    def __init__(self, outputs: int = 1, width: int = 3) -> None:
        super().__init__()
        self.a = nn.Linear(2, width, bias=False).double()
        self.b = nn.Linear(width, outputs, bias=False).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))


W1 = double([1.0, 2.0], [-3.0, 0.0], [0.0, 1.0])
W2 = double([2.0, 1.0, -4.0])
X = double([1.0, -1.0])  # h = (-1, -3, -1), y = -2 - 3 + 4 = -1


def two() -> Two:
    model = Two()
    model.a.weight.data, model.b.weight.data = W1.clone(), W2.clone()
    return model


def level(*values: float) -> Scores:
    return np.array(values) / np.mean(values)


BY_HAND: dict[Importance, Callable[[], Scores]] = {
    "l1": lambda: (level(3, 3, 1) + level(2, 1, 4)) / 2,
    "l2": lambda: (level(5**0.5, 3, 1) + level(2, 1, 4)) / 2,
    # squared norms, levelled and averaged: 0.5 + 0.285…, 0.9 + 0.071…, 0.1 + 1.142…
    "lamp": lambda: lamp_of((level(5, 9, 1) + level(4, 1, 16)) / 2),
    # distances (1,2)-(-3,0): √20, (1,2)-(0,1): √2, (-3,0)-(0,1): √10; and 1, 6, 5
    "fpgm": lambda: (
        (level(20**0.5 + 2**0.5, 20**0.5 + 10**0.5, 2**0.5 + 10**0.5) + level(7, 6, 11)) / 2
    ),
    "activation": lambda: level(1, 3, 1),
    # |w2 h| / |y|
    "taylor": lambda: np.array([2.0, 3.0, 4.0]),
    # a: w2² Σ(w1 x)², b: (w2 h)²
    "fisher": lambda: np.sqrt((np.array([4 * 5, 1 * 9, 16 * 1]) + np.array([4, 9, 16])) / 2),
}


def lamp_of(squares: Scores) -> Scores:
    return np.array([s / squares[squares >= s].sum() for s in squares])


@pytest.mark.parametrize("importance", BY_HAND)
def test_scores_are_those_computed_by_hand(importance: Importance) -> None:
    got = scores(two(), X, importance, data=[X])
    assert_allclose(got, BY_HAND[importance](), rtol=1e-9)


def test_network_slimming_compares_the_scales_themselves() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 3, 1), nn.GroupNorm(3, 3),
        nn.Conv2d(3, 1, 1),
    )  # fmt: skip
    model[1].weight.data = torch.tensor([1.0, -3.0])
    model[3].weight.data = torch.tensor([0.5, 0.0, -0.5])
    groups = analysed(model.eval(), torch.zeros(1, 1, 2, 2))
    got = rank(groups, groups.free, "bn_scale")
    assert_allclose(got["0"], [1.0, 3.0])  # the mean |gamma| is 1
    assert_allclose(got["2"], [0.5, 0.0, 0.5])


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.second, self.third = nn.Conv2d(4, 6, 1), nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.third(torch.relu(self.second(torch.relu(self.norm(self.first(x))))))


def test_a_group_without_scale_is_ranked_by_l1_and_the_report_says_so() -> None:
    model, x = Mixed().eval(), torch.zeros(1, 3, 4, 4)
    groups = analysed(model, x)
    got, plain = (rank(groups, groups.free, name) for name in ("bn_scale", "l1"))
    assert_allclose(got["second"], plain["second"])
    assert notes(groups, groups.free, "bn_scale") == {
        "second": "no normalisation scales it: ranked by l1"
    }
    assert notes(groups, groups.free, "l1") == {}
    small = gfx.apply(
        {"passes": [{"channel_prune": {"importance": "bn_scale", "min_channels": 1}}]}, model, x
    )
    assert "second" in gfx.report(small).passes[0].details["importance"]


def test_network_slimming_needs_a_scale() -> None:
    with pytest.raises(gfx.PreconditionError, match=r"none of the 1 groups .* has a normalisation"):
        scores(two(), X, "bn_scale")


class Shuffled(nn.Module):
    """Channel c of the pixel shuffle is rows 4c to 4c + 3 of the convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 12, 1, bias=False), nn.Conv2d(3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(nn.functional.pixel_shuffle(self.a(x), 2))


def test_a_channel_with_several_indices_is_taken_with_all_of_them() -> None:
    model, x = Shuffled().double(), torch.randn(2, 1, 3, 3).double()
    rows = model.a.weight.detach().view(3, 4).numpy()
    read = model.b.weight.detach().view(3).abs().numpy()
    assert_allclose(
        scores(model, x, "l1"), (level(*abs(rows).sum(1)) + level(*read)) / 2, rtol=1e-6
    )
    gaps = np.linalg.norm(rows[:, None] - rows[None], axis=-1).sum(1)
    readers = model.b.weight.detach().view(3).numpy()
    steps = abs(readers[:, None] - readers).sum(1)
    assert_allclose(scores(model, x, "fpgm"), (level(*gaps) + level(*steps)) / 2, rtol=1e-6)
    shown = nn.functional.pixel_shuffle(model.a(x), 2).detach().abs().mean((0, 2, 3)).numpy()
    assert_allclose(scores(model, x, "activation", data=[x]), level(*shown), rtol=1e-6)


def test_several_indices_of_one_read_add_up() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 3, 1, bias=False), nn.Linear(12, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x).flatten(1))

    model, x = Flat().double(), torch.randn(1, 1, 2, 2).double()
    parts = (model.a(x).flatten(1) * model.b.weight).view(3, 4).sum(1).detach()
    expected = (parts.abs() / parts.sum().abs()).numpy()
    assert_allclose(scores(model, x, "taylor", data=[x]), expected, rtol=1e-9)


class Residual(nn.Module):
    """One group, written by two layers and read by two."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 3).double(), nn.Linear(3, 3).double()
        self.c = nn.Linear(3, 1).double()

    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        h = torch.tanh(self.a(x))
        h = h + torch.tanh(self.b(h if gate is None else h * gate))
        return self.c(h if gate is None else h * gate)


@pytest.mark.parametrize("reduce", get_args(Reduce))
def test_reduce_brings_all_layers_together(reduce: Reduce) -> None:
    model = Residual()
    weights = [(model.a.weight, 1), (model.b.weight, 1), (model.b.weight, 0), (model.c.weight, 0)]
    rows = np.stack([level(*w.detach().abs().sum(d).numpy()) for w, d in weights])
    expected = {
        "mean": rows.mean(0), "sum": rows.sum(0), "max": rows.max(0), "first": rows[0]
    }  # fmt: skip
    assert_allclose(scores(model, X, "l1", reduce=reduce), expected[reduce], rtol=1e-6)


def test_taylor_is_the_slope_of_a_gate_on_all_that_reads_the_channel() -> None:
    model = Residual()
    gate = torch.ones(3, dtype=torch.float64, requires_grad=True)
    y = model(X, gate)
    (slope,) = torch.autograd.grad(y, gate)
    expected = (slope / y).detach().abs().numpy()[0]
    for reduce in ("mean", "sum"):
        assert_allclose(scores(model, X, "taylor", data=[X], reduce=reduce), expected, rtol=1e-9)
    first, most = (scores(model, X, "taylor", data=[X], reduce=r) for r in ("first", "max"))
    assert (first <= most + 1e-12).all()
    assert not np.allclose(most, expected)


def closed_form(model: Two, x: Tensor) -> Scores:
    """What the output of a linear model loses with each channel, relative to what it is."""
    h, y = model.a(x).detach(), model(x).detach()
    lost = model.b.weight.detach().square().sum(0) * h.square().mean(0)
    return (lost / y.square().sum(1).mean()).sqrt().numpy()


def test_gradients_rank_a_linear_model_by_its_exact_damage() -> None:
    torch.manual_seed(0)
    model, x = Two(outputs=5, width=12), torch.randn(256, 2).double()
    exact = closed_form(model, x)
    got = scores(model, x, "taylor", data=[x])
    assert_allclose(got, exact, rtol=0.1)  # signs are drawn; 256 examples with 16 draws each
    assert spearman(got, exact) > 0.98


def test_fisher_adds_up_the_squared_effects_of_the_weights() -> None:
    torch.manual_seed(1)
    model, x = Two(outputs=1, width=6), torch.randn(1, 2).double()
    groups = analysed(model, x)
    (group,) = groups.free
    got = rank(groups, groups.free, "fisher", data=[x], reduce="sum")[group.name] ** 2
    h = model.a(x).detach()
    reading = (model.b.weight * h).detach().square()[0]
    writing = (model.a.weight * x * model.b.weight.T).detach().square().sum(1)
    assert_allclose(got, ((reading + writing) / model(x).detach().square()[0]).numpy(), rtol=1e-9)


def spearman(a: Scores, b: Scores) -> float:
    ranks = [np.argsort(np.argsort(v)) for v in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def uneven(model: nn.Module) -> nn.Module:
    """Gives the channels of a fresh model different weight, as training does."""
    for p in model.parameters():
        p.data *= torch.exp(0.7 * torch.randn(p.shape[0], *[1] * (p.ndim - 1)))
    return model.eval()


@torch.no_grad()
def measured(model: nn.Module, reader: str, inputs: Sequence[Tensor], size: int) -> Scores:
    """What the output changes by when `reader` reads zero for one channel after the other."""
    before = [model(x) for x in inputs]
    found = []
    for channel in range(size):

        def zero(_: nn.Module, args: tuple[Tensor], channel: int = channel) -> tuple[Tensor]:
            x = args[0].clone()
            x[:, channel] = 0
            return (x,)

        with model.get_submodule(reader).register_forward_pre_hook(zero):
            after = [model(x) for x in inputs]
        pairs = zip(after, before, strict=True)
        found.append(sum(float((a - b).square().mean()) for a, b in pairs))
    return np.array(found)


def test_gradients_foretell_the_damage_on_a_generator() -> None:
    torch.manual_seed(0)
    model = uneven(gfx.zoo.build("dcgan", ngf=4))
    groups = analysed(model, *gfx.zoo.example_inputs("dcgan", ngf=4))
    inputs = [torch.randn(1, 100, 1, 1) for _ in range(4)]
    chain = ("project.conv", "up.0.conv", "up.1.conv")
    damage = {name: measured(model, reader, inputs, groups[name].size)
              for name, reader in pairwise(chain)}  # fmt: skip

    def agreement(importance: Importance) -> float:
        got = rank(groups, groups.free, importance)
        return float(np.mean([spearman(got[name], damage[name]) for name in damage]))

    found = {name: agreement(name) for name in ("random", "l1", "fisher", "taylor")}
    assert found["taylor"] > 0.9, found
    assert found["fisher"] > 0.85, found
    assert abs(found["random"]) < 0.5, found
    assert found["l1"] < found["fisher"], found


SLOPES = """Grouped PixelShuffleInside ModulatedConv SpadeChunked DenseBlock GLUs SqueezeExcite
ZeroPaddedShortcut LatentLiteral ThroughLinear ChannelsLastMLP MultiHeadSDPA CosineWeights Fourier
""".split()


@pytest.mark.parametrize("name", SLOPES)
def test_taylor_is_the_slope_of_the_reference_of_a_removal(name: str) -> None:
    kind, shapes = PATTERNS[name]
    torch.manual_seed(0)
    program = gfx.trace(kind().double().eval(), tuple(torch.randn(*s).double() for s in shapes))
    groups = gfx.channels(program)
    x = draw(program, 7)
    got = rank(groups, groups.free, "taylor", data=[x], batches=1)
    before, step = run(program, x), 1e-4
    for number, group in enumerate(groups):
        if not group.free:
            continue
        twin = program.copy()
        again = gfx.channels(twin)
        removed = again.none_removed()
        removed[again[number].roots[0]] = True
        masked(twin, again, removed)
        for path, mask in twin.module.named_buffers():
            if path.startswith("mask_"):  # a little of the channel goes, not all
                mask.copy_(mask * step + 1 - step)
        slope = (run(twin, x) - before) / step
        exact = float(slope.square().mean() / before.square().mean()) ** 0.5
        assert 0.5 * exact - 1e-6 < got[group.name][0] < 1.6 * exact + 1e-6  # signs are drawn


class Chain(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.b = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.norm(self.a(x))))


def chain(seed: int = 0, width: int = 8) -> Chain:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Chain(width)
        for p in model.parameters():
            p.data = torch.randn(p.shape)
        model.norm.running_var.uniform_(0.5, 2)
    return model.double().eval()


IMAGE = torch.linspace(-1, 1, 3 * 36, dtype=torch.float64).view(1, 3, 6, 6).sin()

PEERS = {
    "l1": torch_pruning.importance.MagnitudeImportance(p=1, group_reduction="first"),
    "l2": torch_pruning.importance.MagnitudeImportance(p=2, group_reduction="first"),
    "lamp": torch_pruning.importance.LAMPImportance(group_reduction="first"),
    # it takes distances of |w|^p: those of the filters where these are positive and p is 1
    "fpgm": torch_pruning.importance.FPGMImportance(p=1, group_reduction="first"),
    "bn_scale": torch_pruning.importance.BNScaleImportance(),
}


@pytest.mark.parametrize("importance", PEERS)
def test_a_chain_is_ranked_as_by_torch_pruning(importance: Importance) -> None:
    model = chain()
    model.a.weight.data.abs_()
    graph = torch_pruning.DependencyGraph().build_dependency(model, IMAGE)
    group = graph.get_pruning_group(model.a, torch_pruning.prune_conv_out_channels, [*range(8)])
    theirs = PEERS[importance](group).numpy()
    ours = scores(model, IMAGE, importance, reduce="first")
    assert (np.argsort(ours) == np.argsort(theirs)).all()
    if importance != "l2":  # theirs is squared
        assert_allclose(ours / ours.sum(), theirs / theirs.sum(), rtol=1e-4)


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(6)), st.sampled_from(EVERY), st.sampled_from(get_args(Reduce)))
def test_permuted_channels_have_permuted_scores(
    order: list[int], importance: Importance, reduce: Reduce
) -> None:
    model = chain(width=6)
    turned = copy.deepcopy(model)
    turned.a.weight.data = turned.a.weight.data[order]
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(turned.norm, name).data = getattr(turned.norm, name).data[order]
    turned.b.weight.data = turned.b.weight.data[:, order]
    first, second = (
        scores(m, IMAGE, importance, data=[IMAGE], reduce=reduce) for m in (model, turned)
    )
    if importance != "random":
        assert_allclose(second, first[order], rtol=1e-6)


@settings(max_examples=8, deadline=None)
@given(st.floats(0.1, 10), st.sampled_from([n for n in EVERY if n not in ("bn_scale", "random")]))
def test_scores_do_not_depend_on_the_scale_of_a_layer(scale: float, importance: Importance) -> None:
    model = two()
    scaled = copy.deepcopy(model)
    scaled.a.weight.data *= scale
    first, second = (scores(m, X, importance, data=[X]) for m in (model, scaled))
    assert_allclose(second, first, rtol=1e-6)


@pytest.mark.parametrize("importance", EVERY)
def test_the_model_is_left_as_it_was(importance: Importance) -> None:
    model = chain().train()
    model.a.weight.requires_grad_(False)
    model.b.weight.grad = torch.ones_like(model.b.weight)
    program = gfx.trace(model, IMAGE)
    groups = gfx.channels(program)
    before = copy.deepcopy(program.module.state_dict())
    state = torch.get_rng_state()
    with torch.no_grad():
        first = rank(groups, groups.free, importance, data=[IMAGE, IMAGE])
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[k], v) for k, v in program.module.state_dict().items())
    assert all(m.training for m in program.module.modules())
    assert all(p.grad is None or torch.equal(p.grad, torch.ones_like(p)) for p in
               program.module.parameters())  # fmt: skip
    assert [p.requires_grad for p in program.module.parameters()] == [
        p.requires_grad for p in model.parameters()
    ]
    frozen = chain()
    for p in frozen.parameters():
        p.requires_grad_(False)
    assert_allclose(scores(frozen, IMAGE, importance, data=[IMAGE, IMAGE]), *first.values())


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.act, self.c = nn.ReLU(inplace=True), nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        h = self.b(x)
        x += self.act(h)
        y = torch.sigmoid(x)
        z = self.c(y)
        y.mul_(2)
        return torch.tanh(z + self.c(y))


class OutOfPlace(InPlace):
    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        y = torch.sigmoid(x + torch.relu(self.b(x)))
        return torch.tanh(self.c(y) + self.c(y * 2))


@pytest.mark.parametrize("importance", ["taylor", "fisher"])
def test_a_model_that_writes_in_place_has_the_same_gradients(importance: Importance) -> None:
    model, other = InPlace().double(), OutOfPlace().double()
    other.load_state_dict(model.state_dict())
    x = torch.rand(1, 3, 4, 4).double()
    assert_allclose(scores(model, x, importance), scores(other, x, importance), rtol=1e-9)


@pytest.mark.parametrize("importance", [name for name in EVERY if name != "random"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_ranked_nearly_alike(importance: Importance, dtype: torch.dtype) -> None:
    model = chain()
    exact = scores(model, IMAGE, importance, data=[IMAGE])
    half = scores(model.to(dtype), IMAGE.to(dtype), importance, data=[IMAGE])
    assert spearman(exact, half) > 0.8


@pytest.mark.parametrize("importance", RUNNING)
def test_a_model_on_meta_cannot_be_run(importance: Importance) -> None:
    with torch.device("meta"):
        model, x = Chain().eval(), torch.empty(1, 3, 6, 6)
    with pytest.raises(gfx.PreconditionError, match=f"importance={importance} runs the model"):
        scores(model, x, importance, data=[IMAGE])


@pytest.mark.parametrize("importance", [n for n in EVERY if n not in (*RUNNING, "random")])
def test_channels_on_meta_all_matter_alike(importance: Importance) -> None:
    with torch.device("meta"):
        model, x = Chain().eval(), torch.empty(1, 3, 6, 6)
    assert not scores(model, x, importance).any()


@pytest.mark.parametrize("importance", [name for name in EVERY if name != "random"])
def test_what_is_not_finite_is_an_error(importance: Importance) -> None:
    model = chain()
    model.a.weight.data[0] = torch.nan
    model.norm.weight.data[0] = torch.inf
    with pytest.raises(gfx.InputError, match="not finite"):
        scores(model, IMAGE, importance, data=[IMAGE])


class Many(nn.Module):
    """A latent and a class number."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.a, self.b = nn.Embedding(5, 4), nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(z + self.embed(label))))


IMAGES = [IMAGE.float() * scale for scale in (1.0, -0.5, 2.0)]
DATA: dict[str, Any] = {
    "a list": IMAGES,
    "a generator": lambda: (x for x in IMAGES),
    "with labels": [(x, torch.zeros(1)) for x in IMAGES],
    "by name": [{"x": x, "label": 3} for x in IMAGES],
    "arrays": [x.numpy() for x in IMAGES],
    "single examples": [x[0] for x in IMAGES],
    "a dataset": torch.utils.data.TensorDataset(torch.cat(IMAGES)),
    "a loader": torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.cat(IMAGES))),
    "in double": [x.double() for x in IMAGES],
}


@pytest.mark.parametrize("form", DATA)
def test_data_comes_in_many_forms(form: str) -> None:
    model = chain().float()
    data = DATA[form]() if callable(DATA[form]) else DATA[form]
    expected = scores(model, IMAGES[0], "taylor", data=IMAGES)
    assert_allclose(scores(model, IMAGES[0], "taylor", data=data), expected, rtol=1e-5)


def test_one_tensor_is_one_batch_and_batches_may_have_any_size() -> None:
    model = chain().float()
    whole = scores(model, IMAGES[0], "activation", data=torch.cat(IMAGES))
    assert_allclose(whole, scores(model, IMAGES[0], "activation", data=IMAGES), rtol=1e-5)
    for importance in RUNNING:
        assert np.isfinite(scores(model, IMAGES[0], importance, data=torch.rand(2, 3, 9, 5))).all()


def test_no_more_batches_are_taken_than_asked_for() -> None:
    taken = []

    def endless() -> Any:
        while True:
            taken.append(1)
            yield IMAGES[0]

    scores(chain().float(), IMAGES[0], "activation", data=endless(), batches=3)
    assert len(taken) == 3


def test_several_inputs_come_in_order_or_by_name() -> None:
    model, z, label = Many(), torch.randn(4, 4), torch.tensor([0, 1, 2, 3])
    groups = analysed(model, z, label)
    found = [
        rank(groups, groups.free, "activation", data=data)
        for data in ((z, label), [(z, label)], [{"label": label, "z": z}],
                     [(z[i], int(label[i])) for i in range(4)])
    ]  # fmt: skip
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        assert all(np.allclose(found[0][name], other[name]) for name in other)


def test_a_graph_that_knows_its_batch_size_gets_batches_of_that_size() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 8), nn.Conv2d(8, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x).view(1, 8, 1, 1))

    model, x = Fixed().double(), torch.randn(4, 2).double()
    cut = scores(model, x[:1], "taylor", data=[x], batches=1)
    assert np.isfinite(cut).all()
    assert_allclose(
        scores(model, x[:1], "activation", data=[x]),
        scores(model, x[:1], "activation", data=[*x]),
    )


BAD: dict[str, tuple[Any, str]] = {
    "wrong channels": ([torch.zeros(1, 4, 6, 6)], r"x has shape 1x4x6x6; expected .* 1x3x6x6"),
    "no tensor": (["cat.png"], "batch 0: x is a str; expected float32 of shape 1x3x6x6"),
    "bytes": ([torch.zeros(1, 3, 6, 6, dtype=torch.uint8)], "dtype uint8; expected float32"),
    "empty": ([], "data gives no batch"),
    "no batch": ([torch.zeros(0, 3, 6, 6)], "x is empty, of shape 0x3x6x6"),
    "no iterable": (3, "data is a int; give an iterable"),
    "no name": ([{"image": torch.zeros(1, 3, 6, 6)}], "has no 'x' .it has image."),
    "too small": ([torch.zeros(3, 6)], "has shape 3x6; expected"),
    "nothing": ([()], "gives 0 of 1 inputs; expected x 1x3x6x6"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_data_is_an_error_that_says_what_was_expected(case: str) -> None:
    data, message = BAD[case]
    with pytest.raises(gfx.InputError, match=message):
        scores(chain().float(), IMAGES[0], "activation", data=data)


def test_data_on_which_the_model_does_not_run_is_an_error() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 3)).eval()
    with pytest.raises(gfx.InputError, match="does not run on batch 0, of shape 1x3x2x2"):
        scores(model, torch.zeros(1, 3, 6, 6), "activation", data=[torch.zeros(1, 3, 2, 2)])


def recipe(importance: str, **fields: Any) -> dict[str, Any]:
    return {
        "passes": [
            {"channel_prune": {"importance": importance, "ratio": 0.4, "min_channels": 1, **fields}}
        ]
    }


def test_activation_without_data_is_an_error() -> None:
    with pytest.raises(gfx.RecipeError, match="channel_prune needs data to look at; give data="):
        gfx.apply(recipe("activation"), chain(), IMAGE)
    groups = analysed(chain(), IMAGE)
    with pytest.raises(gfx.PreconditionError, match="importance=activation needs data"):
        rank(groups, groups.free, "activation")


@pytest.mark.parametrize("importance", EVERY)
@pytest.mark.parametrize("scope", ["local", "global"])
def test_the_same_seed_and_data_give_the_same_bytes(importance: str, scope: str) -> None:
    model = Mixed().eval()
    first, second = (
        gfx.apply(recipe(importance, scope=scope), model, IMAGES[0], data=iter(IMAGES), seed=3)
        for _ in range(2)
    )
    assert first.state_dict().keys() == second.state_dict().keys()
    assert all(torch.equal(v, second.state_dict()[k]) for k, v in first.state_dict().items())
    assert all(check.passed for check in gfx.report(first).passes[0].checks)


def test_an_iterator_serves_every_pass_of_a_recipe() -> None:
    steps = recipe("activation")["passes"] * 2
    small = gfx.apply({"passes": steps}, Mixed().eval(), IMAGES[0], data=iter(IMAGES))
    assert [len(p.changes) for p in gfx.report(small).passes] == [2, 2]


@pytest.mark.parametrize("importance", ["taylor", "fisher"])
def test_an_output_without_gradient_is_an_error(importance: Importance) -> None:
    class Cut(Mixed):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).detach()

    groups = analysed(Cut(), IMAGES[0])
    with pytest.raises(gfx.PreconditionError, match="no gradient flows from the model's output"):
        rank(groups, groups.free, importance)


def test_a_channel_that_nothing_needs_goes_first() -> None:
    model = chain()
    model.b.weight.data[:, 5] = 0
    got = scores(model, IMAGE, "taylor")
    assert got[5] == 0
    assert (np.delete(got, 5) > 0).all()


def test_global_scores_are_in_one_unit() -> None:
    torch.manual_seed(0)
    model = Mixed().eval()
    model.third.weight.data *= 1e-3  # the second group hardly reaches the output
    model.third.bias.data += 1
    groups = analysed(model, IMAGES[0])
    got = rank(groups, groups.free, "taylor")
    assert got["second"].max() < 0.1
    assert_allclose([rank(groups, groups.free, "l1")[g.name].mean() for g in groups.free], 1)
    assert_allclose([rank(groups, groups.free, "lamp")[g.name].max() for g in groups.free], 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files, one in a subfolder: grey and wide, coloured and square."""
    (tmp_path / "more").mkdir()
    Image.new("L", (20, 10), 255).save(tmp_path / "a.png")
    Image.new("RGB", (9, 9), (0, 255, 51)).save(tmp_path / "more" / "b.jpeg", quality=100)
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_a_folder_of_images_is_data(folder: Path) -> None:
    white, green = images(folder, torch.zeros(1, 3, 4, 6))
    assert white.shape == green.shape == (1, 3, 4, 6)
    assert (white == 1).all()
    assert_allclose(green[0].mean((1, 2)), [-1, 1, -0.6], atol=0.05)
    (both,) = images(folder, torch.zeros(2, 1, 5, 5))
    assert both.shape == (2, 1, 5, 5)
    model = chain().float()
    got = scores(model, IMAGES[0], "taylor", data=str(folder))
    assert_allclose(got, scores(model, IMAGES[0], "taylor", data=[*images(folder, IMAGES[0])]))


def test_a_folder_that_will_not_do_is_an_error(folder: Path) -> None:
    with pytest.raises(gfx.InputError, match="the model takes 1x2, which is none"):
        scores(two(), X, "activation", data=folder)
    (folder / "empty").mkdir()
    with pytest.raises(gfx.InputError, match=r"holds no images \(.bmp"):
        scores(chain(), IMAGE, "activation", data=folder / "empty")
    with pytest.raises(gfx.InputError, match="nowhere is no folder"):
        scores(chain(), IMAGE, "activation", data=folder / "nowhere")
    (folder / "empty" / "0.png").write_bytes(b"torn")
    with pytest.raises(gfx.InputError, match=r"0.png cannot be read as an image"):
        scores(chain(), IMAGE, "activation", data=folder / "empty")
    groups = analysed(Many(), torch.randn(4, 4), torch.tensor([0, 1, 2, 3]))
    with pytest.raises(gfx.InputError, match="is a folder of images, and the model has 2 inputs"):
        rank(groups, groups.free, "activation", data=folder)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1, 3, 12, 12), "a.png is 20 wide and 10 high, and the model takes images 12 wide and 12"),
        ((2, 3, 12, 12), "--input 2x3xHxW .* with at most 10x10 for HxW"),
        ((1, 1, 8, 24), "a.png is 20 wide .* images 24 wide and 8 high: .* at most 7x20 for HxW"),
        ((1, 3, 10, 10), "b.jpeg is 9 wide and 9 high, and the model takes images 10 wide"),
    ],
)
def test_an_image_that_would_be_blown_up_is_refused(
    folder: Path, shape: tuple[int, ...], said: str
) -> None:
    with pytest.raises(gfx.InputError, match=said):
        list(images(folder, torch.zeros(shape)))


@pytest.mark.parametrize("size", [(14, 6), (7, 3), (13, 11), (3, 31)])
def test_an_image_of_the_size_or_just_above_is_taken(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    for i, (wider, higher) in enumerate([(0, 0), (1, 0), (0, 1), (3, 5)]):
        Image.new("L", (width + wider, height + higher)).save(tmp_path / f"{i}.png")
    (batch,) = images(tmp_path, torch.zeros(4, 1, height, width))
    assert batch.shape == (4, 1, height, width)


def test_images_without_pillow_are_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(gfx.InputError, match=r"pip install 'gfx-compiler\[images\]'"):
        scores(chain(), IMAGE, "activation", data=folder)


def test_the_shell_takes_a_folder_of_images(folder: Path) -> None:
    torch.save(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 1)), folder / "m.pt")
    (folder / "r.yaml").write_text(
        "recipe: 1\npasses: [{channel_prune: {importance: activation, min_channels: 1}}]"
    )
    asked = ["apply", folder / "r.yaml", folder / "m.pt", "--input", "1x3x9x9"]
    asked += ["-o", folder / "small.gfx"]
    result = CliRunner().invoke(app, [*map(str, asked), "--data", str(folder)])
    assert result.exit_code == 0, result.stderr
    assert gfx.load(folder / "small.gfx").get_submodule("0").out_channels == 4
    refused = CliRunner().invoke(app, [*map(str, asked)])
    assert refused.exit_code == 1
    assert "in the shell --data DIR" in " ".join(refused.stderr.split())
