"""examples/faces.py: a pretrained generator, from the package to the picture."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from PIL import Image

import gfx

FACES = Path(__file__).parents[1] / "examples" / "faces.py"
installed = find_spec("gan_face_generate") is not None
needs_faces = pytest.mark.skipif(
    not installed, reason="pip install --no-deps gan-face-generate==1.1.1 was not run"
)


@pytest.fixture(scope="module")
def faces():
    names = {"__name__": "faces"}
    exec(compile(FACES.read_text("utf-8"), str(FACES), "exec"), names)
    return names


@needs_faces
def test_faces_are_halved_alike_from_python_and_shell(tmp_path):
    command = [sys.executable, str(FACES), "--out", str(tmp_path), "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Python and shell agree bit for bit: yes" in done.stdout
    assert "pruned, not trained after" in done.stdout
    with Image.open(tmp_path / "faces.png") as picture:
        assert picture.size == (8 * 64, 3 * 64)
    small, shell = (gfx.load(tmp_path / name) for name in ("small.gfx", "shell.gfx"))
    report = gfx.report(small)
    assert report.after.macs.exact <= 0.5 * report.before.macs.exact
    assert report.after.macs.exact > 0.48 * report.before.macs.exact
    latents = torch.randn(2, 100, 1, 1)
    assert torch.equal(small(latents), shell(latents))


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
