"""What a supernet with forms and skipped blocks learns: each kind of subnet, before and after.

    python benchmarks/forms_bench.py
    python benchmarks/forms_bench.py --seeds 1 --steps 40

Pairs of 32x32 pixels: smooth fields, and what a fixed net of new weights makes of them. A ResNet of
three blocks begins from new weights; the sampler `teacher` trains widths, dense and separable forms
and skipped blocks by L1 to the truth, and a survey searches among them. L1 is of held-out pairs;
"mean" is the L1 of an image that is the mean of all targets everywhere.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gfx
from gfx.train.search.front_file import read_front

_PAIRS, _HELD = 320, 64


def pairs(seed: int) -> tuple[Tensor, Tensor]:
    """Draws inputs, and the targets that a fixed net makes of them."""
    torch.manual_seed(1000 + seed)
    small = torch.rand(_PAIRS, 3, 8, 8) * 2 - 1
    x = F.interpolate(small, scale_factor=4, mode="bilinear")
    net = nn.Sequential(
        nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 3, 5, padding=2), nn.Tanh()
    )
    for layer in net:
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.25)
    with torch.no_grad():
        return x, net(x)


def subnets(net: Any) -> dict[str, dict[str, Any]]:
    """Returns the choices of each kind of subnet that is compared."""
    forms = {name: "separable" for name, each in net.options.items() if "separable" in each}
    skips = {name: "skipped" for name, each in net.options.items() if "skipped" in each}
    return {
        "largest": net.largest(),
        "separable": {**net.largest(), **forms},
        "skipped": {**net.largest(), **skips},
        "smallest": net.smallest(),
    }


def scores(net: Any, data: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Returns the L1 of each kind on held-out pairs."""
    x, y = (each[:_HELD] for each in data)
    found = {}
    for name, choices in subnets(net).items():
        small = net.extract(choices).eval()
        with torch.no_grad():
            found[name] = float((small(x) - y).abs().mean())
    return found


def trained(seed: int, steps: int, folder: Path) -> None:
    """Trains, searches, and prints a row for each kind of subnet."""
    x, y = pairs(seed)
    torch.manual_seed(seed)
    model = gfx.zoo.build("resnet_9blocks", ngf=8, n_blocks=3, image_size=32).eval()
    widths = {"widths": {"step": 4, "at_least": 0.5, "forms": ["blocks.*"], "skip": True}}
    fit = {
        "losses": {"l1": 1}, "discriminator": "none", "sample": "teacher", "batch": 8,
        "steps": f"{steps // 2}+{steps - steps // 2}", "lr": 2e-3,
    }  # fmt: skip
    recipe = {
        "stages": {
            "supernet": {"do": ["sort_channels", widths], "fit": fit},
            "search": {"search": {"by": "survey", "evaluations": 40}},
        }
    }
    held = x[:_HELD], y[:_HELD]
    before = scores(
        gfx.supernet(
            gfx.apply({"passes": recipe["stages"]["supernet"]["do"]}, model, x[:1]), x[:1]
        ),
        held,
    )
    made = gfx.compress(
        recipe, model, data=(x[_HELD:], y[_HELD:]), val=0.2, seed=seed, run=folder, flip=False
    )
    net = gfx.supernet(folder / "01-supernet.gfx", x[:1])
    after = scores(net, held)
    flat = float((held[1] - y[_HELD:].mean((0, 2, 3), keepdim=True)).abs().mean())
    macs = {name: net.cost(choices).macs.exact for name, choices in subnets(net).items()}
    for name in after:
        print(
            f"seed {seed}  {name:10} {macs[name] / 1e6:7.2f} M MACs   L1 {before[name]:.4f} -> "
            f"{after[name]:.4f}   (mean {flat:.4f})"
        )
    front = read_front(folder / "02-search")
    said = ", ".join(f"{net.prices['exact'] / 1e6:.2f} M: {net.value:.4f}" for net in front.nets)
    forms = {kind for each in front.nets for kind in each.widths.values() if isinstance(kind, str)}
    print(f"seed {seed}  front of {front.judged} nets: {said}; {', '.join(sorted(forms))}")
    assert made.finished


def main() -> None:
    """Reads the command line and prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    args = parser.parse_args()
    for seed in range(args.seeds):
        with tempfile.TemporaryDirectory() as folder:
            trained(seed, args.steps, Path(folder) / "run")


if __name__ == "__main__":
    main()
