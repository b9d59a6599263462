"""Help fits the screen and breaks no name."""

import re

import pytest
import typer
from typer.testing import CliRunner

from gfx.cli import app
from gfx.cli.commands import EXAMPLES


@pytest.mark.parametrize("verb", [command.__name__ for command in EXAMPLES])
def test_help_fits_and_breaks_no_name(verb):
    done = CliRunner(env={"COLUMNS": "80"}).invoke(app, [verb, "--help"])
    assert done.exit_code == 0
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []
    assert "…" not in done.stdout
    # what the column of values begins, in < > or [ ], ends on its line
    for line in done.stdout.splitlines():
        values = line.partition("  <")[2] or line.partition("  [")[2]
        assert not values or re.search(r"[>\]]", values), line


def test_a_seed_that_torch_does_not_take_is_a_wrong_command_line():
    for seed in ("-1", str(2**63)):
        done = CliRunner().invoke(app, ["bench", "zoo:dcgan", "--seed", seed])
        assert done.exit_code == 2


@pytest.mark.parametrize("command", EXAMPLES)
def test_examples_are_safe_in_every_shell(command):
    """Of a word with a question mark, zsh takes the mark for a pattern unless it is quoted."""
    assert not re.search(r"[?*&]", re.sub(r"'[^']*'", "", EXAMPLES[command]))


@pytest.mark.parametrize("verb", [command.__name__ for command in EXAMPLES])
def test_help_loses_no_name_in_brackets(verb):
    """Rich takes what is in brackets for a style, and leaves it out."""
    params = typer.main.get_command(app).commands[verb].params
    lost = [p.name for p in params if re.search(r"\w\[", getattr(p, "help", None) or "")]
    assert lost == []
