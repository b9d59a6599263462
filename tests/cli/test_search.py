"""`gfx search` finds a front, goes on, picks from it, and says what is wrong."""

import json
import os
import time

import pytest
import torch
from typer.testing import CliRunner

import gfx
from gfx.cli import app
from gfx.errors import InputError, RecipeError
from gfx.train.search import run_search as run_search_module
from gfx.train.search.front import pick
from gfx.train.search.front_file import read_front
from support.picture_folders import write_pictures
from support.training_runs import generator, pairs

X = torch.zeros(1, 3, 8, 8)


def run(*arguments):
    return CliRunner().invoke(app, ["search", *map(str, arguments)], env={"COLUMNS": "200"})


def said(result):
    return " ".join(result.stderr.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split())


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in, with a supernet, its generator and two folders of pictures."""
    monkeypatch.chdir(tmp_path)
    net = gfx.supernet(generator(), X, widths=[0.25, 0.5, 0.75, 1.0])
    gfx.save(net, tmp_path / "super.gfx")
    gfx.save(gfx.trace(generator(), X).module, tmp_path / "net.gfx")
    write_pictures(tmp_path / "a", 40)
    write_pictures(tmp_path / "b", 40, first=50)
    return tmp_path


SUPER = ("super.gfx", "--data", "a", "--data", "b", "--size", 8, "--examples", 8, "--run", "s")


def test_a_front_of_a_supernet_is_found_printed_and_written(place):
    done = run(
        *SUPER, "--by", "random", "--evaluations", 12, "--pick", "macs=0.7", "-o", "small.gfx"
    )
    assert done.exit_code == 0, done.stderr
    front = read_front(place / "s")
    assert "assumed: the model is a supernet: its nets are judged as they are" in done.stdout
    assert "assumed: searched on 8 examples, and the front judged again on" in done.stdout
    assert "assumed: score: l1, from the ground truth" in done.stdout
    assert front.sentence in done.stdout
    assert {p.name for p in (place / "s").iterdir() if not p.name.startswith(".")} == {
        "search.json", "ledger.jsonl", "front.json", "front.html", "nets", "samples"
    }  # fmt: skip
    small = gfx.load("small.gfx")
    assert gfx.cost(small, X).params == pick(front, "macs=0.7").prices["params"]
    assert f"wrote small.gfx ({os.path.getsize('small.gfx'):,} bytes)" in done.stderr


def test_the_same_command_gives_back_what_is_finished_and_judges_nothing(place, monkeypatch):
    first = run(*SUPER, "--by", "random", "--evaluations", 6)
    before = (place / "s" / "front.json").read_bytes()
    monkeypatch.setattr(run_search_module, "_judge", None)
    (place / "s" / "nets" / "01.gfx").write_bytes(b"another")  # written again
    again = run(*SUPER, "--by", "random", "--evaluations", 6)
    assert again.exit_code == 0, again.stderr
    assert again.stdout == first.stdout
    assert (place / "s" / "front.json").read_bytes() == before
    assert gfx.search("s").pick("macs=1.0")


def test_a_net_is_picked_from_a_finished_search_without_its_model(place):
    assert run(*SUPER, "--by", "random", "--evaluations", 6).exit_code == 0
    (place / "super.gfx").unlink()
    done = run("s", "--pick", "params=0.8", "-o", "small.gfx")
    assert done.exit_code == 0, done.stderr
    wanted = pick(read_front("s"), "params=0.8").prices["params"]
    assert gfx.cost(gfx.load("small.gfx"), X).params == wanted
    wrong = run("s", "--pick", "macs=3", "-o", "other.gfx")
    assert wrong.exit_code == 1
    assert "no net of the front is within macs (exact) 3" in said(wrong)
    assert "There are:" in said(wrong)
    assert not (place / "other.gfx").exists()
    more = run("s", "--evaluations", 9, "--data", "a")
    assert "leave out data, evaluations, or give the model" in said(more)


def test_more_evaluations_go_on_from_those_that_were_judged(place):
    run(*SUPER, "--by", "random", "--evaluations", 5)
    lines = (place / "s" / "ledger.jsonl").read_text().splitlines()
    done = run(*SUPER, "--by", "random", "--evaluations", 9)
    assert done.exit_code == 0, done.stderr
    now = (place / "s" / "ledger.jsonl").read_text().splitlines()
    assert now[: len(lines)] == lines
    assert "9 nets were judged" in done.stdout
    rows = [tuple(trial["row"]) for line in now[1:] for trial in json.loads(line)["judged"]]
    assert len(rows) == len(set(rows)) == 9


def test_a_search_that_stopped_ends_as_one_that_did_not(place):
    data = pairs(32)
    net = gfx.supernet(generator(), X, widths=[0.25, 0.5, 0.75, 1.0])
    how = {"by": "survey", "evaluations": 16, "examples": 8, "data": data}
    whole = gfx.search(net, run="whole", **how)
    again = gfx.search(net, run="s", **how)
    text = (place / "s" / "ledger.jsonl").read_bytes()
    (place / "t").mkdir()
    (place / "t" / "search.json").write_bytes((place / "s" / "search.json").read_bytes())
    (place / "t" / "ledger.jsonl").write_bytes(text[: len(text) // 2])  # a power cut
    resumed = gfx.search(net, run="t", **how)
    assert [n.widths for n in resumed.front.nets] == [n.widths for n in whole.front.nets]
    assert [n.value for n in again.front.nets] == [n.value for n in whole.front.nets]
    assert (place / "t" / "ledger.jsonl").read_bytes() == text


def test_when_the_time_is_over_there_is_a_front_and_the_same_command_goes_on(place, monkeypatch):
    command = (*SUPER, "--by", "survey", "--evaluations", 16)
    judge = run_search_module._judge

    def slowly(*arguments):
        time.sleep(0.4)
        return judge(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(run_search_module, "_judge", slowly)
        first = run(*command, "--time", 0.3)
    assert first.exit_code == 0, first.stderr
    assert "the time is over: the same command goes on in s" in said(first)
    begun = gfx.search("s")
    assert 0 < begun.judged < 9
    assert not begun.finished
    done = run(*command)
    assert done.exit_code == 0, done.stderr
    assert "9 nets were judged" in done.stdout
    assert gfx.search("s").finished
    none = run(*SUPER[:-1], "other", "--time", 1e-6)
    assert "the search has judged no net within the budgets; give it more time" in said(none)


def test_another_search_in_the_folder_is_refused_with_the_difference(place):
    run(*SUPER, "--by", "random", "--evaluations", 4)
    other = run(*SUPER, "--by", "survey", "--evaluations", 4, "--seed", 3)
    assert other.exit_code == 1
    assert "s is the folder of a search that was asked for something else:" in said(other)
    assert "by: was 'random', now 'survey'" in said(other)
    assert "seed: was 0, now 3" in said(other)


def test_a_budget_that_cannot_be_kept_says_so_and_may_be_asked_anew(place):
    tight = run(*SUPER, "--by", "random", "--evaluations", 4, "--budget", "macs=0.001")
    assert tight.exit_code == 1
    assert "the smallest subnet takes" in said(tight)
    done = run(*SUPER, "--by", "random", "--evaluations", 8, "--budget", "params=0.6")
    assert done.exit_code == 0, done.stderr
    front = read_front("s")
    assert front.measure == "params"
    assert all(net.prices["params"] <= 0.6 * front.whole.prices["params"] for net in front.nets)


def test_a_generator_that_is_no_supernet_is_pruned_and_refitted(place):
    command = (
        "net.gfx",
        "--data",
        "a",
        "--task",
        "self",
        "--size",
        8,
        "--examples",
        6,
        "--run",
        "z",
    )
    done = run(*command, "--by", "random", "--evaluations", 3, "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert any("its channels are pruned, and its layers refitted" in s for s in found["assumed"])
    assert found["judged"] == 3
    small = gfx.load(place / "z" / found["nets"][0]["file"])
    assert [p.name for p in gfx.report(small).passes] == ["channel_prune", "refit"]


def test_workers_share_a_storage(place):
    how = ("--by", "random", "--evaluations", 10, "--storage", "journal:shared.log")
    first = run(*SUPER, *how)
    assert first.exit_code == 0, first.stderr
    second = run(*SUPER[:-1], "other", *how)
    assert second.exit_code == 0, second.stderr
    assert read_front("s").nets[0].value == read_front("other").nets[0].value
    wrong = run(*SUPER[:-1], "third", *how, "--seed", 5)
    assert wrong.exit_code == 1
    assert "holds another search" in said(wrong)


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (("--pick", "macs=1M"), 2, "--pick LIMIT and -o FILE go together; give both"),
        (("-o", "small.gfx"), 2, "--pick LIMIT and -o FILE go together"),
        (("--budget", "macs=many"), 2, "'macs=many'"),
        (("--budget", "macs=1", "--budget", "0.5"), 2, "--budget macs is given twice"),
        (("--by", "luck"), 2, "luck"),
        (("--score", "l3"), 1, "there is no metric 'l3'"),
        (("--score", "fd[efficientnet]"), 1, "did you mean"),
        (("--storage", "sqlite:////no/such/folder/a.db"), 1, "cannot be reached"),
    ],
)
def test_what_is_wrong_is_said(place, options, code, text):
    done = run(*SUPER, "--evaluations", 4, *options)
    assert done.exit_code == code
    assert text in said(done)


def test_folders_that_are_no_search_are_refused(place):
    (place / "odd").mkdir()
    with pytest.raises(InputError, match=r"odd is a folder and holds no search.json: it is no"):
        gfx.search("odd")
    (place / "run").mkdir()
    (place / "run" / "recipe.yaml").touch()
    with pytest.raises(InputError, match="a run of gfx compress that has found no front"):
        gfx.search("run")
    (place / "half").mkdir()
    (place / "half" / "search.json").write_text("{}")
    with pytest.raises(InputError, match="half: the search is not finished; give the command"):
        gfx.search("half")


def test_a_supernet_has_its_own_widths_and_latency_is_no_price():
    net = gfx.supernet(generator(), X, widths=[0.5, 1.0])
    with pytest.raises(InputError, match="widths= is for a generator that is no supernet"):
        gfx.search(net, data=pairs(16), widths=[0.5])
    with pytest.raises(RecipeError, match="latency_ms: subnets are priced by macs, params"):
        gfx.search(net, data=pairs(16), budget={"latency_ms": 3}, examples=4)


def test_the_front_of_a_run_of_gfx_compress_is_read_and_picked_from(place):
    run(*SUPER, "--by", "random", "--evaluations", 6)
    (place / "runs").mkdir()
    (place / "runs" / "recipe.yaml").touch()
    (place / "s").rename(place / "runs" / "02-search")
    done = run("runs", "--pick", "macs=0.9", "-o", "small.gfx")
    assert done.exit_code == 0, done.stderr
    wanted = pick(read_front(place / "runs" / "02-search"), "macs=0.9").prices["params"]
    assert gfx.cost(gfx.load("small.gfx"), X).params == wanted
