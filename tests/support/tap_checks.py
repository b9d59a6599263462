"""What the tests of taps share: features seen by hooks, and the bytes of archives."""

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import gfx
from gfx.ir.modules import Tap

__all__ = ["members", "seen", "tap", "taps_of"]


def tap(model: nn.Module, inputs: Any = None, **fields: Any) -> Any:
    """Applies distill_taps."""
    return gfx.apply({"passes": [{"distill_taps": fields}]}, model, inputs)


def taps_of(model: nn.Module) -> list[str]:
    """Lists the names of the taps, in the order of the modules."""
    return [path.rpartition(".")[2] for path, m in model.named_modules() if isinstance(m, Tap)]


def seen(model: nn.Module, inputs: tuple) -> tuple[Any, dict[str, Tensor]]:
    """Runs a model and copies what each tap returns, as it is at that moment."""
    features: dict[str, Tensor] = {}
    taps = [(path, m) for path, m in model.named_modules() if isinstance(m, Tap)]

    def keep(path: str) -> Any:
        def hook(_: nn.Module, __: Any, value: Tensor) -> None:
            features[path.rpartition(".")[2]] = value.detach().clone()

        return hook

    hooks = [m.register_forward_hook(keep(path)) for path, m in taps]
    try:
        with torch.no_grad():
            y = model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return y, features


def members(model: nn.Module, folder: Path) -> dict[str, bytes]:
    """Saves a model and returns the graph and the weights of the archive."""
    gfx.save(model, folder / "saved.gfx")
    with zipfile.ZipFile(folder / "saved.gfx") as archive:
        return {name: archive.read(name) for name in ("graph.json", "weights.safetensors")}
