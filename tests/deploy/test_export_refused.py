"""What cannot be exported: the error names the node, and nothing is left behind."""

import importlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import gfx
import gfx.deploy.export.dynamic_sizes as search
from gfx.cli import app
from gfx.errors import ArchiveError, ExportError, GfxError, InputError
from gfx.ir.modules import CsrLinear

IMAGE = torch.rand(1, 3, 8, 8)


class Then(nn.Module):
    """A convolution, and something after it."""

    def __init__(self, after: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.after = after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.conv(x))


class Decides(nn.Module):
    """Looks at a value, which a graph cannot."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if float(x.sum()) > 0 else -x


class Noisy(nn.Module):
    """Adds noise, times a weight."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return y + self.weight * torch.randn_like(y)


def model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()


def refused(path: Path, given: nn.Module, inputs: Any = IMAGE, **options: Any) -> str:
    """Exports, returns the error, and sees that the folder is what it was."""
    before = {p: p.read_bytes() for p in path.parent.iterdir()}
    with pytest.raises(GfxError) as caught:
        gfx.export(given, path, inputs, **options)
    assert {p: p.read_bytes() for p in path.parent.iterdir()} == before
    assert isinstance(caught.value, ExportError | InputError | ArchiveError)
    return str(caught.value)


def test_an_operation_that_onnx_does_not_have_is_named(tmp_path: Path) -> None:
    said = refused(tmp_path / "net.onnx", Then(torch.special.bessel_j0))
    assert said == (
        "node special_bessel_j0 cannot be exported: torch has no ONNX form for prims.bessel_j0; "
        "write it with other operations, or export to .pt2; nothing was written"
    )


def test_a_module_that_torch_export_cannot_take_is_named(tmp_path: Path) -> None:
    said = refused(tmp_path / "net.pt2", Then(Decides()))
    assert "node after (Decides) cannot be exported: torch.export says: " in said
    assert "\n" not in said


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_a_csr_weight_is_named_with_what_to_do(form: str, tmp_path: Path) -> None:
    said = refused(
        tmp_path / f"net.{form}",
        nn.Sequential(CsrLinear.of(nn.Linear(4, 2))),
        torch.ones(1, 4),
    )
    assert said.startswith("node 0 (CsrLinear) keeps its weight in torch's CSR layout")
    assert "fold_masks: {layout: dense}" in said


def test_noise_is_named(tmp_path: Path) -> None:
    said = refused(tmp_path / "net.onnx", Noisy(1.0))
    assert said.startswith("node randn_like (torch.randn_like) draws random numbers, so that")
    assert gfx.export(Noisy(1.0), tmp_path / "net.pt2", IMAGE, check=False).error is None
    assert gfx.export(Noisy(0.0), tmp_path / "net.pt2", IMAGE, force=True).error == 0


def test_weights_that_are_not_there_are_told(tmp_path: Path) -> None:
    with torch.device("meta"):
        empty = model()
    assert "on the meta device" in refused(tmp_path / "net.pt2", empty, IMAGE.to("meta"))


def test_what_computes_something_else_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = search.attempt

    def wrong(program: Any, *rest: Any) -> Any:
        twin = program.copy()
        with torch.no_grad():
            twin.module.get_submodule("0").bias.add_(0.1)
        return right(twin, *rest)

    monkeypatch.setattr(search, "attempt", wrong)
    for form in ("onnx", "pt2"):
        said = refused(tmp_path / f"net.{form}", model(), dynamic=False)
        assert said.startswith("outputs differ after export: with fresh inputs of 1x3x8x8, output")
        assert "of its largest value away; 1e-04 is allowed; nothing was written" in said


def test_a_size_at_which_the_trace_is_not_the_model_is_fixed(tmp_path: Path) -> None:
    class Writes(nn.Module):
        """Does something else for high images."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * (2.0 if x.shape[2] > 6 else 1.0)

    done = gfx.export(Then(Writes()), tmp_path / "net.onnx", IMAGE)
    assert done.dynamic == ("batch", "width")
    assert done.fixed == ("height (ONNX cannot check that x.shape[2] - 2 <= 6, which must hold)",)


def test_values_that_are_not_finite_are_told(tmp_path: Path) -> None:
    said = refused(tmp_path / "net.pt2", Then(torch.log))
    assert "output 0 of the program is not finite on fresh inputs" in said


@pytest.mark.parametrize(
    ("name", "options", "parts"),
    [
        ("net.h5", {}, ("cannot export to", "ends in .onnx or .pt2")),
        ("net", {}, ("ends in .onnx or .pt2",)),
        ("net.pt2", {"opset": 18}, ("has no opset, only ONNX has; drop --opset 18",)),
        ("net.onnx", {"opset": 9}, ("opset 9 cannot be written: the exporter knows 16 to ",)),
        ("none/net.onnx", {}, ("there is no folder",)),
    ],
)
def test_a_target_that_cannot_be_is_told_before_the_work(
    name: str, options: dict[str, Any], parts: tuple[str, ...], tmp_path: Path
) -> None:
    said = refused_by(tmp_path, name, options)
    assert all(part in said for part in parts)


def refused_by(folder: Path, name: str, options: dict[str, Any]) -> str:
    with pytest.raises(GfxError) as caught:
        gfx.export(nn.Identity(), folder / name, **options)
    assert os.listdir(folder) == []
    return str(caught.value)


def test_a_target_that_exists_asks_for_force(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    path.write_text("mine")
    said = refused(path, model())
    assert said == f"{path} exists; --force (force=True) replaces it, or name another file"
    gfx.export(model(), path, IMAGE, force=True)
    assert torch.export.load(path).graph_signature.user_inputs == ("input",)


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_package_that_is_missing_is_named_with_its_extra(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.import_module

    def without(name: str, *rest: Any) -> Any:
        if name == package:
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    said = refused(tmp_path / "net.onnx", model())
    assert said == (
        f"ONNX takes {package}, which is not installed: pip install 'gfx-compiler[onnx]'"
    )


def test_a_disk_that_fills_up_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "the disk is full; nothing was written" in refused(tmp_path / "net.pt2", model())


def test_weights_of_more_than_two_gib_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gfx.deploy.export import onnx

    monkeypatch.setattr(onnx, "_MOST", 100)
    said = refused(tmp_path / "net.onnx", model())
    assert "one ONNX file holds 2 GiB; export to .pt2 instead" in said


def shell(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_shell_writes_prints_and_refuses(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    result = shell("export", "zoo:dcgan?ngf=4", "-o", path)
    assert result.exit_code == 0
    assert "dynamic: batch" in result.stdout
    assert (
        "checked: torch.export on 4 fresh inputs, largest relative error 0.0e+00" in result.stdout
    )
    assert f"wrote {path} (" in result.stderr
    again = shell("export", "zoo:dcgan?ngf=4", "-o", path)
    assert again.exit_code == 1
    assert f"error: {path} exists; --force" in again.stderr
    options = ("--trust", "--force", "--json", "--static", "--no-check")
    forced = shell("export", path, "-o", path, *options)
    assert forced.exit_code == 0
    assert '"error": null' in forced.stdout
    assert "NOT CHECKED" in forced.stderr
