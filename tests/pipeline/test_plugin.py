"""A third party's pass: a real distribution, installed, found, run from a recipe."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch

import gfx

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "1.0"

[project.entry-points."gfx.passes"]
{name} = "{name}:PASSES"

[tool.setuptools]
py-modules = ["{name}"]
"""

MODULE = '''
"""Halves the bias of the last convolution."""

from dataclasses import dataclass
from typing import ClassVar

import gfx


@dataclass(frozen=True)
class HalveBias(gfx.Pass):
    name: ClassVar[str] = "{pass_name}"
    keeps: ClassVar[gfx.Keeps] = gfx.Keeps.SIGNATURE

    by: float = 0.5  # factor

    def apply(self, program: gfx.Program, context: gfx.Context) -> gfx.Outcome:
        outcome = gfx.Outcome()
        bias = program.tensor("to_rgb.bias")
        bias.data.mul_(self.by)
        outcome.change("to_rgb", "bias", 1.0, self.by)
        return outcome


PASSES = (HalveBias,)
'''

RUN = """
import torch
import gfx

model = torch.nn.Sequential()
model.add_module("to_rgb", torch.nn.Conv2d(3, 3, 1))
torch.nn.init.ones_(model.to_rgb.bias)
small = gfx.apply({"passes": [{"halve_bias": {"by": 0.25}}]}, model, torch.zeros(1, 3, 4, 4))
print(small.to_rgb.bias.tolist(), gfx.report(small).passes[0].name)
"""


def install(folder: Path, site: Path, name: str, pass_name: str) -> None:
    """Builds a distribution with one pass and installs it into a folder of its own."""
    source = folder / name
    source.mkdir()
    (source / "pyproject.toml").write_text(PYPROJECT.format(name=name))
    (source / f"{name}.py").write_text(MODULE.format(pass_name=pass_name))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation"]
    command += ["--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*command, "--target", str(site), str(source)], check=True, timeout=120)


def place(site: Path, name: str, pass_name: str) -> None:
    """Writes into a folder what pip writes there of such a distribution."""
    about = site / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[gfx.passes]\n{name} = {name}:PASSES\n")
    (site / f"{name}.py").write_text(MODULE.format(pass_name=pass_name))


def python(site: Path, code: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(p for p in (str(site), os.environ.get("PYTHONPATH")) if p)
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugin")
    install(folder, folder / "site", "halver", "halve_bias")
    return folder / "site"


def test_an_installed_plugins_pass_runs_from_a_recipe(site: Path) -> None:
    result = python(site, RUN)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "[0.25, 0.25, 0.25] halve_bias\n"


def test_without_the_plugin_its_pass_is_unknown(tmp_path: Path) -> None:
    result = python(tmp_path, RUN)
    assert result.returncode == 1
    assert "RecipeError: recipe: passes[0]: unknown pass 'halve_bias'" in result.stderr


def test_a_plugin_that_takes_a_builtin_name_is_an_error_that_names_both(tmp_path: Path) -> None:
    place(tmp_path, "thief", "fuse_batch_norm")
    result = python(tmp_path, "import gfx; gfx.passes()")
    assert result.returncode == 1
    assert "RegistryError: pass 'fuse_batch_norm' is offered twice: by" in result.stderr
    assert "gfx-compiler (passes.fuse_batch_norm.FuseBatchNorm)" in result.stderr
    assert "thief (thief.HalveBias)" in result.stderr


def test_a_plugin_with_a_budget_and_a_rank_gets_the_recipes_budget() -> None:
    given: list[gfx.Context] = []

    @dataclass(frozen=True)
    class LowRank(gfx.Pass):
        name: ClassVar[str] = "low_rank"
        keeps: ClassVar[gfx.Keeps] = gfx.Keeps.VALUES

        rank: int = 4
        budget: tuple[gfx.Budget, ...] | None = None

        def apply(self, program: gfx.Program, context: gfx.Context) -> gfx.Outcome:
            given.append(context)
            return gfx.Outcome()

    @dataclass(frozen=True)
    class Told(LowRank):
        name: ClassVar[str] = "told_rank"

        @property
        def takes_budget(self) -> bool:
            return False

    own = (gfx.Budget(limit=1e9),)
    passes = (LowRank(), LowRank(rank=2), Told(), LowRank(budget=own))
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1))
    recipe = gfx.Recipe(budget={"params": 12}, seed=5, passes=passes)
    small = gfx.apply(recipe, model, torch.zeros(1, 3, 4, 4))
    limits = [[(b.measure, b.limit) for b in context.budgets] for context in given]
    assert limits == [[("params", 12)], [("params", 12)], [], [("macs", 1e9)]]
    assert {context.seed for context in given} == {5}
    specs = [told.spec["budget"] for told in gfx.report(small).passes]
    assert [spec and spec[0]["limit"] for spec in specs] == [12, 12, None, 1e9]
