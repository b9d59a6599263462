"""Latents are drawn for generators that read nothing else, and for no others."""

import pytest
import torch
from torch import nn

import gfx


def generator():
    torch.manual_seed(0)
    return gfx.zoo.build("dcgan", ngf=4).eval()


def test_a_generator_of_latents_is_repaired_without_data():
    recipe = {"passes": [{"channel_prune": {"ratio": 0.5, "importance": "activation"}}, "refit"]}
    report = gfx.report(gfx.apply(recipe, generator(), seed=3))
    assert report.assumed[-1] == (
        "no data was given: latents were drawn like the example inputs (seed 3)"
    )
    held_out = report.passes[-1].details["held_out"]
    assert held_out["after"] < held_out["before"]


def test_the_same_seed_draws_the_same_latents():
    recipe = {"passes": [{"channel_prune": {"ratio": 0.5}}, {"refit": {"examples": 64}}]}
    one, two = (gfx.apply(recipe, generator(), seed=1).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


class Labelled(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.layer = nn.Embedding(5, 8), nn.Linear(8, 6)

    def forward(self, z, label):
        return self.layer(torch.relu(z + self.embed(label)))


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8)),  # an image, small as it is
        (Labelled(), (torch.randn(1, 8), torch.tensor([2]))),  # nobody knows how many classes
        (nn.Linear(4, 4), torch.randn(4)),
    ],
    ids=["image", "label", "no batch"],
)
def test_what_is_no_latent_is_asked_for(model, inputs):
    with pytest.raises(gfx.RecipeError, match="refit needs data to look at; give data="):
        gfx.apply({"passes": ["refit"]}, model.eval(), inputs)


def test_what_is_given_is_what_is_read():
    latents = torch.randn(64, 100, 1, 1)
    small = gfx.apply({"passes": [{"refit": {"examples": 64}}]}, generator(), data=latents)
    assert gfx.report(small).assumed == gfx.trace(generator()).provenance.assumed
