"""No mode of the caller changes what a verb does, and no verb changes a mode of its caller."""

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gfx
from gfx.ir.ambient_modes import neutral_modes


@contextmanager
def default_dtype(dtype: torch.dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def default_device():
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "inference": torch.inference_mode,
    "no_grad": torch.no_grad,
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "meta": lambda: torch.device("meta"),
    "default_device": default_device,
    "deterministic": deterministic,
    "anomaly": lambda: torch.autograd.detect_anomaly(check_nan=True),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


def ambient() -> tuple[Any, ...]:
    return (
        torch.is_inference_mode_enabled(),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.empty(0).device,
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.is_anomaly_enabled(),
        torch.is_anomaly_check_nan_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
    )


class Net(nn.Module):
    """A net that makes tensors of its own, and has a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.tail = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        y = self.tail(self.head(x))
        return y + torch.zeros(1, device=y.device, dtype=y.dtype)


RECIPE = {"passes": ["fuse_batch_norm", {"channel_prune": {"ratio": 0.5}}]}


def tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def values(module: nn.Module) -> dict[str, list[float]]:
    assert not any(t.is_inference() or t.is_meta for t in tensors(module).values())
    return {n: t.detach().flatten().tolist() for n, t in tensors(module).items()}


def saved_and_loaded(model: nn.Module, x: torch.Tensor, folder: Path) -> Any:
    gfx.save(gfx.trace(model, x), folder / "a.gfx")
    return values(gfx.load(folder / "a.gfx")), values(gfx.open_model(folder / "a.gfx"))


def inspected(model: nn.Module, x: torch.Tensor, folder: Path) -> Any:
    table = gfx.inspect(model, x)
    return [(row.layer, row.macs) for row in table.rows] if hasattr(table, "rows") else str(table)


def exported(model: nn.Module, x: torch.Tensor, folder: Path) -> Any:
    done = gfx.export(model, folder / "a.pt2", x, force=True)
    return done.inputs, done.outputs


def masked(model: nn.Module, x: torch.Tensor, folder: Path) -> Any:
    small = gfx.apply({"passes": [{"mask": {"sparsity": 0.5, "end": 1}}]}, model, x)
    gfx.schedule(small).step()
    return values(small)


VERBS: dict[str, Callable[[nn.Module, torch.Tensor, Path], Any]] = {
    "trace": lambda m, x, f: values(gfx.trace(m, x).module),
    "infer": lambda m, x, f: values(gfx.trace(m).module),
    "apply": lambda m, x, f: values(gfx.apply(RECIPE, m, x)),
    "cost": lambda m, x, f: gfx.cost(m, x).macs,
    "channels": lambda m, x, f: [str(group) for group in gfx.channels(m, x)],
    "save": saved_and_loaded,
    "inspect": inspected,
    "export": exported,
    "mask": masked,
    "bench": lambda m, x, f: gfx.bench(m, x, rounds=5, warmups=1, memory=False).inputs,
}


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    known: dict[str, Any] = {}

    def of(verb: str) -> Any:
        if verb not in known:
            known[verb] = VERBS[verb](*given(), tmp_path_factory.mktemp(verb))
        return known[verb]

    return of


def given() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return Net().eval(), torch.rand(1, 3, 8, 8)


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled:UserWarning")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_does_the_same_in_every_mode(
    verb: str, mode: str, wanted: Callable[[str], Any], tmp_path: Path
) -> None:
    expected, (model, x) = wanted(verb), given()
    with MODES[mode]():
        before = ambient()
        got = VERBS[verb](model, x, tmp_path)
        assert ambient() == before
    assert got == expected
    assert ambient()[:2] == (False, True)


def test_a_model_and_an_input_made_in_inference_mode_give_a_program_that_trains() -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        model, x = Net().eval(), torch.rand(1, 3, 8, 8)
        small = gfx.apply(RECIPE, model, x)
    assert not any(t.is_inference() for t in tensors(small).values())
    small(torch.rand(1, 3, 8, 8)).sum().backward()
    assert all(p.grad is not None for p in small.parameters())


def test_modes_come_back_after_an_error() -> None:
    with torch.inference_mode(), torch.device("meta"), default_dtype(torch.float64):
        before = ambient()
        with pytest.raises(gfx.InputError, match="the model is None"):
            gfx.trace(None)
        assert ambient() == before


def test_a_model_of_the_default_dtype_keeps_it() -> None:
    with default_dtype(torch.float64):
        with neutral_modes(nn.Linear(2, 2)):
            assert torch.get_default_dtype() is torch.float64
        with neutral_modes(nn.Linear(2, 2).float()):
            assert torch.get_default_dtype() is torch.float32
