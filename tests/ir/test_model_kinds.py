"""Whatever is handed in as a model, each verb takes it or says in one sentence what it is."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import fx, nn

import gfx


class Unmade(nn.Module):
    """A module that never called the constructor of nn.Module."""

    def __init__(self) -> None:
        vars(self)["scale"] = 2


class Holder:
    """Something that holds a module, as Lightning's and accelerate's classes do."""

    def __init__(self) -> None:
        self.module = nn.Conv2d(3, 3, 1)


def traced() -> Any:
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        return torch.jit.trace(net(), torch.rand(1, 3, 8, 8))


def scripted() -> Any:
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        return torch.jit.script(net())


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()).eval()


def exported() -> Any:
    return torch.export.export(net(), (torch.rand(1, 3, 8, 8),))


def quantized() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says once that such tensors will go
        return nn.Sequential(torch.ao.nn.quantized.dynamic.Linear(3, 3))


KINDS: dict[str, tuple[Callable[[], Any], str]] = {
    "traced": (traced, "is a TorchScript module .* pass the module that it was made from"),
    "scripted": (scripted, "is a TorchScript module"),
    "exported": (exported, r"is an ExportedProgram of torch.export; pass its .module\(\)"),
    "class": (lambda: nn.ReLU, r"is the class ReLU, not a module; make one: ReLU\(...\)"),
    "function": (lambda: torch.relu, "is the function relu, not a module"),
    "lambda": (lambda: lambda x: x, "is the function <lambda>, not a module"),
    "state dict": (lambda: net().state_dict(), "is a state dict .2 tensors, the first is 0.weight"),
    "checkpoint": (
        lambda: {"g": net(), "epoch": 3},
        "is a dict, not a torch.nn.Module; pass the module under g",
    ),
    "None": (lambda: None, "is None; pass a torch.nn.Module"),
    "optimizer": (
        lambda: torch.optim.SGD(net().parameters(), 0.1),
        r"is an optimizer \(SGD\); pass the torch.nn.Module that it trains",
    ),
    "tensor": (
        lambda: torch.rand(1, 3),
        r"is a tensor of shape \[1, 3\]; pass",
    ),
    "graph": (lambda: fx.Graph(), "is a torch.fx Graph"),
    "holder": (Holder, "is a Holder; pass its .module"),
    "list": (lambda: [net()], "is a list of 1; pass one torch.nn.Module"),
    "number": (lambda: 3, "is a int, not a torch.nn.Module"),
    "quantized": (
        quantized,
        r"Sequential.0 of the model is a quantized Linear, whose weights are packed integers",
    ),
    "unmade": (Unmade, r"Unmade of the model never called super\(\).__init__\(\)"),
}
X = (1, 3, 8, 8)
VERBS: dict[str, Callable[[Any, Path], Any]] = {
    "trace": lambda m, f: gfx.trace(m, torch.rand(X)),
    "infer": lambda m, f: gfx.trace(m),
    "apply": lambda m, f: gfx.apply({"passes": ["channel_prune"]}, m, torch.rand(X)),
    "cost": lambda m, f: gfx.cost(m, torch.rand(X)),
    "channels": lambda m, f: gfx.channels(m, torch.rand(X)),
    "inspect": lambda m, f: gfx.inspect(m, torch.rand(X)),
    "export": lambda m, f: gfx.export(m, f / "a.pt2", torch.rand(X)),
    "bench": lambda m, f: gfx.bench(m, torch.rand(X)),
    "against": lambda m, f: gfx.bench(net(), torch.rand(X), against=m),
    "schedule": lambda m, f: gfx.schedule(m),
    "tapped": lambda m, f: gfx.tapped(m),
    "adapters": lambda m, f: gfx.adapters(m, m),
    "save": lambda m, f: gfx.save(m, f / "a.gfx"),
    "report": lambda m, f: gfx.report(m),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_verb_says_what_is_no_model(kind: str, tmp_path: Path) -> None:
    make, text = KINDS[kind]
    model = make()
    for verb, call in VERBS.items():
        if verb == "against" and kind == "None":
            continue  # means: against nothing
        wanted = text.replace("the model", "the student") if verb == "adapters" else text
        with pytest.raises(gfx.InputError, match=wanted) as caught:
            call(model, tmp_path)
        assert "\n" not in str(caught.value), verb
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["net.pth", Path("net.pth")])
def test_a_path_that_is_not_there_is_named(path: Any, tmp_path: Path) -> None:
    for call in VERBS.values():
        with pytest.raises(gfx.GfxError, match=r"net\.pth") as caught:
            call(path, tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_what_is_advised_works() -> None:
    x = torch.rand(X)
    wanted = gfx.cost(net(), x).macs
    for model in (exported().module(), fx.symbolic_trace(net()), torch.compile(net())):
        assert gfx.cost(model, x).macs == wanted


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_torchscript_part_is_kept_whole() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), traced()).eval()
    program = gfx.trace(model, torch.rand(X))
    assert [path for path, _ in program.provenance.opaque] == ["1"]
