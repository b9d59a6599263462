import pytest
import torch
from torch import nn

import gfx
from passes.channel_prune import ChannelPrune
from support.laws import prune_as_told, staying
from support.oracle import assert_equal_outputs, zeroed
from support.patterns_approximate import APPROXIMATE


def built(name: str, width: int = 8) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return APPROXIMATE[name](width).double().eval(), torch.randn(2, 3, 8, 8, dtype=torch.float64)


@pytest.mark.parametrize("name", APPROXIMATE)
def test_what_is_left_is_the_same_source_built_narrower(name):
    model, x = built(name)
    program = gfx.trace(model, x)
    outcome = ChannelPrune(ratio=0.5, min_channels=1, importance="random", seed=3).apply(
        program, gfx.Context()
    )
    assert outcome.details["achieved"]["removed"] > 0
    state = program.module.state_dict()
    narrow = APPROXIMATE[name](program.tensor("first.weight").shape[0]).double().eval()
    narrow.load_state_dict(state)
    assert state["first.weight"].shape[0] == 4
    for y in (x, x[:1]):
        assert_equal_outputs(narrow(y), program.module(y))


@pytest.mark.parametrize("name", APPROXIMATE)
def test_the_pass_says_itself_what_an_approximate_removal_must_equal(name):
    model, x = built(name)
    program = gfx.trace(model, x)
    assert_equal_outputs(model(x), program.module(x))
    prune_as_told(program, x, ratio=0.5, importance="random", seed=5)


@pytest.mark.parametrize("name", APPROXIMATE)
def test_a_group_that_is_not_exact_says_why(name):
    model, x = built(name)
    groups = gfx.channels(gfx.trace(model, x))
    first = groups["first"]
    assert first.free
    reasons = "channels that are left|subtracted from the channels"
    approximate = [group.approximate for group in groups.free if not group.exact]
    assert approximate
    for why in approximate:
        assert why
        assert any(part in why for part in reasons.split("|"))


class Whole(nn.Module):
    def __init__(self, groups: int, affine: bool = True) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.GroupNorm(groups, 16, affine=affine)
        self.last = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.first(x))))


@pytest.mark.parametrize("affine", [True, False])
def test_a_group_norm_may_be_regrouped_instead_of_losing_whole_groups(affine):
    torch.manual_seed(0)
    model, x = Whole(4, affine).double(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    program = gfx.trace(model, x)
    whole = gfx.channels(program)["first"]
    assert (whole.size, whole.exact) == (4, True)
    fields = {"group_norm": "regroup", "importance": "random", "seed": 1}
    outcome = prune_as_told(program, x, ratio=0.5, **fields)
    norm = program.module.norm
    assert (norm.num_channels, norm.num_groups) == (8, 4)
    assert outcome.details["groups"][0]["channels"] == 16


class Rms(nn.Module):
    def __init__(self, eps: float | None, affine: bool, functional: bool = False) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 3)
        self.norm = nn.RMSNorm(8, eps=eps, elementwise_affine=affine)
        self.eps, self.functional = eps, functional

    def forward(self, x):
        x = self.first(x)
        if self.functional:
            return self.last(torch.rms_norm(x, [8], self.norm.weight, self.eps))
        return self.last(self.norm(x) + self.norm(x * 2))


@pytest.mark.parametrize("functional", [False, True])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("eps", [None, 1e-2])
def test_an_rms_norm_stays_exact(eps, affine, functional):
    torch.manual_seed(0)
    model, x = Rms(eps, affine, functional).double(), torch.randn(2, 5, 3, dtype=torch.float64)
    program = gfx.trace(model, x)
    original = program.copy().module
    assert gfx.channels(program)["first"].exact
    outcome = ChannelPrune(ratio=0.5, min_channels=1, importance="random", seed=3).apply(
        program, gfx.Context()
    )
    kept = staying(outcome)
    assert len(kept["first.weight"][0]) == 4
    assert_equal_outputs(zeroed(original, (x,), kept), program.module(x))


def test_a_mean_that_is_not_subtracted_from_its_channels_is_exact():
    class Squeeze(Whole):
        def forward(self, x):
            x = self.first(x)
            return self.last(x * torch.sigmoid(x.mean(1, keepdim=True)))

    groups = gfx.channels(gfx.trace(Squeeze(1), torch.randn(1, 3, 8, 8)))
    assert groups["first"].exact


class Overlapping(nn.Module):
    """After the join, a group of ten channels reaches into groups of six and of four."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 24, 1), nn.Conv2d(3, 16, 1)
        self.norm_a, self.norm_b = nn.GroupNorm(4, 24), nn.GroupNorm(4, 16)
        self.join, self.last = nn.GroupNorm(4, 40), nn.Conv2d(40, 3, 3, padding=1)

    def forward(self, x):
        return self.last(self.join(torch.cat([self.norm_a(self.a(x)), self.norm_b(self.b(x))], 1)))


def test_group_norms_that_could_lose_nothing_else_are_regrouped():
    torch.manual_seed(0)
    model, x = Overlapping().double(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    assert gfx.channels(model, x, group_norm="whole")["b"].size == 1
    program = gfx.trace(model, x)
    free = gfx.channels(program).free
    assert free
    assert not any(group.exact for group in free)
    prune_as_told(program, x, ratio=0.5)
    norms = (program.module.norm_a, program.module.norm_b, program.module.join)
    assert [norm.num_groups for norm in norms] == [4, 4, 4]
