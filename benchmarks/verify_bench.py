"""Counts what verification costs, in forwards of the program, for each checked pass.

    python benchmarks/verify_bench.py

Two measures: how often the program's convolutions ran on real numbers because of verification,
and the wall-clock time it added, divided by the time of one forward.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules.module import register_module_forward_pre_hook

import gfx
from gfx.deploy.timing import medians

RECIPE = {
    "recipe": 1,
    "passes": ["fold_parametrizations", "fuse_batch_norm", {"channel_prune": {"ratio": 0.5}}],
}
TARGET = 3.0  # forwards for each checked pass
CONVS = (nn.Conv2d, nn.ConvTranspose2d)


@contextmanager
def counted() -> Iterator[list[int]]:
    """Counts the convolutions that run on real numbers, in the one element of a list."""
    calls = [0]

    def count(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        x = inputs[0]
        if isinstance(module, CONVS) and not isinstance(x, FakeTensor) and x.device.type != "meta":
            calls[0] += 1

    handle = register_module_forward_pre_hook(count)
    try:
        yield calls
    finally:
        handle.remove()


def forwards(model: nn.Module, inputs: tuple[Any, ...]) -> float:
    """Returns the forwards that verification adds for each pass."""
    counts = []
    for verify in (True, False):
        with counted() as calls:
            gfx.apply(RECIPE, model, example_inputs=inputs, verify=verify)
        counts.append(calls[0])
    with counted() as calls, torch.no_grad():
        model(*inputs)
    return (counts[0] - counts[1]) / calls[0] / len(RECIPE["passes"])


def time_ratio(model: nn.Module, inputs: tuple[Any, ...], rounds: int) -> float:
    """Returns the time that verification adds for each pass, in times of one forward."""

    def forward() -> None:
        with torch.no_grad():
            model(*inputs)

    checked, unchecked, once = medians(
        [
            lambda: gfx.apply(RECIPE, model, example_inputs=inputs, verify=True),
            lambda: gfx.apply(RECIPE, model, example_inputs=inputs, verify=False),
            forward,
        ],
        rounds,
    )
    return (checked - unchecked) / once / len(RECIPE["passes"])


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Count what verification costs.")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds (the median counts)")
    rounds = parser.parse_args().rounds
    print(f"{'verification per pass':20} {'forwards run':>14} {'time / forward':>16}")
    for name in ("resnet_9blocks", "unet_256", "dcgan"):
        model, inputs = gfx.zoo.build(name).eval(), gfx.zoo.example_inputs(name)
        ran, took = forwards(model, inputs), time_ratio(model, inputs, rounds)
        print(f"{name:20} {ran:14.2f} {took:16.2f}   (target: at most {TARGET:.0f})", flush=True)


if __name__ == "__main__":
    main()
