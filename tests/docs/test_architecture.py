"""The map of docs/architecture.md is true, and the packages are in the order that it states."""

import ast
import re
import tomllib
from collections import Counter
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[2]
MAP = (ROOT / "docs" / "architecture.md").read_text("utf-8")
ROWS = re.findall(r"^\| (.+?) \| `(\S+?\.py)` \| `(\w+)` \|$", MAP, re.MULTILINE)
FILES = sorted(path for top in ("gfx", "passes") for path in (ROOT / top).rglob("*.py"))
TREES = {path: ast.parse(path.read_text("utf-8")) for path in FILES}
# a command of the shell is in the file of its name
ENDS = (".py", ".md")
COMMANDS = {f"gfx/cli/{name}.py" for name in ("cost", "report")}
PACKAGES = sorted(path.parent for path in (ROOT / "gfx").glob("*/__init__.py"))
PASSES = sorted(path.stem for path in (ROOT / "passes").glob("*.py") if path.stem != "__init__")


def defined(tree: ast.Module) -> set[str]:
    """Lists the names that a module binds at its top level."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_the_map_has_at_least_forty_rows_and_names_nothing_twice() -> None:
    assert len(ROWS) >= 40
    assert len(ROWS) == MAP.count("\n| ") - 1  # every row but the heading was read
    assert len({change for change, _, _ in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("change", "file", "name"), ROWS)
def test_a_row_of_the_map_names_a_file_and_what_it_defines(
    change: str, file: str, name: str
) -> None:
    assert (ROOT / file).is_file(), change
    assert name in defined(TREES[ROOT / file])


def test_the_map_shows_every_package() -> None:
    picture = re.search(r"```text\n(.*?)```", MAP, re.DOTALL)[1]
    missing = [p.name for p in PACKAGES if not re.search(rf"\b{p.name}\b", picture)]
    assert missing == []


def test_the_linter_knows_every_package_and_keeps_siblings_apart() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    layers, *rest = project["tool"]["importlinter"]["contracts"]
    named = {name for layer in layers["layers"] for name in re.split(r"[ |]+", layer)}
    there = {module_of(path / "__init__.py") for path in PACKAGES}
    there |= {f"gfx.{path.stem}" for path in (ROOT / "gfx").glob("*.py") if path.stem[0] != "_"}
    assert named == there | {"passes"}
    assert not any(":" in layer for each in (layers, *rest) for layer in each.get("layers", ()))


def test_no_file_name_occurs_twice() -> None:
    paths = [path for path in FILES if path.name != "__init__.py"]
    counted = Counter(p.name for p in paths if str(p.relative_to(ROOT)) not in COMMANDS)
    assert {name: count for name, count in counted.items() if count > 1} == {}


def test_no_class_name_occurs_twice() -> None:
    classes = Counter(
        node.name
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    )
    assert {name: count for name, count in classes.items() if count > 1} == {}


def test_no_files_import_each_other_in_a_circle() -> None:
    modules = {module_of(path) for path in FILES}
    graph: nx.DiGraph[str] = nx.DiGraph()
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    graph.add_edge(module_of(path), inner if inner in modules else node.module)
            elif isinstance(node, ast.Import):
                graph.add_edges_from((module_of(path), alias.name) for alias in node.names)
    assert [sorted(c) for c in nx.strongly_connected_components(graph) if len(c) > 1] == []


def test_every_package_has_a_folder_of_tests() -> None:
    there = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert {path.name for path in PACKAGES} - there == set()


def test_every_pass_has_a_file_of_tests() -> None:
    there = {path.stem for path in (ROOT / "tests" / "passes").glob("test_*.py")}
    assert {f"test_{name}" for name in PASSES} - there == set()


def test_no_pass_is_longer_than_two_hundred_lines() -> None:
    lengths = {
        name: len((ROOT / "passes" / f"{name}.py").read_text("utf-8").splitlines())
        for name in PASSES
    }
    assert {name: length for name, length in lengths.items() if length > 200} == {}


def test_a_new_pass_needs_at_most_three_imports_of_gfx() -> None:
    guide = (ROOT / "docs" / "writing-a-pass.md").read_text("utf-8")
    example = re.search(r"```python\n(.*?)```", guide, re.DOTALL)[1]
    imported = [n for n in ast.walk(ast.parse(example)) if isinstance(n, ast.ImportFrom)]
    assert 1 <= sum((node.module or "").split(".")[0] == "gfx" for node in imported) <= 3


def test_nothing_below_the_shell_names_a_built_in_pass_in_its_messages() -> None:
    named = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, tree in TREES.items()
        if path.parts[-2] != "passes"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        # `widths` is an argument's name too
        and node.value.startswith(tuple(f"{name}: " for name in PASSES if name != "widths"))
    ]
    assert named == []


def test_every_file_and_module_that_is_mentioned_exists() -> None:
    kept = {"CHANGELOG.md", "former_names.py", "test_archive.py", "test_architecture.py"}
    tops = "gfx passes tests benchmarks examples docs".split()
    texts = [
        path for top in tops for ext in ("py", "md") for path in (ROOT / top).rglob(f"*.{ext}")
    ]
    modules = {module_of(path) for path in FILES}
    stale = []
    for path in [ROOT / "README.md", *texts]:
        if path.name in kept:
            continue
        text = path.read_text("utf-8")
        files = re.findall(rf"(?<![\w/.])((?:{'|'.join(tops)})/[\w/.-]+\.(?:py|md|css|html))", text)
        stale += [(path.name, name) for name in files if not (ROOT / name).exists()]
        for name in re.findall(r"from (gfx(?:\.\w+)+) import", text):
            if name not in modules:
                stale.append((path.name, name))
    assert stale == []
