"""What a command that refuses advises is taken: the same refusal does not come again."""

import re
import shlex

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import gfx
from gfx.cli import app

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, nf=8):
        super().__init__()
        self.first = nn.Conv2d(3, nf, 3, padding=1)
        self.last = nn.Conv2d(nf, 3, 3, padding=1)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)))
"""
SPLIT = "inspect small.gfx --metric feature --extractor net.py:Net"
BENCH = "bench small.gfx --no-memory --rounds"
HALF = "inspect small.gfx --fast --half left"
REFIT = "apply half-refit plain.gfx -o out.gfx"
REPORT = "report small.gfx --original state.pt --model net.py:Net?nf=16"
PAGE = f"{REPORT} --no-latency --no-sensitivity --html r.html"
BUDGET = "inspect small.gfx --fast --budget 0.9"
THERE = "export small.gfx -o there.pt2"
# what is typed, what is advised of it, and what is typed then
CASES = [
    ("cost state.pt", "--model package.module:factory", "cost state.pt --model net.py:Net?nf=16"),
    ("cost both.pt --model net.py:Net", r"--key (\w+)", "cost both.pt --model net.py:Net --key {}"),
    ("cost whole.pt", "--trust", "cost whole.pt --trust"),
    ("cost small.gfx --key a", "drop it", "cost small.gfx"),
    ("cost small.gfx --model net.py:Net", "drop it", "cost small.gfx"),
    ("cost dcgan", "zoo:dcgan", "cost zoo:dcgan?ngf=4"),
    (THERE, "--force", f"{THERE} --force"),
    ("export small.gfx -o new.pt2 --opset 17", "drop --opset 17", "export small.gfx -o new.pt2"),
    (HALF, "--data DIR", f"{HALF} --data pics"),
    ("inspect small.gfx --metric feature", "--extractor PKG.MOD:FACTORY", SPLIT),
    ("inspect small.gfx --metric psnr --extractor net.py:Net", "--metric feature", SPLIT),
    (BUDGET, "--emit-recipe FILE", f"{BUDGET} --emit-recipe act.yaml"),
    ("inspect small.gfx --json --csv -", "give --csv a file", "inspect small.gfx --json --csv t"),
    ("inspect small.gfx --fast --metric psnr", "leave one", "inspect small.gfx --metric psnr"),
    (REPORT, "--html", PAGE),
    (REFIT, "--data DIR", f"{REFIT} --data pics"),
    (f"{BENCH} 1", "give ([0-9]+) or more", f"{BENCH} {{}}"),
    (f"{BENCH} 5 --backend fast", "(eager)", f"{BENCH} 5 --backend {{}}"),
    ("apply hlaf plain.gfx -o out.gfx", "did you mean '(half)'", "apply {} plain.gfx -o out.gfx"),
    ("report whole.pt --trust", "gfx cost whole.pt", "cost whole.pt --trust"),
    ("report plain.gfx", "gfx cost plain.gfx", "cost plain.gfx"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a model in each kind of file, and with pictures."""
    at = tmp_path_factory.mktemp("advice")
    (at / "net.py").write_text(NET)
    names: dict = {}
    exec(NET, names)
    net, x = names["Net"](16).eval(), torch.zeros(1, 3, 16, 16)
    plain = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 3, 3, padding=1))
    torch.save(names["Net"](16).state_dict(), at / "state.pt")
    states = {"params": names["Net"]().state_dict(), "params_ema": names["Net"]().state_dict()}
    torch.save(states, at / "both.pt")
    torch.save(gfx.zoo.build("dcgan", ngf=4), at / "whole.pt")
    gfx.save(gfx.trace(plain.eval(), x).module, at / "plain.gfx")
    gfx.save(gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5}}]}, net, x), at / "small.gfx")
    (at / "there.pt2").write_bytes(b"")
    (at / "pics").mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        pixels = rng.integers(0, 255, (16, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(at / "pics" / f"{i}.png")
    return at


def said(command):
    done = CliRunner(env={"COLUMNS": "500"}).invoke(app, shlex.split(command))
    return done.exit_code, " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize(("command", "advice", "then"), CASES, ids=lambda v: str(v)[:50])
def test_what_a_command_advises_is_taken(folder, monkeypatch, command, advice, then):
    monkeypatch.chdir(folder)
    code, refusal = said(command)
    assert code in (1, 2), refusal
    found = re.search(advice, refusal)
    assert found, refusal
    code, again = said(then.format(*found.groups()))
    assert refusal not in again
    assert code == 0 or found.group() not in again, again
