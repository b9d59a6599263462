"""Prints how well `fast` ranks what `gfx.inspect` measures, and what inspecting costs.

    OMP_NUM_THREADS=1 python benchmarks/sensitivity_bench.py
    OMP_NUM_THREADS=1 python benchmarks/sensitivity_bench.py --only dcgan --no-command

Rank correlation (Spearman) between the measured damage of every option of every layer and the
estimate from one forward and one backward on each batch; groups that several layers share count
once. The generators are of the zoo, narrower and smaller, with random weights; scalar gains that
begin at 0, behind which nothing matters, are set to a half. Then `gfx inspect` of resnet_9blocks
at 256x256 as one command, imports and all, in forwards of the model (the median of some).
"""

import argparse
import subprocess
import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import gfx
from gfx.deploy.timing import medians, seconds
from gfx.sensitivity import DECOMPOSE, Key, Table

TARGET = 60  # forwards of the model that the whole command may take
SMALLER: dict[str, dict[str, Any]] = {
    "resnet_9blocks": {"ngf": 16, "n_blocks": 4, "image_size": 64},
    "mobile_resnet_9blocks": {"ngf": 16, "n_blocks": 4, "image_size": 64},
    "unet_256": {"ngf": 8, "n_down": 6, "image_size": 64},
    "pix2pixhd_global": {"ngf": 8, "n_blocks": 3, "n_down": 3, "image_size": 64},
    "stargan": {"ngf": 16, "n_blocks": 4, "image_size": 64},
    "srresnet": {"ngf": 16, "n_blocks": 6, "image_size": 16},
    "dcgan": {"ngf": 16},
    "sagan": {"ngf": 16},
    "biggan_128": {"ch": 8, "image_size": 32, "z_dim": 16},
    "spade": {"ngf": 2, "hidden": 4, "labels": 5, "height": 64, "width": 64},
}


def subject(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Makes a generator and its inputs."""
    torch.manual_seed(0)
    model = gfx.zoo.build(name, **SMALLER[name]).eval()
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if path.endswith("gain") and parameter.numel() == 1:
                parameter.fill_(0.5)
    return model, gfx.zoo.example_inputs(name, **SMALLER[name])


def options(table: Table) -> dict[tuple[str | None, Key], float]:
    """Lists the damage of everything that was tried, each once."""
    return {
        (row.layer if key == DECOMPOSE else row.group, key): damage
        for row in table
        for key, damage in row.damage.items()
        if damage is not None
    }


def spearman(pairs: list[tuple[float, float]]) -> float:
    """Correlates the ranks of two columns; equal values have the mean of their ranks."""
    if len(pairs) < 3:
        return float("nan")
    columns = []
    for column in zip(*pairs, strict=True):
        _, group, count = np.unique(column, return_inverse=True, return_counts=True)
        columns.append((np.cumsum(count) - (count + 1) / 2)[group])
    return float(np.corrcoef(*columns)[0, 1])


def compare(name: str) -> float:
    """Prints one line; returns the correlation over everything that was tried."""
    model, inputs = subject(name)
    tables: dict[bool, Table] = {}
    taken = [
        seconds(lambda fast=fast: tables.update({fast: gfx.inspect(model, inputs, fast=fast)}))
        for fast in (False, True)
    ]
    exact, fast = options(tables[False]), options(tables[True])
    chosen = {
        "decompose": [key for key in exact if key[1] == DECOMPOSE],
        "narrow": [key for key in exact if key[1] != DECOMPOSE],
        "all": list(exact),
    }
    found = {
        title: spearman([(exact[key], fast[key]) for key in keys]) for title, keys in chosen.items()
    }
    cells = "".join(f"{value:12.2f}" for value in found.values())
    print(f"{name:22}{len(exact):8}{cells}{taken[0]:10.1f} s{taken[1]:8.1f} s", flush=True)
    return found["all"]


def command(rounds: int) -> None:
    """Prints what the whole command takes, for resnet_9blocks at 256x256."""
    torch.manual_seed(0)
    model, inputs = gfx.zoo.build("resnet_9blocks").eval(), gfx.zoo.example_inputs("resnet_9blocks")
    run = [sys.executable, "-m", "gfx", "inspect", "zoo:resnet_9blocks", "--json"]
    with torch.no_grad():
        (forward,) = medians([lambda: model(*inputs)], rounds)
    whole = seconds(lambda: subprocess.run(run, check=True, stdout=subprocess.DEVNULL))
    fast = seconds(lambda: subprocess.run([*run, "--fast"], check=True, stdout=subprocess.DEVNULL))
    print(
        f"gfx inspect zoo:resnet_9blocks at 256x256: {whole:.1f} s, {whole / forward:.1f} forwards "
        f"of {forward:.2f} s (at most {TARGET}: {'met' if whole <= TARGET * forward else 'missed'})"
        f"; --fast {fast:.1f} s, {fast / forward:.1f} forwards"
    )


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Compare fast ranks with measured damage.")
    parser.add_argument("--only", nargs="+", choices=sorted(SMALLER), default=list(SMALLER))
    parser.add_argument("--command", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--rounds", type=int, default=3, help="timed forwards (the median counts)")
    arguments = parser.parse_args()
    print(
        f"{'model':22}{'options':>8}{'decompose':>12}{'narrow':>12}{'all':>12}{'exact':>12}{'fast':>10}"
    )
    found = [compare(name) for name in arguments.only]
    print(f"mean rank correlation over {len(found)} generators: {np.nanmean(found):.2f}")
    if arguments.command:
        command(arguments.rounds)


if __name__ == "__main__":
    main()
