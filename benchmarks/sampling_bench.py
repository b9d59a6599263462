"""What a step of training a supernet costs, by its sampler, against one full step.

    python benchmarks/sampling_bench.py
    python benchmarks/sampling_bench.py --ngf 64 --ndf 128 --size 256 --rounds 3

The full step is GAN Compression's distillation of the largest net: a hinge loss, L1 to the truth,
and four taps of a teacher whose values are not kept. All take their steps in turns, in one process,
on batches that lie ready; the ratios are of medians of CPU seconds a step. A step of `teacher` and
of `sandwich` trains several subnets.
"""

import argparse
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from training_bench import BLOCK, recipe_of, turns

import gfx

SAMPLERS = {
    "full step": None,
    "uniform": "uniform",
    "teacher": "teacher",
    "sandwich, 1 random": {"sandwich": {"random": 1}},
}
TARGETS = {"teacher": 1.3, "sandwich, 1 random": 2.3}


def stepper(args: argparse.Namespace, sample: object) -> Callable[[int], None]:
    """Returns a function that takes a block of steps."""
    torch.manual_seed(0)
    teacher = gfx.zoo.build("mobile_resnet_9blocks", ngf=args.ngf, image_size=args.size)
    critic = gfx.zoo.build("patchgan", input_nc=6, ndf=args.ndf)
    recipe: dict[str, Any] = recipe_of(10**6, cache=False)
    stage = recipe["stages"]["distill"]
    if sample is not None:
        stage["do"] += ["sort_channels", {"widths": {"step": args.step, "at_least": 0.33}}]
        stage["fit"]["sample"] = sample
    images = torch.rand(64, 3, args.size, args.size) * 2 - 1
    task = gfx.train.tasks.paired(images, images.flip(1))
    player = gfx.train.prepare(recipe, teacher, data=task, discriminator=critic, device="cpu")
    ready = list(islice(player.batches(), BLOCK))

    def take(_: int) -> None:
        for batch in ready:
            player.loss(batch)
            player.step()

    return take


def main() -> None:
    """Reads the command line and prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ngf", type=int, default=24, help="of the teacher; the student has 3/4")
    parser.add_argument("--ndf", type=int, default=48)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--step", type=int, default=8, help="channels between widths")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)
    runs = {name: stepper(args, sample) for name, sample in SAMPLERS.items()}
    medians = turns(runs, args.rounds)
    whole = medians["full step"]
    for name, seconds in medians.items():
        target = f" (target: at most {TARGETS[name]})" if name in TARGETS else ""
        print(f"{name}: {seconds * 1e3:.1f} ms, {seconds / whole:.2f} of a full step{target}")


if __name__ == "__main__":
    main()
