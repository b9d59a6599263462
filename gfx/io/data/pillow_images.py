"""Asks Pillow for what it does not give by itself: 16 bits, profiles, gamma, orientation."""

import io
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfx.errors import InputError
from gfx.io.guards import printable

__all__ = ["gamma_of", "in_srgb", "opened", "orientation_of", "pillow", "raw_mode", "sixteen_bits"]

Samples = NDArray[Any]

# not, for example, EPS, which Pillow has another program draw
_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP")
_OF_PILLOW = re.compile(r"PIL\.")  # modules whose warnings are ignored
_ORIENTATION = 0x0112  # tag of EXIF
_DEEP = re.compile(r"(RGB|RGBA|RGBX|LA);16[BLN]")
_SRGB_GAMMA = 0.45455  # of a PNG that needs no conversion


def pillow() -> Any:
    """Returns Pillow's module of images.

    Raises: InputError if it is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise InputError(
            "reading images needs Pillow, which is not installed: pip install "
            "'gfx-compiler[images]'"
        ) from error
    return Image


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Opens a picture with Pillow, without its warnings.

    Raises: whatever Pillow raises of a file that it cannot open.
    """
    with _without_warnings():
        # of Pillow: large pictures are read, bombs are errors; odd metadata does not matter
        image = pillow()
        with image.open(path, formats=_formats(image)) as opened_image:
            yield opened_image


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Ignores warnings; in a thread that reads beside others, those of Pillow alone.

    Filters are the process's: a thread that put them back would do so while another is at work.
    """
    if threading.current_thread() is threading.main_thread():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
        return
    if not warnings.filters or warnings.filters[0][3] != _OF_PILLOW:
        warnings.filterwarnings("ignore", module=_OF_PILLOW.pattern)
    yield


def _formats(image: Any) -> list[str]:
    """Lists the forms that are read, whatever a file's name says: none that runs a program."""
    image.init()
    return [name for name in _FORMATS if name in image.OPEN]


def raw_mode(image: Any) -> str:
    """Returns how the file lays out its samples, as Pillow names it; "" if it does not say."""
    for tile in getattr(image, "tile", ()):
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        for argument in arguments:
            if isinstance(argument, str) and ";" in argument:
                return argument
    return ""


def sixteen_bits(path: Path, raw: str) -> Samples | None:
    """Reads 16 bits a colour, of which Pillow gives the upper 8: once more for the lower ones.

    Shapes: (H, W, C), uint16. None if the file has 8 bits, or a form that does not allow it.
    """
    if not _DEEP.fullmatch(raw):
        return None
    kind, order = raw[:-1].split(";16")[0], raw[-1]
    native = "L" if sys.byteorder == "little" else "B"
    other = {"B": "L", "L": "B"}[native if order == "N" else order]
    swapped = "RGBA" if kind == "LA" else f"{kind};16{other}"
    try:
        halves = [_with_raw_mode(path, raw, wanted) for wanted in (raw, swapped)]
    except (ValueError, OSError, TypeError):
        return None
    if kind == "LA":  # its four bytes a pixel read as four colours: grey and alpha, in halves
        four = halves[1].astype(np.uint16)
        return four[:, :, 0::2] * np.uint16(256) + four[:, :, 1::2]
    return halves[0].astype(np.uint16) * np.uint16(256) + halves[1]


def _with_raw_mode(path: Path, raw: str, wanted: str) -> Samples:
    """Decodes a file with its samples laid out in another way than it says."""
    with opened(path) as image:
        tiles = []
        for tile in image.tile:
            codec, extents, offset, arguments = tile
            if isinstance(arguments, tuple):
                arguments = tuple(wanted if a == raw else a for a in arguments)
            else:
                arguments = wanted if arguments == raw else arguments
            new = (codec, extents, offset, arguments)
            tiles.append(type(tile)(*new) if hasattr(tile, "_fields") else new)
        image.tile = tiles
        image.load()
        return np.asarray(image)


def in_srgb(
    image: Any, samples: Samples, alpha: Samples | None, white: float
) -> tuple[Samples, Samples | None, str]:
    """Converts colours of a profile to sRGB; says so where it was not possible (rule 2)."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode in ("1", "P", "PA"):
        return samples, alpha, ""
    try:
        from PIL import ImageCms

        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = ImageCms.getProfileDescription(source).strip()
        if "srgb" in name.lower():
            return samples, alpha, ""
        if white != 255 or image.mode not in ("RGB", "RGBA", "CMYK"):
            return samples, alpha, f"the colour profile, {printable(name)}, was not applied"
        given = image.convert("RGB") if image.mode == "RGBA" else image
        target = ImageCms.createProfile("sRGB")
        found = ImageCms.profileToProfile(given, source, target, outputMode="RGB")
    except Exception:  # a damaged profile fails anywhere; the picture is good without
        return samples, alpha, "the colour profile cannot be read and was not applied"
    return np.asarray(found), alpha, ""


def gamma_of(image: Any) -> float:
    """Returns the power that makes the values of a PNG those of sRGB (rule 2)."""
    gamma = image.info.get("gamma")
    if image.format != "PNG" or not isinstance(gamma, float | int) or gamma <= 0:
        return 1.0
    if "srgb" in image.info or image.info.get("icc_profile"):
        return 1.0
    return 1.0 if abs(gamma / _SRGB_GAMMA - 1) < 0.02 else _SRGB_GAMMA / gamma


def orientation_of(image: Any) -> int:
    """Returns the EXIF orientation of an image, 1 to 8; 1 is upright."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF says nothing
        return 1
