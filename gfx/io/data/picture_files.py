"""Reads one picture file as numbers from 0 to 1, whatever form it has.

1. Grey and colours of 8 and 16 bits, 1 bit, palettes and CMYK have a white of their own, which
   becomes 1. Floats are taken as they are, if they lie in [0, 1]; integers of 32 bits have no
   white, so they are refused.
2. What the file says of its orientation (EXIF) is followed. Colours of a profile other than sRGB
   and the gamma of a PNG are converted to sRGB.
3. What is transparent shows white, unless the model takes transparency as a fourth channel.
4. Colours become grey by their luma (ITU-R BT.601); grey becomes three equal colours.
5. Of an animation the first frame is read.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfx.errors import InputError
from gfx.io.data.pillow_images import (
    gamma_of,
    in_srgb,
    opened,
    orientation_of,
    pillow,
    raw_mode,
    sixteen_bits,
)
from gfx.io.guards import printable

__all__ = ["PictureFile", "picture_size", "read_picture"]

Values = NDArray[np.float32]
Samples = NDArray[Any]

_LUMA = (0.299, 0.587, 0.114)
_BITS, _PHOTOMETRIC = 258, 262  # tags of TIFF
_GREY_STEPS = {"L;2": 85, "L;4": 17}  # between greys of few bits, in a transparent colour


@dataclass(frozen=True)
class PictureFile:
    """A picture: grey (H, W, 1) or colours (H, W, 3), with transparency or None.

    Units: samples from 0 to `white`.
    """

    samples: Samples
    white: float
    alpha: Samples | None = None  # (H, W), in the same units
    gamma: float = 1.0  # power that makes it sRGB
    remarks: tuple[str, ...] = ()  # what was done to it that is no matter of course

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.samples.shape[1], self.samples.shape[0]

    def cut(self, left: int, top: int, width: int, height: int) -> "PictureFile":
        """Cuts a rectangle out."""
        rows, columns = slice(top, top + height), slice(left, left + width)
        alpha = None if self.alpha is None else self.alpha[rows, columns]
        return PictureFile(self.samples[rows, columns], self.white, alpha, self.gamma, self.remarks)

    def planes(self, channels: int) -> list[Values]:
        """Returns the values of 1, 3 or 4 channels, each (H, W), from 0 to 1 (rules 3 and 4)."""
        alpha = None if self.alpha is None else self.alpha.astype(np.float32) / self.white
        planes = [self._values(self.samples[:, :, place]) for place in range(self.samples.shape[2])]
        if channels == 4:
            opaque = np.ones(self.samples.shape[:2], np.float32)
            return [*(planes * 3)[:3], opaque if alpha is None else alpha]
        if alpha is not None:
            planes = [plane * alpha + (1 - alpha) for plane in planes]
        if channels == 1 and len(planes) == 3:
            grey = sum(share * plane for share, plane in zip(_LUMA, planes, strict=True))
            return [np.asarray(grey, np.float32)]
        return planes if len(planes) == channels else planes * 3

    def _values(self, samples: Samples) -> Values:
        values: Values = samples.astype(np.float32) / np.float32(self.white)
        return values if self.gamma == 1 else np.power(values, np.float32(self.gamma))


def read_picture(path: Path) -> PictureFile:
    """Reads a picture file.

    Raises: InputError naming the file, if it is damaged, too large, or of a form whose white is
        not known, or Pillow is not installed.
    """
    pillow()
    try:
        with opened(path) as image:
            return _read(image, path)
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{printable(path)} does not fit into memory") from error
    except Exception as error:  # a damaged file fails anywhere in its decoder, with any error
        reason = str(error).partition("\n")[0].replace(str(path), "it")[:200]
        said = reason or type(error).__name__
        raise InputError(
            f"{printable(path)} cannot be read as an image: {printable(said)}"
        ) from error


def picture_size(path: Path) -> tuple[int, int]:
    """Reads width and height of a picture as it is shown, without its pixels; (0, 0) if it cannot.

    Raises: InputError if Pillow is not installed.
    """
    pillow()
    try:
        with opened(path) as image:
            width, height = image.size
            turned = orientation_of(image) in (5, 6, 7, 8)
            return (height, width) if turned else (width, height)
    except Exception:  # whoever reads the pixels says why
        return 0, 0


def _read(image: Any, path: Path) -> PictureFile:
    frames = getattr(image, "n_frames", 1) if image.format != "MPO" else 1
    raw = raw_mode(image)
    image.load()
    remarks = ["animated or of several pages, of which the first was read"] if frames > 1 else []
    samples, white, alpha = _samples(image, path, raw)
    samples, alpha, remark = in_srgb(image, samples, alpha, white)
    remarks += [remark] if remark else []
    if samples.ndim == 2:
        samples = samples[:, :, None]
    if alpha is not None and (alpha == white).all():
        alpha = None
    turn = orientation_of(image)
    samples = _turned(samples, turn)
    alpha = None if alpha is None else _turned(alpha, turn)
    if alpha is not None:
        remarks.append("partly transparent, put on white")
    return PictureFile(samples, white, alpha, gamma_of(image), tuple(remarks))


def _samples(image: Any, path: Path, raw: str) -> tuple[Samples, float, Samples | None]:
    """Returns the samples of an image, its white, and its transparency (rule 1)."""
    mode, keyed = image.mode, image.info.get("transparency")
    deep = sixteen_bits(path, raw)
    if deep is not None:
        return _keyed(deep, 65535.0, keyed)
    if mode.startswith("I;16"):
        tags = getattr(image, "tag_v2", {})
        white = 2.0 ** tags.get(_BITS, (16,))[0] - 1
        samples = np.asarray(image).astype(np.uint16)
        if tags.get(_PHOTOMETRIC) == 0:  # black is the largest
            samples = (np.uint16(white) - samples).astype(np.uint16)
        return _keyed(samples, white, keyed)
    if mode == "I":
        samples = np.asarray(image)
        if image.format not in ("PNG", "PPM") or samples.min() < 0 or samples.max() > 65535:
            raise InputError(
                f"{printable(path)} holds integers of 32 bits, or with a sign, whose white is not "
                "known; save it with 8 or 16 bits"
            )
        return samples, 65535.0, None
    if mode == "F":
        return _floats(np.asarray(image), path), 1.0, None
    if mode in ("1", "L"):
        grey = np.asarray(image.convert("L"))
        if isinstance(keyed, int):
            keyed = 255 * keyed if mode == "1" and keyed == 1 else keyed * _GREY_STEPS.get(raw, 1)
        return _keyed(grey, 255.0, keyed)
    if mode == "RGB":
        return _keyed(np.asarray(image), 255.0, keyed)
    if mode in ("LA", "La", "RGBA", "RGBa", "PA") or (mode == "P" and keyed is not None):
        both = np.asarray(image.convert("RGBA"))
        return both[:, :, :3], 255.0, both[:, :, 3]
    if mode in ("P", "RGBX", "CMYK", "YCbCr", "HSV"):
        return np.asarray(image.convert("RGB")), 255.0, None
    raise InputError(
        f"{printable(path)} has colours of the form {mode}, which gfx does not read; save it as PNG"
    )


def _floats(samples: Samples, path: Path) -> Samples:
    low, high = float(samples.min()), float(samples.max())
    if not (np.isfinite(samples).all() and low >= 0 and high <= 1):
        raise InputError(
            f"{printable(path)} holds floats from {low:g} to {high:g}, whose white is not known; "
            "scale them to [0, 1], or save it with 8 or 16 bits"
        )
    return samples


def _keyed(samples: Samples, white: float, key: Any) -> tuple[Samples, float, Samples | None]:
    """Splits transparency off: a last channel of its own, or the one colour that is transparent."""
    if samples.ndim == 3 and samples.shape[2] in (2, 4):
        return samples[:, :, :-1], white, samples[:, :, -1]
    colours = 1 if samples.ndim == 2 else samples.shape[2]
    if not isinstance(key, int | tuple) or np.size(key) != colours:
        return samples, white, None
    same = (samples.reshape(*samples.shape[:2], colours) == np.asarray(key)).all(2)
    return samples, white, np.where(same, 0, white).astype(samples.dtype)


def _turned(samples: Samples, orientation: int) -> Samples:
    """Turns and mirrors a picture as its EXIF orientation says, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples
