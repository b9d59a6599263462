"""Times how many width configurations of a generator are priced in a second on one core.

    python benchmarks/pricing_bench.py

gfx prices all six measures of resnet_9blocks from closed forms. The peer's way to learn what a
configuration costs is to prune a copy and count it: torch-pruning, then its counter.
"""

import copy
import warnings

import numpy as np
import torch
import torch_pruning
from prune_bench import heads
from torch import nn

import gfx
from gfx.costs import cost_of
from gfx.costs.symbolic import Pricing
from gfx.deploy.timing import medians, seconds

COUNT = 1_000_000
TARGET = 1_000_000


def price_with_peer(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    """Prunes a copy and counts what is left."""
    small = copy.deepcopy(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch_pruning.pruner.MagnitudePruner(
            small,
            inputs,
            importance=torch_pruning.importance.RandomImportance(),
            pruning_ratio=0.5,
            ignored_layers=heads(small),
        ).step()
        torch_pruning.utils.count_ops_and_params(small, inputs)


def main() -> None:
    """Prints configurations per second of both."""
    torch.set_num_threads(1)
    model = gfx.zoo.build("resnet_9blocks").eval()
    inputs = gfx.zoo.example_inputs("resnet_9blocks")
    program = gfx.trace(model, inputs)
    groups, cost = gfx.channels(program), cost_of(program)
    made = seconds(lambda: Pricing(groups, cost))
    pricing = Pricing(groups, cost)
    full = np.array([group.size for group in pricing.groups])
    table = np.random.default_rng(0).integers(1, full + 1, size=(COUNT, len(full)))
    (taken,) = medians([lambda: pricing.price(table)], rounds=3)
    rate, peer = COUNT / taken, 1 / seconds(lambda: price_with_peer(model, inputs))
    print(f"closed form of {len(full)} groups made in {made * 1000:.0f} ms")
    print(f"{'configurations priced per second':34} {'gfx':>12} {'peer':>10} {'ratio':>12}")
    print(f"{'resnet_9blocks 256x256':34} {rate:12,.0f} {peer:10.2f} {rate / peer:11,.0f}x")
    print(f"resnet_9blocks: {rate / TARGET:.1f} million a second on one core (target: 1)")


if __name__ == "__main__":
    main()
