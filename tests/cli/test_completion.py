"""Completion of names, through what the shells send."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gfx
from gfx.cli.completion import (
    complete_model,
    complete_pass,
    complete_recipe,
    complete_zoo_name,
    join_words_at_colons,
)
from gfx.pipeline.recipe import shipped


def test_all_names_are_known_to_the_completion(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert complete_recipe("") == sorted(shipped())
    assert complete_zoo_name("") == sorted((*gfx.zoo.names(), *gfx.zoo.discriminators()))
    ours = [n for n, kind in gfx.passes().items() if kind.__module__.startswith("passes.")]
    assert complete_pass("") == sorted(ours)
    assert complete_model("") == [
        f"zoo:{name}" for name in sorted((*gfx.zoo.names(), *gfx.zoo.discriminators()))
    ]


def test_files_of_the_kind_and_folders_are_offered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("model.gfx", "model.txt", "mine.yaml", ".hidden.pt"):
        Path(name).touch()
    Path("models").mkdir()
    Path("models/g.pt").touch()
    assert complete_model("mo") == ["model.gfx", "models/"]
    assert complete_model("models/") == ["models/g.pt"]
    assert complete_recipe("mi") == ["mine.yaml"]
    assert complete_model("no/such/") == []


@pytest.mark.parametrize(
    ("words", "place", "joined", "has"),
    [
        ("gfx cost zoo : un", 4, ["gfx", "cost", "zoo:un"], "zoo:"),
        ("gfx cost zoo :", 3, ["gfx", "cost", "zoo:"], "zoo:"),
        ("gfx cost a : b : c", 6, ["gfx", "cost", "a:b:c"], "a:b:"),
        ("gfx cost zoo : un --top 3", 6, ["gfx", "cost", "zoo:un", "--top", "3"], ""),
        ("gfx cost un", 2, ["gfx", "cost", "un"], ""),
    ],
)
def test_words_that_bash_breaks_at_colons_are_joined(words, place, joined, has):
    environ = {"COMP_WORDS": words, "COMP_CWORD": str(place)}
    assert join_words_at_colons(environ) == has
    assert environ["COMP_WORDS"].split() == joined


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (
            {"_GFX_COMPLETE": "complete_bash", "COMP_WORDS": "gfx\ncost\nzoo\n:\nsa"},
            ["sagan", "sagan_discriminator"],
        ),
        ({"_GFX_COMPLETE": "complete_bash", "COMP_WORDS": "gfx\npasses\nfus"}, ["fuse_batch_norm"]),
    ],
)
def test_the_shell_is_answered_without_torch(environ, said, tmp_path):
    words = environ["COMP_WORDS"].split("\n")
    code = (
        "import sys\n"
        "sys.argv = ['gfx']\n"
        "from gfx.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print('torch' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environ, "COMP_CWORD": str(len(words) - 1)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stderr.strip() == "False"
    assert done.stdout.split() == said


def ask(folder, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "gfx", *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(gfx.__file__).parents[1]), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    "words",
    [
        "gfx cost zoo:un",
        "gfx apply half zoo:un",
        "gfx bench small.gfx --against zoo:un",
        "gfx report small.gfx --original zoo:un",
    ],
)
def test_models_are_completed_wherever_one_is_taken(words, tmp_path):
    place = str(len(words.split()) - 1)
    how = {"_GFX_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": place}
    assert ask(tmp_path, **how).stdout.split() == ["zoo:unet_256"]
    for shell in ("zsh", "fish"):
        how = {"_GFX_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": words}
        said = ask(tmp_path, **how, _TYPER_COMPLETE_FISH_ACTION="get-args").stdout
        assert "unet_256" in said
        assert "dcgan" not in said


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_takes_the_script_and_it_is_installed(shell, tmp_path):
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    how = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "HOME": str(tmp_path)}
    shown = ask(tmp_path, "--show-completion", shell, **how)
    assert "_GFX_COMPLETE" in shown.stdout
    parsed = subprocess.run([program, "-n"], input=shown.stdout, capture_output=True, text=True)
    assert (parsed.returncode, parsed.stderr) == (0, "")
    assert ask(tmp_path, "--install-completion", shell, **how).returncode == 0
    files = [path.read_text() for path in tmp_path.rglob("*gfx*") if path.is_file()]
    assert any("_GFX_COMPLETE" in text for text in files)
