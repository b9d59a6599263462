"""Small generators, data and systems for the tests of training, quick to run."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import gfx

__all__ = ["DISTIL", "Patch", "compressed", "files_of", "generator", "pairs", "ranked", "state_of"]


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
    given = {"data": pairs(), "discriminator": Patch(), "example_inputs": torch.zeros(1, 3, 8, 8)}
    return gfx.compress(recipe, generator() if model is None else model, **given | how)


def ranked(batch_norm: bool, batch: int, run: Path) -> Any:
    """Runs what several processes and one are compared in; `batch` is that of each."""
    recipe = _distil(10)
    recipe["stages"]["slim"]["fit"]["batch"] = batch
    model = generator(norm=nn.BatchNorm2d if batch_norm else False)
    critic = Patch(norm=batch_norm)
    given = {"data": pairs(16), "run": run, "device": "cpu", "val": 0}
    return compressed(recipe, model, discriminator=critic, **given)


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
