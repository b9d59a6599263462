"""Times `gfx.cost` beside fvcore's FlopCountAnalysis, in one process.

python benchmarks/cost_bench.py

Both start from the model: gfx traces it, counts three conventions, parameters and memory; the peer
traces it with torch.jit, which runs it, and counts one. Their counts must agree.
"""

import argparse
import warnings
from functools import partial

import torch
from torch import Tensor, nn

import gfx
from gfx.deploy.timing import medians

NORM = "instance_norm"  # the peer counts these too


def count_with_gfx(model: nn.Module, image: Tensor) -> int:
    """Counts the multiply-accumulates with gfx."""
    return gfx.cost(model, (image,)).macs.exact


def count_with_peer(model: nn.Module, image: Tensor) -> int:
    """Counts the multiply-accumulates with fvcore."""
    with warnings.catch_warnings():  # torch deprecates the jit that fvcore is made of
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(model, image).unsupported_ops_warnings(False)
        counts = analysis.tracer_warnings("none").by_operator()
    return int(sum(n for name, n in counts.items() if NORM not in name))


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Time gfx.cost beside fvcore.")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (the median counts)")
    rounds = parser.parse_args().rounds
    model = gfx.zoo.build("resnet_9blocks").eval()
    images = {size: torch.zeros(1, 3, size, size) for size in (64, 256, 1024)}
    ours, peer = count_with_gfx(model, images[256]), count_with_peer(model, images[256])
    print(f"exact MACs at 256x256: gfx {ours:,}, fvcore {peer:,}, equal: {ours == peer}")
    counts = [partial(count_with_gfx, model, image) for image in images.values()]
    *times, peer_time = medians([*counts, partial(count_with_peer, model, images[256])], rounds)
    for size, seconds in zip(images, times, strict=True):
        print(f"gfx.cost    {size:4}x{size:<4} {seconds:8.3f} s")
    print(f"fvcore       256x256  {peer_time:8.3f} s")
    print(f"1024x1024 against 64x64: {times[2] / times[0]:.2f} times the time (target: 1)")
    print(f"256x256: {peer_time / times[1]:.1f} times as fast as fvcore (target: 5)")


if __name__ == "__main__":
    main()
