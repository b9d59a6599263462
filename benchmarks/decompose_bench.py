"""Shows what data give a decomposition: the error of six trained 3x3 convolutions, written smaller.

    python benchmarks/decompose_bench.py
    python benchmarks/decompose_bench.py --train 100      trains the net shorter

Each 48 → 48 convolution of a small deblurring net, trained on photographs, is written as depthwise
and pointwise of rank 1 and 2 (0.13 and 0.26 of the MACs). The error is that of the layer's output,
‖parts(x) - conv(x)‖ / ‖conv(x)‖, on photographs that neither the net nor the fit has seen. Columns:

    svd         nearest to the weights
    whitened    nearest in the metric of the patches that the layer reads
    mixed       then least squares for the pointwise weights and the bias
    round n     then depthwise and pointwise in turns
"""

import argparse

import torch
from photographs import patches
from torch import Tensor, nn
from trained import DEBLUR_STEPS, blurred, deblurring

from gfx.compression.factor import Form, fits

RANKS = (1, 2)
SIZE = 64  # pixels of the patches


@torch.no_grad()
def reads(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Returns what each convolution of the body reads."""
    found = {}
    x = model.stem(images)
    for name, module in model.body.named_children():
        if isinstance(module, nn.Conv2d):
            found[name] = x
        x = module(x)
    return found


@torch.no_grad()
def error(parts: nn.Module, conv: nn.Module, x: Tensor) -> float:
    """Returns the relative L2 error of the layer's output."""
    truth = conv(x)
    return float((parts(x) - truth).norm() / truth.norm())


def compare(
    model: nn.Module, seen: Tensor, held_out: Tensor, ranks: tuple[int, ...] = RANKS
) -> list[float]:
    """Prints the errors of every layer and rank; returns the last rank's means, by step."""
    calibration, judged = reads(model, seen), reads(model, held_out)
    means: list[float] = []
    for rank in ranks:
        rows = []
        for name, x in calibration.items():
            conv = model.body.get_submodule(name)
            steps = dict(fits(conv, Form(rank=rank, init="data"), inputs=list(x.split(16))))
            rows.append([error(parts, conv, judged[name]) for parts in steps.values()])
            cells = "".join(f"{value:10.3f}" for value in rows[-1])
            print(f"rank {rank}   body.{name:4}{cells}", flush=True)
        means = [sum(column) / len(column) for column in zip(*rows, strict=True)]
        header = "".join(f"{step:>10}" for step in steps)
        cells = "".join(f"{value:10.3f}" for value in means)
        print(f"{'':16}{header}\nrank {rank}   mean     {cells}\n")
    return means


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Measure decompositions of trained layers.")
    parser.add_argument("--train", type=int, default=DEBLUR_STEPS, help="steps of training")
    arguments = parser.parse_args()
    model = deblurring(arguments.train)
    seen, sharp = patches(48, SIZE, seed=-1), patches(16, SIZE, held_out=True, seed=-2)
    with torch.no_grad():
        after = (model(blurred(sharp)) - sharp).norm() / (blurred(sharp) - sharp).norm()
    print(f"the net leaves {float(after):.3f} of the blur of photographs it has not seen\n")
    compare(model, blurred(seen), blurred(sharp))


if __name__ == "__main__":
    main()
