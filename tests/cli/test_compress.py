"""`gfx compress` trains by a system on folders of pictures, goes on, and says what is wrong."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import gfx
from gfx.cli import app
from gfx.io.yaml_text import dump
from support.picture_folders import picture, write_pictures
from support.training_runs import DISTIL, generator

FIT = {"losses": {"l1": 1}, "discriminator": "none", "batch": 2, "steps": 3}
SLIM = {
    "stages": {"slim": {"do": [{"channel_prune": {"ratio": 0.5}}], "fit": FIT}},
    "presets": {"longer": {"slim": {"fit": {"steps": 5}}}},
}
SELF = {"stages": {"slim": {**SLIM["stages"]["slim"], "fit": {
    "teacher": "given", "losses": {"mimic": 1}, "discriminator": "none", "steps": 2}}}}  # fmt: skip
GAN = {"stages": {"train": {"fit": {"losses": {"gan": "hinge"}, "batch": 2, "steps": 2}}}}


def run(*arguments):
    return CliRunner().invoke(app, ["compress", *map(str, arguments)], env={"COLUMNS": "200"})


def said(result):
    """What stderr says, without the frame around it."""
    return " ".join(result.stderr.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split())


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in, with a generator and two folders of pictures whose names are alike."""
    monkeypatch.chdir(tmp_path)
    gfx.save(gfx.trace(generator(), torch.zeros(1, 3, 8, 8)).module, tmp_path / "net.gfx")
    write_pictures(tmp_path / "a", 12)
    write_pictures(tmp_path / "b", 12, first=50)
    return tmp_path


def system(place, content=SLIM, name="slim.yaml"):
    (place / name).write_text(dump(content))
    return name


def wide(folder, count):
    """Writes pairs as one picture each: input left, target right."""
    folder.mkdir()
    for number in range(count):
        halves = [np.asarray(picture(n)) for n in (number, number + 50)]
        Image.fromarray(np.concatenate(halves, axis=1)).save(folder / f"{number}.png")
    return folder


# what is learned from


def test_two_folders_are_pairs(place):
    done = run(system(place), "net.gfx", "--data", "a", "--data", "b", "-o", "small.gfx")
    assert done.exit_code == 0, done.stderr
    given, small = (gfx.load(place / name) for name in ("net.gfx", "small.gfx"))
    assert gfx.cost(small, torch.zeros(1, 3, 8, 8)).params < gfx.cost(given).params
    assert small(torch.zeros(1, 3, 8, 8)).shape == (1, 3, 8, 8)
    assert "assumed: task paired" in done.stdout
    assert (place / "runs" / "slim" / "report.html").is_file()
    assert f"wrote small.gfx ({(place / 'small.gfx').stat().st_size:,} bytes)" in said(done)


def test_a_folder_of_wide_pictures_is_pairs(place):
    wide(place / "ab", 12)
    done = run(system(place), "net.gfx", "--data", "ab", "--task", "paired", "-o", "small.pt")
    assert done.exit_code == 0, done.stderr
    assert "task paired" in done.stdout
    assert (place / "small.pt").is_file()


def test_two_sets_that_are_no_pairs_are_unpaired(place):
    content = {"stages": {"slim": {**DISTIL["stages"]["slim"]}}}
    data = ("--data", "a", "--data", write_pictures(place / "c", ["x.png", "y.png"] * 1))
    extra = ("--task", "unpaired", "--discriminator", "zoo:patchgan_pixel?input_nc=3")
    done = run(system(place, content), "net.gfx", *data, *extra, "-o", "small.gfx")
    assert done.exit_code == 0, done.stderr
    assert "task unpaired" in done.stdout


def test_a_generator_that_leads_back_is_left_and_given(place):
    write_pictures(place / "c", ["x.png", "y.png"])
    inherit = {"begins": "inherit", "losses": {"cycle": 10}}
    fit = {**FIT, "losses": {"cycle": 10}, "players": {"back": inherit}}
    name = system(place, {"stages": {"train": {"fit": fit}}})
    how = ("--data", "a", "--data", "c", "--task", "unpaired", "-o", "small.gfx")
    done = run(name, "net.gfx", *how, "--run", "one")
    assert done.exit_code == 0, done.stderr
    assert "no generator back was left or given" in done.stdout
    again = run(name, "net.gfx", *how, "--run", "two", "--player", "back=one/01-train.back.gfx")
    assert again.exit_code == 0, again.stderr
    assert "was left or given" not in again.stdout
    told = CliRunner().invoke(app, ["report", "two"], env={"COLUMNS": "400"}).stdout
    assert "finished" in told


def test_images_alone_train_a_generator_from_noise(place):
    write_pictures(place / "faces", 12, size=(64, 64))
    extra = ("--data", "faces", "--no-flip", "--val", "0.25", "--seed", "3")
    done = run(system(place, GAN), "zoo:dcgan?ngf=2", *extra, "-o", "small.gfx")
    assert done.exit_code == 0, done.stderr
    assert "task latent" in done.stdout


def test_without_data_latents_are_drawn(place):
    done = run(system(place, SELF), "zoo:dcgan?ngf=4", "-o", "small.gfx", "--scale", "0.5")
    assert done.exit_code == 0, done.stderr
    assert "assumed: " in done.stdout


def test_a_discriminator_of_the_zoo_takes_options(place):
    content = {"stages": {"train": {"fit": {**GAN["stages"]["train"]["fit"]}}}}
    for options, code in (("input_nc=6&ndf=4&n_layers=1", 0), ("input_nc=5&ndf=4&n_layers=1", 1)):
        name = f"zoo:patchgan?{options}"
        extra = ("--data", "a", "--data", "b", "--discriminator", name, "--run", f"run{code}")
        done = run(system(place, content), "net.gfx", *extra, "-o", "small.gfx")
        assert done.exit_code == code, done.stderr
    assert "stage train: the discriminator" in said(done)
    assert "1x6x8x8" in said(done) or "2x6x8x8" in said(done)


# what is printed


def test_a_dry_run_prints_the_plan_and_writes_nothing(place):
    before = sorted(place.rglob("*"))
    name = system(place)
    done = run(name, "net.gfx", "--data", "a", "--data", "b", "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert "slim" in done.stdout
    assert "estimated: " in done.stdout
    assert sorted(place.rglob("*")) == sorted([*before, place / name])


def test_json_is_the_run_as_data(place):
    arguments = ("net.gfx", "--data", "a", "--data", "b", "-o", "small.gfx", "--json")
    found = json.loads(run(system(place), *arguments, "--metric", "psnr").stdout)
    assert found["finished"] is True
    assert list(found["scores"]["slim"]) == ["psnr"]
    assert [stage["name"] for stage in found["plan"]["stages"]] == ["given", "slim"]
    assert [stage["steps"] for stage in found["plan"]["stages"]] == [0, 3]
    assert all((place / sample).is_file() for sample in found["samples"])


@pytest.mark.parametrize(("given", "steps"), [((), 3), (("--preset", "longer"), 5)])
def test_a_preset_replaces_fields(place, given, steps):
    arguments = ("net.gfx", "--data", "a", "--data", "b", "--dry-run", "--json")
    found = json.loads(run(system(place), *arguments, *given).stdout)
    assert found["plan"]["stages"][-1]["steps"] == steps


def test_the_user_s_files_stay(place):
    name = system(place)
    before = {p: p.read_bytes() for p in place.rglob("*") if p.is_file()}
    assert run(name, "net.gfx", "--data", "a", "--data", "b", "-o", "small.gfx").exit_code == 0
    assert {p: p.read_bytes() for p in before} == before


# stopping, and going on


def test_a_run_whose_time_is_over_goes_on_by_the_same_command(place):
    arguments = (system(place), "net.gfx", "--data", "a", "--data", "b", "-o", "small.gfx")
    stopped = run(*arguments, "--time", "0.000001")
    assert stopped.exit_code == 0, stopped.stderr
    assert "the time is over: the same command goes on in runs/slim" in said(stopped)
    assert not (place / "small.gfx").exists()
    assert run(*arguments).exit_code == 0
    whole = run(*arguments[:-1], "whole.gfx", "--run", "whole")
    assert whole.exit_code == 0
    ours, wanted = (gfx.load(place / name).state_dict() for name in ("small.gfx", "whole.gfx"))
    assert all(torch.equal(ours[key], wanted[key]) for key in wanted)


def test_a_finished_run_gives_its_result_again(place):
    arguments = (system(place), "net.gfx", "--data", "a", "--data", "b", "-o")
    assert run(*arguments, "one.gfx").exit_code == 0
    log = (place / "runs" / "slim" / "log.jsonl").read_bytes()
    assert run(*arguments, "two.gfx").exit_code == 0
    assert (place / "runs" / "slim" / "log.jsonl").read_bytes() == log
    one, two = (gfx.load(place / f"{name}.gfx").state_dict() for name in ("one", "two"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_the_folder_of_another_run_is_refused(place):
    arguments = (system(place), "net.gfx", "--data", "a", "--data", "b", "-o", "small.gfx")
    assert run(*arguments).exit_code == 0
    other = run(*arguments, "--seed", "7")
    assert other.exit_code == 1
    assert "seed" in said(other)
    assert "runs/slim" in said(other)


@pytest.mark.skipif(not hasattr(signal, "SIGTERM") or os.name == "nt", reason="sends signals")
@pytest.mark.parametrize(
    ("number", "word", "code"),
    [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143)],
)
def test_a_signal_leaves_a_run_that_goes_on(place, number, word, code):
    endless = {"stages": {"slim": {**SLIM["stages"]["slim"], "fit": {**FIT, "steps": 10**6}}}}
    arguments = [system(place, endless), "net.gfx", "--data", "a", "--data", "b", "-o", "small.gfx"]
    body = "from gfx.cli import main; main()"
    command = [sys.executable, "-W", "ignore", "-c", body, "compress", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        begun = place / "runs" / "slim" / "plan.json"
        last = time.monotonic() + 60
        while not begun.exists() and time.monotonic() < last:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    line = f"error: {word}; the same command goes on in runs/slim"
    assert told.strip().splitlines()[-1] == line
    assert process.returncode == code
    assert not (place / "small.gfx").exists()
    assert (
        "it goes on by the same command" in CliRunner().invoke(app, ["report", "runs/slim"]).stdout
    )


# what is refused


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("net.gfx",), 2, "give -o FILE, where the smaller generator is to be written"),
        (("net.gfx", "-o", "small.onnx"), 2, "must end in .gfx (an archive) or .pt (a pickle)"),
        (("net.gfx", "-o", "x.gfx", *["--data", "a"] * 3), 2, "--data is given 3 times"),
        (("net.gfx", "-o", "x.gfx", "--task", "pairs"), 2, "'pairs' is not one of 'paired'"),
        (("net.gfx", "-o", "x.gfx", "--log", "paper"), 2, "'paper' is not one of 'tensorboard'"),
        (("net.gfx", "-o", "x.gfx", "--seed", "-1"), 2, "--seed"),
        (("no.gfx", "-o", "x.gfx"), 1, "no.gfx"),
        (("net.gfx", "-o", "x.gfx", "--data", "nowhere"), 1, "nowhere"),
        (("net.gfx", "-o", "x.gfx", "--preset", "long"), 1, "did you mean 'longer'"),
        (("net.gfx", "-o", "x.gfx", "--scale", "0"), 1, "scale"),
        (("net.gfx", "-o", "x.gfx", "--device", "abacus"), 1, "device 'abacus' cannot be used"),
        (("net.gfx", "-o", "x.gfx", "--metric", "beauty"), 1, "beauty"),
        (("net.gfx", "-o", "x.gfx", "--discriminator", "zoo:patchgann"), 1, "did you mean"),
        (("net.gfx", "-o", "x.gfx", "--val", "1.5"), 1, "val=1.5"),
        (("net.gfx", "-o", "x.gfx", "--labels", "0"), 1, "labels"),
        (
            ("net.gfx", "-o", "x.gfx", "--player", "b"),
            2,
            "--player b: give NAME=FILE, as back=back",
        ),
        (("net.gfx", "-o", "x.gfx", *["--player", "b=f"] * 2), 2, "--player b is given twice"),
        (("net.gfx", "-o", "x.gfx", "--player", "b=f"), 1, "the recipe has no player 'b'"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, tuple) else "",
)
def test_wrong_options_are_told_and_nothing_is_written(place, arguments, code, told):
    data = () if "--data" in arguments else ("--data", "a", "--data", "b")
    done = run(system(place), *arguments, *data)
    assert done.exit_code == code, done.stderr
    assert told in said(done)
    assert not list(place.glob("x.*"))


def test_a_recipe_that_does_not_train_is_told_what_runs_it(place):
    done = run("half", "net.gfx", "--data", "a", "--data", "b", "-o", "small.gfx")
    assert done.exit_code == 1
    assert "run it by gfx.apply, in the shell by `gfx apply`" in said(done)


def test_a_system_that_is_not_there_is_told(place):
    done = run("self-distil", "net.gfx", "--data", "a", "-o", "small.gfx")
    assert done.exit_code == 1
    assert "self-distill" in said(done)
