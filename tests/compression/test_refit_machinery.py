"""Least squares for a layer, whatever its kind: what gave the outputs is found again."""

import pytest
import torch
from torch import nn

from gfx.compression.refit.normal_equations import NormalEquations
from gfx.compression.refit.unfold import FitLayer, refusal

F64 = torch.float64

LAYERS = (
    (nn.Conv2d(4, 6, 3), (8, 4, 7, 9)),
    (nn.Conv2d(4, 6, (3, 1), stride=(2, 1), padding=1, bias=False), (8, 4, 7, 9)),
    (nn.Conv2d(4, 8, 3, dilation=2, groups=2, padding=2, padding_mode="reflect"), (8, 4, 7, 9)),
    (nn.Conv2d(4, 4, 3, groups=4, padding="same", padding_mode="circular"), (8, 4, 7, 9)),
    (nn.Conv2d(4, 8, 5, groups=4, padding="same"), (8, 4, 7, 9)),
    (nn.Conv1d(4, 6, 3, padding=1, padding_mode="replicate"), (20, 4, 10)),
    (nn.Conv3d(2, 3, 2), (20, 2, 4, 4, 4)),
    (nn.Linear(5, 3), (7, 9, 5)),
    (nn.Linear(5, 3, bias=False), (20, 5)),
    (nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1), (12, 4, 6, 7)),
    (nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1, bias=False), (12, 4, 6, 7)),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), (12, 4, 6, 7)),
    (nn.ConvTranspose2d(4, 4, 3, stride=3, dilation=2, groups=4), (12, 4, 6, 7)),
    (nn.ConvTranspose2d(4, 6, 1, stride=2), (12, 4, 6, 7)),  # three phases of four read nothing
    (nn.ConvTranspose2d(4, 6, (3, 4), stride=(1, 3), padding=(2, 0)), (12, 4, 6, 7)),
    (nn.ConvTranspose1d(4, 6, 5, stride=2, padding=2), (30, 4, 10)),
)


def equations(layer: nn.Module, x: torch.Tensor, residual: torch.Tensor) -> NormalEquations:
    fit = FitLayer(layer)
    found = NormalEquations(fit, layer.bias is not None)
    out = tuple(fit.outputs_of(residual).shape[:-1])
    found.add(x, residual, [torch.arange(fit.positions(b, out)) for b in fit.blocks])
    return found


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda value: str(value)[:60])
@torch.no_grad()
def test_the_weights_that_gave_the_outputs_are_found(layer, shape):
    torch.manual_seed(0)
    layer = layer.to(F64)
    assert refusal(layer) == ""
    x = torch.randn(shape, dtype=F64)
    truth = {name: torch.randn_like(value) for name, value in layer.state_dict().items()}
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.load_state_dict(truth)
    wanted = layer(x)
    layer.load_state_dict(before)
    found = equations(layer, x, wanted - layer(x)).solve(1e-13)
    torch.testing.assert_close(layer.weight + found.weight, truth["weight"], rtol=0, atol=1e-8)
    if layer.bias is not None:
        torch.testing.assert_close(layer.bias + found.bias, truth["bias"], rtol=0, atol=1e-8)


@torch.no_grad()
def test_batches_add_up():
    layer = nn.Conv2d(3, 4, 3).to(F64)
    x, r = torch.randn(6, 3, 8, 8, dtype=F64), torch.randn(6, 4, 6, 6, dtype=F64)
    whole, parts = equations(layer, x, r), equations(layer, x[:2], r[:2])
    fit = parts.layer
    count = fit.positions(fit.blocks[0], (4, 6, 6))
    parts.add(x[2:], r[2:], [torch.arange(count)])
    torch.testing.assert_close(whole.solve(1e-4).weight, parts.solve(1e-4).weight)


@torch.no_grad()
def test_what_the_data_does_not_tell_keeps_its_value():
    layer = nn.Linear(4, 2).to(F64)
    x = torch.randn(9, 4, dtype=F64)
    x[:, 3] = 0  # nothing is known of the last column
    found = equations(layer, x, torch.randn(9, 2, dtype=F64)).solve(1e-6)
    assert found.weight[:, 3].abs().max() == 0
    assert found.weight[:, :3].abs().min() > 0


@torch.no_grad()
def test_nothing_to_repair_changes_nothing():
    layer = nn.ConvTranspose2d(3, 4, 4, stride=2).to(F64)
    x = torch.randn(5, 3, 6, 6, dtype=F64)
    found = equations(layer, x, torch.zeros_like(layer(x))).solve(1e-4)
    assert found.weight.abs().max() == found.bias.abs().max() == 0


def test_what_cannot_be_fitted_says_why():
    class Own(nn.Conv2d):
        pass

    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 3))
    hooked = nn.Conv2d(3, 3, 3)
    hooked.register_forward_hook(lambda *_: None)
    assert (
        refusal(normed) == "a parametrization computes its weight; run fold_parametrizations before"
    )
    assert refusal(hooked) == "it has hooks, which may do anything to its outputs"
    assert refusal(Own(3, 3, 3)) == "Own is no convolution, transposed convolution or linear layer"
