"""One layer draws its parameters as it does when it is made, all of them or none."""

import pytest
import torch
from torch import nn

import gfx
from gfx.ir.fresh_weights import draw_anew, holders


class Half(nn.Module):
    """Says how its matrix begins, and forgets its gain."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.ones(3, 3))
        self.gain = nn.Parameter(torch.ones(3))

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.matrix)


class Fails(Half):
    """Fails as it begins."""

    def reset_parameters(self) -> None:
        raise ValueError("no")


LAYERS = [
    nn.Conv2d(3, 4, 3),
    nn.ConvTranspose2d(3, 4, 3),
    nn.Linear(3, 4),
    nn.BatchNorm2d(4),
    nn.InstanceNorm2d(4, affine=True),
    nn.GroupNorm(2, 4),
    nn.LayerNorm(4),
    nn.Embedding(5, 4),
    nn.PReLU(4),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_a_layer_of_torch_begins_as_a_new_one(layer: nn.Module) -> None:
    for value in layer.parameters():
        nn.init.constant_(value, 7.0)
    draw_anew("layer", layer)
    assert all(
        bool((value != 7.0).all() and value.isfinite().all()) for value in layer.parameters()
    )


def test_a_parameter_that_is_forgotten_is_refused() -> None:
    with pytest.raises(gfx.InputError, match=r"it \(Half\) keeps gain when its reset_parameters"):
        draw_anew("it", Half())


def test_a_reset_that_fails_is_refused() -> None:
    with pytest.raises(gfx.InputError, match=r"the model \(Fails\): its reset_.* ValueError: no"):
        draw_anew("", Fails())


def test_only_modules_with_parameters_of_their_own_hold_some() -> None:
    assert list(holders(nn.Sequential(nn.ReLU(), nn.Sequential(nn.Linear(1, 1))))) == ["1.0"]
