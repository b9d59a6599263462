"""The shell does what the library does, says what went wrong in one paragraph, and exits right."""

import errno
import json
import os
import pickle
import re
import subprocess
import sys
import threading

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import gfx
from gfx.cli import app, screen
from gfx.progress import live_line

MODEL = "zoo:dcgan?ngf=8"
# nothing to verify by hand here: the passes have their own tests
RECIPE = "recipe: 1\nseed: 0\npasses: [{channel_prune: {ratio: 0.5}}]\n"


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def shell(*arguments, **options):
    """Runs the command in a process of its own, as a user does."""
    command = [sys.executable, "-W", "ignore", "-c", "from gfx.cli import main; main()"]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=120, **options
    )


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        return self.last(self.first(x).relu())


# the main job


def test_apply_writes_a_smaller_model_and_prints_the_report(tmp_path, recipe):
    result = run("apply", recipe, MODEL, "-o", tmp_path / "small.gfx")
    assert result.exit_code == 0, result.stderr
    small = gfx.load(tmp_path / "small.gfx")
    params = sum(p.numel() for p in small.parameters())
    assert params < sum(p.numel() for p in gfx.zoo.build("dcgan", ngf=8).parameters())
    assert "channel_prune" in result.stdout
    assert f"{params:,}" in result.stdout
    assert f"wrote {tmp_path / 'small.gfx'}" in result.stderr
    assert not small.training


def test_apply_twice_gives_the_same_bytes(tmp_path, recipe):
    for name in ("a.gfx", "b.gfx"):
        assert run("apply", recipe, MODEL, "-o", tmp_path / name).exit_code == 0
    assert (tmp_path / "a.gfx").read_bytes() == (tmp_path / "b.gfx").read_bytes()
    assert run("apply", recipe, MODEL, "-o", tmp_path / "c.gfx", "--seed", 7).exit_code == 0
    assert (tmp_path / "a.gfx").read_bytes() != (tmp_path / "c.gfx").read_bytes()


def test_apply_as_json_prints_nothing_else_on_stdout(tmp_path, recipe):
    result = run("apply", recipe, MODEL, "-o", tmp_path / "small.gfx", "--json")
    printed = json.loads(result.stdout)
    assert printed["passes"][0]["name"] == "channel_prune"
    stored = json.loads(run("report", tmp_path / "small.gfx", "--json").stdout)
    assert stored["recipe"] == printed["recipe"]
    assert "channel_prune" in run("report", tmp_path / "small.gfx").stdout


def test_apply_to_its_own_output_needs_no_input(tmp_path, recipe):
    assert run("apply", recipe, MODEL, "-o", tmp_path / "a.gfx").exit_code == 0
    result = run("apply", recipe, tmp_path / "a.gfx", "-o", tmp_path / "a.gfx")
    assert result.exit_code == 0, result.stderr
    again = json.loads(run("cost", tmp_path / "a.gfx", "--json").stdout)
    assert again["nodes"][0]["shape"] == [1, 100, 1, 1]


def test_a_state_dict_with_a_factory_is_compressed(tmp_path, recipe, monkeypatch):
    torch.save(Small().state_dict(), tmp_path / "state.pt")
    options = ("--model", f"{__name__}:Small", "--input", "1x3x8x8")
    result = run("apply", recipe, tmp_path / "state.pt", "-o", tmp_path / "a.pt", *options)
    assert result.exit_code == 0, result.stderr
    small = gfx.open_model(tmp_path / "a.pt", trust=True)
    assert small(torch.zeros(1, 3, 8, 8)).shape == (1, 3, 6, 6)
    assert small.get_submodule("first").out_channels == 4


def test_no_verify_is_said_loudly(tmp_path, recipe):
    result = run("apply", recipe, MODEL, "-o", tmp_path / "small.gfx", "--no-verify")
    assert result.exit_code == 0
    assert "NOT VERIFIED" in result.stderr
    assert "NOT VERIFIED" in result.stdout


def test_a_pickled_module_keeps_its_mode_unless_eval_is_asked_for(tmp_path):
    torch.save(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), tmp_path / "m.pt")
    (tmp_path / "fuse.yaml").write_text("recipe: 1\npasses: [fuse_batch_norm]")
    command = ("apply", tmp_path / "fuse.yaml", tmp_path / "m.pt", "-o", tmp_path / "a.gfx")
    assert_error(run(*command, "--input", "1x3x4x4"), "fuse_batch_norm", "training mode")
    assert run(*command, "--input", "1x3x4x4", "--eval").exit_code == 0
    assert not gfx.load(tmp_path / "a.gfx").training


# tables


def test_cost_prints_totals_and_layers(tmp_path):
    result = run("cost", "zoo:dcgan", "--top", 2)
    assert result.exit_code == 0, result.stderr
    assert "MACs exact" in result.stdout
    assert "2 of " in result.stdout
    data = json.loads(run("cost", "zoo:dcgan", "--json").stdout)
    assert data["params"] == 3_576_704
    assert data["macs"]["output"] == 428_343_296


def test_cost_uses_the_input_that_is_asked_for(tmp_path):
    torch.save(nn.Sequential(nn.Conv2d(3, 4, 1)), tmp_path / "m.pt")
    counted = [
        json.loads(run("cost", tmp_path / "m.pt", "--input", shape, "--json").stdout)
        for shape in ("1x3x8x8", "1x3x16x16")
    ]
    assert [c["macs"]["exact"] for c in counted] == [768, 3072]


def test_channels_lists_groups_and_why_some_are_pinned():
    result = run("channels", MODEL)
    assert result.exit_code == 0, result.stderr
    assert "groups, " in result.stdout
    assert "pinned: " in result.stdout
    data = json.loads(run("channels", MODEL, "--json").stdout)
    assert any(group["free"] for group in data)
    assert all({"name", "size", "pinned", "exact"} <= group.keys() for group in data)


def test_channels_says_what_a_channel_of_a_norm_is(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.GroupNorm(4, 16), nn.Conv2d(16, 3, 1))
    torch.save(model, tmp_path / "m.pt")
    for option, size, exact in (("auto", 4, True), ("whole", 4, True), ("regroup", 4, False)):
        printed = run("channels", tmp_path / "m.pt", "--group-norm", option, "--json").stdout
        (group,) = [g for g in json.loads(printed) if g["free"]]
        assert (group["size"], group["exact"]) == (size, exact)
    assert run("channels", tmp_path / "m.pt", "--attention", "tails").exit_code == 2


@pytest.mark.parametrize(
    ("command", "entry"),
    [("recipes", "half"), ("passes", "channel_prune"), ("zoo", "resnet_9blocks")],
)
def test_lists_print_as_table_and_as_json(command, entry):
    assert entry in run(command).stdout
    assert entry in json.dumps(json.loads(run(command, "--json").stdout))


def test_zoo_options_are_read_from_the_name():
    widths = "zoo:mobile_resnet_9blocks?widths=16,16,32,16,32,32,16,16&image_size=256"
    data = json.loads(run("cost", widths, "--json").stdout)
    assert data["params"] == 356_867
    assert data["macs"]["output_norm"] == 2_546_204_672


# errors


def assert_error(result, *parts, code=1):
    assert result.exit_code == code
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    for part in parts:
        assert part in result.stderr


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("passes: [channel_prun]", ["unknown pass 'channel_prun'", "did you mean 'channel_prune'"]),
        ("passes: [{channel_prune: {ration: 1}}]", ["'ration'", "did you mean 'ratio'"]),
        ("passes: [{channel_prune: {ratio: 1.5}}]", ["ratio", "1.5"]),
        ("passes: [\n  {channel_prune: {ratio: 0.5}\n", ["line "]),
        ("budget: {macs: 0.000001}\npasses: []", ["exceeds the budget by"]),
    ],
)
def test_a_bad_recipe_is_explained_and_nothing_is_written(tmp_path, text, parts):
    path = tmp_path / "bad.yaml"
    path.write_text(f"recipe: 1\n{text}")
    assert_error(run("apply", path, MODEL, "-o", tmp_path / "a.gfx"), "error: ", *parts)
    assert [p.name for p in tmp_path.iterdir()] == ["bad.yaml"]


def test_an_unknown_recipe_is_explained(tmp_path):
    result = run("apply", "hlaf", MODEL, "-o", tmp_path / "a.gfx")
    assert_error(result, "error: unknown recipe 'hlaf'; did you mean 'half'?")


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("missing.pt", ["missing.pt does not exist"]),
        ("zoo:dcgam", ["no generator or discriminator 'dcgam'", "dcgan"]),
        ("zoo:dcgan?nfg=8", ["no option 'nfg'", "ngf"]),
        ("zoo:dcgan?ngf=many", ["ngf is 'many'"]),
        ("zoo:dcgan?ngf", ["zoo option 'ngf' has no value"]),
    ],
)
def test_an_unknown_model_is_explained(model, parts):
    assert_error(run("cost", model), "error: ", *parts)


def test_a_model_that_is_none_of_ours_is_explained(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "mark"),)

    (tmp_path / "hostile.pt").write_bytes(pickle.dumps(Hostile(), protocol=2))
    assert_error(run("cost", tmp_path / "hostile.pt"), "mkdir; nothing was executed", "--trust")
    (tmp_path / "text.pt").write_text("hello")
    assert_error(run("cost", tmp_path / "text.pt"), "is no model file")
    assert not (tmp_path / "mark").exists()


def test_an_input_that_does_not_run_is_explained():
    assert_error(run("cost", MODEL, "--input", "1x7x1x1"), "error: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("cost",),
        ("cost", MODEL, "--bogus"),
        ("cost", MODEL, "--input", "1x3y"),
        ("cost", MODEL, "--input", "1:int65"),
        ("cost", MODEL, "--top", "-1"),
        ("bogus",),
        ("apply", "half", MODEL),
        ("apply", "half", MODEL, "-o", "small.onnx"),
    ],
)
def test_a_wrong_command_line_exits_with_2(arguments):
    assert_error(run(*arguments), "Usage: ", code=2)


def test_an_output_that_cannot_be_written_is_told_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr("gfx.pipeline.apply", lambda *_: pytest.fail("the work has begun"))
    result = run("apply", "half", MODEL, "-o", tmp_path / "no" / "a.gfx")
    assert_error(result, "error: cannot write", "there is no folder")


def test_a_disk_that_fills_up_is_explained_and_nothing_is_left(tmp_path, recipe, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    result = run("apply", recipe, MODEL, "-o", tmp_path / "a.gfx")
    assert_error(result, "error: cannot write", "the disk is full; nothing was written")
    assert [p.name for p in tmp_path.iterdir()] == [recipe.name]


def test_an_unexpected_error_shows_no_traceback_unless_asked(monkeypatch):
    def broken(*arguments, **options):
        raise TypeError("a bug")

    monkeypatch.setattr("gfx.zoo.build", broken)
    assert_error(run("cost", MODEL), "error: internal error (TypeError: a bug); run again with --d")
    shown = run("cost", MODEL, "--debug")
    assert shown.exit_code == 1
    assert "Traceback" in shown.stderr
    assert "in broken" in shown.stderr


def test_a_report_of_a_file_without_one_is_explained(tmp_path):
    gfx.save(torch.fx.symbolic_trace(nn.Sequential(nn.ReLU())), tmp_path / "a.gfx")
    assert_error(run("report", tmp_path / "a.gfx"), "has no gfx report")


# the process as a whole


def test_the_shell_runs_as_a_process(tmp_path):
    (tmp_path / "code.py").write_text(
        "from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Conv2d(3, 4, 1))\n"
    )
    (tmp_path / "mine").mkdir()
    (tmp_path / "code.py").rename(tmp_path / "mine" / "net.py")
    torch.save(nn.Sequential(nn.Conv2d(3, 4, 1)).state_dict(), tmp_path / "s.pt")
    done = shell("cost", "s.pt", "--model", "mine.net:make", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["params"] == 16
    failed = shell("cost", "s.pt", cwd=tmp_path)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "Traceback" not in failed.stderr
    assert shell("cost").returncode == 2


def test_help_and_version_need_no_torch():
    command = "import sys; from gfx.cli import app; app(['--version'], standalone_mode=False); "
    done = subprocess.run(
        [sys.executable, "-c", command + "print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith("gfx")
    assert done.stdout.endswith("False\n")
    assert "apply" in run("--help").stdout


def test_work_that_takes_a_while_is_reported_on_stderr(capsys, monkeypatch):
    monkeypatch.setattr(live_line, "_PATIENCE", 0.0)
    monkeypatch.setattr(live_line, "_PAUSE", 0.02)
    seen = []

    def wait_for(line):
        for _ in range(1000):  # as long as a busy machine takes
            captured = capsys.readouterr()
            seen.extend(captured.err.splitlines())
            assert captured.out == ""
            if line in seen:
                return
            threading.Event().wait(0.02)

    with screen.Progress("opening") as progress:
        wait_for("opening …")
        progress.stage("counting")
        wait_for("counting …")
    assert list(dict.fromkeys(seen)) == ["opening …", "counting …"]


def test_quick_work_is_not_reported(capsys):
    with screen.Progress("opening") as progress:
        progress.stage("counting")
    assert capsys.readouterr().err == ""


def test_json_of_a_report_leaves_out_the_bytes_of_pictures(tmp_path, recipe):
    small = tmp_path / "small.gfx"
    applied = json.loads(run("apply", recipe, MODEL, "-o", small, "--json").stdout)
    stored = json.loads(run("report", small, "--json").stdout)
    for data in (applied, stored):
        assert "png" not in data["record"]["sample"]["output"]
        assert data["record"]["layers"][0]["stage"]


def small_file(tmp_path, recipe):
    small = tmp_path / "small.gfx"
    assert run("apply", recipe, MODEL, "-o", small).exit_code == 0
    return small


def test_report_writes_a_page_and_a_picture(tmp_path, recipe, monkeypatch):
    from gfx.reports import result

    faked = result.Latency(
        (result.TimedNode("up.0.conv", "ConvTranspose2d", 1.5, 1.0, 1e9),), ("told",)
    )
    monkeypatch.setattr(result, "profiled", lambda module, **_: faked)
    small, html, png = small_file(tmp_path, recipe), tmp_path / "a.html", tmp_path / "a.png"
    result = run("report", small, "--html", html, "--png", png)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert f"wrote {html}" in result.stderr
    text = html.read_text("utf-8")
    assert "told" in text
    assert "relative_l2" in text
    assert png.read_bytes().startswith(b"\x89PNG")


def test_report_leaves_out_what_is_not_wanted(tmp_path, recipe):
    small, html = small_file(tmp_path, recipe), tmp_path / "a.html"
    result = run("report", small, "--html", html, "--no-latency", "--no-sensitivity")
    assert result.exit_code == 0
    text = html.read_text("utf-8")
    assert "Left out: --no-latency." in text
    assert "Left out: --no-sensitivity." in text
    other = tmp_path / "b.html"
    options = ("--no-latency", "--no-sensitivity", "--original", MODEL)
    assert run("report", small, "--html", other, *options).exit_code == 0
    assert other.read_text("utf-8") == text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--html", "no/such/folder/a.html"), "there is no folder"),
        (("--html", "a.png", "--png", "a.png"), "is to be written twice"),
        (("--html", "small.gfx"), "is what is read"),
        (("--png", "a.jpg"), "must end in .png"),
        (("--original", "zoo:dcgan"), "is for --html and --png"),
    ],
)
def test_report_refuses_what_it_cannot_write(tmp_path, recipe, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    before = small_file(tmp_path, recipe).read_bytes()
    files = sorted(tmp_path.iterdir())
    result = run("report", "small.gfx", *options)
    assert result.exit_code != 0
    assert said in " ".join(result.output.replace("│", " ").split())
    assert sorted(tmp_path.iterdir()) == files
    assert (tmp_path / "small.gfx").read_bytes() == before


def test_another_original_than_that_of_the_file_is_refused(tmp_path, recipe):
    small, html = small_file(tmp_path, recipe), tmp_path / "a.html"
    result = run("report", small, "--html", html, "--no-latency", "--original", "zoo:dcgan?ngf=4")
    assert_error(result, "--original is a DcganGenerator of", "give the model that gfx apply")
    assert not html.exists()


def test_channels_says_what_folding_computed_weights_would_free():
    said = " ".join(run("channels", "zoo:sagan?ngf=8").stdout.split())
    found = re.search(r"(\d+) groups, (\d+) free; (\d+) of (\d+) once fold_parametrizations", said)
    groups, free, then, total = map(int, found.groups())
    assert free < then <= total
    assert groups >= total
    assert "once" not in run("channels", "zoo:dcgan?ngf=4").stdout
