"""Times what each pass for speed gains, on several generators, before and after side by side.

    python benchmarks/speed_bench.py [--backend eager] [--threads 2] [--rounds 20] [NAME ...]

One row for a generator: what it takes once norms and parametrizations are folded, how many times
faster the passes of the recipe `fast` make it, one added after the other, and the recipe as a
whole against the model as it came. An interval of 95 % stands behind the whole.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gfx
from gfx.deploy.timing import BACKENDS, interleaved, prepare, speedup

FOLDED = ["fold_parametrizations", "fuse_batch_norm"]
Builder = Callable[[], nn.Module]


def zoo(name: str, **options: Any) -> Builder:
    """Returns what builds a generator of the zoo."""
    return lambda: gfx.zoo.build(name, **options)


def separable(name: str, **options: Any) -> Builder:
    """Returns what builds a generator whose large convolutions are depthwise-separable."""
    recipe = {"passes": [{"decompose": {"kind": "depthwise_separable"}}]}
    return lambda: gfx.apply(recipe, gfx.zoo.build(name, **options), verify=False)


class Standardised(nn.Conv2d):
    """Subtracts its kernels' means and divides by their deviations, for every input anew."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override] - torch names it input
        """Convolves with the standardised kernels."""
        dims = (1, 2, 3)
        deviation, mean = torch.std_mean(self.weight, dims, keepdim=True)
        return F.conv2d(x, (self.weight - mean) / (deviation + 1e-5), self.bias, padding=1)


def standardised(width: int, count: int) -> Builder:
    """Returns what builds a chain of convolutions whose kernels are standardised."""

    def build() -> nn.Module:
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 4, 1)]
        for _ in range(count):
            layers += [Standardised(width, width, 3), nn.ReLU()]
        return nn.Sequential(*layers, nn.Conv2d(width, 3, 3, padding=1))

    return build


GENERATORS: dict[str, Builder] = {
    "resnet_9blocks, ngf 8": zoo("resnet_9blocks", ngf=8),
    "resnet_9blocks, ngf 13": zoo("resnet_9blocks", ngf=13),
    "resnet_9blocks, ngf 16": zoo("resnet_9blocks", ngf=16),
    "resnet_9blocks, ngf 64": zoo("resnet_9blocks"),
    "resnet_9blocks, ngf 16, separable": separable("resnet_9blocks", ngf=16),
    "mobile_resnet_9blocks, ngf 16": zoo("mobile_resnet_9blocks", ngf=16),
    "stargan": zoo("stargan"),
    "unet_256": zoo("unet_256"),
    "spade, ngf 16": zoo("spade", ngf=16),
    "biggan_128, ch 24": zoo("biggan_128", ch=24),
    "16 standardised kernels": standardised(128, 16),
    "dcgan": zoo("dcgan"),
    "sagan": zoo("sagan"),
}


def stages() -> Iterator[list[str]]:
    """Lists the first passes of the recipe, each time one more; the foldings come at once."""
    names = [pass_.name for pass_ in gfx.Recipe.load("fast").passes]
    rest = [name for name in names if name not in FOLDED]
    yield from ([*FOLDED, *rest[:count]] for count in range(len(rest) + 1))


def row(build: Builder, backend: Any, threads: int, rounds: int) -> str:
    """Times one generator with more and more passes, round by round."""
    torch.manual_seed(0)
    model = build().eval()
    inputs = gfx.trace(model).example_inputs
    small = [gfx.apply({"passes": names}, model, inputs) for names in stages()]
    runners = [prepare(m, inputs, backend, threads=threads) for m in (model, *small)]
    whole, *samples = interleaved(runners, rounds=rounds, warmups=2)
    gains = [speedup(a, b).value for a, b in pairwise(samples)]
    cells = [f"{samples[0].median * 1e3:9.2f}", *(f"{gain:18.2f}" for gain in gains)]
    return "  ".join([*cells, f"{speedup(whole, samples[-1])!s:>22}"])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help="only generators whose name has this in it")
    parser.add_argument("--backend", choices=BACKENDS, default="eager")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    *_, most = stages()
    titles = [f"{name:>18}" for name in most[len(FOLDED) :]]
    print("  ".join([f"{'':34}", f"{'folded ms':>9}", *titles, f"{'the recipe':>22}"]))
    for name, build in GENERATORS.items():
        if args.names and not any(part in name for part in args.names):
            continue
        cells = row(build, args.backend, args.threads, args.rounds)
        print(f"{name:34}  {cells}", flush=True)


if __name__ == "__main__":
    main()
