"""Takes resnet_9blocks to the paper's budget by MACs alone and by latency, and times the results.

    python benchmarks/horse2zebra_bench.py --make DIR             plans and saves them (minutes)
    python benchmarks/horse2zebra_bench.py DIR                    times what was saved: one table
    python benchmarks/horse2zebra_bench.py DIR --backend eager    by one backend
    python benchmarks/horse2zebra_bench.py --small                all of it in a moment, for a look

The budget is 2.67 G multiply-accumulates in the convention `output` at 256x256: what GAN
Compression (Li et al. 2020, arXiv:2003.08936) took horse→zebra to, 3.4 times as fast on its Xeon.

    original           resnet_9blocks, ngf 64
    macs, narrow       channel_prune, by MACs alone
    macs, both         channel_prune and decompose together, by MACs alone
    macs, separable    recipe gan-compression-horse2zebra: the paper's mobile_resnet_9blocks
    time, narrow       channel_prune, by MACs and 0.08 of the latency
    time, both         channel_prune and decompose together, by both (some minutes)
    ... + fast         the same, after the recipe `fast`

Damage is ‖output - original's‖ / ‖original's‖ on seeded noise, without any training; weights are as
torch draws them. Speed-ups are medians over rounds in which all take turns, with 95 % intervals.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import gfx
from gfx.deploy.timing import BACKENDS, interleaved, machine, prepare, speedup

LIMIT = 2.67e9 / 56_799_264_768  # of the original's `output` MACs
SHARE = 0.08  # of the original's latency
NARROW: dict[str, Any] = {"channel_prune": {"tolerance": 0.05}}
# the paper writes only the residual blocks separably (section 3.3)
BOTH: list[Any] = [{"channel_prune": {}}, {"decompose": {"keep": ["stem", "down", "up", "head"]}}]

Made = dict[str, nn.Module]


def inputs(size: int, seed: int = 0) -> Tensor:
    """Draws an image of smooth noise."""
    generator = torch.Generator().manual_seed(seed)
    rough = torch.rand(1, 3, size // 8, size // 8, generator=generator) * 2 - 1
    return nn.functional.interpolate(rough, size=size, mode="bicubic").clamp(-1, 1)


def make(
    size: int, ngf: int, share: float, backend: str, threads: int | None
) -> Iterator[tuple[str, nn.Module]]:
    """Makes every row's generator, with its name."""
    x = inputs(size)
    torch.manual_seed(0)
    original = gfx.zoo.build("resnet_9blocks", ngf=ngf, image_size=size).eval()
    mobile = gfx.zoo.build("mobile_resnet_9blocks", ngf=ngf, image_size=size).eval()
    limit = LIMIT * gfx.cost(original, (x,)).macs.output
    macs = {"limit": limit, "convention": "output"}
    latency = {"limit": share, "backend": backend, "threads": threads}
    steps: dict[str, Callable[[], nn.Module]] = {
        "original": lambda: original,
        "macs, narrow": lambda: applied([NARROW], original, x, macs=macs),
        "macs, both": lambda: applied(BOTH, original, x, macs=macs),
        "macs, separable": lambda: subnet(mobile, x, ngf),
        "time, narrow": lambda: applied([NARROW], original, x, macs=macs, latency=latency),
        "time, both": lambda: applied(BOTH, original, x, macs=macs, latency=latency),
    }
    for name, step in steps.items():
        started = time.perf_counter()
        made = step()
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
        yield name, made
        yield f"{name} + fast", gfx.apply("fast", made, (x,))


def applied(passes: list[Any], model: nn.Module, x: Tensor, **budget: Any) -> nn.Module:
    """Applies passes under a budget, and says what was measured for it."""
    small = gfx.apply({"budget": budget, "passes": passes}, model, (x,), verify=False)
    for told in gfx.report(small).timings:
        print(f"  {told.before:.1f} ms → {told.after:.1f} ms, limit {told.limit:.1f} ms")
    return small


def subnet(model: nn.Module, x: Tensor, ngf: int) -> nn.Module:
    """Narrows the mobile generator as the paper does; a smaller one by the same shares."""
    recipe = gfx.Recipe.load("gan-compression-horse2zebra").spec()
    widths = recipe["passes"][0]["channel_prune"]["widths"]
    scaled = {name: max(1, width * ngf // 64) for name, width in widths.items()}
    return gfx.apply({"passes": [{"channel_prune": {"widths": scaled}}]}, model, (x,), verify=False)


def damages(made: Made, size: int, count: int = 2) -> dict[str, float]:
    """Returns how far each output is from the original's."""
    found: dict[str, list[float]] = {name: [] for name in made if "separable" not in name}
    for seed in range(count):
        x = inputs(size, seed + 1)
        with torch.no_grad():
            truth = made["original"](x)
            for name, values in found.items():
                values.append(float((made[name](x) - truth).norm() / truth.norm()))
    return {name: sum(values) / count for name, values in found.items()}


def timed(made: Made, size: int, backend: Any, threads: int | None, rounds: int) -> list[str]:
    """Returns a cell for each row: milliseconds, and how many times as fast as the original."""
    runners = [prepare(m, (inputs(size),), backend, threads=threads) for m in made.values()]
    samples = interleaved(runners, rounds=rounds, warmups=2)
    cells = []
    for sample in samples:
        gain = speedup(samples[0], sample)
        cells.append(
            f"{1e3 * sample.median:8.1f} ms {gain.value:5.1f}x ({gain.low:.1f}-{gain.high:.1f})"
        )
    return cells


def table(made: Made, size: int, backends: list[str], threads: int | None, rounds: int) -> None:
    """Prints all figures."""
    print(f"{machine()}; {threads or torch.get_num_threads()} threads, {rounds} rounds")
    told = damages(made, size)
    columns = {name: timed(made, size, name, threads, rounds) for name in backends}
    head = "".join(f"  {name:>28}" for name in columns)
    print(f"{'':24}{'output MACs':>12}{'parameters':>12}{'damage':>8}{head}")
    for place, (name, model) in enumerate(made.items()):
        cost = gfx.cost(model, (inputs(size),))
        damage = f"{told[name]:.3f}" if name in told else "-"
        cells = "".join(f"  {column[place]:>28}" for column in columns.values())
        macs = f"{cost.macs.output / 1e9:.3f} G"
        print(f"{name:24}{macs:>12}{cost.params:>12,}{damage:>8}{cells}")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Compress by MACs and by latency, and time it.")
    parser.add_argument("folder", nargs="?", type=Path, help="of the .gfx files")
    parser.add_argument("--make", type=Path, help="plan, and save in this folder")
    parser.add_argument("--small", action="store_true", help="tiny generators, nothing saved")
    parser.add_argument("--backend", choices=BACKENDS, help="time by this one only")
    parser.add_argument("--plan-for", choices=BACKENDS, default="eager", help="with --make")
    parser.add_argument("--threads", type=int, help="default: as many as torch takes")
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    if not (asked.folder or asked.make or asked.small):
        parser.error("give a folder, --make DIR or --small")
    size, ngf, share = (64, 16, 0.9) if asked.small else (256, 64, SHARE)
    if asked.make:
        asked.make.mkdir(parents=True, exist_ok=True)
        steps = make(size, ngf, share, asked.plan_for, asked.threads)
        for number, (name, model) in enumerate(steps):
            saved = gfx.trace(model, (inputs(size),)).module if name == "original" else model
            gfx.save(saved, asked.make / f"{number:02} {name}.gfx")
        return
    if asked.folder:
        files = sorted(asked.folder.glob("*.gfx"))
        made: Made = {file.stem.split(" ", 1)[1]: gfx.load(file) for file in files}
    else:
        made = dict(make(size, ngf, share, asked.plan_for, asked.threads))
    table(
        made, size, [asked.backend] if asked.backend else [*BACKENDS], asked.threads, asked.rounds
    )


if __name__ == "__main__":
    main()
