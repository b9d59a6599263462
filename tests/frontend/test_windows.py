"""Attention in windows of an image of open size is exported without a proof for each view."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental import _config
from torch.utils import _pytree as pytree

import gfx
from gfx.frontend import torch_export


class Window(nn.Module):
    """Mixes the places inside of windows of 4 x 4, as Swin and SCUNet do."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix, self.norm = nn.Linear(16, 16), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        n, h, w, c = x.shape
        y = self.norm(x).view(n, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 5, 2, 4)
        y = self.mix(y.reshape(n, (h // 4) * (w // 4), c, 16))
        y = y.reshape(n, h // 4, w // 4, c, 4, 4).permute(0, 1, 4, 2, 5, 3)
        return x + y.reshape(n, h, w, c)


class Windows(nn.Module):
    """Pads an image to whole windows, goes through three resolutions, and cuts it back."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.down, self.up = nn.Conv2d(8, 8, 2, 2), nn.ConvTranspose2d(8, 8, 2, 2)
        self.windows = nn.ModuleList(Window(8) for _ in range(6))

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        if len(x.shape) != 4:
            raise ValueError(x.shape)
        x = nn.functional.pad(x, (0, -w % 16, 0, -h % 16))
        y = self.down(self.stem(x)).permute(0, 2, 3, 1)
        for window in self.windows:
            y = window(y)
        return self.head(self.up(y.permute(0, 3, 1, 2)))[:, :, :h, :w]


def test_windows_keep_their_sizes_open_without_a_proof_for_each_view(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proofs = []
    divide = torch._refs._reshape_view_helper_core_alg
    monkeypatch.setattr(
        torch._refs,
        "_reshape_view_helper_core_alg",
        lambda *given, **named: proofs.append(given) or divide(*given, **named),
    )
    torch.manual_seed(0)
    model, before = Windows().eval(), _config.backed_size_oblivious
    program = gfx.trace(model, torch.rand(1, 3, 32, 48))
    assert program.provenance.frontend == "export"
    assert len(proofs) <= 2  # of shapes that are known; not one for each of 24 views
    assert _config.backed_size_oblivious is before
    for size in ((1, 3, 32, 48), (3, 3, 48, 64)):
        x = torch.rand(size)
        with torch.no_grad():
            torch.testing.assert_close(program.module(x), model(x))


def test_what_fails_without_guards_is_tried_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    plain = torch_export._export

    def export(model: nn.Module, attempt: torch_export.ExportCall, *more: Any) -> Any:
        tried.append(attempt.quick)
        if attempt.quick:
            raise RuntimeError("no proof")
        return plain(model, attempt, *more)

    class Loop(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if len(x) else x

    monkeypatch.setattr(torch_export, "_export", export)
    assert gfx.trace(Loop(), torch.rand(1, 3, 4, 4)).provenance.frontend == "export"
    assert tried == [True, False]


class CountedWindows(nn.Module):
    """Counts its images by a division of floats, as DCTLSA does: their number is then fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = x.view(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, 4, c)
        n = int(len(y) / (h * w / 4 / 4))
        y = self.mix(y).view(n, h // 4, w // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5)
        return x + y.reshape(n, h, w, c).permute(0, 3, 1, 2)


def test_what_exports_without_proofs_is_not_exported_with_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []
    plain = torch_export._export

    def export(model: nn.Module, attempt: torch_export.ExportCall, *more: Any) -> Any:
        tried.append((attempt.quick, len(pytree.tree_leaves(attempt.arguments.values())[0])))
        return plain(model, attempt, *more)

    monkeypatch.setattr(torch_export, "_export", export)
    torch.manual_seed(0)
    model = CountedWindows().eval()
    program = gfx.trace(model, torch.rand(1, 8, 16, 24))
    assert tried == [(True, 2), (True, 1)]
    assert any("x.shape[0] == 1" in note for note in program.provenance.notes)
    x = torch.rand(1, 8, 24, 16)  # as many windows
    with torch.no_grad():
        torch.testing.assert_close(program.module(x), model(x))
    with pytest.raises(gfx.errors.InputError, match="does not hold here: x is 1x8x24x8"):
        program.module(torch.rand(1, 8, 24, 8))


def test_an_export_leaves_the_settings_of_torch_as_they_were() -> None:
    import torch._dynamo.config as dynamo

    before = dynamo.fake_tensor_cache_enabled, _config.backed_size_oblivious
    gfx.trace(Windows().eval(), torch.rand(1, 3, 16, 16))
    assert (dynamo.fake_tensor_cache_enabled, _config.backed_size_oblivious) == before
