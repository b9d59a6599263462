"""Laws of compression.factor with data: never worse than the weights alone, and far better.

Inputs are smooth and positive, as activations are.
"""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from gfx.compression.factor import Form, factor, fits, full_rank
from gfx.compression.factor.kernels import bias_of, kernel_of
from gfx.compression.factor.patches import Patch, output_size, patches_at
from gfx.errors import InputError
from support.factor_cases import KINDS, gap, layers

# torch says so of its own 'same' padding of even kernels
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
quick = settings(max_examples=25, deadline=None)


def smooth(channels: int, count: int, seed: int = 0, size: int = 16) -> torch.Tensor:
    """Draws examples whose neighbouring pixels are alike and whose channels are mixed."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(channels, channels, generator=torch.Generator().manual_seed(99))
    noise = torch.randn(count, channels, size + 8, size + 8, generator=generator)
    noise = torch.einsum("oi,nihw->nohw", mixing, noise)
    return F.avg_pool2d(F.avg_pool2d(noise, 5, 1), 5, 1).mul(2).add(0.2).relu().double()


def off(layer: nn.Module, parts: nn.Module, x: torch.Tensor) -> float:
    """Returns the relative error of parts on inputs."""
    with torch.no_grad():
        want = layer(x)
        return float((parts(x) - want).norm() / want.norm())


def trained(transposed: bool = False, **more: object) -> nn.Module:
    torch.manual_seed(0)
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    return kind(8, 8, 3, padding=1, dtype=torch.float64, **more).eval()


@settings(max_examples=60, deadline=None)
@given(layers())
def test_patches_times_kernel_are_what_the_layer_gives(layer: nn.Module) -> None:
    x = smooth(layer.in_channels, 4, size=11)
    height, width = output_size(layer, x.shape)
    place = Patch(*torch.cartesian_prod(*map(torch.arange, (4, height, width))).T)
    patches = patches_at(layer, x, place)
    rows = patches.reshape(len(patches), layer.groups, -1).transpose(0, 1)
    got = (rows @ kernel_of(layer).flatten(2).mT).transpose(0, 1).flatten(1)
    bias = bias_of(layer)
    assert gap(place.of(layer(x)), got if bias is None else got + bias) < 1e-12


@quick
@given(layers(), st.sampled_from(KINDS), st.integers(1, 3), st.booleans())
def test_data_is_not_worse_than_svd_on_new_examples(
    layer: nn.Module, kind: str, rank: int, batch: bool
) -> None:
    norm = "batch" if batch and kind == "depthwise_separable" else "none"
    layer.eval()
    x, new = (smooth(layer.in_channels, 12, seed=s) for s in (0, 1))
    plain = factor(layer, Form(kind, rank, norm))
    fitted = factor(layer, Form(kind, rank, norm, "data"), inputs=[x])
    assert off(layer, fitted, new) <= off(layer, plain, new) * 1.01 + 1e-9


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_data_cuts_the_error_several_times(transposed: bool, groups: int) -> None:
    stride = 2 if transposed else 1
    layer = trained(transposed, stride=stride, groups=groups)
    x, new = list(smooth(8, 24).split(8)), smooth(8, 8, seed=1)
    for rank, times in ((1, 1.5), (2, 1.7)):
        plain = off(layer, factor(layer, Form(rank=rank)), new)
        fitted = off(layer, factor(layer, Form(rank=rank, init="data"), inputs=x), new)
        assert fitted * times < plain


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [True, False])
def test_every_step_of_a_fit_lowers_the_error(kind: str, bias: bool) -> None:
    layer, x = trained(bias=bias), smooth(8, 16)
    found = {n: off(layer, p, x) for n, p in fits(layer, Form(kind, 2), inputs=[x])}
    errors = list(found.values())
    assert list(found)[:2] == ["svd", "whitened"]
    assert all(b < a * 1.01 for a, b in itertools.pairwise(errors))
    assert errors[-1] < 0.8 * errors[0]


def test_rounds_are_counted() -> None:
    layer, x = trained(), smooth(8, 8)
    names = [name for name, _ in fits(layer, Form(), inputs=[x], rounds=2)]
    assert names == ["svd", "whitened", "mixed", "round 1", "round 2"]


@pytest.mark.parametrize("kind", KINDS)
def test_full_rank_with_data_equals_the_original(kind: str) -> None:
    layer, x = trained(), smooth(8, 20)
    form = Form(kind, full_rank(layer, kind), init="data")
    assert off(layer, factor(layer, form, inputs=[x]), x) < 1e-9


def test_noise_gives_nothing_to_fit() -> None:
    layer = nn.Conv2d(6, 64, 3, dtype=torch.float64)
    x = torch.randn(8, 6, 16, 16, dtype=torch.float64)
    plain, fitted = factor(layer, Form()), factor(layer, Form(init="data"), inputs=[x])
    assert all(map(torch.equal, plain.state_dict().values(), fitted.state_dict().values()))


def test_instance_norm_is_fitted_after_the_norm() -> None:
    layer, x, new = trained(), smooth(8, 24), smooth(8, 8, seed=1)
    plain = factor(layer, Form(norm="instance"))
    fitted = factor(layer, Form(norm="instance", init="data"), inputs=[x])
    assert off(layer, fitted, new) < 0.6 * off(layer, plain, new)
    assert isinstance(fitted.norm, nn.InstanceNorm2d)


@pytest.mark.parametrize("bias", [True, False])
def test_batch_norm_has_the_statistics_of_the_data(bias: bool) -> None:
    layer, x = trained(bias=bias), smooth(8, 16)
    plain = factor(layer, Form(init="data"), inputs=[x])
    fitted = factor(layer, Form(norm="batch", init="data"), inputs=[x])
    assert gap(plain(x), fitted(x)) < 1e-9
    with torch.no_grad():
        read = fitted.depthwise(x)
        assert gap(fitted.norm.running_var, read.var(dim=(0, 2, 3))) < 0.2
        assert gap(fitted.norm.running_mean, read.mean(dim=(0, 2, 3))) < 0.2


def test_targets_are_what_is_fitted_to() -> None:
    layer, other = trained(), trained()
    with torch.no_grad():
        other.weight.mul_(0.5)
        x = smooth(8, 24)
        want = [other(x)]
    new = smooth(8, 8, seed=1)
    for kind in KINDS:
        fitted = factor(layer, Form(kind, 0.5, init="data"), inputs=[x], targets=want)
        assert off(other, fitted, new) < off(other, factor(other, Form(kind, 0.5)), new)


def test_same_seed_gives_the_same_bytes_and_random_state_stays() -> None:
    layer, x = trained(), smooth(8, 24)
    before = torch.random.get_rng_state()
    for kind in KINDS:
        one, two = (
            factor(layer, Form(kind, init="data"), inputs=[x], seed=3).state_dict()
            for _ in range(2)
        )
        assert all(map(torch.equal, one.values(), two.values()))
    assert torch.equal(before, torch.random.get_rng_state())


def test_batches_may_be_read_once_only() -> None:
    layer, x = trained(), smooth(8, 8)
    one = factor(layer, Form(init="data"), inputs=[x])
    two = factor(layer, Form(init="data"), inputs=iter([x]))
    assert torch.equal(one.depthwise.weight, two.depthwise.weight)


def test_batches_of_other_sizes_and_a_single_example_do() -> None:
    layer, new = trained(), smooth(8, 8, seed=1)
    mixed = [smooth(8, 4), smooth(8, 4, size=9)]
    for inputs in (mixed, [smooth(8, 1, size=32)]):
        fitted = factor(layer, Form(init="data"), inputs=inputs)
        assert off(layer, fitted, new) < off(layer, factor(layer, Form()), new)


def test_layer_is_left_unchanged_and_settings_are_kept() -> None:
    layer = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect").eval()
    layer.weight.requires_grad_(False)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    for norm in ("none", "instance", "batch"):
        parts = factor(layer, Form(norm=norm, init="data"), inputs=[smooth(8, 8).float()])
        assert parts.depthwise.padding_mode == "reflect"
        assert parts.pointwise.weight.dtype == torch.float32
        assert not parts.pointwise.weight.requires_grad
        assert not any(m.training for m in parts.modules())
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())


def test_channels_that_are_always_zero_do_no_harm() -> None:
    layer, x = trained(), smooth(8, 16)
    x[:, 3] = 0
    for kind in KINDS:
        parts = factor(layer, Form(kind, 0.5, init="data"), inputs=[x])
        assert all(bool(torch.isfinite(p).all()) for p in parts.parameters())
        assert off(layer, parts, x) < off(layer, factor(layer, Form(kind, 0.5)), x)


@pytest.mark.parametrize("kind", KINDS)
def test_channel_that_the_fit_hardly_saw_stays_near_to_its_weights(kind: str) -> None:
    layer, x, new = trained(), smooth(8, 16), smooth(8, 8, seed=1)
    x[:, 3] *= 1e-3
    errors = [off(layer, parts, new) for _, parts in fits(layer, Form(kind, 0.5), inputs=[x])]
    assert max(errors) < 1.2 * errors[0]


def bad(x: torch.Tensor, value: float) -> torch.Tensor:
    x = x.clone()
    x[1, 2, 3, 3] = value
    return x


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        (None, "body3: init=data needs inputs to calibrate on; give data, or use init=svd"),
        ([], "body3: the calibration data hold no example"),
        (
            [smooth(8, 1, size=2)],
            r"10 unknowns for each output channel and so needs as many "
            r"positions; 1 examples with outputs of 2x2 give 4, .*; give at least 4 examples",
        ),
        ([smooth(4, 2)], r"calibration batch 0 has shape 2x4x16x16; expected \(N, 8, H, W\)"),
        ([smooth(8, 2), bad(smooth(8, 2), float("nan"))], "batch 1 holds inputs that are not"),
        ([bad(smooth(8, 2), float("inf"))], "body3: calibration batch 0 holds inputs that are"),
    ],
)
def test_data_that_cannot_be_used_are_refused(inputs: object, why: str) -> None:
    with pytest.raises(InputError, match=why):
        factor(trained(), Form(init="data"), inputs=inputs, name="body3")


@pytest.mark.parametrize(
    ("targets", "why"),
    [
        ([], "calibration batch 0 has no target"),
        ([torch.zeros(2, 8, 3, 3)], "has a target of shape 2x8x3x3; expected 2x8x16x16"),
        ([bad(smooth(8, 2), float("nan"))], "batch 0 holds targets that are not finite"),
    ],
)
def test_targets_that_cannot_be_used_are_refused(targets: object, why: str) -> None:
    with pytest.raises(InputError, match=why):
        factor(trained(), Form(init="data"), inputs=[smooth(8, 2)], targets=targets)
