"""Systems are for any generator: what a paper finds in its own nets is found elsewhere, or said."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gfx
from gfx.errors import InputError
from gfx.train.systems import load_system
from support.sweeps import some
from support.training_runs import Patch, compressed, generator, pairs, two_sets


class Skipping(nn.Module):
    """A U-Net without residual blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(3, 16, 4, 2, 1), nn.Conv2d(16, 16, 4, 2, 1)
        self.up1 = nn.ConvTranspose2d(16, 16, 4, 2, 1)
        self.up2 = nn.ConvTranspose2d(32, 3, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = F.leaky_relu(self.down1(x), 0.2)
        b = F.relu(self.up1(F.leaky_relu(self.down2(a), 0.2)))
        return torch.tanh(self.up2(torch.cat((a, b), 1)))


class Several(nn.Module):
    """A generator of pairs that returns more than its image."""

    def __init__(self) -> None:
        super().__init__()
        self.net = generator()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        made = self.net(x)
        return made, made.mean()


class Noisy(nn.Module):
    """A generator of pairs that drops channels out whenever it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.last(F.dropout(F.relu(self.first(x)), 0.5)))


GENERATORS = {"plain": generator, "u-net": Skipping, "several outputs": Several, "drawing": Noisy}
SYSTEMS = (
    "gan-compression-distill",
    "gan-compression-mobilenet",
    "gan-compression",
    "gan-compression-fast",
    "gan-compression-unpaired",
    "cyclegan",
    "self-distill",
)
ALL = [(system, kind) for system in SYSTEMS for kind in GENERATORS]


@pytest.mark.parametrize(("system", "kind"), some(ALL, 1))
def test_every_system_begins_on_generators_of_other_kinds(system, kind):
    torch.manual_seed(0)
    model = GENERATORS[kind]().eval()
    unpaired = system in ("gan-compression-unpaired", "cyclegan")
    searches = any(stage.search for stage in load_system(system).stages)
    made = gfx.compress(
        system,
        model,
        data=two_sets(60) if unpaired else pairs(60),
        example_inputs=torch.zeros(1, 3, 8, 8),
        budget={"macs": 0.9} if searches else None,
        scale=0.001,
        dry_run=True,
    )
    assert made.plan.stages[-1].steps >= 0
    assert made.plan.stages[-1].params <= made.plan.stages[0].params


def test_a_generator_of_latents_gets_the_whole_pipeline():
    torch.manual_seed(0)
    model, images = gfx.zoo.build("dcgan", ngf=8).eval(), torch.rand(60, 3, 64, 64) * 2 - 1
    how = {"budget": {"macs": 0.9}, "scale": 0.001, "dry_run": True}
    made = gfx.compress("gan-compression-fast", model, data=images, **how)
    assert [stage.name for stage in made.plan.stages][-2:] == ["search", "finetune"]


class OfTwo(nn.Module):
    """A discriminator of an input and an image."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Patch()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.net(torch.cat((x, y), 1))


@pytest.mark.parametrize(
    ("critic", "said"),
    [
        (OfTwo, "the discriminator (OfTwo) is one of input and image, in this order"),
        (lambda: Patch(channels=3), "the discriminator (Patch) is one of images"),
    ],
)
def test_a_discriminator_is_called_as_it_is_written(critic, said):
    run = compressed(discriminator=critic(), scale=0.5)
    assert any(sentence.endswith(said) for sentence in run.assumed)
    assert run.finished


def test_a_discriminator_of_two_arguments_trains_as_one_of_both_together():
    both = [compressed(discriminator=each, scale=0.5) for each in (OfTwo(), Patch())]
    first, second = (run.model.state_dict() for run in both)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_frozen_generator_has_students_that_learn():
    frozen = compressed(model=generator().requires_grad_(False), scale=0.5)
    learned = compressed(scale=0.5)
    assert any("parameters of the model are frozen" in sentence for sentence in frozen.assumed)
    ours, theirs = frozen.model.state_dict(), learned.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_an_example_that_holds_nan_is_named():
    x, y = (images.clone() for images in pairs())
    y[7, 0, 0, 0] = torch.nan
    with pytest.raises(
        InputError, match=r"example 7 of the data holds NaN or infinite values in y"
    ):
        compressed(data=(x, y))


class Named(torch.utils.data.Dataset[dict[str, object]]):
    """Pairs with the names of their files, as pix2pix has them."""

    def __init__(self) -> None:
        self.x, self.y = pairs()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict[str, object]:
        paths = {"A_paths": f"a/{index}.png", "B_paths": [f"b/{index}.png"]}
        return {"A": self.x[index], "B": self.y[index], **paths}


def test_names_of_files_in_a_dictionary_are_no_inputs():
    ours, plain = compressed(data=Named(), scale=0.5), compressed(scale=0.5)
    first, second = ours.model.state_dict(), plain.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
