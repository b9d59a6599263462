"""What passes make of layers that are masked, tapped or penalised."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import gfx
from gfx.ir.modules import MaskedConv2d, Penalty, Tap, masked_layer
from gfx.pipeline.registry import passes
from support.laws import law
from support.masked_programs import all_masked, tapped, zeroed_masks
from support.oracle import assert_equal_outputs
from support.pass_draws import applied, drawn
from support.strategies import specs

X = torch.zeros(1, 3, 8, 8)


def filled(model: nn.Module) -> nn.Module:
    """Puts a model in eval mode, with statistics and weights that are not the plain ones."""
    generator = torch.Generator().manual_seed(0)
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return model.double().eval()


def masked_conv() -> nn.Module:
    conv = masked_layer(nn.Conv2d(3, 8, 3))
    conv.mask[::2, 1] = False
    return conv


def skips(name: str, model: nn.Module, **options) -> dict[str, str]:
    data = [(torch.randn(4, *X.shape[1:]).double(),)] * 2 if name == "refit" else None
    small = gfx.apply({"passes": [{name: options}]}, model, (X.double(),), data=data)
    report = gfx.report(small)
    return {skip.node: skip.why for skip in report.passes[0].skips}


def test_a_masked_convolution_takes_its_norm_up_and_keeps_its_mask():
    model = filled(nn.Sequential(masked_conv(), nn.BatchNorm2d(8), nn.Conv2d(8, 3, 3)))
    small = gfx.apply({"passes": ["fuse_batch_norm"]}, model, (X.double(),))
    (conv, _) = small.children()
    assert type(conv) is MaskedConv2d
    assert torch.equal(conv.mask, model[0].mask)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    assert_equal_outputs(model(x), small(x), 1e-12)


def test_a_penalised_scale_is_not_folded_away():
    model = filled(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), Tap(), Penalty()))
    assert skips("fuse_batch_norm", model) == {
        "1": "a penalty names its scale; run fold_masks before"
    }


@pytest.mark.parametrize("name", ["decompose", "refit"])
def test_a_masked_layer_is_left_to_fold_masks(name):
    model = filled(nn.Sequential(masked_conv(), nn.Conv2d(8, 3, 3)))
    assert skips(name, model)["0"] == "a mask multiplies its weight; run fold_masks before"


def test_a_penalised_layer_is_not_decomposed():
    model = filled(nn.Sequential(nn.Conv2d(3, 8, 3), Penalty("l1"), nn.Conv2d(8, 3, 3)))
    found = skips("decompose", model)
    assert found["0"] == "a penalty names its weight; run fold_masks before"


@pytest.mark.parametrize("kind", passes().values(), ids=list(passes()))
@law(3)
@given(specs(), st.integers(0, 3), st.data())
def test_every_pass_takes_a_masked_program(kind, spec, seed, data):
    model, inputs = spec.build()
    prepare = tapped if kind.name == "mask" else all_masked  # it refuses what is masked already
    before = zeroed_masks(prepare(gfx.trace(model, inputs)), seed)
    small = applied(drawn(data, kind), before.module, inputs, verify=True)
    if gfx.Keeps.VALUES in kind.keeps:
        assert_equal_outputs(before.module(*inputs), small(*inputs))
    assert gfx.report(small).after.macs == gfx.cost(small, inputs).macs
