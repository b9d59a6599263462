"""fold_constants: what is computed beforehand, what is not, and what goes on as before."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gfx
from gfx.ir.execute import distance

RECIPE = {"passes": ["fold_constants"]}


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Net(nn.Module):
    """Convolutions whose kernels the forward computes, in one way or another."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.gain = nn.Parameter(torch.rand(4, 1, 1, 1) + 1)
        self.last = nn.Conv2d(4, 3, 1)
        self.register_buffer("table", torch.randn(1, 3, 1, 1))
        self.register_buffer("noise", torch.randn(1, 1, 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "standardised":
            mean = self.weight.mean((1, 2, 3), keepdim=True)
            std = self.weight.std((1, 2, 3), keepdim=True)
            return self.last(F.conv2d(x, (self.weight - mean) / (std + 1e-5) * self.gain))
        if self.how == "buffer":
            return self.last(F.conv2d(x * torch.sin(self.table), self.weight))
        if self.how == "moved":
            return self.last(F.conv2d(x, self.weight.flip(1).transpose(2, 3)))
        if self.how == "plain":
            return self.last(F.conv2d(x, self.weight.view(4, 3, 3, 3)))
        if self.how == "twice":
            return self.last(F.conv2d(x, self.weight * 2) + F.conv2d(x, self.weight))
        if self.how == "both":
            doubled = self.weight * 2
            return self.last(F.conv2d(x, doubled) + F.conv2d(x, doubled.exp()))
        if self.how == "layer":
            return F.conv2d(
                self.last(F.conv2d(x, self.weight)), self.last.weight.transpose(0, 1) * 2
            )
        if self.how == "repeated":
            return self.last(F.conv2d(x, self.weight)) + (self.table * 2).repeat(1, 1, 4, 4)
        if self.how == "larger":  # a map of noise times a learned strength
            return self.last(F.conv2d(x, self.weight)) + self.gain[0] * self.noise
        return self.last(F.conv2d(x, self.weight * (torch.rand_like(self.gain) > 2)))


def applied(how: str, **fields: Any) -> tuple[nn.Module, nn.Module, Any]:
    """Returns model, result and the pass's part of the report, once both give the same."""
    torch.manual_seed(0)
    model, x = Net(how).double().eval(), drawn(2, 3, 6, 6)
    small = gfx.apply({"passes": [{"fold_constants": fields}]}, model, x)
    assert distance(model(x), small(x)) < 1e-12
    return model, small, gfx.report(small).passes[0]


@pytest.mark.parametrize(
    ("how", "sources", "gone"),
    [
        ("standardised", ["gain", "weight"], 4),
        ("buffer", ["table"], 0),
        ("moved", ["weight"], 0),
    ],
)
def test_what_depends_on_weights_only_is_stored(how: str, sources: list[str], gone: int) -> None:
    model, small, entry = applied(how)
    (change,) = entry.changes
    assert change.before == sources
    assert not {name for name, _ in small.named_parameters()} & set(sources) - {"weight"}
    before, after = (sum(p.numel() for p in m.parameters()) for m in (model, small))
    assert before - after >= gone
    learns = [p.requires_grad for n, p in small.named_parameters() if n == change.after]
    assert learns == ([] if how == "buffer" else [True])


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("twice", "weight is read in another place too: parameters would grow"),
        ("layer", "last.weight is read in another place too: parameters would grow"),
        ("repeated", "it has 48 numbers, and is made of 3"),
        ("larger", "it has 16 numbers, and is made of 4 that learn"),
        ("random", "rand_like draws random numbers"),
    ],
)
def test_what_would_grow_or_change_is_left_alone(how: str, why: str) -> None:
    _, _, entry = applied(how)
    assert entry.changes == ()
    assert why in [skip.why for skip in entry.skips]


def test_a_wider_type_is_not_stored() -> None:
    model = Net("standardised").double().eval()
    model.weight = nn.Parameter(model.weight.half())
    small = gfx.apply(RECIPE, model, drawn(2, 3, 6, 6))
    (skip,) = gfx.report(small).passes[0].skips
    assert skip.why == "it has 864 bytes, and is made of 248 that learn"


def test_of_two_values_one_made_of_the_other_the_first_is_stored() -> None:
    entry = applied("both")[2]
    assert [change.before for change in entry.changes] == [["weight"]]
    assert [skip.node for skip in entry.skips] == ["exp"]


def test_another_shape_of_a_weight_alone_is_nothing_to_save() -> None:
    entry = applied("plain")[2]
    assert (entry.changes, entry.skips) == ((), ())
    assert applied("standardised", targets=("no",))[2].skips[0].why == "not in targets no"


def test_training_mode_is_refused() -> None:
    with pytest.raises(gfx.PreconditionError, match=r"in training mode.*model.eval\(\) first"):
        gfx.apply(RECIPE, Net("moved").double().train(), drawn(2, 3, 6, 6))


def test_the_result_is_pruned_saved_and_trained_like_any_other(tmp_path) -> None:
    model, small, _ = applied("standardised")
    x = drawn(2, 3, 6, 6)
    gfx.save(small, tmp_path / "small.gfx")
    exported = torch.export.export(small, (x,)).module()
    for other in (copy.deepcopy(small), gfx.load(tmp_path / "small.gfx"), exported):
        assert distance(small(x), other(x)) < 1e-12
    prune = {"passes": [{"channel_prune": {"ratio": 0.5, "min_channels": 1}}]}
    pruned = gfx.apply(prune, small, x)
    assert gfx.cost(pruned, x).macs == gfx.cost(gfx.apply(prune, model, x), x).macs
    pruned(x).sum().backward()
    assert all(p.grad is not None for p in pruned.parameters())
    again = gfx.apply(RECIPE, small, x)
    assert gfx.report(again).passes[0].changes == ()
