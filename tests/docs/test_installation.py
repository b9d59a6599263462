"""What an installation holds, and what a newcomer's commands need of it."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
IMPORTED = {"pillow": "PIL", "PyYAML": "yaml", "gan-face-generate": "gan_face_generate"}
IMPORTED |= {"animal-mnist": "animal_mnist", "resvg-py": "resvg_py"}


def test_gfx_is_found_from_the_folder_above_a_clone_of_its_name(tmp_path):
    # a folder without __init__.py is a namespace package, and loses only to a package on sys.path
    (tmp_path / "gfx" / "gfx").mkdir(parents=True)
    code = "import gfx, passes; print(gfx.apply.__module__, gfx.Recipe.load('half').about)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("gfx.pipeline"), done.stderr


def test_a_wheel_holds_every_recipe_and_page(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("gfx", "passes", "recipes", "pyproject.toml", "setup.py", "README.md", "LICENSE"):
        (copy / name).symlink_to(ROOT / name)
    done = subprocess.run(
        [*command, "-w", str(tmp_path), str(copy)], capture_output=True, text=True, check=False
    )
    if "No module named pip" in done.stderr:
        pytest.skip("this environment has no pip")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {f"gfx/recipes/{path.name}" for path in (ROOT / "recipes").glob("*.yaml")}
    for pattern in ("*.py", "*.html", "*.css", "py.typed"):
        wanted |= {str(path.relative_to(ROOT)) for path in (ROOT / "gfx").rglob(pattern)}
    assert sorted(wanted - held) == []
    assert {name.partition("/")[0] for name in held if "dist-info" not in name} == {"gfx", "passes"}


def test_what_an_example_of_the_readme_imports_was_installed_above_it():
    installed = _modules(PROJECT["dependencies"])
    blocks = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    seen = 0
    for line in "".join(blocks).splitlines():
        if "[test]" not in line:  # a reader need not run the tests first
            installed |= _installed_by(line)
        for script in re.findall(r"python (\S+\.py)", line):
            missing = _imports(ROOT / script) - installed - {"gfx"} - sys.stdlib_module_names
            assert missing == set(), f"{script} is run before they are installed"
            seen += 1
    assert seen


def _installed_by(line):
    """Lists what the pip commands of a line install, by the names they are imported by."""
    found = set()
    for extras in re.findall(r"pip install [^&]*\[([\w,]+)\]", line):
        for extra in extras.split(","):
            found |= _modules(PROJECT["optional-dependencies"][extra])
    return found | _modules(re.findall(r"\S+==\S+", line))


def _modules(requirements):
    names = [re.split(r"[>=<\[]", requirement)[0] for requirement in requirements]
    return {IMPORTED.get(name, name) for name in names}


def _imports(script):
    found = set()
    for node in ast.walk(ast.parse(script.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found
