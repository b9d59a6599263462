"""Times trace + channel analysis + prune beside torch-pruning, in one process.

    python benchmarks/prune_bench.py                     a ResNet-50, then the zoo
    python benchmarks/prune_bench.py --quick             resnet_9blocks alone
    python benchmarks/prune_bench.py --only dcgan sagan

Both do the whole job, from the model to a model with half the channels, by the L1 norm over
coupled layers, and neither verifies the result. `gfx` is `gfx.apply` without verification: trace,
analysis, prune, costs and report; it leaves the model as it was and returns a model that shares no
memory with it. The peer builds its dependency graph and prunes the model in place. So there are
two ratios: `in place` is against the peer alone, its copy of the model made off the clock, and
`copied` against the peer with that copy on the clock, which leaves the model as gfx does. `left` is
the share of parameters that each leaves. The rounds take turns and the medians count.
"""

import argparse
import copy
import warnings
from typing import Any

import torch
import torch_pruning
from subjects import resnet50
from torch import Tensor, nn

import gfx
from gfx.deploy.timing import medians

RECIPE = {"recipe": 1, "passes": [{"channel_prune": {"ratio": 0.5}}]}
FOLDED = {"recipe": 1, "passes": ["fold_parametrizations"]}
RESNET50 = "resnet50"
QUICK = "resnet_9blocks"
TARGET = 5  # times as fast as the peer


def prune_with_gfx(model: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
    """Prunes a copy with gfx."""
    return gfx.apply(RECIPE, model, example_inputs=inputs, verify=False)


def prune_with_peer(model: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
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
    """Returns the layers that make images or classes, which no pruner may narrow."""
    images = [m for m in model.modules() if getattr(m, "out_channels", 0) == 3]
    return images + [m for m in model.modules() if getattr(m, "out_features", 0) == 1000]


def subject(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Makes a model and its inputs; parametrizations are folded, as neither sees through them."""
    torch.manual_seed(0)
    if name == RESNET50:
        return resnet50().eval(), (torch.randn(1, 3, 224, 224),)
    model, inputs = gfx.zoo.build(name).eval(), gfx.zoo.example_inputs(name)
    if any("parametrizations" in path for path, _ in model.named_modules()):
        model = gfx.apply(FOLDED, model, example_inputs=inputs, verify=False)
    return model, inputs


def parameters(model: nn.Module) -> int:
    """Counts the parameters of a model."""
    return sum(p.numel() for p in model.parameters())


def compare(name: str, rounds: int) -> float | None:
    """Prints one line; returns how many times as fast gfx is, or None if the peer fails."""
    model, inputs = subject(name)
    copies = [copy.deepcopy(model)]
    left = {"gfx": prune_with_gfx(model, inputs)}
    actions: list[Any] = [lambda: prune_with_gfx(model, inputs)]
    try:
        left["peer"] = prune_with_peer(copies.pop(), inputs)
        actions.append(lambda: prune_with_peer(copies.pop(), inputs))
        actions.append(lambda: prune_with_peer(copy.deepcopy(model), inputs))
        copies += [copy.deepcopy(model) for _ in range(rounds + 1)]
    except Exception as error:  # the peer raises whatever its index arithmetic runs into
        failure = f"{type(error).__name__}: {str(error).splitlines()[0][:60]}"
    times = medians(actions, rounds)
    shares = {who: parameters(m) / parameters(model) for who, m in left.items()}
    line = f"{name:22} {parameters(model) / 1e6:6.1f} M {times[0]:8.3f} s"
    if len(times) == 1:
        print(f"{line} left {shares['gfx']:4.0%}; the peer fails: {failure}", flush=True)
        return None
    ours, peer, copied = times
    print(
        f"{line} {peer:8.3f} s {peer / ours:8.1f}x {copied:8.3f} s {copied / ours:8.1f}x"
        f"   {shares['gfx']:4.0%} {shares['peer']:4.0%}",
        flush=True,
    )
    return peer / ours


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Time gfx beside torch-pruning.")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} alone")
    parser.add_argument("--only", nargs="+", default=None, help="names of models")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (the median counts)")
    arguments = parser.parse_args()
    names = arguments.only or ([QUICK] if arguments.quick else [RESNET50, *gfx.zoo.names()])
    print(
        f"{'model':22} {'size':>8} {'gfx':>10} {'in place':>10} {'ratio':>9} {'copied':>10}"
        f" {'ratio':>9}   left: gfx, peer"
    )
    found = {name: compare(name, arguments.rounds) for name in names}
    ratios = {name: ratio for name, ratio in found.items() if ratio is not None}
    reached = sum(ratio >= TARGET for ratio in ratios.values())
    print(
        f"at least {TARGET} times as fast as torch-pruning in place: {reached} of {len(ratios)} "
        f"models; it fails on {len(found) - len(ratios)} more"
    )


if __name__ == "__main__":
    main()
