"""Small generators, data and systems for the tests of training, quick to run."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import gfx
from gfx.train.filters import Filter
from support.side_players import Encode, Latent

__all__ = [
    "CYCLE",
    "DISTIL",
    "EXAMPLE",
    "Bright",
    "Patch",
    "compressed",
    "cycled",
    "files_of",
    "generator",
    "own_loop",
    "pairs",
    "ranked",
    "state_of",
    "two_sets",
]


EXAMPLE = torch.zeros(1, 3, 8, 8)


def _distil(steps: int | str) -> dict[str, Any]:
    fit = {
        "teacher": "given",
        "taps": "auto",
        "losses": {"gan": "hinge", "recon": 100, "taps": 1},
        "batch": 2,
        "steps": steps,
        "ema": 0.9,
    }
    return {"stages": {"slim": {"do": [{"channel_prune": {"ratio": 0.5}}], "fit": fit}}}


DISTIL = _distil("3+3")


# the authors' squares have no factor of one half, and those of gfx have
CYCLE = {
    "gan": {"kind": "lsgan", "weight": 2, "of_discriminator": 1},
    "cycle": 10,
    "identity": 5,
}


def cycled(steps: int = 8, pool: int = 3, **fit: Any) -> dict[str, Any]:
    """Returns a system of one stage that trains as CycleGAN does."""
    critic = {"begins": "fresh", "pool": pool}
    back = {"losses": CYCLE, "discriminator": critic}
    held = {"losses": CYCLE, "discriminator": critic, "players": {"back": back}}
    return {"stages": {"train": {"fit": {**held, "batch": 2, "steps": steps, **fit}}}}


def two_sets(count: int = 12, size: int = 8) -> Any:
    """Draws two sets of images that are no pairs."""
    from gfx.train import tasks

    first, second = pairs(count, size)
    return tasks.unpaired(first, second.flip(0)[: count - 2] * 0.5)


def generator(norm: bool | type[nn.Module] = True, seed: int = 0) -> nn.Sequential:
    """Builds a generator from images to images of 8 pixels and more."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind = nn.InstanceNorm2d if norm is True else norm
        middle = [kind(8)] if kind else []
        return nn.Sequential(
            # a bias before a BatchNorm has no gradient, of whose rounding Adam makes whole steps
            nn.Conv2d(3, 8, 3, padding=1, bias=kind is not nn.BatchNorm2d),
            *middle,
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 3, 3, padding=1),
            nn.Tanh(),
        ).eval()


class Patch(nn.Sequential):
    """A small discriminator of (input, image) pairs, or of images alone."""

    def __init__(self, channels: int = 6, seed: int = 1, norm: bool = False) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            super().__init__(
                nn.Conv2d(channels, 8, 4, 2, 1, bias=not norm),
                *([nn.BatchNorm2d(8)] if norm else []),
                nn.LeakyReLU(0.2),
                nn.Conv2d(8, 1, 4, 1, 1),
            )


def pairs(count: int = 12, size: int = 8) -> tuple[Tensor, Tensor]:
    """Draws pairs of images in [-1, 1]: the second is the first with its colours swapped."""
    drawn = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return drawn, drawn.flip(1)


def compressed(recipe: Any = DISTIL, model: nn.Module | None = None, **how: Any) -> Any:
    """Runs a system on the small generator and pairs."""
    return gfx.compress(recipe, generator() if model is None else model, **_given() | how)


def own_loop(recipe: Any, model: nn.Module | None = None, **how: Any) -> Any:
    """Prepares a stage on the small generator and pairs for a loop of one's own."""
    model = generator() if model is None else model
    return gfx.train.prepare(recipe, model, **_given() | {"val": 0} | how)


def _given() -> dict[str, Any]:
    return {"data": pairs(), "discriminator": Patch(), "example_inputs": EXAMPLE}


class Residual(nn.Module):
    """A generator of pairs with a residual block, with other layers between its convolutions."""

    def __init__(self, *between: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.tail = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 1)
        self.block = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1), *between, nn.Conv2d(8, 8, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns an image."""
        x = torch.relu(self.stem(x))
        return torch.tanh(self.tail(x + self.block(x)))


@dataclass(frozen=True)
class Bright(Filter):
    """Counts the examples whose inputs have a mean above a number."""

    name: ClassVar[str] = "bright"
    word: ClassVar[str] = ""

    above: float = 0.0

    def counts(self, values: Any) -> Tensor:
        """Returns which are bright."""
        assert not torch.is_grad_enabled()
        found: Tensor = values.given.flatten(1).mean(1) > self.above
        return found


def _counted(batch: int) -> Any:
    """Returns a distillation from pairs of which half have targets, and bright ones count."""
    from gfx.train.systems import load_system

    recipe = _distil(10)
    recipe["data"] = {"labelled": 0.5}
    recipe["stages"]["slim"]["fit"] |= {"batch": batch, "losses": {"recon": 100, "taps": 1}}
    system = load_system(recipe)
    (stage,) = system.stages
    assert stage.fit is not None
    fit = replace(stage.fit, data=Bright())  # as a plugin has it
    return replace(system, stages=(replace(stage, fit=fit),))


def _beside(batch: int) -> Any:
    """Returns a system whose student learns beside an encoder, that a plugin would have."""
    from gfx.train.systems import Partner, load_system
    from gfx.train.systems.player_fields import NO_CRITIC

    fit = {"losses": {"l1": 1}, "discriminator": "none", "batch": batch, "steps": 10}
    system = load_system({"stages": {"one": {"fit": fit}}})
    (stage,) = system.stages
    assert stage.fit is not None
    how: dict[str, Any] = {"kind": Encode(drop=0.0), "discriminator": NO_CRITIC}
    encoder = Partner("encoder", losses=(Latent(),), **how)
    made = replace(stage.fit, losses=(*stage.fit.losses, Latent()), players=(encoder,))
    return replace(system, stages=(replace(stage, fit=made),))


def ranked(kind: str, batch: int, **how: Any) -> Any:
    """Runs 10 steps of a distillation, or of generators that lead there and back.

    Kinds that begin with "normed" have BatchNorms in all nets; "sandwich" and "uniform" sample the
    subnets of a supernet; "searched" searches among them, untrained. "counted" has targets for
    half of the pairs, and a filter. "beside" has an encoder that learns with the student.
    """
    normed = kind.startswith("normed")
    model = generator(norm=nn.BatchNorm2d if normed else False)
    how = {"device": "cpu", "val": 0, **how}
    if kind == "counted":
        return compressed(_counted(batch), model, data=pairs(16), **how)
    if kind == "searched":
        asked = {"by": "evolution", "evaluations": 12, "population": 5, "batch": 5, "halving": 2}
        stages = {"many": {"do": ["sort_channels", {"widths": {"values": {"*": [4, 6, 8]}}}]}}
        recipe = {"stages": {**stages, "search": {"search": asked}}}
        return compressed(recipe, model, data=pairs(32), discriminator=Patch(), **how)
    if kind == "beside":
        return compressed(_beside(batch), model, data=pairs(16), **how)
    if kind in ("sandwich", "uniform"):
        recipe = _distil(10)
        stage = recipe["stages"]["slim"]
        stage["do"] = ["sort_channels", {"widths": {"values": {"*": [4, 6, 8]}}}]
        sample = {"sandwich": {"random": 0}} if kind == "sandwich" else kind
        stage["fit"] |= {"batch": batch, "sample": sample}
        return compressed(recipe, model, data=pairs(16), discriminator=Patch(), **how)
    if kind.endswith("distilled"):
        recipe = _distil(10)
        recipe["stages"]["slim"]["fit"]["batch"] = batch
        critic = Patch(norm=normed)
        return compressed(recipe, model, data=pairs(16), discriminator=critic, **how)
    recipe, critic = cycled(10, batch=batch), Patch(3, norm=normed)
    return compressed(recipe, model, data=two_sets(16), discriminator=critic, **how)


def state_of(net: nn.Module) -> dict[str, bytes]:
    """Returns the bytes of a net's state."""
    return {
        name: value.detach().cpu().contiguous().numpy().tobytes()
        for name, value in net.state_dict().items()
        if isinstance(value, Tensor)
    }


def files_of(folder: Path) -> dict[str, bytes]:
    """Returns what a run has left that may not depend on how it was run."""
    names = ("log.jsonl", "metrics.csv", "given.json")
    kept = [*(folder / name for name in names), *sorted(folder.glob("samples/*.png"))]
    return {path.name: path.read_bytes() for path in kept}
