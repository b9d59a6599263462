"""Every function that takes a model takes the path of one too, and opens it in one way."""

import inspect

import pytest
import torch
from torch import nn

import gfx
from gfx.errors import ArchiveError, GfxError

RECIPE = {"passes": [{"channel_prune": {"ratio": 0.5, "importance": "random"}}]}
X = torch.zeros(1, 3, 8, 8)
IMAGES = torch.linspace(-1, 1, 80 * 192).sin().view(80, 3, 8, 8)
FIT = {
    "stages": {
        "one": {
            "fit": {"teacher": "given", "discriminator": "none", "losses": {"mimic": 1}, "steps": 1}
        }
    }
}
VERBS = {
    "trace": lambda model, folder: gfx.trace(model, X).text(),
    "apply": lambda model, folder: str(gfx.apply(RECIPE, model, X, seed=0).graph),
    "cost": lambda model, folder: gfx.cost(model, X).params,
    "channels": lambda model, folder: [g.name for g in gfx.channels(model, X)],
    "inspect": lambda model, folder: gfx.inspect(model, X, fast=True).to_dicts(),
    "bench": lambda model, folder: (
        gfx.bench(
            model, X, against=model, rounds=5, warmups=1, memory=False, profile=False
        ).model.cost.params
    ),
    "compress": lambda model, folder: (
        gfx.compress(FIT, model, data=torch.zeros(4, 3, 8, 8), task="self", example_inputs=X).scores
    ),
    "search": lambda model, folder: [
        net.value
        for net in gfx.search(
            model,
            data=IMAGES,
            by="random",
            evaluations=2,
            example_inputs=X,
            order="l1",
            widths=[0.5, 1.0],
            examples=8,
        ).front.nets
    ],
    "supernet": lambda model, folder: gfx.supernet(model, X, widths=[0.5, 1.0]).widths,
    "export": lambda model, folder: gfx.export(model, folder / "a.pt2", X, force=True).inputs,
}
NOT_HERE = {  # they act on the module that the caller holds, on a program, or take no model
    "adapters", "load", "open_model", "passes", "report", "save", "schedule", "tapped", "images",
}  # fmt: skip


@pytest.fixture
def net():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 1)).eval()


def test_every_verb_is_here():
    verbs = {name for name in gfx.__all__ if inspect.isfunction(getattr(gfx, name))}
    assert verbs - NOT_HERE == set(VERBS)


@pytest.mark.filterwarnings("ignore")  # of torch.export
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_does_the_same_with_a_path(net, tmp_path, verb):
    torch.save(net, tmp_path / "net.pt")
    wanted = VERBS[verb](net, tmp_path)
    assert VERBS[verb](tmp_path / "net.pt", tmp_path) == wanted
    assert VERBS[verb](str(tmp_path / "net.pt"), tmp_path) == wanted
    torch.save(net.state_dict(), tmp_path / "ema.pth")
    for name, said in {
        "gone.pt": "gone.pt does not exist",
        "ema.pth": r"is a state dict .*gfx\.open_model\('.*ema.pth', model=\"package.module:fac",
    }.items():
        with pytest.raises(ArchiveError, match=said):
            VERBS[verb](tmp_path / name, tmp_path)


def test_the_file_is_left_as_it_is(net, tmp_path):
    torch.save(net, tmp_path / "net.pt")
    before = (tmp_path / "net.pt").read_bytes()
    gfx.apply(RECIPE, tmp_path / "net.pt", X)
    assert (tmp_path / "net.pt").read_bytes() == before


def test_a_report_is_read_from_a_file(net, tmp_path):
    small = gfx.apply(RECIPE, net, X)
    gfx.save(small, tmp_path / "small.gfx")
    assert gfx.report(tmp_path / "small.gfx") == gfx.report(small)
    torch.save(net, tmp_path / "net.pt")
    with pytest.raises(GfxError, match="this Sequential has no gfx report"):
        gfx.report(tmp_path / "net.pt")


def test_the_zoo_is_named_as_in_the_shell():
    assert gfx.cost("zoo:dcgan?ngf=8").params == 146032
    with pytest.raises(ArchiveError, match=r"dcgan does not exist; did you mean zoo:dcgan\?"):
        gfx.trace("dcgan")


def test_load_opens_what_open_model_opens(net, tmp_path):
    assert list(inspect.signature(gfx.load).parameters) == list(
        inspect.signature(gfx.open_model).parameters
    )
    torch.save({"g": net.state_dict()}, tmp_path / "a.pt")
    opened = gfx.load(tmp_path / "a.pt", model=net, key="g")
    assert all(
        torch.equal(a, b) for a, b in zip(opened.parameters(), net.parameters(), strict=True)
    )
