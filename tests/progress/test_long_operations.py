"""Every long operation says what it does and how far it is, from Python and in the shell."""

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import gfx
from gfx.cli import app
from gfx.progress import listening, time_limit

X = torch.linspace(-1, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)
DATA = [X + 0.01 * number for number in range(3)]


def net():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(8, 3, 3, padding=1)).eval()


def applied(*passes, **how):
    return lambda told: gfx.apply({"passes": [*passes]}, net(), (X,), progress=told, **how)


RANKED = {"channel_prune": {"importance": "taylor", "batches": 2}}
MADE_UP_FOR = {"channel_prune": {"importance": "reconstruction", "batches": 2}}
FITTED = {"decompose": {"init": "data", "where": ["body"], "batches": 2}}
REFITTED = ["channel_prune", {"refit": {"positions": 256}}]


@pytest.mark.parametrize(
    ("act", "counted"),
    [
        (applied(RANKED), "ranking channels on batches"),
        (applied(MADE_UP_FOR), "scoring channels by what their readers could make up for"),
        (applied(FITTED, data=DATA), "factorizing layers"),
        (applied(FITTED, data=DATA), "reading batches of the data"),
        (applied(*REFITTED, data=DATA * 4), "refitting layers"),
        (lambda told: gfx.inspect(net(), (X,), progress=told), "measuring damage: 0"),
        (
            lambda told: gfx.bench(net(), (X,), rounds=5, memory=False, progress=told),
            "timing rounds",
        ),
        (
            lambda told: gfx.bench(net(), (X,), rounds=5, memory=False, progress=told),
            "timing node by node",
        ),
    ],
)
def test_what_repeats_is_counted_to_its_end(act, counted):
    told = []
    act(told.append)
    steps = [event for event in told if event.what == counted]
    assert steps, sorted({event.what for event in told})
    assert max(event.done for event in steps) <= max(event.total for event in steps)
    assert any(event.total > 0 for event in steps)
    if not counted.startswith("measuring damage"):
        assert any(event.done == event.total for event in steps)


def test_an_export_says_what_it_does(tmp_path):
    told = []
    gfx.export(net(), tmp_path / "net.pt2", (X,), progress=told.append)
    said = [event.what for event in told]
    assert said[0] == "tracing"
    assert "exporting as pt2" in said
    assert "comparing what was exported at other sizes" in said


def test_tracing_by_torch_export_is_told():
    class Opaque(nn.Module):
        def forward(self, x):
            return x * 2 if x.sum() > -1e9 else x

    told = []
    gfx.trace(nn.Sequential(net(), Opaque()), (X,), progress=told.append)
    assert {"tracing symbolically", "tracing by torch.export"} <= {event.what for event in told}


def test_what_a_listener_raises_ends_the_work_and_leaves_the_model():
    def stop(event):
        raise KeyboardInterrupt

    model = net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(KeyboardInterrupt):
        gfx.apply({"passes": ["channel_prune"]}, model, (X,), progress=stop)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_progress_changes_nothing_in_the_result():
    plain, told = (applied(RANKED)(progress) for progress in (False, lambda event: None))
    assert all(map(torch.equal, plain.state_dict().values(), told.state_dict().values()))


def test_inspect_ends_when_the_time_is_over_and_says_so():
    clock = iter([0.0, 0.0, 0.0, *(2.0 for _ in range(1000))])
    with time_limit(1, clock.__next__):
        table = gfx.inspect(net(), (X,), batches=1)
    known = [damage for row in table for damage in row.damage.values() if damage is not None]
    late = [why for row in table for why in row.notes.values() if why.startswith("the time was")]
    assert len(known) > 0
    assert len(late) > 0
    assert any("stopped after 1 s" in note for note in table.facts.notes)


def test_the_shell_takes_a_time_and_reports_to_its_own_line(tmp_path):
    told = []
    torch.save(net(), tmp_path / "net.pt")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("budget: {macs: 0.5}\npasses: [channel_prune: {tolerance: 0.1}]\n")
    command = ["apply", str(recipe), str(tmp_path / "net.pt"), "--trust", "--input", "1x3x16x16"]
    with listening(told.append):  # the shell listens inside of it
        done = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "a.pt"), "--time", "60"])
    assert done.exit_code == 0, done.output
    assert told == []
    refused = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "b.pt"), "--time", "0"])
    assert refused.exit_code == 1
    assert "time=0.0 is no number of seconds; give one above 0" in refused.output
