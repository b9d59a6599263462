"""The README's commands run as they stand, in order, and its outputs are real."""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gfx.cli import app
from support.picture_folders import write_pictures

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SHELL = [body.strip() for kind, body in BLOCKS if kind == "sh"]
PYTHON = [body for kind, body in BLOCKS if kind == "python"]
needs_faces = pytest.mark.skipif(
    find_spec("gan_face_generate") is None,
    reason="pip install --no-deps gan-face-generate==1.1.1 was not run",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the examples lie as in the repository, and the recipe of the text."""
    path = tmp_path_factory.mktemp("readme")
    (path / "examples").symlink_to(ROOT / "examples")
    for kind, body in BLOCKS:
        if kind == "yaml":
            (path / body.splitlines()[0].removeprefix("# ")).write_text(body, "utf-8")
    return path


def shell(command, folder):
    """Runs a block; installing was done, or there would be no test."""
    command = re.sub(r"pip install [^&\n]*(&&)?", "", command).strip()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )


def run(block, folder):
    done = shell(block, folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_here(block, folder):
    """Runs a block of gfx's commands in this process, where torch is loaded already."""
    printed = ""
    for line in block.splitlines():
        program, *arguments = shlex.split(line, comments=True)
        assert program == "gfx"
        with contextlib.chdir(folder), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a user's warnings are no errors
            done = CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)
        assert done.exit_code == 0, done.stderr
        printed += done.stdout
    return printed


def block(start):
    (found,) = [command for command in SHELL if command.startswith(start)]
    return found


def test_the_two_commands_at_the_top_come_first():
    assert SHELL[0].endswith("gfx apply half zoo:resnet_9blocks -o small.gfx")
    assert SHELL[1].endswith("pytest -n 2")


def test_the_test_command_is_what_the_check_script_runs():
    install, test = SHELL[1].split(" && ")
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert install.replace("install", "install -q") in script
    assert script.rstrip().endswith(test)


def test_the_first_command_writes_a_smaller_generator(folder):
    assert "NOT VERIFIED" not in run(SHELL[0], folder)
    assert (folder / "small.gfx").stat().st_size < 24e6


@needs_faces
def test_the_face_generator_is_halved_as_printed(folder):
    printed = run(block("python examples/faces.py"), folder)
    (shown,) = [body for kind, body in BLOCKS if kind == "text" and "PSNR between" in body]
    for line in shown.splitlines():
        start = line.removesuffix("...")
        # the clock and the versions are the reader's own
        if " s" not in start[-4:]:
            assert start in printed, start
    assert run(block("gfx apply half out/model.pt"), folder)


def test_the_python_runs_and_prints_what_is_shown(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    names = {}
    for body in PYTHON:
        exec(compile(body, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    (groups,) = [body for kind, body in BLOCKS if kind == "text" and "stem 32 free" in body]
    assert groups in printed


@pytest.fixture(scope="module")
def advice(folder):
    """What `gfx inspect` prints; `act.gfx` is made as it recommends."""
    printed = run_here(block("gfx inspect zoo:dcgan"), folder)
    run_here(block("gfx apply act.yaml"), folder)
    return printed


def test_what_is_found_is_acted_on_as_shown(folder, advice):
    assert "what is worth doing first" in advice
    assert (folder / "findings.html").stat().st_size > 10_000
    found = json.loads(run_here("gfx report act.gfx --json", folder))
    assert found["after"]["macs"]["exact"] <= 0.5 * found["before"]["macs"]["exact"]


@needs_faces
def test_the_face_generator_is_trained_as_printed(folder):
    run(block("python examples/faces.py"), folder)
    command = block("gfx compress self-distill")
    assert "--scale 0.15" in command
    printed = run_here(command.replace("--scale 0.15", "--scale 0.001"), folder)
    (shown,) = [body for kind, body in BLOCKS if kind == "text" and "given    104,628,224" in body]
    for line in shown.splitlines():  # the number of steps, and what they bring, are of the scale
        assert line[:37].strip() in printed, line
    assert (folder / "out" / "run" / "report.html").stat().st_size > 10_000


def test_a_system_is_tried_on_pairs(folder):
    write_pictures(folder / "pairs", 8, size=(64, 128))
    printed = run_here(block("gfx compress gan-compression-distill"), folder)
    assert "distill" in printed
    assert "estimated:" in printed


@pytest.mark.parametrize("start", ["gfx apply mine.yaml", "gfx cost zoo:unet_256"])
def test_the_other_commands_run(start, folder):
    run_here(block(start), folder)


@pytest.mark.usefixtures("advice")
def test_what_was_made_is_timed_exported_and_shown(folder):
    printed = run_here(block("gfx bench act.gfx"), folder)
    assert "throughput" in printed
    assert "zoo:dcgan" in printed
    written = [folder / name for name in ("quick.gfx", "quick.onnx", "report.html")]
    assert all(path.stat().st_size > 10_000 for path in written)


def test_every_command_is_run_by_a_test():
    starts = ("pip install", "python examples/faces.py", "gfx apply half out/model.pt")
    starts += ("gfx apply mine.yaml", "gfx cost zoo:unet_256")
    starts += ("gfx inspect zoo:dcgan", "gfx apply act.yaml", "gfx bench act.gfx")
    starts += ("gfx compress self-distill", "gfx compress gan-compression-distill")
    assert [c for c in SHELL if not c.startswith(starts)] == []


def test_make_lists_its_commands():
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert targets == re.findall(r"^  make ([a-z]+) ", done.stdout, re.MULTILINE)


def test_every_package_is_in_the_distribution():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    listed = set(project["tool"]["setuptools"]["packages"])
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in ("gfx", "passes")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert listed == found
