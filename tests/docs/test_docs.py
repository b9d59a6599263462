"""What the documents show runs, and prints what they say."""

import re
import sys
import tomllib
import types
from pathlib import Path

import pytest
import yaml
from torch import nn

from gfx.testing import check_pass

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "writing-a-pass.md").read_text("utf-8")


def fenced(kind, text=TEXT):
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


SHOWN = "pruning inspect decomposing repairing training speed supernets search".split()


@pytest.mark.parametrize("name", SHOWN)
def test_the_blocks_print_what_they_say(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / f"{name}.md").read_text("utf-8")
    names: dict[str, object] = {}
    for code, shown in zip(fenced("python", text), fenced("text", text), strict=True):
        exec(compile(code, name, "exec"), names)
        assert capsys.readouterr().out == shown


def plugin(monkeypatch):
    """Makes the module dropless of the first block: dataclasses look it up by name."""
    module = types.ModuleType("dropless")
    monkeypatch.setitem(sys.modules, "dropless", module)
    exec(compile(fenced("python")[0], "dropless.py", "exec"), vars(module))
    return module


def test_the_pass_in_the_text_works_as_printed(monkeypatch, capsys):
    module = plugin(monkeypatch)
    exec(compile(fenced("python")[1], "test_dropless.py", "exec"), vars(module))
    assert capsys.readouterr().out == fenced("text")[0]


def test_the_pass_in_the_text_keeps_the_laws_where_it_finds_nothing(monkeypatch):
    assert check_pass(plugin(monkeypatch).DropDropout()).refused == ()


def test_the_entry_point_and_the_recipe_name_what_is_there(monkeypatch):
    module = plugin(monkeypatch)
    project = tomllib.loads(fenced("toml")[0])
    (target,) = project["project"]["entry-points"]["gfx.passes"].values()
    name, _, attribute = target.partition(":")
    assert getattr(sys.modules[name], attribute) == (module.DropDropout,)
    (entry, _) = yaml.safe_load(fenced("yaml")[0])["passes"]
    assert module.DropDropout(**entry[module.DropDropout.name]).targets == ["up.*"]
    assert issubclass(nn.Dropout, nn.modules.dropout._DropoutNd)


def test_the_floors_in_the_text_are_the_floors_that_are_checked():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    modules = [m.strip().removeprefix("gfx.") for layer in layers for m in re.split("[:|]", layer)]
    missing = [m for m in modules if not re.search(rf"\b{re.escape(m)}\b", text)]
    assert missing == []
