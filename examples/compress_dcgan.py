"""Compresses an unconditional generator: masks half of it little by little while it trains.

    pip install 'gfx-compiler[examples]' && pip install --no-deps animal-mnist==0.4
    python examples/compress_dcgan.py --out out

A DCGAN draws silhouettes of animals, 32x32, from noise. All that trains is `gfx.compress` with a
recipe beside this file:

1. `dcgan_scratch.yaml` trains generator and discriminator on 8,000 pictures of animal-mnist. The
   generator is the teacher; it is trained once.
2. `dcgan_masks.yaml` puts masks into a copy of it, the student. While it trains, they rise from 5 %
   to half of each layer at half of the steps (AGP). The loss is the self-supervised one: the
   discriminator that was trained with the teacher, and goes on training, is to judge the student as
   it judges the teacher. At the end the masks are taken out, and with them what they mask.
3. Presets of that recipe do it otherwise, for as many steps on the same pictures and noise: masks
   that are set in one shot; the ordinary loss of a GAN; masks of single weights.
4. `dcgan_scratch.yaml` trains the small net of 2 once more, with new weights and a new
   discriminator: for as many steps, and for as many as the teacher and a student have together.

2 to 4 are done with several seeds, the long training with the first one. To the folder `out` are
written

    teacher.gfx, filters.gfx, weights.gfx, scratch.gfx      generators, of the first seed
    animals.png     rows: the noise, 64 numbers as 8x8 squares; the teacher; masked filters, and
                    their difference to the teacher ten times enlarged; both for masked weights, for
                    filters masked in one shot, and for the small net from scratch
    dcgan/          the folder of each run, with its page report.html: what was stopped goes on from
                    there

and a table is printed: MACs, and weights that are not 0; the mean change of a pixel from the
teacher's picture of the same noise, of a range of 2; and the Fréchet distance to the pictures in
features of EfficientNet-Lite0. It is not FID.

Source: Yu and Pool 2020, arXiv:2007.01491 (the loss, and the masks' schedule); Zhu and Gupta 2017,
arXiv:1710.01878 (AGP); Radford et al. 2016, arXiv:1511.06434 (DCGAN).
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from animals import Animals, animals
from common import FOLDER, critic_of, distance, drawn_by, made, mean, picture, verdict
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import nn

import gfx
from gfx.train import tasks

SHOWN = 16  # pictures a row
LATENT = 64  # numbers of noise
CRITIC = {"input_nc": 1, "image_size": 32, "ndf": 16}

TEACHER, SCRATCH, LONGER = "teacher", "from scratch", "from scratch, long"
# how a student is masked, and the preset of the recipe that says so
STUDENTS = {
    "AGP filters": None,
    "one-shot filters": "one-shot",
    "AGP, GAN loss": "gan-loss",
    "one-shot, GAN loss": "one-shot-gan-loss",
    "AGP weights": "weights",
    "one-shot weights": "one-shot-weights",
}
FILTERS, AT_ONCE, ORDINARY, ORDINARY_AT_ONCE, WEIGHTS, WEIGHTS_AT_ONCE = STUDENTS

Runs = dict[str, Sequence[gfx.CompressionRun]]  # of several seeds


def task_of(data: Animals) -> Any:
    """Makes the task: noise to pictures, and the noise that generators are judged by."""
    task = tasks.latent(data.pictures, (LATENT, 1, 1), flip=False)
    task.held_out = tasks.latent(data.held_pictures, (LATENT, 1, 1), flip=False).for_judging()
    return task


@dataclass(frozen=True)
class Training:
    """Runs the recipes beside this file, each in a folder of its own."""

    folder: Path
    how: dict[str, Any]

    def __call__(
        self, recipe: str, model: nn.Module, critic: nn.Module, preset: str | None, seed: int
    ) -> gfx.CompressionRun:
        """Runs a recipe; the folder is named by recipe, preset and seed."""
        names = (recipe, preset, str(seed))
        return gfx.compress(
            FOLDER / f"{recipe}.yaml",
            model,
            preset=preset,
            discriminator=critic,
            run=self.folder / "-".join(name for name in names if name),
            seed=seed,
            **self.how,
        )


def train(training: Training, seeds: int) -> Runs:
    """Trains the teacher once, the students with every seed, and the small net from scratch."""
    generator = gfx.zoo.build("dcgan", ngf=16, z_dim=LATENT, out_channels=1, image_size=32)
    critic = gfx.zoo.build("dcgan_discriminator", **CRITIC)
    teacher = training("dcgan_scratch", generator, critic, None, 0)
    critic = critic_of(teacher.folder, "train", critic)
    runs: Runs = {TEACHER: [teacher]}
    numbers = range(1, seeds + 1)
    for name, preset in STUDENTS.items():
        runs[name] = [
            training("dcgan_masks", made(teacher), critic, preset, seed) for seed in numbers
        ]
    small = made(runs[FILTERS][0])
    runs[SCRATCH] = [training("dcgan_scratch", small, critic, "short", seed) for seed in numbers]
    runs[LONGER] = [training("dcgan_scratch", small, critic, "long", 1)]
    return runs


def pictured(nets: Sequence[nn.Module]) -> Image.Image:
    """Draws noise, the pictures of the first net, and of each other and ten times the difference.

    All of it three times as large; a pixel that does not differ is grey.
    """
    latents = torch.randn(SHOWN, LATENT, 1, 1, generator=torch.Generator().manual_seed(0))
    first, *others = (drawn_by(net, latents) for net in nets)
    rows = [F.interpolate(latents.view(-1, 1, 8, 8) / 3, size=first.shape[-1]), first]
    for drawn in others:
        rows += [drawn, 10 * (drawn - first)]
    image = picture([row.expand(-1, 3, -1, -1) for row in rows])
    return image.resize((3 * image.width, 3 * image.height), Image.Resampling.NEAREST)


def results(runs: Runs, frechet: str | None) -> Table:
    """Writes what generators cost and their scores: mean and standard deviation of the seeds."""
    title = f"{len(runs[SCRATCH])} seeds; less is better"
    table = Table("generator", "steps", "MACs", "nonzero", "pixel", "Fréchet", title=title)
    for name, each in runs.items():
        net = made(each[0])
        table.add_row(
            name,
            f"{each[0].plan.stages[-1].steps:,}",
            f"{gfx.cost(net).macs.exact / 1e6:.2f} M",
            f"{sum(int(weight.count_nonzero()) for weight in net.parameters()):,}",
            mean(each, "l1" if name in STUDENTS else None, 3),  # beside the teacher
            mean(each, frechet, 1),
        )
    return table


def run(out: Path, seeds: int, quick: bool) -> None:
    """Does all of it."""
    frechet = distance(quick)
    how = {
        "data": task_of(animals(most=64 if quick else None)),
        "metrics": ["l1", *([frechet] if frechet else [])],
        "scale": 0.01 if quick else 1.0,
        "progress": True,
    }
    runs = train(Training(out / "dcgan", how), seeds)
    files = {TEACHER: "teacher", FILTERS: "filters", WEIGHTS: "weights", SCRATCH: "scratch"}
    for name, file in files.items():
        gfx.save(made(runs[name][0]), out / f"{file}.gfx")
    shown = (TEACHER, FILTERS, WEIGHTS, AT_ONCE, SCRATCH)
    pictured([made(runs[name][0]) for name in shown]).save(out / "animals.png")
    console = Console()
    console.print(results(runs, frechet))
    pairs = [(FILTERS, AT_ONCE), (FILTERS, ORDINARY), (ORDINARY, ORDINARY_AT_ONCE)]
    for better, worse in (*pairs, (WEIGHTS, WEIGHTS_AT_ONCE)):
        console.print(verdict(runs, better, worse, frechet), soft_wrap=True, markup=False)
    console.print(f"wrote {out / 'animals.png'}; what is trained, and how: {out / 'dcgan'}")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Compress an unconditional generator.")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder to write to")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the small nets")
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
    arguments = parser.parse_args()
    if arguments.seeds < 1:
        parser.error(f"--seeds {arguments.seeds}: there must be one at least")
    out = arguments.out / "quick" if arguments.quick else arguments.out
    run(out, arguments.seeds, arguments.quick)


if __name__ == "__main__":
    main()
