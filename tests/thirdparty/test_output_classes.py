"""Models that return objects of the real classes of diffusers and attrs, not of look-alikes."""

import copy
import importlib
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gfx
from support.output_objects import same_value, untrusted

VAE = "diffusers.models.autoencoders.vae"
CLASSES = {  # where the class is, its name, and its fields
    "a sample": ("diffusers.models.unets.unet_2d", "UNet2DOutput", ("sample",)),
    "a decoded image": (VAE, "DecoderOutput", ("sample",)),
    "a sample and a loss": (VAE, "DecoderOutput", ("sample", "commit_loss")),
    "attrs": ("thirdparty.attrs_outputs", "Both", ("image", "mask")),
    "attrs, frozen": ("thirdparty.attrs_outputs", "Frozen", ("image", "mask")),
}
X = torch.linspace(-1, 1, 3 * 64).view(1, 3, 8, 8)


class Net(nn.Module):
    def __init__(self, kind: Any, fields: tuple[str, ...]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.act, self.head = nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 3, 1)
        self.kind, self.fields = kind, fields

    def forward(self, x: Tensor) -> Any:
        y = self.head(self.act(self.body(x)))
        values = dict(zip(self.fields, (y, y.abs()), strict=False))
        return self.kind(**values)


@pytest.fixture(params=CLASSES)
def net(request: pytest.FixtureRequest) -> Net:
    module, name, fields = CLASSES[request.param]
    for package in ("attrs",) if "attrs" in module else ("diffusers",):
        pytest.importorskip(package)
    return Net(getattr(importlib.import_module(module), name), fields).eval()


def test_an_object_of_a_real_class_comes_back(net: Net, tmp_path: Path) -> None:
    wanted = net(X)
    program = gfx.trace(net, X)
    gfx.save(program, tmp_path / "a.gfx")
    trusted = gfx.open_model(tmp_path / "a.gfx", trust=True)
    twins = [program.module, copy.deepcopy(program.module), trusted]
    twins.append(pickle.loads(pickle.dumps(program.module)))
    for twin in twins:
        assert type(twin(X)) is net.kind
        assert same_value(wanted, twin(X))


def test_a_real_class_is_not_imported_without_trust(net: Net, tmp_path: Path) -> None:
    gfx.save(gfx.trace(net, X), tmp_path / "a.gfx")
    loaded, warned = untrusted(tmp_path / "a.gfx")
    got, wanted = loaded(X), net(X)
    assert warned
    assert type(got) is not net.kind
    assert all(torch.equal(getattr(got, name), getattr(wanted, name)) for name in net.fields)


def test_a_pruned_model_returns_an_object_of_a_real_class(net: Net) -> None:
    small = gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5}}]}, net, X)
    assert type(small(X)) is net.kind
    assert small.body.out_channels == 4
    assert getattr(small(X), net.fields[0]).shape == (1, 3, 8, 8)
