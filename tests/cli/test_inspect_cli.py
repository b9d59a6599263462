"""`gfx inspect` shows what gfx.inspect finds, writes files whole, and explains what is wrong."""

import csv
import errno
import io
import json
import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import gfx
from gfx.cli import app
from gfx.cli import inspect_tables as findings
from gfx.cli import output_files as outputs

MODEL = "zoo:dcgan?ngf=4"
ONE = ("--batches", "1")


def run(*arguments):
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)])


def done(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


def assert_error(result, *parts, code=1):
    assert result.exit_code == code, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    for part in parts:
        assert part in " ".join(result.stderr.replace("│", " ").split()), part


def rows(result):
    return json.loads(result.stdout)["rows"]


@pytest.fixture
def model(tmp_path):
    """A file with a model of plain layers that takes images of 12x12."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    torch.save(nn.Sequential(*layers, nn.Conv2d(8, 3, 3, padding=1)), tmp_path / "m.pt")
    return tmp_path / "m.pt"


SIZE = ("--input", "1x3x12x12")


# what is printed


def test_the_tables_tell_layers_stages_and_how_they_came_about():
    printed = done(MODEL, *ONE).stdout
    for text in ("relative_l2", "no data was given: 1 batch of noise", "5 layers", "decompose"):
        assert text in printed
    for layer in ("project.conv", "up.0.conv", "to_rgb"):
        assert layer in printed
    assert "to_rgb: not free: its channels are the model's output" in printed
    assert printed.index("5 layers") < printed.index("stages: ")


def test_json_is_the_table_of_python_and_nothing_else():
    table = gfx.inspect(_built(), torch.randn(1, 100, 1, 1), batches=1, seed=0)
    assert json.loads(done(MODEL, *ONE, "--json").stdout) == json.loads(json.dumps(table.to_dict()))


def _built():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return gfx.zoo.build("dcgan", ngf=4).eval()


def test_csv_has_one_line_a_layer_on_stdout_or_in_a_file(tmp_path):
    printed = done(MODEL, *ONE, "--csv", "-").stdout
    done(MODEL, *ONE, "--csv", tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == printed
    read = list(csv.DictReader(io.StringIO(printed)))
    table = rows(done(MODEL, *ONE, "--json"))
    assert [row["layer"] for row in read] == [row["layer"] for row in table]
    for got, row in zip(read, table, strict=True):
        assert float(got["damage:decompose"]) == row["damage"]["decompose"]
        assert got["saved:0.5"] == ("" if row["saved"]["0.5"] is None else str(row["saved"]["0.5"]))
        assert got["outputs"] == "x".join(map(str, row["outputs"]))


@pytest.mark.parametrize("columns", [60, 100, 200])
def test_every_layer_is_printed_on_narrow_and_wide_terminals(columns, monkeypatch):
    monkeypatch.setattr(findings, "columns_of_screen", lambda: columns)
    printed = done(MODEL, *ONE).stdout
    for text in ("project.conv", "up.0.conv", "leave"):
        assert text in printed


def test_options_reach_the_table(model):
    asked = ("--kind", "spatial", "--rank", "2", "--seed", "3", "--tolerate", "10", "--layers", "2")
    result = done(model, *SIZE, *asked, *ONE, "--metric", "psnr", "--json")
    facts = json.loads(result.stdout)["facts"]
    assert facts["form"] == "spatial, rank 2, norm none, init svd"
    assert (facts["seed"], facts["tolerate"], facts["metric"]) == (3, 10.0, "psnr")
    assert [row["layer"] for row in rows(result)] == ["2"]
    assert rows(result)[0]["recommend"] != "leave"


def test_fast_is_an_estimate_and_says_so():
    assert "estimated from one backward (fast)" in done(MODEL, *ONE, "--fast").stdout
    assert_error(run(MODEL, "--fast", "--metric", "psnr"), "fast ranks by relative_l2")


def test_a_metric_whose_values_are_better_higher_is_shown_as_it_is(model):
    result = done(model, *SIZE, *ONE, "--metric", "psnr", "--json")
    printed = done(model, *SIZE, *ONE, "--metric", "psnr").stdout
    for row in rows(result):
        assert f"{row['value']['decompose']:.3g}" in printed


def test_a_metric_and_an_extractor_of_ones_own(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_metrics.py").write_text(
        "def largest(teacher, student):\n    return float((student - teacher).abs().max())\n"
        "def halves():\n    return lambda images: images[..., ::2]\n"
        "def nothing():\n    return 3\n"
        "def broken():\n    raise OSError('no weights')\n"
    )
    own = json.loads(done(model, *SIZE, *ONE, "--metric", "own_metrics:largest", "--json").stdout)
    assert own["facts"]["metric"] == "largest"
    feature = (model, *SIZE, *ONE, "--metric", "feature", "--extractor")
    got = json.loads(done(*feature, "own_metrics:halves", "--json").stdout)
    assert got["facts"]["metric"] == "feature"
    assert_error(run(*feature, "own_metrics:nothing"), "gave a int, which cannot be called")
    assert_error(run(*feature, "own_metrics:broken"), "failed: OSError: no weights")
    assert_error(run(*feature, "own_metrics:missing"), "own_metrics has no 'missing'; it")
    assert_error(run(*feature, "halves"), "--extractor 'halves' is not of the form package.module")


# files


def test_all_files_are_written_in_one_go(tmp_path):
    files = {name: tmp_path / f"a.{name}" for name in ("html", "csv", "png", "yaml")}
    asked = ("--html", files["html"], "--csv", files["csv"], "--plot", files["png"])
    result = done(MODEL, *ONE, *asked, "--emit-recipe", files["yaml"], "--budget", "0.5")
    for file in files.values():
        assert f"wrote {file} ({file.stat().st_size:,} bytes)" in result.stderr
    assert files["html"].read_text("utf-8").startswith("<!doctype html>")
    with Image.open(files["png"]) as picture:
        assert picture.width > picture.height > 300
    assert gfx.Recipe.load(files["yaml"]).budget == {"macs": 0.5}
    assert sorted(tmp_path.iterdir()) == sorted(files.values())


def test_a_file_that_cannot_be_written_is_told_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "gfx.reports.sensitivity.inspect", lambda *_: pytest.fail("the work has begun")
    )
    for option, name in (("--html", "a.html"), ("--csv", "a.csv"), ("--plot", "a.png")):
        result = run(MODEL, option, tmp_path / "no" / name)
        assert_error(result, f"error: cannot write {tmp_path / 'no' / name}", "there is no folder")
    assert_error(run(MODEL, "--html", tmp_path), "it is a folder; name a file in it")
    twice = ("--html", tmp_path / "a", "--csv", tmp_path / "a")
    assert_error(run(MODEL, *twice), "is to be written twice", code=2)


def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "a.html").write_text("old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    result = run(MODEL, *ONE, "--html", tmp_path / "a.html")
    assert_error(result, "error: cannot write", "the disk is full; nothing was written")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_nothing_is_written_if_one_file_cannot_be_made(tmp_path):
    asked = ("--html", tmp_path / "a.html", "--emit-recipe", tmp_path / "a.yaml")
    result = run(MODEL, *ONE, *asked, "--budget", "macs=0.0001")
    assert_error(
        result, "do not meet the budget: macs (exact) is to be at most", "raise the budget"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_plot_without_matplotlib_is_told_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run(MODEL, "--plot", tmp_path / "a.png")
    assert_error(result, "plotting needs matplotlib", "pip install 'gfx-compiler[plot]'")


# bad input


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--metric", "snr"), ["there is no metric 'snr'; did you mean 'psnr'?"]),
        (("--metric", "feature"), ["--metric feature needs --extractor PKG.MOD:FACTORY"]),
        (("--extractor", "a:b"), ["is for --metric feature, and the metric is relative_l2"]),
        (("--metric", "nowhere:f"), ["--metric nowhere: there is no module 'nowhere' in "]),
        (("--metric", "math:pi"), ["--metric math:pi is a float, no function"]),
        (("--layers", "upp.0.conv"), ["is named 'upp.0.conv'; did you mean 'up.0.conv'?"]),
        (("--layers", "up"), []),
        (("--rank", "0"), ["rank=0 must be an integer of at least 1"]),
        (("--kind", "spatial", "--norm", "instance"), ["norm=instance goes between a depthwise"]),
        (("--input", "1x7x1x1"), ["error: "]),
        (("--metric", "ssim", "--layers", "up.0.conv"), []),
    ],
)
def test_what_is_asked_for_wrongly_is_explained(arguments, parts):
    if parts:
        assert_error(run(MODEL, *ONE, *arguments), *parts)
    else:
        done(MODEL, *ONE, *arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--json", "--csv", "-"), "both go to stdout"),
        (("--budget", "0.5"), "give that too"),
        (("--budget", "mac=0.5", "--emit-recipe", "a.yaml"), "did you mean 'macs'?"),
        (("--budget", "much", "--emit-recipe", "a.yaml"), "no positive number"),
        (("--plot", "a.jpg"), "must end in .png"),
        (("--rank", "two"), "is no number such as 2"),
        (("--kind", "tensor"), "--kind"),
        (("--data", "nowhere"), "does not exist"),
        (("--batches", "0"), "--batches"),
    ],
)
def test_a_wrong_command_line_exits_with_2(arguments, said):
    assert_error(run(MODEL, *arguments), "Usage: ", said, code=2)


def test_a_folder_of_images_is_looked_at_and_told(model, tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(3):
        Image.new("RGB", (20, 16), (80 * number, 40, 90)).save(tmp_path / f"images/{number}.png")
    printed = done(model, *SIZE, "--data", tmp_path / "images").stdout
    assert "ran on 3 batches of the data" in printed
    assert "were made up" not in printed


def test_images_that_will_not_do_are_explained(model, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    asked = (model, *SIZE, "--data", images)
    assert_error(run(*asked), f"{images} holds no images (.bmp")
    Image.new("RGB", (20, 10)).save(images / "small.png")
    too_small = ("small.png is 20 wide and 10 high", "images 12 wide and 12 high", "at most 10x10")
    assert_error(run(*asked), *too_small)
    done(model, "--input", "1x3x10x10", *ONE, "--data", images)
    assert_error(run(MODEL, "--data", images), "the model takes 1x100x1x1, which is none")


def test_values_that_are_not_finite_are_told_with_their_layer(tmp_path):
    broken = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1))
    broken[1].weight.data[0] = float("nan")
    torch.save(broken, tmp_path / "m.pt")
    assert_error(run(tmp_path / "m.pt", *SIZE), "1", "not finite")


def test_an_interrupted_inspection_writes_nothing(tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("gfx.inspect", interrupt)
    result = run(MODEL, "--html", tmp_path / "a.html")
    assert_error(result, "interrupted; nothing was written", code=130)
    assert list(tmp_path.iterdir()) == []


# progress, processes


def test_progress_tells_each_change_on_each_batch():
    told = []
    model = gfx.zoo.build("dcgan", ngf=4)
    table = gfx.inspect(model, batches=2, progress=told.append)
    changes = {(row.layer, "decompose") for row in table if row.damage["decompose"] is not None}
    changes |= {(row.group, share) for row in table if row.free for share in row.widths}
    counted = [event for event in told if event.what.startswith("measuring damage: ")]
    assert [event.done for event in counted] == list(range(1, 2 * len(changes) + 1))
    assert {event.total for event in counted} == {2 * len(changes)}
    names = {event.what.removeprefix("measuring damage: ") for event in counted}
    assert names == {name for name, _ in changes}


def test_a_table_knows_the_program_that_it_is_about():
    table = gfx.inspect(gfx.zoo.build("dcgan", ngf=4), layers="up.*")
    assert {row.layer for row in table} < set(dict(table.program.module.named_modules()))
    assert table.form.kind == "depthwise_separable"
    assert "program" not in repr(table.filter(stage="up"))


def test_of_several_processes_only_the_first_prints_and_writes(tmp_path):
    command = [sys.executable, "-m", "gfx", "inspect", MODEL, *ONE, "--json"]
    command += ["--html", str(tmp_path / "a.html")]
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, **together, "RANK": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    (first, said), (second, silent) = [each.communicate(timeout=300) for each in started]
    assert [each.returncode for each in started] == [0, 0], said + silent
    assert json.loads(first) == json.loads(done(MODEL, *ONE, "--json").stdout)
    assert "wrote " in said
    assert (second, silent) == ("", "")
    assert [file.name for file in tmp_path.iterdir()] == ["a.html"]


def _free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_what_writes_makes_everything_before_it_writes_anything(tmp_path, monkeypatch):
    written = outputs.Outputs(html=tmp_path / "a.html", recipe=tmp_path / "a.yaml")
    monkeypatch.setattr("gfx.reports.sensitivity.sensitivity_page.page", lambda table: "page")
    with pytest.raises(gfx.InputError, match="the table knows no program"):
        written.write(SimpleNamespace(program=None, form=None))
    assert list(tmp_path.iterdir()) == []
