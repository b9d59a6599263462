"""Compresses an image-to-image generator: prunes it, then lets it learn from what it was.

    pip install 'gfx-compiler[examples]'
    python examples/compress_pix2pix.py --out out

The task is to colour outlines: 2,032 drawings of OpenMoji (CC BY-SA 4.0), 64x64, of which 256 are
held out. All of it takes seven minutes or so on two cores and needs no GPU:

1. A pix2pix ResNet generator trains against a discriminator. It is the teacher.
2. `distill_taps` marks the activations that GAN Compression distils, and `channel_prune` leaves a
   quarter of the MACs. That is the student; its weights are what is left of the teacher's.
3. The student trains against the teacher's discriminator, and its tapped features learn to be the
   teacher's, through 1x1 adapters. `strip_taps` takes the taps out again. The adapters begin where
   least squares puts them: with random ones the taps gained nothing in so few steps.
4. Beside it the same small net trains from two other starts, on the same pairs for as many steps:
   from the pruned weights, but without taps; and from scratch, with new weights and a new
   discriminator.

3 and 4 are done with several seeds. Equal steps does not mean equal work: the teacher has trained
before, which is worth it where there is a teacher already. To the folder `out` are written

    teacher.gfx, student.gfx, scratch.gfx       generators, of the first seed
    colours.png                 rows: held-out outlines; the drawings; the teacher's; the student's,
                                and its difference to the teacher's ten times enlarged; and both for
                                the net from scratch
    openmoji-*.npz              the rendered drawings, for the next time

and a table is printed: the mean absolute error of held-out drawings (L1, images in [-1, 1]), and a
Fréchet distance whose features come from a small net that is trained here (see frechet.py).

Source: Li et al. 2020, arXiv:2003.08936 (GAN Compression, equations 1 to 4); Isola et al. 2017,
arXiv:1611.07004 (pix2pix).
"""

import argparse
import copy
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from common import picture, spread
from drawings import Pairs, pairs
from PIL import Image
from pix2pix import (
    RATE,
    RECON,
    Adversary,
    Course,
    Learner,
    Score,
    Scorer,
    drawn_by,
    patch_discriminator,
    train,
)
from rich.console import Console
from rich.table import Table
from torch import Tensor, fx, nn

import gfx
from gfx.train.losses import FeatureLoss, ReconstructionLoss, Weighted

DISTILL = 1.0  # weight of the distance of the features, as in GAN Compression
FITTED = 32  # drawings that the adapters are fitted on before training
SHOWN = 8  # drawings in the picture
TAPS = {"passes": [{"distill_taps": {"rule": "gan_compression"}}]}
PRUNE = {"budget": {"macs": 0.25}, "passes": ["channel_prune"]}

# how the small net begins
DISTILLED = "pruned, distilled"
UNTAPPED = "pruned, without taps"
SCRATCH = "from scratch"


@dataclass(frozen=True)
class Plan:
    """How much there is of everything."""

    drawings: int | None = None  # as many are rendered; None means all
    batch: int = 8
    features: int = 300  # steps
    teacher: int = 1600
    student: int = 500  # from scratch as many


QUICK = Plan(drawings=40, batch=2, features=2, teacher=2, student=2)


def distil(
    student: fx.GraphModule, teacher: fx.GraphModule, discriminator: nn.Module, course: Course
) -> None:
    """Trains a student as `train` does, and its tapped features to be the teacher's.

    Both have the same taps. Where the student is narrower, a 1x1 convolution that trains with it
    makes its features as wide as the teacher's.
    """
    ours, theirs = gfx.tapped(student), gfx.tapped(teacher)
    adapters = gfx.adapters(student, teacher, seed=course.seed)
    with torch.no_grad():
        some = course.data.outlines[:FITTED]
        adapters.fit(ours(some)[1], theirs(some)[1])
    features = FeatureLoss(adapters)
    adversary = Adversary(discriminator, course.steps)
    learner = Learner([*student.parameters(), *features.parameters()], RATE, course.steps)
    recon, objective = ReconstructionLoss(), Weighted(gan=1.0, recon=RECON, distill=DISTILL)
    student.train()
    for outline, colour in course:
        with torch.no_grad():
            _, wanted = theirs(outline)
        drawn, seen = ours(outline)
        adversary.learn(outline, colour, drawn)
        total, _ = objective(
            gan=adversary.loss(outline, drawn),
            recon=recon(drawn, colour),
            distill=features(seen, wanted),
        )
        learner.step(total)
    student.eval()


def with_new_weights(model: fx.GraphModule, seed: int) -> fx.GraphModule:
    """Returns the same net as torch would begin to train it."""
    model = copy.deepcopy(model)
    torch.manual_seed(seed)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return model


def without_taps(model: fx.GraphModule, outlines: Tensor) -> fx.GraphModule:
    """Takes the taps out, and makes sure that the outlines are coloured the same without them."""
    bare = gfx.apply({"passes": ["strip_taps"]}, model)
    if not torch.equal(drawn_by(bare, outlines), drawn_by(model, outlines)):
        raise SystemExit("the net draws something else without its taps: that is a bug of gfx")
    return bare


@dataclass(frozen=True)
class Trained:
    """What all seeds begin with."""

    teacher: fx.GraphModule  # with taps
    discriminator: nn.Module  # the teacher's
    pruned: fx.GraphModule  # with taps, not trained since


@dataclass(frozen=True)
class Found:
    """What one seed gave: small nets without taps, and the score of each, by how it began."""

    nets: dict[str, fx.GraphModule]
    scores: dict[str, Score]


def compare(begun: Trained, scorer: Scorer, plan: Plan, seed: int) -> Found:
    """Trains the small net from three starts, on the same pairs for as many steps."""
    outlines = scorer.data.held_outlines

    def course(what: str) -> Course:
        return Course(f"seed {seed}: {what}", scorer.data, plan.batch, plan.student, seed)

    student = copy.deepcopy(begun.pruned)
    distil(student, begun.teacher, copy.deepcopy(begun.discriminator), course(DISTILLED))
    bare = without_taps(begun.pruned, outlines)
    scratch = with_new_weights(bare, seed)
    train(bare, copy.deepcopy(begun.discriminator), course(UNTAPPED))
    train(scratch, patch_discriminator(seed), course(SCRATCH))
    nets = {DISTILLED: without_taps(student, outlines), UNTAPPED: bare, SCRATCH: scratch}
    return Found(nets, {name: scorer(net) for name, net in nets.items()})


def begin(data: Pairs, plan: Plan) -> Trained:
    """Trains the teacher, taps it and prunes it."""
    torch.manual_seed(0)
    generator = gfx.zoo.build("resnet_9blocks", ngf=16, n_blocks=6, image_size=64)
    discriminator = patch_discriminator(seed=0)
    train(generator, discriminator, Course("teacher", data, plan.batch, plan.teacher, seed=0))
    teacher = gfx.apply(TAPS, generator, example_inputs=(data.outlines[:1],))
    return Trained(teacher, discriminator, gfx.apply(PRUNE, teacher))


def pictured(teacher: nn.Module, nets: dict[str, fx.GraphModule], data: Pairs) -> Image.Image:
    """Draws the rows that the top of this file lists."""
    outlines, colours = data.held_outlines[:SHOWN], data.held_colours[:SHOWN]
    rows = [outlines, colours, taught := drawn_by(teacher, outlines)]
    for name in (DISTILLED, SCRATCH):
        drawn = drawn_by(nets[name], outlines)
        rows += [drawn, 10 * (drawn - taught)]  # grey where nothing differs
    return picture(rows)


def costs(begun: Trained) -> Table:
    """Writes what teacher and student cost for one image."""
    table = Table("generator", "MACs (exact)", "parameters", title="cost of one 64x64 image")
    for name, net in (("teacher", begun.teacher), ("student", begun.pruned)):
        cost = gfx.cost(net)
        table.add_row(name, f"{cost.macs.exact / 1e6:.1f} M", f"{cost.params:,}")
    return table


def results(begun: Trained, scorer: Scorer, found: list[Found]) -> Table:
    """Writes the scores on held-out pairs, of several seeds their mean and standard deviation."""
    pairs_held, seeds = len(scorer.data.held_outlines), len(found)
    title = f"{pairs_held} held-out pairs, less is better; small nets: {seeds} seeds"
    table = Table("generator", "L1", "Fréchet distance", title=title)
    before = {"the outlines as they are": nn.Identity(), "teacher": begun.teacher}
    scores = {name: [scorer(net)] for name, net in before.items()}
    scores["pruned, not trained"] = [scorer(begun.pruned)]
    scores |= {name: [each.scores[name] for each in found] for name in found[0].scores}
    for name, values in scores.items():
        l1, frechet = [each.l1 for each in values], [each.frechet for each in values]
        table.add_row(name, spread(l1, 4), spread(frechet, 2))
    return table


def verdict(found: list[Found], better: str, worse: str) -> str:
    """Says for how many seeds one start ended nearer to the artists' drawings than another."""
    wins = {"L1": 0, "Fréchet distance": 0}
    for scores in (each.scores for each in found):
        wins["L1"] += scores[better].l1 < scores[worse].l1
        wins["Fréchet distance"] += scores[better].frechet < scores[worse].frechet
    told = " and ".join(f"{count} of {len(found)} seeds by {name}" for name, count in wins.items())
    return f"'{better}' beats '{worse}' for {told}"


def run(out: Path, seeds: int, plan: Plan) -> list[Found]:
    """Does all of it; returns what each seed gave."""
    started = time.perf_counter()
    data = pairs(out, most=plan.drawings)
    scorer = Scorer(data, plan.features)
    begun = begin(data, plan)
    found = [compare(begun, scorer, plan, seed) for seed in range(1, seeds + 1)]
    nets = found[0].nets
    gfx.save(without_taps(begun.teacher, data.held_outlines), out / "teacher.gfx")
    gfx.save(nets[DISTILLED], out / "student.gfx")
    gfx.save(nets[SCRATCH], out / "scratch.gfx")
    pictured(begun.teacher, nets, data).save(out / "colours.png")
    console = Console()
    console.print(costs(begun), results(begun, scorer, found))
    console.print("The Fréchet distance is not FID: its features are a small encoder's.")
    for other in (SCRATCH, UNTAPPED):
        console.print(verdict(found, DISTILLED, other), soft_wrap=True)
    console.print(f"wrote {out / 'colours.png'}; {time.perf_counter() - started:.0f} s in all")
    return found


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Compress an image-to-image generator.")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder to write to")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the small nets")
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
    arguments = parser.parse_args()
    run(arguments.out, arguments.seeds, QUICK if arguments.quick else Plan())


if __name__ == "__main__":
    main()
