"""Tensors that are copied on write: of whatever memory, each side has its own values."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import gfx
from gfx.ir.copy_on_write import clone_on_write, copy_on_write


def saved(path: Path, **options: bool) -> Tensor:
    torch.save({"x": torch.arange(4.0)}, path)
    return torch.load(path, weights_only=True, **options)["x"]


def in_safetensors(path: Path) -> Tensor:
    save_file({"x": torch.arange(4.0)}, path)
    return load_file(path)["x"]


def in_inference_mode() -> Tensor:
    with torch.inference_mode():
        return torch.arange(4.0)


MEMORY: dict[str, Callable[[Path], Tensor]] = {
    "fresh": lambda path: torch.arange(4.0),
    "view": lambda path: torch.arange(8.0)[:4],
    "loaded": saved,
    "mapped": lambda path: saved(path, mmap=True),
    "pickled": lambda path: pickle.loads(pickle.dumps(torch.arange(4.0))),
    "safetensors": in_safetensors,
    "numpy": lambda path: torch.from_numpy(np.arange(4, dtype=np.float32)),
    "buffer": lambda path: torch.frombuffer(bytearray(16), dtype=torch.float32),
    "shared": lambda path: torch.arange(4.0).share_memory_(),
    "inference": lambda path: in_inference_mode(),
    "parameter": lambda path: nn.Parameter(torch.arange(4.0)).data,
    "empty": lambda path: torch.zeros(0),
    "channels_last": lambda path: torch.ones(1, 2, 3, 3).to(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("written", ["source", "copy"])
@pytest.mark.parametrize("memory", MEMORY)
def test_whoever_is_written_the_other_keeps_its_values(
    memory: str, written: str, tmp_path: Path
) -> None:
    source = MEMORY[memory](tmp_path / "x")
    before = source.clone()
    with copy_on_write():
        copy = clone_on_write(source)
        assert torch.equal(copy, before)
        target, other = (source, copy) if written == "source" else (copy, source)
        if not target.is_inference():
            target.add_(1)
        assert torch.equal(other, before)
    assert torch.equal(other, before)
    assert not torch._C._is_cow_tensor(source)
    assert not torch._C._is_cow_tensor(copy)
    if source.numel():
        assert copy.untyped_storage().data_ptr() != source.untyped_storage().data_ptr()


@pytest.mark.parametrize("memory", [name for name in MEMORY if name != "empty"])
def test_a_model_of_any_memory_is_pruned_and_stays_what_it_was(memory: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 3, 1)).eval()
    state = model.state_dict()
    if memory in ("loaded", "mapped"):
        torch.save(state, tmp_path / "s")
        state = torch.load(tmp_path / "s", weights_only=True, mmap=memory == "mapped")
    elif memory == "safetensors":
        save_file(state, tmp_path / "s")
        state = load_file(tmp_path / "s")
    elif memory == "shared":
        model.share_memory()
    elif memory == "numpy":
        state = {name: torch.from_numpy(x.numpy().copy()) for name, x in state.items()}
    model.load_state_dict(state, assign=True)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    x = torch.ones(1, 3, 4, 4)
    small = gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5}}]}, model, (x,))
    assert small(x).shape == model(x).shape
    assert not any(map(torch._C._is_cow_tensor, model.state_dict().values()))
    mine = {x.untyped_storage().data_ptr() for x in model.state_dict().values()}
    theirs = {x.untyped_storage().data_ptr() for x in small.state_dict().values()}
    assert not mine & theirs
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_without_torchs_own_copy_on_write_tensors_are_copied_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(torch, "_lazy_clone")
    source = torch.ones(3)
    with copy_on_write():
        copy = clone_on_write(source)
        assert torch.equal(copy.add_(1), source + 1)
