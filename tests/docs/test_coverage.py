"""docs/coverage.md: it is whole, nothing in it is wrong, and a sample of it can be repeated."""

import re
from pathlib import Path

import pytest

from support.coverage_models import names, one
from support.coverage_rows import measure
from support.coverage_text import COLUMNS, cells, line, render, split

TEXT = (Path(__file__).parents[2] / "docs" / "coverage.md").read_text("utf-8")
LINES = split(TEXT)
ROWS = {(key, cells(text)[0]): text for key, lines in LINES.items() for text in lines}
SUPERNET = re.compile(r"all|none|\d+ of \d+")
PEER = ("handled", "partly (", "nothing", "crash (", "wrong shape", "no end")
SAMPLE = [
    *(("patterns", n) for n in ("Grouped", "ShuffledGroups", "MergedBranches", "DepthMultiplier")),
    *(("zoo", n) for n in ("dcgan", "sagan")),
]


def test_every_published_and_reference_generator_has_a_row():
    for key in ("published", "zoo"):
        assert [name for section, name in ROWS if section == key] == names(key)


def test_rows_of_patterns_are_of_patterns_that_exist():
    assert {name for key, name in ROWS if key == "patterns"} <= set(names("patterns"))


def test_the_file_is_what_the_command_writes():
    assert render(LINES).partition("## ")[2] == TEXT.partition("## ")[2]


def test_no_row_is_wrong_or_a_traceback():
    for text in ROWS.values():
        row = cells(text)
        assert len(row) == len(COLUMNS), text
        assert row[5].startswith(("exact", "refused: ")), text
        assert "Traceback" not in text
        assert row[6] == "-" if row[5].startswith("refused") else SUPERNET.fullmatch(row[6]), text
        assert row[7].startswith(PEER), text


@pytest.mark.filterwarnings("ignore")  # torch-pruning warns of parameters outside of layers
@pytest.mark.parametrize(("section", "name"), SAMPLE, ids=[name for _, name in SAMPLE])
def test_a_row_can_be_repeated(section, name):
    assert line(measure(*one(section, name))) == ROWS[section, name]
