"""`gfx report` of the folder of a run: how far it is, its stages and scores, its page."""

import json
import shlex

import pytest
from typer.testing import CliRunner

from gfx.cli.commands import app
from gfx.cli.run_tables import _command
from gfx.io.yaml_text import dump
from support.picture_folders import write_pictures
from support.run_folders import SAID, write_run


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "120"})


def said(result):
    """What stderr says, without the frame around it."""
    return " ".join(result.stderr.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split())


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path / "shoes", ended=1, taken=300, pictures=False)


def test_a_run_that_goes_on_is_told(folder):
    result = run("report", folder)
    assert result.exit_code == 0, result.stderr
    lines = " ".join(result.stdout.split())
    for part in (
        "the run of two-stages on a ResnetGenerator",
        "unfinished: stage 2 of 2 (fine), step 300 of 600",
        f"assumed: {SAID[1]}",
        "given 50,000,000 40,000 0",
        "distill 20,000,000 10,000 900 l1 0.1, psnr 25",
        "fine 20,000,000 10,000 300/600",
        "estimated: 3 min of training, 512 MB of memory",
        "gfx compress two-stages MODEL --data '/data/my shoes' -o FILE",
    ):
        assert part in lines, part


def test_a_finished_run_is_told(tmp_path):
    result = run("report", write_run(tmp_path / "run", pictures=False))
    assert "finished: 2 stages" in result.stdout
    assert "gfx compress" not in result.stdout


def test_as_json_it_is_for_programs(folder):
    data = json.loads(run("report", folder, "--json").stdout)
    assert (data["finished"], data["taken"]) == (False, {"distill": 900, "fine": 300})
    assert data["scores"] == {"distill": {"l1": 0.1, "psnr": 25.0}}
    assert [stage["name"] for stage in data["plan"]["stages"]] == ["given", "distill", "fine"]


def test_the_page_is_written_where_it_is_asked_for(folder, tmp_path):
    page = tmp_path / "page.html"
    result = run("report", folder, "--html", page)
    assert result.exit_code == 0, result.stderr
    assert f"wrote {page} ({page.stat().st_size:,} bytes)" in result.stderr
    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert not (folder / "report.html").exists()


def test_a_page_does_not_replace_a_file_of_the_run(folder):
    before = (folder / "log.jsonl").read_bytes()
    result = run("report", folder, "--html", folder / "log.jsonl")
    assert result.exit_code == 2
    assert "in the folder of the run; end it in .html" in said(result)
    assert (folder / "log.jsonl").read_bytes() == before
    assert run("report", folder, "--html", folder / "report.html").exit_code == 0


def test_another_folder_is_no_run(tmp_path):
    result = run("report", tmp_path)
    assert result.exit_code == 1
    assert "is a folder without recipe.yaml, so no run of gfx compress" in result.stderr


@pytest.mark.parametrize("option", ["--png", "--original"])
def test_what_is_for_files_is_refused(folder, option):
    result = run("report", folder, option, "a.png")
    assert result.exit_code == 2
    assert "is for a .gfx file; a run has --html, --json" in said(result)


def test_damaged_files_are_notes(folder):
    (folder / "plan.json").write_text("{")
    result = run("report", folder)
    assert result.exit_code == 0, result.stderr
    assert "note: plan.json cannot be read (JSONDecodeError" in result.stdout
    assert "stage 2 of 2 (fine), step 300" in result.stdout


def test_no_line_of_a_command_is_wider_than_the_screen(monkeypatch):
    monkeypatch.setattr("gfx.cli.run_tables.columns_of_screen", lambda: 40)
    for length in range(1, 33):
        lines = _command(["gfx", *["a" * length] * 12, "end"]).splitlines()
        assert all(len(line) <= 40 for line in lines)
        per_line = max(1, 35 // (length + 1))  # no line has room for one more word
        assert len(lines) <= 1 + -(-14 // per_line)


def test_the_command_that_it_gives_goes_on(tmp_path):
    recipe = tmp_path / "my own system of one stage that is given a very long name.yaml"
    fit = {"teacher": "given", "discriminator": "none", "losses": {"mimic": 1}, "steps": 3}
    recipe.write_text(dump({"stages": {"train": {"fit": fit}}}))
    write_pictures(tmp_path / "in", 6, (32, 32))
    model = "zoo:resnet_9blocks?ngf=4&image_size=32"
    options = ["--no-flip", "--metric", "psnr", "--seed", "5", "--range", "-1..1", "--time", "1e-9"]
    begun = run("compress", recipe, model, "--data", tmp_path / "in", "-o", tmp_path / "small.gfx",
                "--run", tmp_path / "run", *options)  # fmt: skip
    assert begun.exit_code == 0, begun.stderr
    told = run("report", tmp_path / "run").stdout
    assert "my own system of one stage that is given a very long name on a" in " ".join(
        told.split()
    )
    command = told[told.index("gfx compress ") :]
    assert all(len(line) <= 120 or len(line.split("'")) > 1 for line in command.splitlines())
    words = shlex.split(command.replace("\\\n", ""))[1:]
    filled = {"MODEL": model, "FILE": str(tmp_path / "small.gfx")}
    ended = run(*(filled.get(word, word) for word in words))
    assert ended.exit_code == 0, ended.stderr
    assert "finished: 1 stage" in run("report", tmp_path / "run").stdout
