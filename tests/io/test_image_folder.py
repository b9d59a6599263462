"""Pictures are read as what they show, whatever their form; or a sentence names the file."""

import io
import logging
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms
from torch import nn
from typer.testing import CliRunner

import gfx
from gfx.cli import app
from gfx.errors import InputError
from gfx.io.data import ImageFolder
from gfx.io.data.image_folder import images
from gfx.pipeline.report import render
from support.laws import law

LUMA = np.array([0.299, 0.587, 0.114])
WIDTH, HEIGHT = 6, 4


def png(samples, bits, colour, *, chunks=()):
    """Writes a PNG by the book: rows of big-endian samples, without filters."""
    height, width = samples.shape[:2]
    kind = ">u2" if bits == 16 else "u1"
    rows = samples.astype(kind).reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


def saved(image, **options):
    stream = io.BytesIO()
    image.save(stream, **options)
    return stream.getvalue()


def grey(rng, high, kind=np.uint8):
    return rng.integers(0, high + 1, (HEIGHT, WIDTH)).astype(kind)


def colours(rng, count=3, high=255):
    return rng.integers(0, high + 1, (HEIGHT, WIDTH, count))


def three(values):
    return np.repeat(values[..., None], 3, 2)


def tiff(samples, order, photometric, *, bits=16, extra=()):
    """Writes an uncompressed TIFF of one strip by the book."""
    height, width = samples.shape[:2]
    count = 1 if samples.ndim == 2 else samples.shape[2]
    data = samples.astype(f"{order}u{bits // 8}").tobytes()
    tags = [(256, 4, [width]), (257, 4, [height]), (258, 3, [bits] * count), (259, 3, [1]),
            (262, 3, [photometric]), (273, 4, [8]), (277, 3, [count]), (278, 4, [height]),
            (279, 4, [len(data)]), *([(338, 3, list(extra))] if extra else [])]  # fmt: skip
    start = 8 + len(data) + len(data) % 2
    after, entries, later = start + 2 + 12 * len(tags) + 4, b"", b""
    for tag, kind, values in tags:
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            place, later = struct.pack(f"{order}I", after + len(later)), later + packed
        else:
            place = packed.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + place
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    ifd = struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", 0)
    return head + data + b"\0" * (len(data) % 2) + ifd + later


# each writes a file, and says what it shows: colours, and how opaque they are


def grey8(rng):
    x = grey(rng, 255)
    return saved(Image.fromarray(x), format="PNG"), three(x / 255), None


def grey16(rng):
    x = grey(rng, 65535, np.uint16)
    return png(x, 16, 0), three(x / 65535), None


def grey16_tiff(rng):
    x = grey(rng, 65535, np.uint16)
    return saved(Image.fromarray(x), format="TIFF"), three(x / 65535), None


def rgb16_tiff(rng):
    x = colours(rng, high=65535)
    return tiff(x, rng.choice(["<", ">"]), 2), x / 65535, None


def rgba16_tiff(rng):
    x = colours(rng, 4, 65535)
    return tiff(x, rng.choice(["<", ">"]), 2, extra=[2]), x[..., :3] / 65535, x[..., 3] / 65535


def grey16_big_endian(rng):
    x = grey(rng, 65535, np.uint16)
    return tiff(x, ">", 1), three(x / 65535), None


def grey16_inverted(rng):
    x = grey(rng, 65535, np.uint16)
    return tiff(x, "<", 0), three(1 - x / 65535), None


def grey16_pgm(rng):
    x = grey(rng, 65535, np.uint16)
    head = f"P5 {WIDTH} {HEIGHT} 65535\n".encode()
    return head + x.astype(">u2").tobytes(), three(x / 65535), None


def one_bit(rng):
    x = grey(rng, 1)
    return saved(Image.fromarray(x * 255).convert("1"), format="PNG"), three(x / 1.0), None


def palette(rng):
    table, x = rng.integers(0, 256, (16, 3)), grey(rng, 15)
    image = Image.frombytes("P", (WIDTH, HEIGHT), x.tobytes())
    image.putpalette(table.flatten().tolist())
    return saved(image, format="PNG"), table[x] / 255, None


def palette_with_holes(rng):
    table, x = rng.integers(0, 256, (16, 3)), grey(rng, 15)
    image = Image.frombytes("P", (WIDTH, HEIGHT), x.tobytes())
    image.putpalette(table.flatten().tolist())
    alphas = rng.integers(0, 256, 16)
    file = saved(image, format="PNG", transparency=bytes(alphas.tolist()))
    return file, table[x] / 255, alphas[x] / 255


def rgb8(rng):
    x = colours(rng)
    return saved(Image.fromarray(x.astype(np.uint8)), format="BMP"), x / 255, None


def rgb16(rng):
    x = colours(rng, high=65535)
    return png(x, 16, 2), x / 65535, None


def rgba8(rng):
    x = colours(rng, 4)
    return png(x, 8, 6), x[..., :3] / 255, x[..., 3] / 255


def rgba16(rng):
    x = colours(rng, 4, 65535)
    return png(x, 16, 6), x[..., :3] / 65535, x[..., 3] / 65535


def grey_alpha(rng):
    x = colours(rng, 2)
    return png(x, 8, 4), three(x[..., 0] / 255), x[..., 1] / 255


def grey_alpha16(rng):
    x = colours(rng, 2, 65535)
    return png(x, 16, 4), three(x[..., 0] / 65535), x[..., 1] / 65535


def keyed_grey(rng):
    x = grey(rng, 3)
    return png(x, 8, 0, chunks=[(b"tRNS", struct.pack(">H", 2))]), three(x / 255), x != 2


def keyed_rgb16(rng):
    x = colours(rng, high=65535)
    key = struct.pack(">HHH", *x[0, 0].tolist())
    opaque = (x != x[0, 0]).any(2)
    return png(x, 16, 2, chunks=[(b"tRNS", key)]), x / 65535, opaque


def cmyk(rng):
    x = colours(rng, 4)
    file = saved(
        Image.frombytes("CMYK", (WIDTH, HEIGHT), x.astype(np.uint8).tobytes()), format="TIFF"
    )
    return file, (1 - x[..., :3] / 255) * (1 - x[..., 3:] / 255), None


def floats(rng):
    x = rng.random((HEIGHT, WIDTH)).astype(np.float32)
    return saved(Image.fromarray(x), format="TIFF"), three(x), None


def gamma(rng):
    x = colours(rng)
    return png(x, 8, 2, chunks=[(b"gAMA", struct.pack(">I", 100000))]), (x / 255) ** 0.45455, None


def usual_gamma(rng):
    x = colours(rng)
    return png(x, 8, 2, chunks=[(b"gAMA", struct.pack(">I", 45455))]), x / 255, None


def animated(rng):
    first, second = grey(rng, 255), grey(rng, 255)
    frames = [Image.fromarray(x) for x in (first, second)]
    file = saved(frames[0], format="GIF", save_all=True, append_images=frames[1:])
    return file, three(first / 255), None


FORMS = [
    grey8, grey16, grey16_tiff, rgb16_tiff, rgba16_tiff, grey16_big_endian, grey16_inverted,
    grey16_pgm, one_bit, palette, palette_with_holes, rgb8, rgb16, rgba8, rgba16, grey_alpha,
    grey_alpha16, keyed_grey, keyed_rgb16, cmyk, floats, gamma, usual_gamma, animated,
]  # fmt: skip


def expected(values, alpha, channels, low, high):
    """What a model should be given, computed with numpy."""
    if channels == 4:
        opaque = np.ones(values.shape[:2]) if alpha is None else alpha
        shares = np.concatenate([values, opaque[..., None]], 2)
    else:
        over = values if alpha is None else values * alpha[..., None] + (1 - alpha[..., None])
        shares = over if channels == 3 else (over @ LUMA)[..., None]
    return (low + (high - low) * shares).transpose(2, 0, 1)[None]


SUFFIX = {
    b"\x89PN": "png",
    b"BM": "bmp",
    b"II*": "tif",
    b"MM": "tif",
    b"P5 ": "pgm",
    b"GIF": "gif",
}


def write(folder, data, name="a"):
    suffix = next(s for mark, s in SUFFIX.items() if data.startswith(mark))
    (folder / f"{name}.{suffix}").write_bytes(data)


@law(examples=60, swept=120)
@given(
    form=st.sampled_from(FORMS),
    channels=st.sampled_from((3, 1, 4)),
    scale=st.sampled_from(((-1.0, 1.0), (0.0, 1.0), (0.0, 255.0))),
    seed=st.integers(0, 2**16),
)
def test_a_picture_is_read_as_what_it_shows(tmp_path_factory, form, channels, scale, seed):
    folder = tmp_path_factory.mktemp("law")
    data, values, alpha = form(np.random.default_rng(seed))
    write(folder, data)
    (got,) = images(folder, torch.zeros(1, channels, HEIGHT, WIDTH), scale)
    wanted = expected(values, alpha, channels, *scale)
    # Pillow rounds CMYK to 8 bits, and is 16 bits exact elsewhere
    tolerance = (2 / 255 if form is cmyk else 1e-5) * (scale[1] - scale[0])
    assert np.abs(got.numpy() - wanted).max() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_the_orientation_is_followed(tmp_path, orientation, kind):
    x = np.zeros((16, 24, 3), np.uint8)
    x[:8, :12] = 255  # the upper left quarter is white
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(x).save(tmp_path / f"a.{kind.lower()}", kind, exif=exif, **options)
    flipped = [x, x[:, ::-1], x[::-1, ::-1], x[::-1]]
    on_its_side = [x.swapaxes(0, 1), np.rot90(x, -1), flipped[2].swapaxes(0, 1), np.rot90(x, 1)]
    turned = [*flipped, *on_its_side][orientation - 1]
    height, width = turned.shape[:2]
    (got,) = images(tmp_path, torch.zeros(1, 3, height, width), (0.0, 255.0))
    assert np.abs(got[0].numpy() - turned.transpose(2, 0, 1)).max() < 3


def test_a_picture_is_cut_in_its_middle_and_scaled_down(tmp_path):
    x = np.zeros((8, 12, 3), np.uint8)
    x[:, 2:10] = 200
    Image.fromarray(x).save(tmp_path / "a.png")
    (got,) = images(tmp_path, torch.zeros(1, 3, 4, 4), (0.0, 255.0))
    assert torch.allclose(got, torch.full((1, 3, 4, 4), 200.0), atol=1e-3)


def test_colours_of_a_profile_become_srgb(tmp_path):
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ"))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    x = Image.new("RGB", (4, 4), (200, 100, 50))
    x.save(tmp_path / "a.png", icc_profile=srgb.tobytes())
    (got,) = images(tmp_path, torch.zeros(1, 3, 4, 4), (0.0, 255.0))
    assert got[0, :, 0, 0].tolist() == pytest.approx([200, 100, 50], abs=1e-3)
    Image.new("L", (4, 4), 200).save(tmp_path / "a.png", icc_profile=lab.tobytes())
    folder = ImageFolder(tmp_path)
    (got,) = folder.batches(torch.zeros(1, 3, 4, 4))
    assert "colour profile" in " ".join(folder.told())
    Image.new("L", (4, 4), 200).save(tmp_path / "a.png", icc_profile=b"damaged")
    folder = ImageFolder(tmp_path)
    (got,) = folder.batches(torch.zeros(1, 3, 4, 4))
    assert "the colour profile cannot be read and was not applied (a.png)" in folder.told()[0]


# what cannot be read is named


def broken(folder):
    (folder / "broken.png").write_bytes(b"torn")


def truncated(folder):
    data = saved(Image.effect_noise((64, 64), 50), format="PNG")
    (folder / "broken.png").write_bytes(data[: len(data) // 2])


def bomb(folder):
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks
    )
    (folder / "broken.png").write_bytes(data)


def lost_link(folder):
    (folder / "broken.png").symlink_to(folder / "nowhere")


def circle(folder):
    (folder / "broken.png").symlink_to(folder / "broken.png")


def empty(folder):
    (folder / "broken.png").touch()


def wild_floats(folder):
    Image.fromarray(np.full((4, 4), 4095, np.float32)).save(folder / "broken.tif")


def drawn_by_another_program(folder):
    (folder / "broken.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
    )


def wide_integers(folder):
    Image.fromarray(np.full((4, 4), 100_000, np.int32)).save(folder / "broken.tif")


UNREADABLE = [
    (broken, r"broken\.png cannot be read as an image: "),
    (truncated, r"broken\.png cannot be read as an image: .*truncated"),
    (bomb, r"broken\.png cannot be read as an image: .*bomb"),
    (lost_link, r"broken\.png cannot be read as an image: .*No such file"),
    (circle, r"broken\.png cannot be read as an image: .*symbolic links"),
    (empty, r"broken\.png cannot be read as an image: "),
    (drawn_by_another_program, r"broken\.png cannot be read as an image: cannot identify"),
    (wild_floats, r"broken\.tif holds floats from 4095 to 4095, whose white is not known"),
    (wide_integers, r"broken\.tif holds integers of 32 bits"),
]


@pytest.mark.parametrize(("spoil", "said"), UNREADABLE)
def test_a_file_that_cannot_be_read_is_named(tmp_path, spoil, said):
    spoil(tmp_path)
    with pytest.raises(InputError, match=said):
        list(images(tmp_path, torch.zeros(1, 3, 4, 4)))


@pytest.mark.parametrize(("spoil", "said"), UNREADABLE)
def test_a_few_that_cannot_be_read_are_left_out_and_named(tmp_path, spoil, said, caplog):
    spoil(tmp_path)
    Image.new("L", (4, 4)).save(tmp_path / "z.png")
    folder = ImageFolder(tmp_path, (0, 1))
    with caplog.at_level(logging.WARNING):
        (got,) = folder.batches(torch.zeros(4, 1, 4, 4))
    assert got.shape == (1, 1, 4, 4)
    (told,) = folder.told()
    assert told.startswith(f"1 image of {tmp_path}: left out ({tmp_path}/broken")
    assert "left out" in caplog.text


def test_more_damaged_files_than_good_ones_are_an_error(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(b"torn")
    Image.new("L", (4, 4)).save(tmp_path / "z.png")
    with pytest.raises(
        InputError, match=r"3 of the first 4 images of .* cannot be read: .*a\.png "
    ):
        list(images(tmp_path, torch.zeros(1, 1, 4, 4)))


def test_a_large_photograph_is_no_bomb(tmp_path, monkeypatch):
    Image.new("L", (40, 40)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # above it Pillow warns, above twice not
    (got,) = images(tmp_path, torch.zeros(1, 1, 8, 8), (0.0, 1.0))
    assert (got == 0).all()


# what is in the folder


def test_hidden_files_and_what_systems_leave_are_no_pictures(tmp_path):
    for name in (".a.png", "._b.jpg", ".DS_Store", "Thumbs.db", "desktop.ini", "notes.txt"):
        (tmp_path / name).write_bytes(b"nothing")
    for name in ("__MACOSX", ".thumbnails", "@eaDir"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"nothing")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")  # to open it would wait for ever
    Image.new("L", (4, 4), 255).save(tmp_path / "A.PNG")
    (got,) = images(tmp_path, torch.zeros(9, 1, 4, 4))
    assert got.shape[0] == 1


def test_names_are_in_order_and_odd_ones_are_read(tmp_path):
    names = ["a/1.png", "a [x]/2.png", "b*?/é.PNG", "c\n/3.JPEG", "d/e/f/4.tif"]
    for number, name in enumerate(names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), 10 * number).save(tmp_path / name)
    odd = os.fsencode(tmp_path) + b"/\xff.png"
    with open(odd, "wb") as file:
        file.write(b"torn")
    folder = ImageFolder(tmp_path, (0, 255))
    got = torch.cat(list(folder.batches(torch.zeros(2, 1, 4, 4))))
    order = sorted(names, key=lambda name: Path(name))
    assert got[:, 0, 0, 0].round().tolist() == [10 * names.index(name) for name in order]
    folder.told()[0].encode()  # can be printed
    assert r"\udcff.png cannot be read" in folder.told()[0]


def test_links_are_followed_once(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "data").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "real" / "a.png")
    (tmp_path / "data" / "class").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "real")
    (tmp_path / "data" / "back").symlink_to(tmp_path / "data")
    (got,) = images(tmp_path / "data", torch.zeros(9, 1, 4, 4))
    assert got.shape[0] == 1


def test_a_folder_without_pictures_says_what_is_there(tmp_path):
    (tmp_path / "a.heic").touch()
    (tmp_path / "b.npy").touch()
    with pytest.raises(InputError, match=r"holds no images \(.*\.avif\); there are \.heic, \.npy"):
        list(images(tmp_path, torch.zeros(1, 3, 4, 4)))


# pairs


@pytest.fixture
def pairs(tmp_path):
    x = np.zeros((8, 16, 3), np.uint8)
    x[:, :8], x[:, 8:] = (255, 0, 0), (0, 0, 255)
    for name in "ab":
        Image.fromarray(x).save(tmp_path / f"{name}.png")
    return tmp_path


def test_a_pair_is_never_cut_through_its_middle_without_a_word(pairs):
    with pytest.raises(InputError, match=r"a\.png is 16 wide and 8 high, twice .*--half left"):
        list(images(pairs, torch.zeros(1, 3, 8, 8)))
    for half, colour in (("left", [1, -1, -1]), ("right", [-1, -1, 1])):
        (first, _) = ImageFolder(pairs, (-1, 1), half).batches(torch.zeros(1, 3, 8, 8))
        assert first.amin((2, 3))[0].tolist() == first.amax((2, 3))[0].tolist() == colour
    (middle, _) = ImageFolder(pairs, (-1, 1), "middle").batches(torch.zeros(1, 3, 8, 8))
    assert middle[0, 0, 0].tolist() == [1] * 4 + [-1] * 4
    whole, _ = images(pairs, torch.zeros(1, 3, 4, 8))  # a model of wide images takes it whole
    assert whole.shape == (1, 3, 4, 8)


def test_noise_may_be_a_pair_and_a_wide_photograph_is_none(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (8, 16, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"two pictures side by side, A\|B, or one that is wide"):
        list(images(tmp_path, torch.zeros(1, 3, 8, 8)))
    ramp = np.tile(np.linspace(0, 255, 64), (32, 1)).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    folder = ImageFolder(tmp_path, (0, 1))
    (got,) = folder.batches(torch.zeros(1, 1, 32, 32))
    assert got[0, 0, 0].tolist() == pytest.approx((ramp[0, 16:48] / 255).tolist())
    assert folder.told() == (
        f"1 image of {tmp_path}: twice as wide as high, cut in the middle (a.png)",
    )


def test_one_wide_picture_among_others_is_cut_and_named(pairs):
    Image.new("RGB", (9, 8)).save(pairs / "c.png")
    folder = ImageFolder(pairs, (0, 1))
    assert len(list(folder.batches(torch.zeros(1, 3, 8, 8)))) == 3
    (told,) = folder.told()
    assert "2 images of" in told
    assert "twice as wide as high, cut in the middle (a.png; b.png)" in told


# the range, and what is said of it


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        return self.last(self.conv(x).relu())


class Stated(Plain):
    image_range = (0, 1)


RECIPE = {"passes": [{"channel_prune": {"ratio": 0.5, "importance": "activation"}}]}


@pytest.fixture
def photos(tmp_path):
    for number in range(3):
        x = np.random.default_rng(number).integers(0, 256, (8, 8, 3))
        Image.fromarray(x.astype(np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes(b"torn")
    return tmp_path


@pytest.mark.parametrize(
    ("net", "options", "sentence"),
    [
        (Plain(), {}, r"assumed that the model takes images in \[-1, 1\]; if not, give range="),
        (Plain(), {"range": (0, 1)}, r"images are scaled to \[0, 1\], as was asked for"),
        (Plain(), {"range": "0..255"}, r"images are scaled to \[0, 255\], as was asked for"),
        (Stated(), {}, r"images are scaled to \[0, 1\], as Stated.image_range says"),
        (nn.Sequential(Plain(), nn.Tanh()), {}, r"scaled to \[-1, 1\], as the Tanh at the model"),
        (nn.Sequential(Plain(), nn.Sigmoid()), {}, r"scaled to \[0, 1\], as the Sigmoid at the m"),
    ],
)
def test_the_report_says_the_range_and_what_was_left_out(photos, net, options, sentence):
    example = torch.zeros(1, 3, 8, 8)
    small = gfx.apply(RECIPE, net, example, data=photos, **options)
    text = render(gfx.report(small), width=1000)
    assert re.search(sentence, text), text
    assert f"1 image of {photos}: left out ({photos}/3.png cannot be read" in text
    table = gfx.inspect(net, example, photos, fast=True, **options)
    said = " ".join(table.facts.inputs)
    assert re.search(sentence, said), said
    assert "left out" in said


def test_a_folder_used_twice_tells_each_time_what_happened_then(photos):
    folder, net = gfx.images(photos, range=(0, 1)), Plain()
    reports = [
        gfx.report(gfx.apply(RECIPE, net, torch.zeros(1, 3, 8, 8), data=folder)) for _ in range(2)
    ]
    assert reports[0].notes == reports[1].notes
    assert folder.told() == ()


def test_a_range_that_is_none_or_of_no_images_is_explained(photos):
    example, net = torch.zeros(1, 3, 8, 8), Plain()
    with pytest.raises(InputError, match=r"range='x' is no range; write \(0, 1\), in the shell"):
        gfx.apply(RECIPE, net, example, data=photos, range="x")
    with pytest.raises(InputError, match=r"goes from 1 to 0; give black first"):
        gfx.images(photos, range=(1, 0))
    with pytest.raises(InputError, match=r"is for a folder of images, and data is a list"):
        gfx.apply(RECIPE, net, example, data=[example], range=(0, 1))
    with pytest.raises(InputError, match=r"half='up' is none of left, right, middle"):
        gfx.images(photos, half="up")


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_shell_takes_a_range_and_a_half(photos, tmp_path):
    torch.save(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 1)), tmp_path / "m.pt")
    (tmp_path / "r.yaml").write_text(
        "recipe: 1\npasses: [{channel_prune: {importance: activation}}]"
    )
    asked = ("apply", tmp_path / "r.yaml", tmp_path / "m.pt", "--input", "1x3x8x8")
    asked += ("-o", tmp_path / "s.gfx", "--data", photos)
    assert "assumed that the model takes images in [-1, 1]" in run(*asked).stdout
    done = run(*asked, "--range", "0..1", "--half", "left")
    assert done.exit_code == 0, done.stderr
    assert "images are scaled to [0, 1], as was asked for" in done.stdout
    wrong = run(*asked, "--range", "0-1")
    assert wrong.exit_code == 2
    assert "is no range; write (0, 1)" in " ".join(wrong.stderr.replace("│", " ").split())
    look = ("inspect", tmp_path / "m.pt", "--input", "1x3x8x8", "--data", photos, "--fast")
    assert "scaled to [0, 1], as was asked" in run(*look, "--range", "0..1").stdout
    refused = run("inspect", tmp_path / "m.pt", "--input", "1x3x8x8", "--half", "left")
    assert "--half left is for --data DIR" in " ".join(refused.stderr.replace("│", " ").split())
