"""One way to do a thing: stepping through graphs, globs, hints, random state, names in messages."""

import re
from pathlib import Path

import pytest

import gfx
import passes as builtin
from gfx.pipeline.registry import passes

SOURCES = {
    path: path.read_text("utf-8")
    for package in (gfx, builtin)
    for path in Path(str(package.__file__)).parent.rglob("*.py")
}


@pytest.mark.parametrize(
    ("pattern", "home"),
    [
        (r"\bfx\.Interpreter\b", "interpreter.py"),
        (r"\bfnmatch", "globs.py"),
        (r"\bget_close_matches\b", "errors.py"),
        (r"\bfork_rng\b", "random_state.py"),
    ],
)
def test_a_helper_is_the_only_one_of_its_kind(pattern: str, home: str) -> None:
    users = {path.name for path, text in SOURCES.items() if re.search(pattern, text)}
    assert users == {home}


def test_the_library_names_no_pass_in_its_messages() -> None:
    names = "|".join(map(re.escape, passes().keys() - {"widths"}))  # an argument's name too
    begins = re.compile(rf'"(?:{names}): ')
    named = [path for path, text in SOURCES.items() if begins.search(text)]
    assert [path for path in named if path.parent.name != "passes"] == []
