"""What commands print fits the screen, and no name in it is cut."""

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from collections import OrderedDict

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import gfx
from gfx.cli.commands import EXAMPLES, app
from gfx.cli.screen import print_table
from gfx.io.text_lines import display_width, wrapped
from gfx.pipeline.recipe import shipped

LONG = "a_module_with_a_name_that_people_give_when_they_want_to_be_quite_clear_about_it"
WIDE = "生成器のとても長い名前を持つ層です🎨🎨" * 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two models, one of long names, and a result with its report."""
    at = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    inner = nn.Sequential(OrderedDict({LONG: nn.Conv2d(8, 8, 3, padding=1), "act": nn.ReLU()}))
    net = nn.Sequential(
        OrderedDict({"stem": nn.Conv2d(3, 8, 3, padding=1), LONG: inner, "out": nn.Conv2d(8, 3, 1)})
    )
    x = torch.zeros(1, 3, 16, 16)
    gfx.save(gfx.trace(net.eval(), x).module, at / "long.gfx")
    deep = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    for name in ("body", LONG, "层", LONG, WIDE):
        deep = nn.Sequential(OrderedDict({name: deep, "绘": nn.Conv2d(3, 3, 1)}))
    gfx.save(gfx.trace(deep.eval(), x).module, at / "wide.gfx")
    gfx.save(gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5}}]}, net, x), at / "small.gfx")
    (at / "quick.yaml").write_text("passes: [{channel_prune: {ratio: 0.5}}]")
    return at


COMMANDS = [
    "cost long.gfx",
    "cost wide.gfx",
    "channels wide.gfx",
    "inspect wide.gfx --fast",
    "apply quick.yaml wide.gfx -o half.gfx",
    "bench wide.gfx --rounds 5 --warmups 1 --no-memory",
    "cost zoo:stargan?ngf=8&image_size=32",
    "channels long.gfx",
    "channels zoo:sagan?ngf=8",
    "channels zoo:spade?ngf=4&height=64&width=128",
    "inspect long.gfx --fast",
    "inspect zoo:dcgan?ngf=4 --fast",
    "apply quick.yaml long.gfx -o half.gfx",
    "apply half-refit zoo:dcgan?ngf=8 -o half.gfx",
    "report small.gfx",
    "bench long.gfx --rounds 5 --warmups 1 --no-memory",
    "export small.gfx -o small.pt2 --force",
    "recipes",
    "recipes half-refit",
    "passes",
    "passes channel_prune",
    "zoo",
    "zoo spade",
]


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_is_wider_than_the_screen(folder, monkeypatch, command, columns):
    monkeypatch.chdir(folder)
    done = CliRunner(env={"COLUMNS": str(columns)}).invoke(app, shlex.split(command))
    assert done.exit_code == 0, done.output
    for line in done.stdout.splitlines():
        assert display_width(line) <= columns, line
        assert line == line.rstrip(), repr(line)
    assert "…" not in done.stdout


def test_a_letter_of_two_columns_counts_as_two():
    assert [display_width(text) for text in ("conv", "層", "🎨", "é", "e\u0301")] == [4, 2, 2, 1, 1]


@pytest.mark.parametrize("columns", [2, 7, 16, 40, 80])
@pytest.mark.parametrize(
    "text", ["", "  a b", f"{LONG}.{WIDE}", f"x {WIDE} y.{LONG}: z", "a" * 300]
)
def test_broken_text_holds_every_letter_and_fits(text, columns):
    lines = wrapped(text, columns)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert max(map(display_width, lines)) <= columns


def test_a_name_is_broken_at_its_dots():
    lines = wrapped("reads up.0.conv.weight of the_long_part.x", 14)
    assert lines == ["reads", "  up.0.conv.", "  weight of", "  the_long_par", "  t.x"]


@pytest.mark.parametrize("command", ["cost", "channels", "inspect --fast", "report"])
def test_a_name_wider_than_the_screen_is_printed_whole(folder, monkeypatch, command):
    monkeypatch.chdir(folder)
    runner = CliRunner(env={"COLUMNS": "80"})
    file = "wide.gfx"
    if command == "report":
        file = "half.gfx"
        runner.invoke(app, shlex.split("apply quick.yaml wide.gfx -o half.gfx"))
    done = runner.invoke(app, [*shlex.split(command), file])
    assert done.exit_code == 0, done.output
    assert f"{WIDE}.{LONG}.层.{LONG}.body.0" in "".join(done.stdout.split())


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_names_are_printed_whole(folder, monkeypatch, columns):
    monkeypatch.chdir(folder)
    runner = CliRunner(env={"COLUMNS": str(columns)})
    words, letters = set(), ""
    for command in ("cost long.gfx", "channels long.gfx", "recipes", "passes", "zoo"):
        text = runner.invoke(app, shlex.split(command)).stdout
        words |= {word.strip(",") for word in text.split()}
        letters += "".join(text.split())
    assert f"{LONG}.{LONG}" in letters
    assert {"stem", "out"} <= words
    assert set(shipped()) | set(gfx.passes()) | set(gfx.zoo.names()) <= words


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_gets_what_fits_it(folder, columns):
    theirs, ours = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {k: v for k, v in os.environ.items() if k != "COLUMNS"}
    command = [sys.executable, "-m", "gfx", "zoo"]
    with subprocess.Popen(command, stdout=ours, stderr=subprocess.DEVNULL, env=env) as process:
        os.close(ours)
        text = b""
        while True:
            try:
                part = os.read(theirs, 65536)
            except OSError:
                break
            if not part:
                break
            text += part
    os.close(theirs)
    assert process.returncode == 0
    lines = text.decode().splitlines()
    assert max(map(display_width, lines)) <= columns
    assert any(len(line) > columns - 25 for line in lines)


def test_without_a_terminal_and_columns_the_screen_has_80(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table(("name", "text"), [("a", "word " * 40)])
    lines = capsys.readouterr().out.splitlines()
    assert 70 < max(map(len, lines)) <= 80


def test_a_table_that_does_not_fit_becomes_blocks(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    print_table(("layer", "#MACs", "read by"), [("a.long.layer.name", "1.00 G", "b, c")])
    assert capsys.readouterr().out == "\na.long.layer.name\n  MACs: 1.00 G\n  read by: b, c\n\n"


def test_a_word_goes_on_in_the_next_line():
    assert wrapped("read by: a.name.of.30.characters.or.so", 12) == [
        "read by:",
        "  a.name.of.",
        "  30.",
        "  characters",
        "  .or.so",
    ]


@pytest.mark.parametrize("command", EXAMPLES, ids=lambda command: command.__name__)
def test_the_example_of_a_help_runs(folder, monkeypatch, command):
    monkeypatch.chdir(folder)
    arguments = shlex.split(EXAMPLES[command])
    assert arguments[:2] == ["gfx", command.__name__]
    done = CliRunner().invoke(app, arguments[1:])
    assert done.exit_code == 0, done.output


def test_what_an_example_reads_is_written_by_another_that_is_named():
    (make,) = [command for command in EXAMPLES if command.__name__ == "apply"]
    written = EXAMPLES[make].split()[-1]
    for command, example in EXAMPLES.items():
        words = re.sub(r" -o \S+", "", example).split()  # what it writes itself
        files = [word for word in words if word.endswith(".gfx")]
        done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [command.__name__, "--help"])
        assert not files or (files == [written] and EXAMPLES[make] in done.stdout)


@pytest.mark.parametrize("command", EXAMPLES, ids=lambda command: command.__name__)
def test_a_help_ends_with_the_example(command):
    done = CliRunner(env={"COLUMNS": "80"}).invoke(app, [command.__name__, "--help"])
    last = " ".join(done.stdout.split("Example:")[-1].split())
    assert last == EXAMPLES[command]
