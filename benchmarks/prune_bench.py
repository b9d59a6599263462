"""Times trace + channel analysis + prune beside torch-pruning, in one process.

    python benchmarks/prune_bench.py            resnet_9blocks at 128, 256 and 512, then the zoo
    python benchmarks/prune_bench.py --quick    resnet_9blocks at 256 alone

Both halve the channels by the L1 norm; gfx's time is that of `gfx.apply` without verification, the
copy of the model included. The peer prunes in place, so its copies are made off the clock.
"""

import argparse
import copy
from typing import Any

import torch
import torch_pruning
from timing import interleaved
from torch import nn

import gfx

RECIPE = {"recipe": 1, "passes": [{"channel_prune": {"ratio": 0.5}}]}
FOLDED = {"recipe": 1, "passes": ["fold_parametrizations"]}


def prune_with_gfx(model: nn.Module, inputs: tuple[Any, ...]) -> nn.Module:
    """Prunes a copy with gfx."""
    return gfx.apply(RECIPE, model, example_inputs=inputs, verify=False)


def prune_with_peer(model: nn.Module, inputs: tuple[Any, ...]) -> nn.Module:
    """Prunes the model in place with torch-pruning, leaving the layers that write its outputs."""
    pruner = torch_pruning.pruner.MagnitudePruner(
        model,
        inputs,
        importance=torch_pruning.importance.MagnitudeImportance(p=1),
        pruning_ratio=0.5,
        ignored_layers=heads(model),
    )
    pruner.step()
    return model


def heads(model: nn.Module) -> list[nn.Module]:
    """Returns the layers with three output channels, which no pruner may narrow."""
    return [m for m in model.modules() if getattr(m, "out_channels", 0) == 3]


def compare(model: nn.Module, inputs: tuple[Any, ...], rounds: int) -> tuple[float, float]:
    """Returns the median seconds of gfx and of the peer."""
    copies = [copy.deepcopy(model) for _ in range(rounds + 1)]
    gfx_time, peer_time = interleaved(
        [lambda: prune_with_gfx(model, inputs), lambda: prune_with_peer(copies.pop(), inputs)],
        rounds,
    )
    return gfx_time, peer_time


def row(label: str, times: tuple[float, float]) -> float:
    """Prints one line and returns the ratio."""
    ours, peer = times
    print(f"{label:28} {ours:8.3f} s {peer:8.3f} s {peer / ours:7.1f}x", flush=True)
    return peer / ours


def by_size(sizes: tuple[int, ...], rounds: int) -> float:
    """Compares on resnet_9blocks at several image sizes; returns the ratio at 256."""
    model = gfx.zoo.build("resnet_9blocks").eval()
    ratios = {}
    for size in sizes:
        inputs = (torch.randn(1, 3, size, size),)
        ratios[size] = row(f"resnet_9blocks {size}x{size}", compare(model, inputs, rounds))
    return ratios[256]


def by_model(rounds: int) -> None:
    """Compares on the rest of the zoo; a peer that fails is named with its error."""
    for name in gfx.zoo.names():
        if name == "resnet_9blocks":
            continue
        inputs = gfx.zoo.example_inputs(name)
        # neither sees through spectral norm: both get the plain weights
        model = gfx.apply(FOLDED, gfx.zoo.build(name).eval(), example_inputs=inputs, verify=False)
        try:
            row(name, compare(model, inputs, rounds))
        except Exception as error:  # the peer raises whatever its index arithmetic runs into
            print(f"{name:28} failed: {type(error).__name__}: {str(error).splitlines()[0][:60]}")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Time gfx beside torch-pruning.")
    parser.add_argument("--quick", action="store_true", help="256x256 alone")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (the median counts)")
    arguments = parser.parse_args()
    print(f"{'trace + analyse + prune':28} {'gfx':>10} {'peer':>10} {'ratio':>8}")
    ratio = by_size((256,) if arguments.quick else (128, 256, 512), arguments.rounds)
    if not arguments.quick:
        by_model(rounds=1)
    print(f"resnet_9blocks 256x256: {ratio:.1f} times as fast as torch-pruning (target: 5)")


if __name__ == "__main__":
    main()
