"""What a run reads back from its folder is what it wrote; all else is refused, or made anew."""

import json
import os
import shutil

import pytest

import gfx
from gfx.io.regular_files import read_regular
from support.training_runs import compressed, files_of, state_of

RECIPE = {
    "stages": {
        "teacher": {"fit": {"losses": {"gan": "hinge", "l1": 10}, "steps": 3, "batch": 2}},
        "slim": {
            "do": [{"channel_prune": {"ratio": 0.5}}],
            "fit": {"teacher": "teacher", "losses": {"mimic": 1}, "steps": 3, "batch": 2},
        },
    }
}


def run(folder, **how):
    return compressed(RECIPE, run=folder, **{"checkpoint_seconds": 0.0, "seed": 4} | how)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run that is whole, one that stopped in its second stage, and both of another seed."""
    folder = tmp_path_factory.mktemp("runs")
    made = run(folder / "whole")
    for name, seed in (("half", 4), ("other half", 5)):
        for _ in range(4):
            assert run(folder / name, seed=seed, time=0.0).model is None
    run(folder / "other", seed=5)
    return folder, state_of(made.model), files_of(folder / "whole")


@pytest.fixture
def copied(runs, tmp_path):
    return lambda name: shutil.copytree(runs[0] / name, tmp_path / name)


SPOILS = {
    "cut": lambda path, other: path.write_bytes(path.read_bytes()[:-9]),
    "changed": lambda path, other: path.write_bytes(path.read_bytes().replace(b"1", b"2")),
    "of another run": lambda path, other: shutil.copyfile(other, path),
    "empty": lambda path, other: path.write_bytes(b""),
    "a pipe": lambda path, other: (path.unlink(), os.mkfifo(path)),
    "a folder": lambda path, other: (path.unlink(), path.mkdir()),
    "a circle": lambda path, other: (path.unlink(), path.symlink_to(path.name)),
}


@pytest.mark.parametrize("spoil", SPOILS)
@pytest.mark.parametrize("name", ["01-teacher.gfx", "01-teacher.critic.pt", "02-slim.json"])
def test_a_file_that_the_run_did_not_write_is_refused(copied, runs, name, spoil):
    folder = copied("whole")
    SPOILS[spoil](folder / name, runs[0] / "other" / name)
    if (spoil, name) == ("a circle", "02-slim.json"):  # nothing is there: the stage runs anew
        (folder / name).unlink()
        assert state_of(run(folder).model) == runs[1]
        return
    with pytest.raises(gfx.errors.ArchiveError, match=name) as caught:
        run(folder)
    assert f"delete {name[:2]}-{name[3:].split('.')[0]}.json, the files of later" in str(
        caught.value
    )


def test_the_advice_of_the_refusal_leads_to_the_same_result(copied, runs):
    folder = copied("half")
    (folder / "01-teacher.gfx").write_bytes(b"spoilt")
    with pytest.raises(gfx.errors.ArchiveError, match="put back what the run wrote, or delete"):
        run(folder)
    for path in (folder / "01-teacher.json", *folder.glob("02-*")):
        path.unlink()
    shutil.rmtree(folder / "checkpoints")
    assert state_of(run(folder).model) == runs[1]
    assert files_of(folder) == runs[2]


@pytest.mark.parametrize("name", ["01-teacher.json", "02-slim.json"])
def test_notes_of_the_same_run_in_the_place_of_others_are_not_believed(copied, runs, name):
    folder = copied("whole")
    scores = run(folder).scores
    shutil.copyfile(folder / name, folder / "given.json")
    assert run(folder).scores == scores
    assert files_of(folder) == runs[2]
    shutil.copyfile(folder / "given.json", folder / name)
    with pytest.raises(gfx.errors.ArchiveError, match=f"{name} is not what this run wrote"):
        run(folder)


@pytest.mark.parametrize("spoil", SPOILS)
@pytest.mark.parametrize("name", ["02-slim.begin.gfx", "checkpoints/02-step-000000001.pt"])
def test_what_can_be_made_anew_is(copied, runs, name, spoil):
    folder = copied("half")
    assert (folder / name).exists()
    for ending in ("", ".sha256"):
        path = (folder / name).with_suffix(ending) if ending else folder / name
        other = runs[0] / "other half" / path.relative_to(folder)
        SPOILS[spoil](path, other)
    if spoil == "a folder" and "begin" in name:
        with pytest.raises(gfx.errors.ArchiveError, match="it is a folder; name a file in it"):
            run(folder)
        return
    if spoil in ("a pipe", "a circle") and "begin" in name:
        with pytest.raises(gfx.errors.ArchiveError, match=r"cannot write .*begin"):
            run(folder)
        return
    assert state_of(run(folder).model) == runs[1]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("log.jsonl", "3\n", "line 1: '3' is no row of a log; delete the file, and give the comm"),
        ("log.jsonl", '{"stage": 1}\n', "is no row of a log"),
        ("log.jsonl", '{"stage": 1, "step": [1]}\n', "is no row of a log"),
        ("log.jsonl", "[" * 90_000 + "\n", "is no row of a log"),
        ("plan.json", "[]", "plan.json is truncated or damaged"),
        ("plan.json", '{"stages": [], "memory": 3}', "is the plan of other stages; delete the f"),
        ("recipe.yaml", "\0", "recipe.yaml"),
        ("recipe.yaml", "about: x\n", "is the folder of a run that was asked for something else"),
        ("02-slim.json", "[]", "delete 02-slim.json, the files of later stages"),
        ("02-slim.json", json.dumps({"steps": 3}), "delete 02-slim.json, the files of later stage"),
    ],
)
def test_text_that_the_run_did_not_write_is_refused(copied, name, text, said):
    folder = copied("whole")
    (folder / name).write_text(text)
    with pytest.raises(gfx.GfxError) as caught:
        run(folder)
    assert said in str(caught.value)


def test_checkpoints_of_a_stage_that_ended_are_removed(copied, runs):
    folder = copied("whole")
    (folder / "checkpoints").mkdir()
    for ending in ("pt", "sha256"):
        (folder / "checkpoints" / f"02-step-000000002.{ending}").write_bytes(b"left by a kill")
    assert state_of(run(folder).model) == runs[1]
    assert not (folder / "checkpoints").exists()


def test_a_stage_that_was_killed_before_its_first_checkpoint_logs_its_beginning_once(tmp_path):
    recipe = {"stages": {"teacher": {**RECIPE["stages"]["teacher"], "keep": "best"}}}
    how = {"seed": 4, "checkpoint_seconds": 0.0}
    compressed(recipe, run=tmp_path / "whole", **how)
    folder = tmp_path / "killed"
    compressed(recipe, run=folder, time=0.0, **how)
    shutil.rmtree(folder / "checkpoints")
    compressed(recipe, run=folder, **how)
    assert files_of(folder) == files_of(tmp_path / "whole")


def test_a_file_is_read_within_bounds(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    os.mkfifo(tmp_path / "pipe")
    assert read_regular(tmp_path / "a", 3) == b"abc"
    for path, said in (
        (tmp_path / "pipe", "is no regular file"),
        (tmp_path / "none", "does not exist"),
        ("/dev/zero", "is no regular file"),
    ):
        with pytest.raises(gfx.errors.ArchiveError, match=said):
            read_regular(path, 10)
    with pytest.raises(gfx.errors.ArchiveError, match="has 3 bytes; at most 2 are expected"):
        read_regular(tmp_path / "a", 2)
