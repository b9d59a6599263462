"""Patches of the photographs that scikit-image ships, for the benchmarks.

    pip install 'gfx-compiler[bench]'

The photographs are apart: what is trained or calibrated on some is judged on others.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["patches"]

SEEN = ("astronaut", "coffee", "retina", "immunohistochemistry")
HELD_OUT = ("chelsea", "rocket")


def patches(count: int, size: int, *, held_out: bool = False, seed: int = 0) -> Tensor:
    """Cuts random patches of (count, 3, size, size) in [0, 1].

    Raises: SystemExit, with the command to run, if scikit-image is not installed.
    """
    photographs = [_photograph(name) for name in (HELD_OUT if held_out else SEEN)]
    generator = torch.Generator().manual_seed(seed)
    found = []
    for number in range(count):
        image = photographs[number % len(photographs)]
        top, left = (
            int(torch.randint(side - size + 1, (), generator=generator)) for side in image.shape[1:]
        )
        found.append(image[:, top : top + size, left : left + size])
    return torch.stack(found)


@cache
def _photograph(name: str) -> Tensor:
    try:
        import skimage.data
    except ImportError as error:
        raise SystemExit(
            "the photographs need scikit-image, which the extra bench installs:\n"
            "    pip install 'gfx-compiler[bench]'"
        ) from error
    pixels: Any = getattr(skimage.data, name)()
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
