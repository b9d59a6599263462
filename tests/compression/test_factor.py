"""Laws of compression.factor from the weights alone: full rank, monotone error, refusals."""

from itertools import pairwise

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn.utils import parametrizations

from gfx.compression.factor import (
    Form,
    compose,
    factor,
    full_rank,
    macs,
    parameters,
    rank_of,
    refusal,
    skeleton,
)
from gfx.compression.factor.kernels import kernel_of
from gfx.errors import InputError, PreconditionError, RecipeError
from support.factor_cases import KINDS, gap, layers

# torch says so of its own 'same' padding of even kernels
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
quick = settings(max_examples=40, deadline=None)


def image(layer: nn.Module, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (batch, layer.in_channels, 11, 12)
    return torch.randn(shape, generator=generator, dtype=layer.weight.dtype)


def lost(layer: nn.Module, form: Form) -> float:
    """Returns the share of the weights' energy that a form loses."""
    kernel, twin = kernel_of(layer), kernel_of(compose(factor(layer, form)))
    return float((kernel - twin).square().sum() / kernel.square().sum())


@quick
@given(layers(), st.sampled_from(KINDS))
def test_full_rank_equals_the_original(layer: nn.Module, kind: str) -> None:
    x = image(layer)
    parts = factor(layer, Form(kind, full_rank(layer, kind)))
    assert gap(layer(x), parts(x)) < 1e-9
    assert gap(layer(x), factor(layer, Form(kind, 1.0))(x)) < 1e-9


@quick
@given(layers(), st.sampled_from(KINDS), st.integers(1, 5))
def test_composed_parts_equal_the_parts(layer: nn.Module, kind: str, rank: int) -> None:
    x, parts = image(layer), factor(layer, Form(kind, rank))
    dense = compose(parts)
    assert gap(parts(x), dense(x)) < 1e-9
    assert repr(dense) == repr(layer)


@quick
@given(layers(), st.sampled_from(KINDS))
def test_error_never_rises_with_the_rank(layer: nn.Module, kind: str) -> None:
    errors = [lost(layer, Form(kind, rank)) for rank in range(1, full_rank(layer, kind) + 1)]
    assert all(b <= a + 1e-12 for a, b in pairwise(errors))
    shares = [lost(layer, Form(kind, share / 8)) for share in range(1, 9)]
    assert all(b <= a + 1e-12 for a, b in pairwise(shares))


@quick
@given(layers(), st.sampled_from(KINDS), st.integers(1, 4), st.sampled_from(("none", "batch")))
def test_cost_is_foretold(layer: nn.Module, kind: str, rank: int, norm: str) -> None:
    form = Form(kind, rank, norm if kind == "depthwise_separable" else "none")
    parts, x = factor(layer, form), image(layer)
    assert parameters(layer, form) == sum(p.numel() for p in parts.parameters())
    work = 0
    for part in parts:
        out = part(x) if not isinstance(part, nn.BatchNorm2d) else x
        if not isinstance(part, nn.BatchNorm2d):
            work += (x if part.transposed else out).numel() * part.weight[0].numel()
        x = out
    assert macs(layer, form, tuple(image(layer).shape)).exact == work


@pytest.mark.parametrize("transposed", [False, True])
def test_best_filters_per_channel_equal_the_svd(transposed: bool) -> None:
    torch.manual_seed(0)
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = kind(6, 10, 3, groups=2, dtype=torch.float64)
    kernel = kernel_of(layer)
    for rank in range(1, 6):
        twin = kernel_of(compose(factor(layer, Form(rank=rank))))
        for group in range(2):
            for channel in range(3):
                matrix = kernel[group, :, channel].flatten(1)
                tail = torch.linalg.svdvals(matrix)[rank:].square().sum()
                error = (matrix - twin[group, :, channel].flatten(1)).square().sum()
                torch.testing.assert_close(error, tail)


def test_tucker_is_not_worse_than_hosvd_and_near_to_iterating() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(12, 12, 3, dtype=torch.float64)
    kernel = kernel_of(layer)[0]
    ins = torch.linalg.svd(kernel.transpose(0, 1).flatten(1))[0][:, :4]
    outs = torch.linalg.svd(kernel.flatten(1))[0][:, :4]
    kept = torch.einsum("oiyx,or,is->rsyx", kernel, outs, ins).square().sum()
    assert lost(layer, Form("tucker", 4)) <= 1 - float(kept / kernel.square().sum()) + 1e-12


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize("bias", [True, False])
def test_batch_norm_between_changes_nothing_in_eval_mode(kind: type, bias: bool) -> None:
    torch.manual_seed(0)
    layer = kind(4, 6, 3, stride=2, groups=2, bias=bias, dtype=torch.float64).eval()
    x = image(layer)
    plain = factor(layer, Form(rank=2))
    assert gap(plain(x), factor(layer, Form(rank=2, norm="batch"))(x)) < 1e-9


def test_instance_norm_keeps_the_scale_of_white_inputs() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 3, padding=1, dtype=torch.float64)
    x = torch.randn(2, 4, 64, 64, dtype=torch.float64)
    want, got = layer(x), factor(layer, Form(rank=9, norm="instance"))(x)
    assert float((want - got).detach().norm() / want.detach().norm()) < 0.05


def test_settings_and_modes_are_the_layers() -> None:
    layer = nn.Conv2d(4, 6, 3, padding=1, dtype=torch.bfloat16).eval()
    layer.weight.requires_grad_(False)
    for norm in ("none", "batch"):
        parts = factor(layer, Form(norm=norm))
        assert not any(m.training for m in parts.modules())
        assert {t.dtype for t in parts.parameters()} == {torch.bfloat16}
        assert not any(p.requires_grad for n, p in parts.named_parameters() if "weight" in n)
        assert parts.pointwise.bias.requires_grad
        assert torch.equal(parts.pointwise.bias, layer.bias)
    assert factor(layer.train(), Form(norm="batch")).norm.training


def test_layer_is_left_unchanged_and_shares_nothing() -> None:
    layer = nn.Conv2d(4, 6, 3)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    for init in ("svd", "random"):
        parts = factor(layer, Form(rank=9, init=init))
        for parameter in parts.parameters():
            parameter.data.add_(1)
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_random_weights_are_torchs_own_and_leave_the_random_state(kind: str) -> None:
    layer = nn.Conv2d(4, 6, 3)
    torch.manual_seed(5)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = (factor(layer, Form(kind, 2, init="random"), seed=s) for s in (3, 3, 4))
    assert torch.equal(torch.rand(1), drawn)
    states = [torch.cat([v.flatten() for v in m.state_dict().values()]) for m in (one, same, other)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    torch.manual_seed(3)
    first = next(skeleton(layer, Form(kind, 2), "cpu").parameters())
    assert torch.equal(first, next(one.parameters()))


def test_svd_leaves_the_random_state() -> None:
    before = torch.random.get_rng_state()
    factor(nn.Conv2d(4, 6, 3, device="meta"), Form())
    factor(nn.ConvTranspose2d(4, 6, 3, device="meta"), Form(norm="batch", init="random"))
    assert torch.equal(before, torch.random.get_rng_state())


def test_layer_on_meta_gives_parts_there() -> None:
    parts = factor(nn.Conv2d(4, 6, 3, device="meta"), Form("tucker"))
    assert all(p.is_meta for p in parts.parameters())


def test_default_rank_costs_at_most_half() -> None:
    for layer in (nn.Conv2d(64, 64, 3, 2), nn.ConvTranspose2d(64, 32, 4, 2), nn.Conv2d(3, 64, 7)):
        shape = (1, layer.in_channels, 128, 128)
        whole = macs(layer, Form("low_rank", 1.0), shape).exact
        for kind in KINDS[1:]:
            if refusal(layer, Form(kind)):
                continue
            rank = rank_of(layer, Form(kind))
            half = macs(layer, Form(kind), shape).exact
            assert half <= 0.52 * whole or rank == 1
            assert rank_of(layer, Form(kind, 1.0)) == full_rank(layer, kind)


def test_dense_1x1_has_a_bottleneck_only() -> None:
    layer = nn.Conv2d(8, 8, 1)
    assert refusal(layer, Form("low_rank")) == ""
    for kind in KINDS[:3]:
        assert refusal(layer, Form(kind)) == "a 1x1 kernel has nothing to separate"


class Own(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 2


class Same(nn.Conv2d):
    """Has nothing of its own but the name."""


def hooked() -> nn.Module:
    layer = nn.Conv2d(4, 4, 3)
    layer.register_forward_hook(lambda *_: None)
    return layer


def odd() -> nn.Module:
    layer = nn.ConvTranspose2d(4, 4, 3)
    layer.padding_mode = "reflect"
    return layer


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: nn.Linear(4, 4), "Linear is no Conv2d or ConvTranspose2d"),
        (lambda: nn.Conv1d(4, 4, 3), "Conv1d is no Conv2d"),
        (lambda: nn.LazyConv2d(4, 3), "LazyConv2d has no weight before its first call"),
        (lambda: Own(4, 4, 3), "Own has a forward of its own: what it computes is not known"),
        (hooked, "it has hooks"),
        (lambda: parametrizations.weight_norm(nn.Conv2d(4, 4, 3)), "run fold_parametrizations"),
        (lambda: nn.utils.spectral_norm(nn.Conv2d(4, 4, 3)), "run fold_parametrizations before"),
        (lambda: nn.Conv2d(4, 8, 3, groups=4), "it is depthwise already: 4 groups of one input"),
        (lambda: nn.Conv2d(4, 4, 3, dtype=torch.complex64), "its weight is torch.complex64"),
        (odd, "a transposed convolution cannot pad by reflect"),
    ],
)
def test_layer_that_cannot_be_separated_says_why(make: object, why: str) -> None:
    layer = make()
    assert why in refusal(layer, Form())
    with pytest.raises(PreconditionError, match="down1 cannot be written as depthwise_separable"):
        factor(layer, Form(), name="down1")


def test_subclass_without_a_forward_of_its_own_is_taken() -> None:
    assert refusal(Same(4, 4, 3), Form()) == ""


def test_flat_kernels_have_one_direction() -> None:
    layer = nn.Conv2d(4, 4, (1, 3))
    assert refusal(layer, Form("spatial")) == "a 1x3 kernel has nothing to separate"
    assert refusal(layer, Form()) == ""
    assert "no rank is below" in refusal(nn.Conv2d(4, 4, 3, groups=4), Form("low_rank"))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"rank": 0}, "rank=0 must be an integer of at least 1, or a share"),
        ({"rank": 1.5}, "rank=1.5 must be"),
        ({"rank": True}, "rank=True must be"),
        ({"rank": float("nan")}, "rank=nan must be"),
        ({"kind": "dense"}, "kind is 'dense'; give one of depthwise_separable, spatial"),
        ({"init": "zeros"}, "init is 'zeros'; give one of svd, data, random"),
        ({"kind": "tucker", "norm": "batch"}, "norm=batch goes between a depthwise and a"),
    ],
)
def test_bad_forms_are_refused(fields: dict, why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        Form(**fields)


def test_weights_that_are_not_finite_are_named() -> None:
    layer = nn.Conv2d(4, 4, 3)
    layer.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match="body3: its weight holds values that are not finite"):
        factor(layer, Form(), name="body3")


def test_norm_has_no_dense_equal() -> None:
    with pytest.raises(ValueError, match="a BatchNorm2d among the parts"):
        compose(factor(nn.Conv2d(4, 4, 3), Form(norm="batch")))
