"""Measures the memory that trace + channel analysis take beyond the model, at 512x512.

    python benchmarks/memory_bench.py
    python benchmarks/memory_bench.py --only spade --checked

Each model of the zoo runs in a process of its own; those that make images of a latent vector have
no image size to set and run at their own. `beyond` is the peak of the process's memory less what
it held with the model loaded; it includes gfx's own copy of the model. `analysis` is the part
after the trace. With --checked there is also the peak where the trace runs model and graph on the
images and compares them, as `gfx.trace` does by default: these are the images' activations.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

import gfx
from gfx.frontend import trace

SIZE = 512
TARGET = 1000.0  # MB
STATUS = Path("/proc/self/status")


def subject(name: str) -> tuple[nn.Module, tuple[Tensor, ...], str]:
    """Makes a model, its inputs, at 512x512 where it takes images, and their shape."""
    options, usual = gfx.zoo.options(name), gfx.zoo.example_inputs(name)
    takes_images = usual[0].ndim == 4 and usual[0].shape[-1] > 1
    sizes = ("image_size", "height", "width") if takes_images else ()
    given = {option: SIZE for option in sizes if option in options}
    model, inputs = gfx.zoo.build(name, **given), gfx.zoo.example_inputs(name, **given)
    return model.eval(), inputs, "x".join(map(str, inputs[0].shape[1:]))


def held(key: str) -> float:
    """Reads the memory of this process in MB: VmRSS now, VmHWM the peak since it was reset."""
    line = next(row for row in STATUS.read_text().splitlines() if row.startswith(key))
    return int(line.split()[1]) / 1024


def peak(action: Callable[[], object]) -> float:
    """Returns the most memory that this process held during an action, in MB."""
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    action()
    return held("VmHWM")


def measure(name: str, checked: bool) -> dict[str, float | str]:
    """Measures one model in this process."""
    warm = gfx.zoo.build("dcgan", ngf=4).eval()
    gfx.channels(gfx.trace(warm, gfx.zoo.example_inputs("dcgan")))  # imports what it needs
    model, inputs, shape = subject(name)
    size = sum(t.nbytes for t in [*model.parameters(), *model.buffers()]) / 2**20
    programs = []
    before = held("VmRSS")
    traced = peak(lambda: programs.append(trace(model, inputs, check=False)))
    between = held("VmRSS")
    analysed = peak(lambda: gfx.channels(programs.pop()))
    after = held("VmRSS")
    run = peak(lambda: trace(model, inputs)) if checked else after
    return {
        "shape": shape,
        "size": size,
        "beyond": max(traced, analysed) - before,
        "analysis": analysed - between,
        "checked": run - after,
    }


def row(name: str, checked: bool) -> float:
    """Measures one model in a process of its own, prints a line and returns the MB beyond it."""
    command = [sys.executable, __file__, "--measure", name, *["--checked"] * checked]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    print(
        f"{name:22} {found['shape']:>12} {found['size']:8.0f} MB {found['beyond']:8.0f} MB "
        f"{found['analysis']:8.0f} MB" + f" {found['checked']:8.0f} MB" * checked,
        flush=True,
    )
    return float(found["beyond"])


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Measure the memory that the analysis takes.")
    parser.add_argument("--only", nargs="+", default=None, help="names of models")
    parser.add_argument("--checked", action="store_true", help="measure the trace's check too")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.checked)))
        return
    head = f"{'model':22} {'input':>12} {'model':>11} {'beyond':>11} {'analysis':>11}"
    print(head + f" {'checked':>11}" * arguments.checked)
    names = arguments.only or gfx.zoo.names()
    worst = max(row(name, arguments.checked) for name in names)
    print(f"most beyond the model: {worst:.0f} MB (target: under {TARGET:.0f})")


if __name__ == "__main__":
    main()
