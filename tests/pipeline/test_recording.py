"""What a report keeps of the original: its layers, and what it gives on one input."""

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gfx
from gfx.pipeline.record import Kept, Picture, picture, record_of, shown_in
from gfx.pipeline.record.images import MOST_BYTES
from gfx.pipeline.record.png import decode, encode
from gfx.pipeline.report import Report

FUSE = {"passes": ["fuse_batch_norm"]}
HALF = {"passes": [{"channel_prune": {"ratio": 0.5}}]}


def net(out: int = 3) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = (nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        return nn.Sequential(*layers, nn.Conv2d(8, out, 3, padding=1), nn.Tanh()).eval()


def image(size: int = 16, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, size, size, generator=generator) * 2 - 1


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (5, 7, 3), (64, 48, 3)])
def test_a_png_is_read_back_and_read_by_others(shape):
    from PIL import Image

    for pixels in (noise(*shape), np.cumsum(noise(*shape) % 3, 0, dtype=np.uint8)):
        data = encode(pixels)
        assert np.array_equal(decode(data), pixels)
        assert np.array_equal(np.array(Image.open(io.BytesIO(data))), pixels)


@pytest.mark.parametrize(
    "data",
    [b"", b"GIF89a", encode(noise(9, 9))[:-40], encode(noise(4, 4)).replace(b"IHDR", b"IHDX")],
)
def test_a_damaged_png_is_refused(data):
    with pytest.raises(gfx.InputError, match="this is no picture that gfx wrote"):
        decode(data)


def test_a_png_that_expands_is_not_expanded():
    bomb = encode(np.zeros((900, 900), np.uint8))
    small = bomb.replace((900).to_bytes(4, "big"), (2).to_bytes(4, "big"))
    assert decode(small).shape == (2, 2)


def test_the_layers_of_the_original_are_kept_with_their_stages_and_costs():
    model, x = net(), image()
    small = gfx.apply(HALF, model, x)
    first, last = gfx.report(small).record.layers
    assert (first.path, first.inputs, first.outputs, first.stage) == ("0", 3, 8, "stem")
    assert (last.path, last.outputs, last.shape) == ("3", 3, (1, 3, 16, 16))
    assert first.macs + last.macs == gfx.report(small).before.macs
    assert first.params == 3 * 8 * 9 + 8


def test_a_program_that_gives_the_same_gives_the_pixels_that_were_kept():
    small = gfx.apply(FUSE, net(), image())
    sample = gfx.report(small).record.sample
    with torch.no_grad():
        again = small(*(kept.tensor() for kept in sample.inputs))
    gap = sample.output.shows(again).astype(int) - sample.output.pixels().astype(int)
    assert abs(gap).max() <= 1  # rounding
    assert sample.output.pixels().shape == (16, 16, 3)


def test_a_report_with_pictures_equals_its_json_copy_and_that_of_another_run(tmp_path):
    small, again = (gfx.apply(HALF, net(), image()) for _ in range(2))
    report = gfx.report(small)
    assert report.record.sample is not None
    assert Report.from_dict(json.loads(json.dumps(report.to_dict()))) == report
    assert gfx.report(again) == report
    gfx.save(small, tmp_path / "a.gfx")
    assert gfx.report(gfx.load(tmp_path / "a.gfx")) == report


def test_a_report_of_before_there_were_records_is_read():
    data = gfx.report(gfx.apply(FUSE, net(), image())).to_dict()
    del data["record"]
    assert Report.from_dict(data).record is None


def test_the_first_of_the_users_batches_is_what_is_shown():
    batches = [torch.cat([image(seed=3), image(seed=4)]), image(seed=5)]
    sample = gfx.report(gfx.apply(FUSE, net(), image(), data=batches)).record.sample
    assert sample.told == "the first batch of the data"
    assert sample.inputs[0].shape == (1, 3, 16, 16)
    shown = sample.inputs[0].tensor()
    assert (shown - image(seed=3)).abs().max() <= 1 / 255 + 1e-6


def test_the_passes_see_the_batches_that_they_would_see_anyway():
    rows, seen = [image(seed=i)[0] for i in range(8)], []

    class Watched:
        def __iter__(self):
            order = torch.randperm(8).tolist()
            for i in order:
                seen.append(i)
                yield rows[i][None]

    recipe = {"passes": [{"channel_prune": {"ratio": 0.5, "importance": "activation"}}]}
    gfx.apply(recipe, net(), image(), data=Watched())
    verified = list(seen)
    seen.clear()
    gfx.apply(recipe, net(), image(), data=Watched(), verify=False)
    assert verified[: len(seen)] == seen


def test_data_that_cannot_be_read_is_told_and_stops_nothing():
    def broken():
        raise RuntimeError("the disk is gone")
        yield

    record = gfx.report(gfx.apply(FUSE, net(), image(), data=broken())).record
    assert record.sample is None
    assert record.why == "RuntimeError: the disk is gone"


@pytest.mark.parametrize(
    ("model", "x", "why"),
    [
        (nn.Conv1d(1, 2, 3), torch.zeros(1, 1, 32), "its output is no image: 1x2x30"),
        (net(out=5), image(), "its output is no image: 1x5x16x16"),
        (nn.Linear(4, 4), torch.zeros(1, 4), "its output is no image: 1x4"),
    ],
)
def test_what_gives_no_image_says_so(model, x, why):
    record = gfx.report(gfx.apply(FUSE, model.eval(), x)).record
    assert record.sample is None
    assert record.why == why


def test_without_verification_nothing_is_run():
    record = gfx.report(gfx.apply(FUSE, net(), image(), verify=False)).record
    assert record.why == "verify=False, so the original was not run"
    assert len(record.layers) == 2


def test_the_random_state_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    record_of(gfx.trace(net(), image()))
    assert torch.equal(torch.rand(1), expected)


class Painter(nn.Module):
    """Turns a map of labels and a number into an image, and gives a score too."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, labels, style):
        painted = torch.tanh(self.conv(labels) * style[:, :, None, None])
        return {"score": painted.mean((1, 2, 3)), "image": painted}


def test_label_maps_and_vectors_are_kept_as_they_are():
    labels = F.one_hot(torch.randint(0, 6, (2, 32, 32)), 6).movedim(-1, 1).float()
    record = record_of(gfx.trace(Painter().eval(), (labels, torch.randn(2, 3))))
    kept, style = record.sample.inputs
    again = kept.tensor()
    assert kept.labels
    assert again.shape == (2, 6, 32, 32)
    assert torch.equal(again.sum(1), torch.ones(2, 32, 32))
    assert style.tensor().shape == (2, 3)
    assert style.tensor().dtype == torch.float32
    assert record.sample.place == 1  # outputs in the order of their keys


def test_a_sample_is_bounded_whatever_the_size():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Tanh()).eval()
    sample = record_of(gfx.trace(model, torch.rand(1, 3, 640, 384))).sample
    for kept in (sample.inputs[0].picture, sample.output):
        assert len(base64.b64decode(kept.png)) <= MOST_BYTES
        assert max(kept.pixels().shape) <= 256
        assert (kept.height, kept.width) == (640, 384)
    noisy = picture(torch.rand(1, 3, 512, 512))
    assert len(base64.b64decode(noisy.png)) <= MOST_BYTES


def test_an_input_too_large_to_keep_is_told():
    model = nn.Conv2d(8, 3, 1)
    record = record_of(gfx.trace(model, torch.randn(1, 8, 128, 128)))
    assert record.why == "its input of shape 1x8x128x128 is too large to keep"


def test_small_values_are_stretched_and_usual_ranges_are_not():
    assert (picture(image()).low, picture(image()).high) == (-1.0, 1.0)
    faint = picture(image() * 0.01)
    assert -0.01 <= faint.low < -0.009
    assert faint.pixels().max() == 255
    assert (picture(torch.zeros(1, 1, 8, 8)).low, picture(torch.rand(1, 1, 8, 8)).low) == (
        -1.0,
        0.0,
    )


def test_another_image_is_shown_by_the_same_black_and_white():
    shown = picture(image())
    assert shown.shows(image() * 2).max() == 255
    assert np.array_equal(shown.shows(image()), shown.pixels())
    with pytest.raises(gfx.InputError, match="1x3x8x8 cannot be shown beside"):
        shown.shows(torch.zeros(1, 3, 8, 8))
    with pytest.raises(gfx.InputError, match="a grey image and one of colours"):
        shown.shows(torch.zeros(1, 1, 16, 16))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"data": "?"}, "damaged"),
        ({"data": base64.b64encode(b"no zlib").decode()}, "damaged"),
        ({"shape": (3, 3)}, "has 24 bytes, expected 36"),
        ({"dtype": "save"}, "cannot be kept"),
        ({"shape": (2**20, 2**20)}, "cannot be kept"),
    ],
)
def test_a_damaged_input_is_refused(change, text):
    model = nn.Sequential(nn.Linear(6, 3 * 64), nn.Unflatten(1, (3, 8, 8))).eval()
    kept = record_of(gfx.trace(model, torch.randn(1, 6))).sample.inputs[0]
    assert kept.tensor().shape == (1, 6)
    with pytest.raises(gfx.InputError, match=text):
        replace(kept, **change).tensor()


def test_labels_beyond_the_map_are_refused():
    labels = F.one_hot(torch.full((1, 16, 16), 5), 6).movedim(-1, 1).float()
    kept = record_of(gfx.trace(nn.Conv2d(6, 3, 1), labels)).sample.inputs[0]
    with pytest.raises(gfx.InputError, match="a map of 2 labels holds label 5"):
        replace(kept, shape=(1, 2, 16, 16)).tensor()


def test_the_largest_image_of_an_output_is_shown():
    small, large = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 16, 16)
    assert shown_in((small, [large, large])) == 1
    assert shown_in((torch.zeros(3), None)) is None


def test_a_picture_that_is_no_base64_is_refused():
    with pytest.raises(gfx.InputError, match="this is no picture"):
        Picture("é", 0.0, 1.0, 8, 8).pixels()
    with pytest.raises(gfx.InputError, match="was kept for"):
        Kept((1, 3, 8, 8), "float32", picture(torch.zeros(1, 3, 16, 16))).tensor()


class Viewing(nn.Module):
    """Sees its input as one long row, which only an input in order allows."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.conv(x.view(-1).view(x.shape))


def test_the_original_is_given_an_input_in_the_order_of_any_other(capfd):
    record = record_of(gfx.trace(Viewing(), torch.ones(2, 3, 16, 16)))
    assert record.sample is not None, record.why
    assert capfd.readouterr().err == ""


def test_layers_that_cannot_be_listed_do_not_stop_a_recipe(monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise IndexError("tuple index out of range")

    monkeypatch.setattr("gfx.pipeline.record.original.layers_of", fail)
    small = gfx.apply({"passes": ["fuse_batch_norm"]}, gfx.zoo.build("dcgan", ngf=4).eval())
    record = gfx.report(small).record
    assert record.layers == ()
    assert "the layers are not listed: IndexError: tuple index out of range" in record.why
    assert record.sample is not None
