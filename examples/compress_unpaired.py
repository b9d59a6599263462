"""Compresses a generator that was trained without pairs: its images are the pairs of the student.

    pip install 'gfx-compiler[examples]'
    apt-get install fonts-noto-color-emoji
    python examples/compress_unpaired.py --out out

The task is to redraw emoji of one style in another: OpenMoji's (CC BY-SA 4.0) as those of Noto
Color Emoji (OFL), 64x64. Training sees the styles as two sets of images; 200 code points are held
out, and only there it is known what belongs together. All that trains is `gfx.compress` with a
recipe beside this file:

1. `unpaired_teacher.yaml` trains two ResNet generators as CycleGAN does, one for each way.
2. `unpaired_student.yaml` leaves a quarter of the MACs of the first. That is the student; it learns
   the images that its teacher makes, with the teacher's discriminator: pairs of a kind.
3. Two presets of that recipe train the same student, for as many steps, by CycleGAN's losses. It
   begins with the same weights and the same discriminator. `unpaired` has a generator that leads
   back with as few channels, from new weights; `unpaired-with-back` that of the teacher, whole and
   trained, with its discriminator: more than who has a teacher alone can give.

2 and 3 are done with several seeds. To the folder `out` are written

    teacher.gfx, student.gfx    generators, of the first seed
    emoji.png                   rows: held-out emoji of OpenMoji; those of Noto; the teacher's; and
                                the students' in the order of the table
    unpaired/                   the folder of each run, with its page report.html: what was stopped
                                goes on from there
    emoji-*.npz                 the rendered emoji, for the next time

and a table is printed: of held-out emoji the mean absolute error to Noto's (L1, images in [-1, 1]),
and the Fréchet distance in features of EfficientNet-Lite0. It is not FID.

Source: Li et al. 2020, arXiv:2003.08936 (GAN Compression, section 3.1 and figure 5); Zhu et al.
2017, arXiv:1703.10593 (CycleGAN).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import FOLDER, critic_of, distance, drawn_by, made, mean, of_seeds, picture, verdict
from emoji import FONT, Styles, styles
from PIL import Image
from rich.console import Console
from rich.table import Table

import gfx
from gfx.train import tasks

SHOWN = 12  # emoji in the picture
CRITIC = {"input_nc": 3, "ndf": 16}  # of both PatchGANs

TEACHER = "teacher"
# how the student learns, and the preset of the recipe that says so
STUDENTS = {
    "teacher's images as pairs": None,
    "without pairs": "unpaired",
    "without pairs, teacher's way back": "unpaired-with-back",
}
PSEUDO = next(iter(STUDENTS))

Runs = dict[str, Sequence[gfx.CompressionRun]]  # of several seeds


def task_of(data: Styles) -> Any:
    """Makes the task: one style to the other without pairs; what is held out has them."""
    task = tasks.unpaired(data.openmoji, data.noto)
    task.held_out = tasks.paired(data.held_openmoji, data.held_noto).for_judging()
    return task


def train(folder: Path, seeds: int, how: dict[str, Any]) -> Runs:
    """Trains the teacher once, and the students with every seed."""
    torch.manual_seed(0)
    generator = gfx.zoo.build("resnet_9blocks", ngf=16, n_blocks=6, image_size=64)
    critic = gfx.zoo.build("patchgan", **CRITIC)
    left = folder / TEACHER
    teacher = gfx.compress(
        FOLDER / "unpaired_teacher.yaml", generator, discriminator=critic, run=left, **how
    )
    back = {
        "back": left / f"01-{TEACHER}.back.gfx",
        "back.discriminator": critic_of(
            left, f"{TEACHER}.back", gfx.zoo.build("patchgan", **CRITIC)
        ),
    }
    critic = critic_of(left, TEACHER, critic)
    runs: Runs = {TEACHER: [teacher]}
    for name, preset in STUDENTS.items():
        runs[name] = of_seeds(
            FOLDER / "unpaired_student.yaml",
            made(teacher),
            preset,
            folder,
            seeds,
            discriminator=critic,
            players=back if preset == "unpaired-with-back" else None,
            **how,
        )
    return runs


def pictured(runs: Runs, data: Styles) -> Image.Image:
    """Draws the rows that the top of this file lists."""
    given, truth = data.held_openmoji[:SHOWN], data.held_noto[:SHOWN]
    drawn = [drawn_by(made(runs[name][0]), given) for name in (TEACHER, *STUDENTS)]
    return picture([given, truth, *drawn])


def results(runs: Runs, data: Styles, frechet: str | None) -> Table:
    """Writes costs and scores, of several seeds their mean and standard deviation."""
    seeds = len(runs[PSEUDO])
    title = f"{len(data.held_noto)} held-out emoji, less is better; students: {seeds} seeds"
    table = Table("generator", "MACs", "L1", "Fréchet distance", title=title)
    for name, each in runs.items():
        macs = f"{gfx.cost(made(each[0])).macs.exact / 1e6:.1f} M"
        table.add_row(name, macs, mean(each, "l1", 4), mean(each, frechet, 1))
    return table


def run(out: Path, seeds: int, quick: bool, font: Path) -> None:
    """Does all of it."""
    data = styles(out, most=40 if quick else None, font=font)
    frechet = distance(quick)
    how = {
        "data": task_of(data),
        "metrics": ["l1", *([frechet] if frechet else [])],
        "scale": 0.002 if quick else 1.0,
        "progress": True,
    }
    runs = train(out / "unpaired", seeds, how)
    for name, file in ((TEACHER, "teacher"), (PSEUDO, "student")):
        gfx.save(made(runs[name][0]), out / f"{file}.gfx")
    pictured(runs, data).save(out / "emoji.png")
    console = Console()
    console.print(results(runs, data, frechet))
    for metric in how["metrics"]:
        for other in list(STUDENTS)[1:]:
            console.print(verdict(runs, PSEUDO, other, metric), soft_wrap=True, markup=False)
    console.print(f"wrote {out / 'emoji.png'}; what is trained, and how: {out / 'unpaired'}")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Compress a generator trained without pairs.")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder to write to")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the students")
    parser.add_argument("--font", type=Path, default=FONT, help="NotoColorEmoji.ttf")
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
    arguments = parser.parse_args()
    if arguments.seeds < 1:
        parser.error(f"--seeds {arguments.seeds}: there must be one at least")
    out = arguments.out / "quick" if arguments.quick else arguments.out
    run(out, arguments.seeds, arguments.quick, arguments.font)


if __name__ == "__main__":
    main()
