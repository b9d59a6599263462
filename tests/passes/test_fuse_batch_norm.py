"""fuse_batch_norm: what it folds, what it leaves alone, and why."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx, nn

import gfx
from gfx.contract import Outcome
from gfx.ir.execute import distance
from gfx.ir.program import Program
from passes.fuse_batch_norm import FuseBatchNorm


def with_statistics(model: nn.Module) -> nn.Module:
    """Gives norms statistics that a wrong fold would be seen by."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (module.running_mean, module.weight, module.bias):
                if tensor is not None:
                    nn.init.normal_(tensor)
            if module.running_var is not None:
                nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.double().eval()


def fuse(model: nn.Module, *shape: int, **fields: Any) -> tuple[Program, Outcome, float]:
    """Returns the fused program, its outcome, and how far its output is from the model's."""
    x = torch.randn(shape, dtype=torch.float64)
    program = Program(fx.symbolic_trace(model), (x,)).copy()
    expected = program.module(x)
    outcome = FuseBatchNorm(**fields).apply(program, gfx.Context())
    return program, outcome, distance(expected, program.module(x))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("layer", "norm", "shape"),
    [
        (lambda b: nn.Conv1d(4, 8, 3, bias=b), nn.BatchNorm1d, (2, 4, 9)),
        (lambda b: nn.Conv2d(4, 8, 3, groups=2, bias=b), nn.BatchNorm2d, (2, 4, 9, 9)),
        (lambda b: nn.Conv3d(4, 8, 3, bias=b), nn.BatchNorm3d, (2, 4, 5, 5, 5)),
        (lambda b: nn.ConvTranspose1d(4, 8, 4, 2, bias=b), nn.BatchNorm1d, (2, 4, 5)),
        (lambda b: nn.ConvTranspose2d(4, 8, 4, 2, bias=b), nn.BatchNorm2d, (2, 4, 5, 5)),
        (lambda b: nn.ConvTranspose2d(4, 8, 3, groups=4, bias=b), nn.BatchNorm2d, (2, 4, 5, 5)),
        (lambda b: nn.ConvTranspose3d(4, 8, 3, groups=2, bias=b), nn.BatchNorm3d, (2, 4, 3, 3, 3)),
        (lambda b: nn.Linear(4, 8, bias=b), nn.BatchNorm1d, (5, 4)),
        (lambda b: nn.Conv2d(4, 8, 3, bias=b), nn.SyncBatchNorm, (2, 4, 9, 9)),
    ],
)
def test_the_norm_goes_and_the_values_stay(
    layer: Callable[[bool], nn.Module], norm: type[nn.Module], shape: tuple[int, ...], bias: bool
) -> None:
    model = with_statistics(nn.Sequential(layer(bias), norm(8), nn.ReLU()))
    program, outcome, error = fuse(model, *shape)
    assert error < 1e-12
    assert [c.what for c in outcome.changes] == ["folded into 0"]
    assert [type(m).__name__ for m in program.module.children()] == [
        type(model[0]).__name__,  # type: ignore[index]
        "ReLU",
    ]


@pytest.mark.parametrize(("bias", "fallen"), [(True, 16), (False, 8)])
def test_parameters_fall_by_two_c_or_by_c_without_a_bias(bias: bool, fallen: int) -> None:
    model = with_statistics(nn.Sequential(nn.Conv2d(3, 8, 3, bias=bias), nn.BatchNorm2d(8)))
    program, _, _ = fuse(model, 1, 3, 8, 8)
    before, after = (sum(p.numel() for p in m.parameters()) for m in (model, program.module))
    assert before - after == fallen


def test_a_norm_without_parameters_folds_into_a_bias() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, affine=False))
    _, outcome, error = fuse(with_statistics(model), 1, 3, 8, 8)
    assert outcome.modified
    assert error < 1e-12


def test_frozen_parameters_stay_frozen() -> None:
    model = with_statistics(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))
    model.requires_grad_(False)
    program, _, _ = fuse(model, 1, 3, 8, 8)
    assert not any(p.requires_grad for p in program.module.parameters())


class Twice(nn.Module):
    def __init__(self, shared: str) -> None:
        super().__init__()
        self.shared = shared
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.norm, self.other = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        if shared == "weight":
            self.b.weight = self.a.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.shared == "output":
            y = self.a(x)
            return self.norm(y) + y
        if self.shared == "conv":
            return self.norm(self.a(self.a(x)))
        if self.shared == "norm":
            return self.norm(self.b(self.norm(self.a(x))))
        if self.shared == "read":
            return self.norm(self.a(x)) + self.a.weight.sum()
        if self.shared == "add":
            return self.norm(self.a(x) + x)
        return self.other(self.b(self.norm(self.a(x))))


@pytest.mark.parametrize(
    ("shared", "why"),
    [
        ("output", "a feeds 2 nodes"),
        ("conv", "a is called 2 times"),
        ("norm", "norm is called 2 times"),
        ("weight", "a.weight is shared with another place"),
        ("read", "a.weight is shared with another place"),
        ("add", "fed by add, not by a convolution, or a linear layer of (N, C)"),
    ],
)
def test_what_serves_another_place_is_skipped(shared: str, why: str) -> None:
    _, outcome, error = fuse(with_statistics(Twice(shared)), 1, 3, 4, 4)
    assert not outcome.modified
    assert outcome.skips[0].why == why
    assert error == 0


def spectral_norm(layer: nn.Module) -> nn.Module:
    normed: nn.Module = nn.utils.parametrizations.spectral_norm(layer)
    return normed


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (
            nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False)),
            "it keeps no running statistics (track_running_stats=False)",
        ),
        (
            nn.Sequential(
                nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 8, 3)), nn.BatchNorm2d(8)
            ),
            "its ParametrizedConv2d has a hook or parametrization; "
            "run fold_parametrizations before",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8, affine=False)),
            "neither the norm nor the layer has a bias to hold the shift",
        ),
        (
            nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)),
            "fed by 0 (ReLU), not by a convolution, or a linear layer of (N, C)",
        ),
        (
            nn.Sequential(nn.BatchNorm2d(3)),
            "fed by input_1, not by a convolution, or a linear layer of (N, C)",
        ),
    ],
)
def test_what_cannot_be_folded_is_skipped_with_the_reason(model: nn.Module, why: str) -> None:
    _, outcome, error = fuse(with_statistics(model), 1, 3, 8, 8)
    assert [skip.why for skip in outcome.skips] == [why]
    assert error == 0


def test_a_norm_that_itself_trains_is_skipped() -> None:
    model = with_statistics(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))
    model[1].train()  # type: ignore[index]
    _, outcome, _ = fuse(model, 1, 3, 8, 8)
    assert outcome.skips[0].why == "the norm itself is in training mode"


def test_a_linear_of_a_sequence_is_skipped() -> None:
    model = with_statistics(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(5)))
    _, outcome, _ = fuse(model, 2, 5, 4)
    assert outcome.skips[0].why.startswith("fed by 0 (Linear), not by")


def test_targets_choose_norms_by_path() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 3, 1), nn.BatchNorm2d(3)
    )
    _, outcome, _ = fuse(with_statistics(model), 1, 3, 8, 8, targets=("3",))
    assert [c.node for c in outcome.changes] == ["3"]
    assert outcome.skips[0].why == "not in targets 3"


def test_a_program_in_training_mode_is_refused() -> None:
    program = Program(fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 8, 3))), ())
    with pytest.raises(gfx.PreconditionError, match=r"is in training mode.*model.eval\(\) first"):
        FuseBatchNorm().requires(program)
