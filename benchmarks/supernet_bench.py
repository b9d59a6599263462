"""What a step of training costs in a supernet, against the same step of the extracted net.

    python benchmarks/supernet_bench.py
    python benchmarks/supernet_bench.py --ngf 32 --size 128 --rounds 5

A MobileNet-style ResNet generator, batch 4, forward, backward and a step of Adam, at widths that
are drawn. Both take their steps in turns in one process; the ratio is of medians of CPU seconds.
Beside it: what it takes to set other widths, and what steps of the supernet at ten widths, the
largest among them, take of memory, against as many of the largest net, each in a fork (Linux).
"""

import argparse
import gc
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import gfx


def stepper(net: nn.Module, images: torch.Tensor, *, attach: bool) -> Callable[[], None]:
    """Returns a function that takes one step."""
    optimizer = torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999), fused=True)
    if attach and isinstance(net, gfx.Supernet):
        net.attach(optimizer)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        (net(images) - images).abs().mean().backward()
        optimizer.step()

    return step


def seconds(step: Callable[[], None]) -> float:
    """Returns the CPU seconds of one call."""
    start = time.process_time()
    step()
    return time.process_time() - start


def peak(steps: Callable[[], None]) -> int:
    """Returns the bytes that a fork of this process takes for some steps, beyond what it has."""
    out, into = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside other threads
        child = os.fork()
    if child == 0:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        begun = _kilobytes("VmRSS")
        steps()
        os.write(into, str(_kilobytes("VmHWM") - begun).encode())
        os._exit(0)
    os.waitpid(child, 0)
    found = int(os.read(out, 64)) * 1024
    os.close(out)
    os.close(into)
    return found


def _kilobytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def memory(net: gfx.Supernet, images: torch.Tensor) -> tuple[int, int]:
    """Returns what steps of a supernet take, and of its largest net."""
    largest = net.extract(net.largest())

    def ours() -> None:
        step = stepper(net, images, attach=True)
        for widths in [net.largest(), *(net.sample(2, i) for i in range(9))]:
            net.set(widths)
            step()

    def theirs() -> None:
        step = stepper(largest, images, attach=False)
        for _ in range(10):
            step()

    return peak(ours), peak(theirs)


def main() -> None:
    """Reads the command line and prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ngf", type=int, default=32)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--widths", type=int, default=3, help="widths that are drawn")
    parser.add_argument("--rounds", type=int, default=8, help="steps of each, in turns")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = gfx.zoo.build("mobile_resnet_9blocks", ngf=args.ngf, image_size=args.size).train()
    start = time.process_time()
    net = gfx.supernet(model, widths={"step": 8}, verify=False)
    print(f"made in {time.process_time() - start:.1f} CPU s: {len(net.widths)} elastic groups")
    images = torch.rand(args.batch, 3, args.size, args.size) * 2 - 1
    chosen = [net.largest(), net.smallest(), *(net.sample(0, i) for i in range(args.widths))]
    ratios = []
    for name, widths in zip(("largest", "smallest", *range(args.widths)), chosen, strict=True):
        net.set(widths)
        ours, theirs = (
            stepper(net, images, attach=True),
            stepper(net.extract(), images, attach=False),
        )
        ours(), theirs()
        pairs = [(seconds(ours), seconds(theirs)) for _ in range(args.rounds)]
        mine, other = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratios.append(mine / other)
        print(f"{name}: {mine / other:.3f} of the extracted net's step ({other * 1e3:.1f} ms)")
    print(f"median: {statistics.median(ratios):.3f}")
    times = [seconds(lambda i=i: net.set(net.sample(1, i))) for i in range(50)]
    mine, other = memory(net, images)
    print(f"peak memory of ten steps: {mine / other:.3f} of the largest net's {other >> 20} MiB")
    print(f"other widths are set in {statistics.median(times) * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
