"""Compresses an unconditional generator: masks half of it little by little while it trains.

    pip install 'gfx-compiler[examples]' && pip install --no-deps animal-mnist==0.4
    python examples/compress_dcgan.py --out out

A DCGAN draws silhouettes of animals, 32x32, from noise. All of it takes some minutes on two cores
and needs no GPU:

1. Generator and discriminator train on 8,000 pictures of animal-mnist. The generator is the
   teacher; it is trained once.
2. `mask` puts masks into a copy of it, the student: of filters, or of single weights. While the
   student trains, `gfx.schedule` lets them rise from 5 % to half of each layer at half of the steps
   (AGP). The loss is the self-supervised one: the discriminator that was trained with the teacher,
   and goes on training, is to judge the student as it judges the teacher.
3. `fold_masks` takes the masks out, and with them what they mask.
4. Beside it, for as many steps on the same pictures and noise: masks that are set in one shot;
   masks of filters with the ordinary loss of a GAN; and the folded small net from scratch, with new
   weights and a new discriminator. That last one once more for as many steps as the teacher and a
   student have together.

2 to 4 are done with several seeds, the long training with the first one. To the folder `out` are
written

    teacher.gfx, filters.gfx, weights.gfx, scratch.gfx      generators, of the first seed
    animals.png     rows: the noise, 64 numbers as 8x8 squares; the teacher; masked filters, and
                    their difference to the teacher ten times enlarged; both for masked weights, for
                    filters masked in one shot, and for the small net from scratch

and a table is printed: MACs, and weights that are not 0; the Fréchet distance to the 2,000 pictures
held out, by the features of a classifier that is trained here; and the mean change of a pixel from
the teacher's picture of the same noise, of a range of 2.

Source: Yu and Pool 2020, arXiv:2007.01491 (the loss, and the masks' schedule); Zhu and Gupta 2017,
arXiv:1710.01878 (AGP); Radford et al. 2016, arXiv:1511.06434 (DCGAN).
"""

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from animals import Animals, animals
from dcgan import (
    Course,
    Scorer,
    Scores,
    adam,
    descend,
    drawn_by,
    fools,
    new_discriminator,
    new_generator,
    noise,
    pictured,
    results,
    tells,
    train,
    verdict,
    with_new_weights,
)
from rich.console import Console
from torch import Tensor, fx, nn

import gfx
from gfx.train.losses import SelfSupervisedLoss

SHOWN = 16  # pictures a row

# how a net comes about
TEACHER = "teacher"
FILTERS, FILTERS_AT_ONCE = "AGP filters", "one-shot filters"
ORDINARY, ORDINARY_AT_ONCE = "AGP, GAN loss", "one-shot, GAN loss"  # filters, too
WEIGHTS, WEIGHTS_AT_ONCE = "AGP weights", "one-shot weights"
SCRATCH = "from scratch"
LONGER = "from scratch, long"

Nets = dict[str, fx.GraphModule]  # by one of these


@dataclass(frozen=True)
class Plan:
    """How much there is of everything."""

    classifier: int = 400  # steps
    teacher: int = 1500
    student: int = 300  # from scratch as many
    batch: int = 64
    drawn: int = 2000  # pictures that a generator is judged by


QUICK = Plan(classifier=4, teacher=4, student=4, batch=4, drawn=SHOWN)


Objective = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]


def train_masked(
    student: nn.Module, discriminator: nn.Module, objective: Objective, course: Course
) -> None:
    """Trains both while the masks of the student follow their schedule."""
    optimizer, critic = adam(student), adam(discriminator)
    schedule = gfx.schedule(student)
    student.train()
    for real, latents in course:
        made = student(latents)
        descend(critic, tells(discriminator(real), discriminator(made.detach())))
        descend(optimizer, objective(discriminator, real, latents, made) + schedule.loss())
        if not schedule.done:
            schedule.step()
    student.eval()


def self_supervised(teacher: nn.Module) -> Objective:
    """Makes the loss that compares how the student is judged with how the teacher is."""
    relative = SelfSupervisedLoss()

    def objective(judge: nn.Module, real: Tensor, latents: Tensor, made: Tensor) -> Tensor:
        with torch.no_grad():
            of_real, of_wanted = judge(real), judge(teacher(latents))
        of_made = judge(made)
        return relative(
            fools(of_made), fools(of_wanted), tells(of_real, of_made), tells(of_real, of_wanted)
        )

    return objective


def ordinary(judge: nn.Module, real: Tensor, latents: Tensor, made: Tensor) -> Tensor:
    """Returns the loss that a generator of a GAN has: no teacher is looked at."""
    return fools(judge(made))


def masked(teacher: fx.GraphModule, granularity: str, steps: int, one_shot: bool) -> fx.GraphModule:
    """Returns a copy of the teacher with masks, which are all ones yet."""
    half = {"sparsity": 0.5, "initial": 0.05, "end": steps // 2, "every": max(1, steps // 50)}
    mask = {"kind": "agp", "granularity": granularity, "one_shot": one_shot, **half}
    return gfx.apply({"passes": [{"mask": mask}]}, teacher)


def folded(student: fx.GraphModule, latents: Tensor) -> fx.GraphModule:
    """Takes masks out with what they mask, and makes sure that the pictures are the same."""
    small = gfx.apply({"passes": ["fold_masks"]}, student)
    change = float((drawn_by(small, latents) - drawn_by(student, latents)).abs().max())
    if change > 1e-4:
        raise SystemExit(f"folding changed a pixel by {change:.2g} of 2: that is a bug of gfx")
    return small


@dataclass(frozen=True)
class Trained:
    """What all seeds begin with."""

    teacher: fx.GraphModule
    discriminator: nn.Module  # the teacher's
    pictures: Tensor
    plan: Plan

    def course(self, what: str, steps: int, seed: int) -> Course:
        """Says what is trained on, for how many steps."""
        return Course(what, self.pictures, self.plan.batch, steps, seed)


def begin(data: Animals, plan: Plan) -> Trained:
    """Trains the teacher and its discriminator."""
    generator, discriminator = new_generator(seed=0), new_discriminator(seed=0)
    train(generator, discriminator, Course("teacher", data.pictures, plan.batch, plan.teacher, 0))
    program = gfx.trace(generator, noise(1, torch.Generator().manual_seed(0)))
    return Trained(program.module, discriminator, data.pictures, plan)


def students(begun: Trained, seed: int) -> Nets:
    """Trains and folds every student with one seed."""
    steps, teacher = begun.plan.student, begun.teacher
    latents = noise(SHOWN, torch.Generator().manual_seed(seed))
    relative = self_supervised(teacher)
    nets = {}
    for name, granularity, one_shot, objective in (
        (FILTERS, "filter", False, relative),
        (FILTERS_AT_ONCE, "filter", True, relative),
        (ORDINARY, "filter", False, ordinary),
        (ORDINARY_AT_ONCE, "filter", True, ordinary),
        (WEIGHTS, "element", False, relative),
        (WEIGHTS_AT_ONCE, "element", True, relative),
    ):
        student = masked(teacher, granularity, steps, one_shot)
        discriminator = copy.deepcopy(begun.discriminator)
        course = begun.course(f"seed {seed}: {name}", steps, seed)
        train_masked(student, discriminator, objective, course)
        nets[name] = folded(student, latents)
    return nets


def from_scratch(net: fx.GraphModule, course: Course) -> fx.GraphModule:
    """Trains the same net with new weights against a new discriminator."""
    anew = with_new_weights(copy.deepcopy(net), course.seed)
    train(anew, new_discriminator(course.seed), course)
    return anew


def compare(begun: Trained, seeds: int) -> list[Nets]:
    """Trains with every seed; with the first one a small net for much longer as well."""
    found, plan = [], begun.plan
    for seed in range(1, seeds + 1):
        nets = students(begun, seed)
        course = begun.course(f"seed {seed}: {SCRATCH}", plan.student, seed)
        found.append({**nets, SCRATCH: from_scratch(nets[FILTERS], course)})
    longer = begun.course(LONGER, plan.teacher + plan.student, seed=1)
    found[0][LONGER] = from_scratch(found[0][FILTERS], longer)
    return found


def report(begun: Trained, first: Nets, scores: Scores) -> None:
    """Prints the figures, and which way beats which."""
    plan, seeds = begun.plan, len(scores[SCRATCH])
    steps = {name: plan.student for name in first}
    steps |= {TEACHER: plan.teacher, LONGER: plan.teacher + plan.student}
    console = Console()
    console.print(results(first, steps, scores, f"{seeds} seeds; less is better"))
    console.print("The Fréchet distance is not FID: its features are a small classifier's.")
    for better, worse in (
        (FILTERS, SCRATCH),
        (FILTERS, FILTERS_AT_ONCE),
        (FILTERS, ORDINARY),
        (ORDINARY, ORDINARY_AT_ONCE),
        (WEIGHTS, WEIGHTS_AT_ONCE),
    ):
        console.print(verdict(scores, better, worse))


def run(out: Path, seeds: int, plan: Plan) -> None:
    """Does all of it."""
    started = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    data = animals()
    scorer = Scorer(data, plan.classifier, plan.drawn)
    begun = begin(data, plan)
    first, *others = compare(begun, seeds)
    first = {TEACHER: begun.teacher, **first}
    scores = {
        name: [scorer(nets[name], begun.teacher) for nets in (first, *others) if name in nets]
        for name in first
    }
    files = {TEACHER: "teacher", FILTERS: "filters", WEIGHTS: "weights", SCRATCH: "scratch"}
    for name, file in files.items():
        gfx.save(first[name], out / f"{file}.gfx")
    shown = [first[name] for name in (TEACHER, FILTERS, WEIGHTS, FILTERS_AT_ONCE, SCRATCH)]
    pictured(shown, scorer.latents[:SHOWN]).save(out / "animals.png")
    report(begun, first, scores)
    print(f"wrote {out / 'animals.png'}; {time.perf_counter() - started:.0f} s in all")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Compress an unconditional generator.")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder to write to")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the small nets")
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
    arguments = parser.parse_args()
    if arguments.seeds < 1:
        parser.error(f"--seeds {arguments.seeds}: there must be one at least")
    # sums in another order, on more threads, would give other weights
    torch.set_num_threads(1)
    run(arguments.out, arguments.seeds, QUICK if arguments.quick else Plan())


if __name__ == "__main__":
    main()
