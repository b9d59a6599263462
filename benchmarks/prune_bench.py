"""Times trace + channel analysis + prune beside torch-pruning, in one process.

    python benchmarks/prune_bench.py            resnet_9blocks at 128, 256 and 512, then the zoo
    python benchmarks/prune_bench.py --quick    resnet_9blocks at 256 alone

Both halve the channels by the L1 norm. The ratio is of trace, analysis and prune alone; the column
`apply` is the whole of `gfx.apply` without verification, with costs and report. gfx copies the
model on the clock; the peer prunes in place, so its copies are made off the clock.
"""

import argparse
import copy
import warnings
from typing import Any

import torch
import torch_pruning
from timing import interleaved
from torch import nn

import gfx
from gfx.frontend import trace
from passes.channel_prune import ChannelPrune

RECIPE = {"recipe": 1, "passes": [{"channel_prune": {"ratio": 0.5}}]}
FOLDED = {"recipe": 1, "passes": ["fold_parametrizations"]}


def prune_with_gfx(model: nn.Module, inputs: tuple[Any, ...]) -> nn.Module:
    """Prunes a copy with gfx."""
    program = trace(model, inputs, check=False)
    ChannelPrune(ratio=0.5).apply(program)
    return program.module


def apply_with_gfx(model: nn.Module, inputs: tuple[Any, ...]) -> nn.Module:
    """Does the same as a recipe, without verification."""
    return gfx.apply(RECIPE, model, example_inputs=inputs, verify=False)


def prune_with_peer(model: nn.Module, inputs: tuple[Any, ...]) -> nn.Module:
    """Prunes the model in place with torch-pruning, leaving the layers that write its outputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of parameters outside of layers
        torch_pruning.pruner.MagnitudePruner(
            model,
            inputs,
            importance=torch_pruning.importance.MagnitudeImportance(p=1),
            pruning_ratio=0.5,
            ignored_layers=heads(model),
        ).step()
    return model


def heads(model: nn.Module) -> list[nn.Module]:
    """Returns the layers with three output channels, which no pruner may narrow."""
    return [m for m in model.modules() if getattr(m, "out_channels", 0) == 3]


def compare(model: nn.Module, inputs: tuple[Any, ...], rounds: int) -> list[float]:
    """Returns the median seconds of gfx, of the peer, and of the whole of `gfx.apply`."""
    copies = [copy.deepcopy(model) for _ in range(rounds + 1)]
    actions = [
        lambda: prune_with_gfx(model, inputs),
        lambda: prune_with_peer(copies.pop(), inputs),
        lambda: apply_with_gfx(model, inputs),
    ]
    return interleaved(actions, rounds)


def row(label: str, times: list[float]) -> float:
    """Prints one line and returns the ratio."""
    ours, peer, whole = times
    line = f"{label:28} {ours:8.3f} s {peer:8.3f} s {peer / ours:7.1f}x {whole:8.3f} s"
    print(line, flush=True)
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
    print(f"{'trace + analyse + prune':28} {'gfx':>10} {'peer':>10} {'ratio':>8} {'apply':>10}")
    ratio = by_size((256,) if arguments.quick else (128, 256, 512), arguments.rounds)
    if not arguments.quick:
        by_model(rounds=1)
    print(f"resnet_9blocks 256x256: {ratio:.1f} times as fast as torch-pruning (target: 5)")


if __name__ == "__main__":
    main()
