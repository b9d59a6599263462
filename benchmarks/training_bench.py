"""What the loop of `gfx.compress` costs beyond its bare step, and against the loop by hand.

    python benchmarks/training_bench.py
    python benchmarks/training_bench.py --ngf 64 --ndf 128 --size 256 --rounds 3
    python benchmarks/training_bench.py --memory        the peak memory of a whole run instead

GAN Compression's distillation: a MobileNet-style ResNet generator is the teacher, a student of
three quarters of its channels learns from it by a hinge loss, L1 to the truth, and four taps. Side
by side in one process, in turns, with medians of CPU seconds a step:

- by hand: the loop as the paper's code has it, its discriminator run anew for each player;
- bare: the steps of gfx on batches that lie ready, with nothing around them;
- loop: the loop of `gfx.compress`, with data, seeds, progress and log;
- cached: the same where the teacher has seen every example.

With `--memory` it runs `gfx.compress` on a folder of 1,800 pairs for 150 steps of four, the
teacher's values not kept, and prints the most memory that the process has taken, torch included.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import gfx
from gfx.train.feeding import Loader
from gfx.train.loop.fit_loop import FitLoop, step_seed
from gfx.train.loop.joint_step import JointStep
from gfx.train.own_loop import PreparedPlayer
from gfx.train.tasks import Batch

BLOCK = 4  # steps of one turn
PAIRS, STEPS = 1800, 150  # of the run whose memory is measured


def recipe_of(steps: int, *, cache: bool) -> dict[str, object]:
    """Returns the recipe of the distillation."""
    fit = {
        "teacher": "given",
        "taps": "gan_compression",
        "losses": {"gan": "hinge", "recon": 100, "taps": 1},
        "steps": steps,
        "cache": cache,
    }
    return {"stages": {"distill": {"do": [{"channel_prune": {"ratio": 0.25}}], "fit": fit}}}


def prepared(
    args: argparse.Namespace, teacher: nn.Module, critic: nn.Module, *, cache: bool = False
) -> PreparedPlayer:
    """Prepares the student with its teacher, discriminator and terms."""
    images = torch.rand(64, 3, args.size, args.size) * 2 - 1
    recipe = recipe_of(10**6, cache=cache)
    task = gfx.train.tasks.paired(images, images.flip(1))
    return gfx.train.prepare(recipe, teacher, data=task, discriminator=critic, device="cpu")


class ByHand:
    """The loop as the paper's code has it."""

    def __init__(self, player: PreparedPlayer, teacher: nn.Module, critic: nn.Module) -> None:
        from copy import deepcopy

        self.student = gfx.tapped(deepcopy(player._player.finished())).train()
        taps = gfx.apply({"passes": [{"distill_taps": {"rule": "gan_compression"}}]}, teacher)
        self.teacher = gfx.tapped(taps).eval().requires_grad_(False)
        self.critic = deepcopy(critic).train()
        (terms,) = [o for t, o in player._player.terms if t.name == "taps"]
        self.adapters = deepcopy(terms)
        own = [*self.student.parameters(), *self.adapters.parameters()]
        self.og = torch.optim.Adam(own, 2e-4, (0.5, 0.999))
        self.od = torch.optim.Adam(self.critic.parameters(), 2e-4, (0.5, 0.999))

    def step(self, batch: Batch) -> None:
        """Takes one step."""
        x, y = batch.tensors["x"], batch.tensors["y"]
        with torch.no_grad():
            _, theirs = self.teacher(x)
        fake, ours = self.student(x)
        judge = self.critic
        of_fake, of_real = judge(torch.cat((x, fake.detach()), 1)), judge(torch.cat((x, y), 1))
        self.od.zero_grad()
        (0.5 * (F.relu(1 + of_fake).mean() + F.relu(1 - of_real).mean())).backward()
        judge.requires_grad_(False)
        loss = 100 * (fake - y).abs().mean() - judge(torch.cat((x, fake), 1)).mean()
        loss = loss + self.adapters.losses[0](ours, theirs)
        self.og.zero_grad()
        loss.backward()
        judge.requires_grad_(True)
        self.od.step()
        self.og.step()


def turns(runs: dict[str, Callable[[int], None]], rounds: int) -> dict[str, float]:
    """Runs blocks of steps in turn; returns the median CPU seconds a step of each."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            start = time.process_time()
            run(number)
            if number:  # the first turn warms up
                spent[name].append((time.process_time() - start) / BLOCK)
    return {name: statistics.median(each) for name, each in spent.items()}


def measure_memory(args: argparse.Namespace, teacher: nn.Module, critic: nn.Module) -> None:
    """Runs the distillation on a folder of pairs, and prints the peak memory of the process."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(PAIRS):  # A|B, of coarse blocks of colour
            blocks = torch.randint(0, 256, (8, 16, 3), dtype=torch.uint8).numpy()
            image = Image.fromarray(blocks).resize((2 * args.size, args.size), Image.Resampling.BOX)
            image.save(Path(folder) / f"{number:04d}.png")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        recipe, data = recipe_of(STEPS, cache=False), Path(folder)
        how = {"discriminator": critic, "task": "paired", "batch": 4, "device": "cpu"}
        run = gfx.compress(recipe, teacher, data=data, metrics=["l1"], **how)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    steps = run.plan.stages[-1].steps
    print(f"{steps} steps: {peak / 1024:.0f} MB at most, {before / 1024:.0f} MB before the run")


def main() -> None:
    """Measures and prints the three, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ngf", type=int, default=24, help="of the teacher")
    parser.add_argument("--ndf", type=int, default=48, help="of the discriminator")
    parser.add_argument("--size", type=int, default=64, help="of the images, in pixels")
    parser.add_argument("--rounds", type=int, default=15, help=f"turns of {BLOCK} steps each")
    parser.add_argument("--memory", action="store_true", help="measure the memory of a run")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    teacher = gfx.zoo.build("mobile_resnet_9blocks", ngf=args.ngf, image_size=args.size).eval()
    critic = gfx.zoo.build("patchgan", input_nc=6, ndf=args.ndf)
    if args.memory:
        measure_memory(args, teacher, critic)
        return
    bare, looped = (prepared(args, teacher, critic) for _ in range(2))
    cached = prepared(args, teacher, critic, cache=True)
    hand = ByHand(bare, teacher, critic)
    batches = list(islice(bare._loader.stream(0), BLOCK))
    loop = FitLoop(
        "distill",
        [looped._player],
        lambda start: ([batch] for batch in _stream(looped._loader, start)),
        looped.steps,
        looped._player.devices,
    )

    def by_hand(number: int) -> None:
        for batch in batches:
            hand.step(batch)

    def bare_steps(number: int) -> None:
        for place, batch in enumerate(batches):
            torch.manual_seed(step_seed(0, 0, place, 0))
            JointStep(bare._player).update([batch], place, 1.0)

    def cached_steps(number: int) -> None:
        for place, batch in enumerate(batches):
            torch.manual_seed(step_seed(0, 0, place, 0))
            JointStep(cached._player).update([batch], place, 1.0)

    def whole_loop(number: int) -> None:
        last = (number + 1) * BLOCK
        loop.run(number * BLOCK, lambda log: log.step < last)

    runs = {"by hand": by_hand, "bare": bare_steps, "loop": whole_loop, "cached": cached_steps}
    found = turns(runs, args.rounds)
    for name, seconds in found.items():
        print(f"{name:8} {seconds:.4f} CPU s a step")
    print(f"the loop beyond its bare step: {100 * (found['loop'] / found['bare'] - 1):+.1f} %")
    print(f"the loop against the loop by hand: {found['loop'] / found['by hand']:.2f}")
    print(f"with a teacher that is cached: {found['cached'] / found['by hand']:.2f}")


def _stream(loader: Loader, start: int):  # type: ignore[no-untyped-def]
    return loader.stream(start)


if __name__ == "__main__":
    main()
