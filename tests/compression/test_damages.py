"""The damage of changes that a search compares, on images scaled down where that is enough."""

import math

import pytest
import torch
from torch import nn

import gfx
from gfx.compression.factor import Form
from gfx.compression.factor.forms import like
from gfx.compression.probe import Damages, damages
from gfx.ir.layers import layers_of
from gfx.progress import time_limit


class Sized(nn.Module):
    """Runs on images of 128 pixels alone."""

    def forward(self, x):
        return x.view(1, 3, 128, 128)


def program(*more):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1), *more]
    return gfx.trace(nn.Sequential(*layers).eval(), torch.rand(1, 3, 128, 128))


def forms(found):
    return [(layer, Form(rank=rank)) for layer in layers_of(found) for rank in (1, 2)]


def test_a_large_program_is_measured_on_smaller_images_and_says_so(monkeypatch):
    monkeypatch.setattr(damages, "_WORK", 1_000_000)
    small, whole = (Damages(program(), None, 1, smaller=smaller) for smaller in (True, False))
    assert small.note.endswith(", and scaled down to 64 pixels for the damage")
    assert "scaled" not in whole.note
    found, true = small.of_forms(forms(small.program)), whole.of_forms(forms(whole.program))
    assert sorted(range(4), key=found.__getitem__) == sorted(range(4), key=true.__getitem__)
    assert found == pytest.approx(true, rel=0.3)


def test_a_program_for_one_size_is_measured_at_that_size(monkeypatch):
    monkeypatch.setattr(damages, "_WORK", 1_000_000)
    made = Damages(program(Sized()), None, 1, smaller=True)
    assert "scaled" not in made.note
    assert all(0 < damage < 10 for damage in made.of_forms(forms(made.program)))


def test_the_users_data_are_never_scaled(monkeypatch):
    monkeypatch.setattr(damages, "_WORK", 1_000_000)
    made = Damages(program(), [torch.rand(1, 3, 128, 128)], 1, smaller=True)
    assert made.note == ""


def test_what_there_was_no_time_to_measure_is_not_a_number():
    made = Damages(program(), None, 1)
    clock = iter([0.0, 0.0, 0.0, *(2.0 for _ in range(100))])
    with time_limit(1, clock.__next__) as deadline:
        found = made.of_forms(forms(made.program))
    assert 0 < sum(map(math.isnan, found)) < len(found)
    assert "not every change was measured" in deadline.notes[0]


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 16, 3, padding="same", padding_mode="reflect", bias=False),
        nn.Conv2d(8, 16, (1, 5), stride=2, padding=(0, 2), groups=2),
        nn.ConvTranspose2d(8, 16, 3, stride=2, padding=1, output_padding=1, groups=2),
    ],
)
def test_a_convolution_at_other_channels_is_what_torch_builds(layer):
    kind = type(layer)
    more = {"output_padding": layer.output_padding} if layer.transposed else {}
    settings = {n: getattr(layer, n) for n in ("stride", "padding", "dilation", "padding_mode")}
    built = kind(
        *(4, 6, layer.kernel_size), groups=2, bias=layer.bias is not None, **settings, **more
    )
    made = like(layer, 4, 6, 2)
    assert repr(made) == repr(built)
    assert made.weight.shape == built.weight.shape
    assert (made.bias is None) == (built.bias is None)
    x = torch.zeros(1, 4, 9, 9, device="meta")
    assert made(x).shape == built.to("meta")(x).shape
