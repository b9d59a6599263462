"""Every command takes the same MODEL, with the same options."""

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import gfx
from gfx.cli import app


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


class Small(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, width, 3), nn.Conv2d(width, 3, 1)

    def forward(self, x):
        return self.last(self.first(x).relu())


@pytest.fixture
def checkpoint(tmp_path):
    states = {"g": Small(16).state_dict(), "g_ema": Small(16).state_dict()}
    torch.save(states | {"epoch": 3}, tmp_path / "ckpt.pt")
    return tmp_path / "ckpt.pt"


OPTIONS = ("--model", f"{__name__}:Small?width=16", "--input", "1x3x8x8")
RECIPE = "recipe: 1\npasses: [{channel_prune: {ratio: 0.5, importance: random}}]\n"


@pytest.mark.parametrize(
    "command",
    [
        ("apply", "recipe.yaml", "ckpt.pt", "-o", "small.gfx"),
        ("cost", "ckpt.pt"),
        ("channels", "ckpt.pt"),
        ("inspect", "ckpt.pt", "--fast"),
        ("bench", "ckpt.pt", "--rounds", "5", "--warmups", "1", "--no-memory", "--no-profile"),
        ("export", "ckpt.pt", "-o", "small.pt2"),
    ],
    ids=lambda command: command[0],
)
@pytest.mark.filterwarnings("ignore")  # of torch.export
def test_every_command_takes_the_key_of_a_checkpoint(checkpoint, monkeypatch, command):
    monkeypatch.chdir(checkpoint.parent)
    (checkpoint.parent / "recipe.yaml").write_text(RECIPE)
    refused = run(*command, *OPTIONS)
    assert refused.exit_code == 1
    assert "holds 2 networks that fit: g, g_ema; say which with --key g_ema" in refused.stderr
    done = run(*command, *OPTIONS, "--key", "ema")
    assert done.exit_code == 0, done.stderr


def test_the_zoo_builds_the_module_of_a_checkpoint(tmp_path):
    torch.save({"netG": gfx.zoo.build("dcgan", ngf=4).state_dict()}, tmp_path / "a.pt")
    done = run("cost", tmp_path / "a.pt", "--model", "zoo:dcgan?ngf=4")
    assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("state.pt", "a pickle, as torch.save writes it: {file} is a state dict (4 tensors"),
        ("module.pt", "with a Sequential, which has no report; gfx cost {file} and gfx inspect"),
        ("model.onnx", "an ONNX model; gfx writes those (gfx export) and does not read them"),
    ],
)
def test_report_of_another_file_says_what_it_is(tmp_path, name, said):
    torch.save(Small().state_dict(), tmp_path / "state.pt")
    torch.save(nn.Sequential(nn.Conv2d(1, 1, 1)), tmp_path / "module.pt")
    (tmp_path / "model.onnx").write_bytes(b"\x08\x0a\x12\x07pytorch")
    result = run("report", tmp_path / name)
    assert result.exit_code == 1
    assert said.format(file=tmp_path / name) in result.stderr


def test_report_of_a_pickle_that_gfx_wrote_opens_with_trust(tmp_path):
    small = gfx.apply({"passes": ["fuse_batch_norm"]}, Small().eval(), torch.zeros(1, 3, 8, 8))
    gfx.save(small, tmp_path / "small.pt")
    refused = run("report", tmp_path / "small.pt")
    assert refused.exit_code == 1
    assert "--trust" in refused.stderr
    assert "fuse_batch_norm" in run("report", tmp_path / "small.pt", "--trust").stdout
