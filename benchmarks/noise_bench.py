"""How gfx.bench does where nothing is to be found: two copies of one model, again and again.

Prints how often it says that one is faster, and how often the interval does not hold 1: for one of
95 % about one time in twenty, and the margin of the verdict is there to take these out.

    python benchmarks/noise_bench.py
"""

import argparse
import copy

import torch

import gfx


def main() -> None:
    """Compares a model with itself."""
    parser = argparse.ArgumentParser(description="Compare a model with itself.")
    parser.add_argument("--times", type=int, default=20, help="how often to compare")
    parser.add_argument("--rounds", type=int, default=21, help="rounds of each comparison")
    options = parser.parse_args()
    model = gfx.zoo.build("resnet_9blocks", ngf=8).eval()
    image = torch.zeros(1, 3, 64, 64)
    decided = outside = noisy = 0
    for _ in range(options.times):
        found = gfx.bench(
            model,
            image,
            against=copy.deepcopy(model),
            rounds=options.rounds,
            memory=False,
            profile=False,
        )
        assert found.speedup is not None  # there are two models
        decided += found.decided
        outside += found.speedup.decided()
        noisy += found.model.latency.noisy
    print(f"of {options.times} comparisons of two copies, {options.rounds} rounds each:")
    print(f"said to differ       {decided:4}  (target: 0)")
    print(f"interval without 1   {outside:4}")
    print(f"noisy                {noisy:4}")


if __name__ == "__main__":
    main()
