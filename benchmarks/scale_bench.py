"""Times trace + channel analysis + prune as generators grow; the time must grow linearly.

    python benchmarks/scale_bench.py            250 to 2,000 convolutions
    python benchmarks/scale_bench.py --most 500

Two kinds of generator: a `chain` of convolutions, and `random` ones of residual blocks, dense and
gated blocks, U-Net skips, attention, squeeze-excite, depthwise convolutions and several norms. The
exponent is x in time = c · nˣ through all sizes: 1 is linear, 2 is quadratic.
"""

import argparse
import time
from functools import partial
from itertools import takewhile

import numpy as np
import torch
from subjects import RandomGenerator, chain
from torch import Tensor, nn

from gfx.contract import Context
from gfx.deploy.timing import medians
from gfx.frontend import trace
from passes.channel_prune import ChannelPrune

SIZES = (250, 500, 1000, 2000)  # convolutions
TARGET = 20.0  # seconds for the largest


def prune(model: nn.Module, image: Tensor) -> None:
    """Traces, analyses and halves a generator."""
    ChannelPrune(ratio=0.5).apply(trace(model, (image,), check=False), Context())


def convolutions(model: nn.Module) -> int:
    """Counts the convolutions of a model."""
    return sum(isinstance(m, nn.modules.conv._ConvNd) for m in model.modules())


def measure(kind: str, sizes: tuple[int, ...], rounds: int) -> float:
    """Prints the times of one kind of generator; returns that of the largest."""
    image = torch.zeros(1, 3, 32, 32)
    models = [chain(n) if kind == "chain" else RandomGenerator(n, seed=n) for n in sizes]
    counts = [convolutions(model.eval()) for model in models]
    times = medians([partial(prune, model, image) for model in models], rounds)
    for i, (count, seconds) in enumerate(zip(counts, times, strict=True)):
        grown = f"{seconds / times[i - 1]:5.2f}x for {count / counts[i - 1]:.2f}x" if i else ""
        each = seconds / count * 1e3
        print(f"{kind:8} {count:6,} {seconds:9.2f} s {each:9.2f} ms {grown}", flush=True)
    if len(sizes) > 1:
        exponent = np.polyfit(np.log(counts), np.log(times), 1)[0]
        print(f"{kind:8} grows with exponent {exponent:.2f} (linear: 1)")
    return times[-1]


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Time pruning as generators grow.")
    parser.add_argument("--most", type=int, default=SIZES[-1], help="convolutions of the largest")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds (the median counts)")
    arguments = parser.parse_args()
    started = time.perf_counter()
    sizes = tuple(takewhile(lambda n: n <= arguments.most, SIZES))
    print(f"{'kind':8} {'convs':>6} {'time':>11} {'per conv':>12} growth")
    worst = max(measure(kind, sizes, arguments.rounds) for kind in ("chain", "random"))
    print(f"the slower of {sizes[-1]:,} convolutions: {worst:.1f} s (target: {TARGET:.0f})")
    print(f"the benchmark took {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
