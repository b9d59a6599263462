"""Several processes train as one does with a batch as large as all of theirs."""

import copy
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from gfx.train.loop.quick_norms import restore
from gfx.train.loop.synced_norms import alone, synchronise
from support.training_runs import ranked

WORKER = Path(__file__).parents[1] / "support" / "rank_worker.py"
ROOT = Path(__file__).parents[2]


# each has what the others have not; the nets of a sandwich are spread over the processes
KINDS = ("normed, cycled", "sandwich", "counted")
ALL = (*KINDS, "cycled", "distilled", "normed, distilled", "uniform", "beside")


def run_two(kind, tmp_path):
    """Runs a kind in two processes, in the folder two."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    started = [
        subprocess.Popen(
            [sys.executable, WORKER, str(rank), "2", tmp_path / "two", str(port), kind],
            env={**os.environ, "PYTHONPATH": paths},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    for process in started:
        said = process.communicate(timeout=240)[0]
        assert process.returncode == 0, said[-3000:]


@pytest.mark.parametrize("kind", ALL if os.environ.get("GFX_SLOW") else KINDS)
def test_two_processes_have_the_curves_of_one_with_twice_the_batch(kind, tmp_path):
    pytest.importorskip("accelerate")
    run_two(kind, tmp_path)
    whole = ranked(kind, 4, run=tmp_path / "one")
    lines = (tmp_path / "two" / "log.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == len(whole.history) == 11
    for row, wanted in zip(rows, whole.history, strict=True):
        assert row.keys() == wanted.keys()
        for key, value in row.items():
            assert value == (
                value if isinstance(value, str) else pytest.approx(wanted[key], rel=2e-3)
            )
    first, second = (torch.load(tmp_path / "two" / f"rank{n}.pt") for n in range(2))
    for name, value in first.items():
        assert torch.equal(value, second[name])
        torch.testing.assert_close(value, whole.model.state_dict()[name], rtol=1e-2, atol=1e-4)


def test_two_processes_search_as_one_does(tmp_path):
    pytest.importorskip("accelerate")
    run_two("searched", tmp_path)
    whole = ranked("searched", 2, run=tmp_path / "one")
    one, two = ((tmp_path / n / "02-search.search.jsonl").read_text() for n in ("one", "two"))
    assert len(json.loads(one.splitlines()[-1])["judged"]) > 1
    assert one == two
    for rank in range(2):
        made = torch.load(tmp_path / "two" / f"rank{rank}.pt")
        assert made.keys() == whole.model.state_dict().keys()
        assert all(torch.equal(made[k], v) for k, v in whole.model.state_dict().items())


class Own(nn.BatchNorm2d):
    """A class of the user's, with torch's forward."""


class Odd(nn.BatchNorm2d):
    """One with a forward of its own."""

    def forward(self, input):
        return super().forward(input) + 1


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d(3),
        nn.BatchNorm2d(3, affine=False, momentum=None),
        nn.BatchNorm2d(3, track_running_stats=False, eps=0.1),
        Own(3, momentum=0.5),
    ],
    ids=["usual", "mean of all batches", "no statistics", "own class"],
)
def test_a_synchronised_norm_is_that_of_the_batches_of_all_processes(norm, monkeypatch):
    norm = norm.double().train()
    synced = copy.deepcopy(norm)
    net = nn.Sequential(synced)
    assert synchronise(net) == ("0",)
    # two processes that see the same: whatever is summed over both is twice what one has
    monkeypatch.setattr("torch.distributed.all_reduce", lambda value: value.mul_(2))
    for _ in range(3):
        x = 100 + torch.randn(4, 3, 5, 5, dtype=torch.double).requires_grad_()
        both = torch.cat((x, x))
        wanted, made = norm(both), net(x)
        torch.testing.assert_close(made, wanted[:4])
        pull = torch.randn_like(made)
        (by_one,) = torch.autograd.grad((wanted * torch.cat((pull, pull))).sum(), both)
        (by_two,) = torch.autograd.grad((made * pull).sum(), x)
        torch.testing.assert_close(by_two, by_one[:4])
    for name, value in norm.state_dict().items():
        torch.testing.assert_close(synced.state_dict()[name], value)
    monkeypatch.undo()
    torch.testing.assert_close(
        net.eval()(x), norm.eval()(x)
    )  # nothing is sent: no process is there
    restore(net, ["0"])
    assert type(synced) is type(norm)


def test_norms_that_cannot_be_synchronised_are_named():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Sequential(Odd(3)), nn.InstanceNorm2d(3))
    assert synchronise(net) == ("0",)
    assert list(alone(net)) == ["1.0"]

    class Functional(nn.Module):
        def forward(self, x):
            return nn.functional.batch_norm(x, None, None, training=True)

    assert list(alone(torch.fx.symbolic_trace(Functional()))) == ["batch_norm"]
