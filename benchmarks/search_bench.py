"""How long a search under a latency budget takes: cold, and with the tables that it left.

    python benchmarks/search_bench.py --model unet_10 --share 0.3
    python benchmarks/search_bench.py --model resnet_9blocks --share 0.3

channel_prune and decompose plan together for a `latency_ms`, which is a share of what the model
takes. The first run starts with an empty folder of measurements, the second with what the first one
left there. Of each run: wall and CPU seconds, the longest of what it reported in between, and the
latency that came out. With --time the searches end after so long.
"""

import argparse
import os
import tempfile
import time
from collections import defaultdict

import torch
from subjects import unet10
from torch import nn

import gfx
from gfx.deploy.timing import machine, medians, prepare
from gfx.errors import GfxError
from gfx.progress import ProgressEvent

SHOWN = 8  # stages


class Stages:
    """Sums the seconds between reports, by what was reported."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.what, self.since = "starting", time.perf_counter()

    def __call__(self, event: ProgressEvent) -> None:
        """Takes a report."""
        now = time.perf_counter()
        self.seconds[self.what] += now - self.since
        outermost = event.within[0].rpartition(" ")[0] if event.within else event.what
        self.what, self.since = outermost, now


def subject(name: str) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Builds a model, with an image of 256 pixels to run on."""
    torch.manual_seed(0)
    if name == "unet_10":
        return unet10().eval(), (torch.randn(1, 3, 256, 256),)
    return gfx.zoo.build(name).eval(), gfx.zoo.example_inputs(name)


def searched(args: argparse.Namespace, run: str, limit: float) -> None:
    """Searches once and prints what it took."""
    model, inputs = subject(args.model)
    recipe = {"budget": {"latency_ms": limit}, "passes": ["channel_prune", "decompose"]}
    stages, wall, cpu = Stages(), time.perf_counter(), time.process_time()
    try:
        small = gfx.apply(recipe, model, inputs, time=args.time, progress=stages)
        (timing,) = gfx.report(small).timings
        came = f"{timing.before:.1f} ms to {timing.after:.1f} ms, limit {timing.limit:.1f} ms"
        notes = gfx.report(small).notes
    except GfxError as error:
        came, notes = f"{type(error).__name__}: {error}", ()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{run}: {wall:.0f} s, {cpu:.0f} s of CPU: {came}")
    for note in notes:
        print(f"  {note}")
    longest = sorted(stages.seconds.items(), key=lambda item: -item[1])[:SHOWN]
    for what, seconds in longest:
        print(f"  {seconds:6.1f} s  {what}")


def main() -> None:
    """Runs twice: cold and cached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="unet_10", choices=["unet_10", *gfx.zoo.names()])
    parser.add_argument("--share", type=float, default=0.3, help="of the latency, to keep")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--time", type=float, default=None, help="seconds; none by default")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    limit = args.share * 1e3 * medians([prepare(*subject(args.model))], rounds=5)[0]
    print(f"{args.model}, {args.share:g} of the latency, {args.threads} threads, {machine()}")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GFX_CACHE"] = folder
        searched(args, "cold", limit)
        searched(args, "cached", limit)


if __name__ == "__main__":
    main()
