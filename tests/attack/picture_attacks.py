"""Attacks on folders of pictures: damaged, enormous, of odd kinds, or no pictures at all."""

import io
import os
import random
import struct
import zlib
from pathlib import Path

import gfx
from attack.verdicts import Verdict

__all__ = ["attack_picture"]

FORMATS = (
    ("PNG", ".png"),
    ("JPEG", ".jpg"),
    ("BMP", ".bmp"),
    ("WEBP", ".webp"),
    ("GIF", ".png"),
    ("TIFF", ".jpg"),
    ("ICO", ".png"),
)


def attack_picture(dice: random.Random, folder: Path) -> Verdict | None:
    """Makes a folder with a bad picture, and looks at it with a pass that takes data."""
    import torch
    from torch import nn

    place = folder / "pictures"
    place.mkdir()
    (place / "a.png").write_bytes(_picture(dice, "PNG"))
    dice.choice((_damaged, _damaged, _damaged, _declared, _bomb, _odd_file))(dice, place)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 1)).eval()
    recipe = {
        "passes": [{"channel_prune": {"importance": "reconstruction", "ratio": 0.5, "batches": 2}}]
    }
    gfx.apply(recipe, net, torch.zeros(1, 3, 16, 16), data=str(place))
    return None


def _picture(dice: random.Random, form: str, mode: str = "RGB") -> bytes:
    from PIL import Image

    written = io.BytesIO()
    Image.frombytes("RGB", (24, 20), dice.randbytes(24 * 20 * 3)).convert(mode).save(written, form)
    return written.getvalue()


def _damaged(dice: random.Random, place: Path) -> None:
    """Bytes flipped, cut and overwritten; mostly in the header."""
    form, suffix = dice.choice(FORMATS)
    data = bytearray(_picture(dice, form, dice.choice(("RGB", "L")) if form != "ICO" else "RGB"))
    for _ in range(dice.randint(1, 5)):
        at = (
            dice.randrange(len(data))
            if dice.random() < 0.3
            else dice.randrange(min(len(data), 120))
        )
        match dice.randrange(4):
            case 0:
                data[at] = dice.randrange(256)
            case 1:
                data[at : at + 4] = struct.pack(
                    dice.choice("<>") + "I", dice.choice((0, 1, 2**31 - 1, 2**32 - 1, 65_536))
                )
            case 2:
                del data[at : at + dice.randint(1, 30)]
            case _:
                data[at:at] = dice.randbytes(3)
        if not data:
            break
    (place / f"b{suffix}").write_bytes(data)


def _chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def _png(width: int, height: int, depth: int, colour: int, body: bytes, *extra: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", head)
        + b"".join(extra)
        + _chunk(b"IDAT", body)
        + _chunk(b"IEND", b"")
    )


def _declared(dice: random.Random, place: Path) -> None:
    """Sizes and kinds of pixels that the bytes do not hold, and chunks that swell."""
    size = dice.choice((0, 1, 30_000, 13_000, 2**31 - 1, 2**32 - 1))
    text = _chunk(b"zTXt", b"key\0\0" + zlib.compress(b"\0" * (1 << 27)))
    profile = _chunk(b"iCCP", b"key\0\0" + zlib.compress(b"\0" * (1 << 27)))
    extra = dice.choice(
        (
            [],
            [text],
            [profile],
            [_chunk(b"PLTE", b"x" * 7)],
            [_chunk(b"tRNS", b"")],
            [_chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff")],
        )
    )
    data = _png(
        size,
        dice.choice((size, 24)),
        dice.choice((8, 16, 3, 1)),
        dice.choice((0, 2, 3, 4, 6, 5)),
        zlib.compress(b"\0" * 100),
        *extra,
    )
    (place / "b.png").write_bytes(data)


def _bomb(dice: random.Random, place: Path) -> None:
    """A small file of very many pixels."""
    side = dice.choice((11_000, 16_000, 20_000))
    packer = zlib.compressobj(9)
    row = b"\0" * (side // 8 + 1)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    (place / "b.png").write_bytes(_png(side, side, 1, 0, body))


def _odd_file(dice: random.Random, place: Path) -> None:
    """What only has the name of a picture."""
    odd = place / "b.png"
    match dice.randrange(9):
        case 0:
            odd.symlink_to("b.png")
        case 1:
            os.mkfifo(odd)
        case 2:
            odd.mkdir()
        case 3:
            (place / "loop").symlink_to(place, target_is_directory=True)
        case 4:
            odd.write_bytes(b"")
        case 5:
            odd.symlink_to("/dev/zero")
        case 6:
            odd.symlink_to("nowhere.png")
        case 7:
            (place / "a.png").unlink()
        case _:
            odd.write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
