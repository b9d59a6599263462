"""Writes and reads PNG files of 8 bits a channel, grey or RGB, with zlib alone.

Each row is written as it is, as differences from its left neighbour or from the row above,
whichever has the smallest sum of absolute differences. Only what `encode` writes is read.

Source   W3C Portable Network Graphics (PNG) Specification, sections 5, 9, 11.3.4 and 12.8.
"""

import struct
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gfx.errors import InputError

__all__ = ["decode", "encode", "size_and_texts"]

Pixels = NDArray[np.uint8]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOURS = {1: 0, 3: 2}  # colour type by number of channels
_LARGEST = 4096  # pixels a side that are read


def encode(pixels: Pixels, texts: Mapping[str, str] | None = None) -> bytes:
    """Writes pixels as a PNG; the same pixels give the same bytes.

    `texts` are said of the picture by keyword, in Latin-1.

    Shapes: (height, width) or (height, width, 3), uint8.

    Example:
        >>> decode(encode(np.arange(12, dtype=np.uint8).reshape(2, 2, 3))).tolist()
        [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    """
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, width, -1)
    left, above = np.zeros_like(rows), np.zeros_like(rows)
    left[:, 1:] = rows[:, :-1]
    above[1:] = rows[:-1]
    tried = np.stack([rows, rows - left, rows - above]).reshape(3, height, -1)  # modulo 256
    sums = np.abs(tried.view(np.int8).astype(np.int32)).sum(2)
    best = sums.argmin(0)
    chosen = tried[best, np.arange(height)]
    raw = np.concatenate([best.astype(np.uint8)[:, None], chosen], 1).tobytes()
    head = struct.pack(">IIBBBBB", width, height, 8, _COLOURS[rows.shape[2]], 0, 0, 0)
    said = [f"{key}\0{text}".encode("latin-1") for key, text in (texts or {}).items()]
    return (
        _SIGNATURE
        + _chunk(b"IHDR", head)
        + b"".join(_chunk(b"tEXt", each) for each in said)
        + _chunk(b"IDAT", zlib.compress(raw, 9))
        + _chunk(b"IEND", b"")
    )


def decode(data: bytes) -> Pixels:
    """Reads what `encode` wrote.

    Shapes: (height, width) if grey, else (height, width, 3), uint8.

    Raises: InputError if it is anything else.
    """
    try:
        return _decoded(data)
    except (ValueError, KeyError, struct.error, zlib.error) as error:
        raise InputError(f"this is no picture that gfx wrote: {error}") from error


def size_and_texts(data: bytes) -> tuple[int, int, dict[str, str]]:
    """Returns height, width and texts of a PNG, without its pixels.

    Raises: InputError if it is no PNG.

    Example:
        >>> size_and_texts(encode(np.zeros((2, 3), np.uint8), {"made by": "gfx"}))
        (2, 3, {'made by': 'gfx'})
    """
    try:
        chunks = _chunks(data)
        width, height = struct.unpack(">II", dict(chunks)[b"IHDR"][:8])
    except (ValueError, KeyError, struct.error) as error:
        raise InputError(f"this is no PNG: {error}") from error
    texts = [content.decode("latin-1") for name, content in chunks if name == b"tEXt"]
    parted = [text.partition("\0") for text in texts]
    return height, width, {key: value for key, _, value in parted}


def _decoded(data: bytes) -> Pixels:
    chunks = dict(_chunks(data))
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    channels = {number: count for count, number in _COLOURS.items()}[colour]
    if depth != 8 or any(rest) or not 0 < max(width, height) <= _LARGEST or not width * height:
        raise ValueError(f"{width}x{height} pixels of {depth} bits")
    size = height * (width * channels + 1)
    raw = zlib.decompressobj().decompress(chunks[b"IDAT"], size)  # bounded: no bombs
    lines = np.frombuffer(raw, np.uint8).reshape(height, width * channels + 1)
    pixels = np.zeros((height, width, channels), np.uint8)
    above = np.zeros((width, channels), np.uint8)
    for number, line in enumerate(lines):
        row, filtered = line[1:].reshape(width, channels), int(line[0])
        if filtered not in (0, 1, 2):
            raise ValueError(f"row {number} has filter {filtered}")
        if filtered == 1:
            row = np.cumsum(row, 0, dtype=np.uint8)
        above = pixels[number] = row + above if filtered == 2 else row
    return pixels[:, :, 0] if channels == 1 else pixels


def _chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    if not data.startswith(_SIGNATURE):
        raise ValueError("it does not begin as a PNG does")
    found, at = [], len(_SIGNATURE)
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found
