"""Compresses an image-to-image generator: prunes it, then lets it learn from what it was.

    pip install 'gfx-compiler[examples]'
    python examples/compress_pix2pix.py --out out

The task is to colour outlines: 2,032 drawings of OpenMoji (CC BY-SA 4.0), 64x64, of which 256 are
held out. All that trains is `gfx.compress` with a recipe beside this file:

1. `pix2pix_teacher.yaml` trains a pix2pix ResNet generator against a discriminator: the teacher.
2. `pix2pix_student.yaml` leaves a quarter of its MACs. That is the student; its weights are what is
   left of the teacher's. It trains against the teacher's discriminator, and its tapped features
   learn to be the teacher's, through adapters.
3. Presets of that recipe train the same small net on the same pairs for as many steps, each without
   one thing: without taps; against a new discriminator; from new weights; and from scratch, with
   none of the three. They are the rows of GAN Compression's table 3.

2 and 3 are done with several seeds. Equal steps does not mean equal work: the teacher has trained
before, which is worth it where there is a teacher already. To the folder `out` are written

    teacher.gfx, student.gfx, scratch.gfx       generators, of the first seed
    colours.png                 rows: held-out outlines; the drawings; the teacher's; the student's,
                                and its difference to the teacher's ten times enlarged; and both for
                                the net from scratch
    pix2pix/                    the folder of each run, with its page report.html: what was stopped
                                goes on from there
    openmoji-*.npz              the rendered drawings, for the next time

and a table is printed: of held-out drawings the mean absolute error (L1, images in [-1, 1]), and
the Fréchet distance in features of EfficientNet-Lite0. It is not FID.

Source: Li et al. 2020, arXiv:2003.08936 (GAN Compression, equations 1 to 4); Isola et al. 2017,
arXiv:1611.07004 (pix2pix).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import FOLDER, critic_of, distance, drawn_by, made, mean, of_seeds, picture, verdict
from drawings import Pairs, pairs
from PIL import Image
from rich.console import Console
from rich.table import Table

import gfx
from gfx.train import tasks

SHOWN = 8  # drawings in the picture
CRITIC = {"input_nc": 6, "ndf": 16}  # of the PatchGAN: outline and drawing

TEACHER = "teacher"
# how the small net begins, and the preset of the recipe that says so
STUDENTS = {
    "pruned, distilled": None,
    "pruned, without taps": "without-taps",
    "pruned, distilled, new discriminator": "fresh-discriminator",
    "new weights, distilled": "new-weights",
    "from scratch": "scratch",
}
DISTILLED, *OTHERS, SCRATCH = STUDENTS

Runs = dict[str, Sequence[gfx.CompressionRun]]  # of several seeds


def task_of(data: Pairs) -> Any:
    """Makes the task: outlines to drawings, half of them mirrored, and what is held out."""
    task = tasks.paired(data.outlines, data.colours)
    task.held_out = tasks.paired(data.held_outlines, data.held_colours).for_judging()
    return task


def train(folder: Path, seeds: int, how: dict[str, Any]) -> Runs:
    """Trains the teacher once, and the small nets with every seed."""
    torch.manual_seed(0)
    generator = gfx.zoo.build("resnet_9blocks", ngf=16, n_blocks=6, image_size=64)
    critic = gfx.zoo.build("patchgan", **CRITIC)
    teacher = gfx.compress(
        FOLDER / "pix2pix_teacher.yaml",
        generator,
        discriminator=critic,
        run=folder / TEACHER,
        **how,
    )
    critic = critic_of(folder / TEACHER, TEACHER, critic)
    runs: Runs = {TEACHER: [teacher]}
    for name, preset in STUDENTS.items():
        runs[name] = of_seeds(
            FOLDER / "pix2pix_student.yaml",
            made(teacher),
            preset,
            folder,
            seeds,
            discriminator=critic,
            **how,
        )
    return runs


def pictured(runs: Runs, data: Pairs) -> Image.Image:
    """Draws the rows that the top of this file lists."""
    outlines, colours = data.held_outlines[:SHOWN], data.held_colours[:SHOWN]
    rows = [outlines, colours, taught := drawn_by(made(runs[TEACHER][0]), outlines)]
    for name in (DISTILLED, SCRATCH):
        drawn = drawn_by(made(runs[name][0]), outlines)
        rows += [drawn, 10 * (drawn - taught)]  # grey where nothing differs
    return picture(rows)


def results(runs: Runs, data: Pairs, frechet: str | None) -> Table:
    """Writes costs and scores, of several seeds their mean and standard deviation."""
    seeds = len(runs[DISTILLED])
    title = f"{len(data.held_outlines)} held-out pairs, less is better; small nets: {seeds} seeds"
    table = Table("generator", "MACs", "L1", "Fréchet distance", title=title)
    for name, each in runs.items():
        macs = f"{gfx.cost(made(each[0])).macs.exact / 1e6:.1f} M"
        table.add_row(name, macs, mean(each, "l1", 4), mean(each, frechet, 1))
    return table


def run(out: Path, seeds: int, quick: bool) -> None:
    """Does all of it."""
    data = pairs(out, most=40 if quick else None)
    frechet = distance(quick)
    how = {
        "data": task_of(data),
        "metrics": ["l1", *([frechet] if frechet else [])],
        "scale": 0.002 if quick else 1.0,
        "progress": True,
    }
    runs = train(out / "pix2pix", seeds, how)
    for name, file in ((TEACHER, "teacher"), (DISTILLED, "student"), (SCRATCH, "scratch")):
        gfx.save(made(runs[name][0]), out / f"{file}.gfx")
    pictured(runs, data).save(out / "colours.png")
    console = Console()
    console.print(results(runs, data, frechet))
    for metric in how["metrics"]:
        for other in (SCRATCH, *OTHERS):
            console.print(verdict(runs, DISTILLED, other, metric), soft_wrap=True, markup=False)
    console.print(f"wrote {out / 'colours.png'}; what is trained, and how: {out / 'pix2pix'}")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Compress an image-to-image generator.")
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
