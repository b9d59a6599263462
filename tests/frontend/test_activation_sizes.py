"""Numbers of pieces, and what is asserted of activations, hold at all sizes, or refuse."""

import pytest
import torch
from torch import nn

import gfx
from support.ranked_forwards import KEYED, RANKED
from support.sizing_forwards import ACTIVATIONS, BRANCHES, PIECES

SIZES = ((16, 16), (16, 24), (24, 16), (8, 8), (16, 32), (32, 32), (9, 17), (15, 13), (12, 3))


class Body(nn.Module):
    """Layers for a forward that counts, asserts or branches."""

    def __init__(self, forward):
        super().__init__()
        torch.manual_seed(0)
        self.wide, self.act = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()
        self.layer, self.rule = nn.Conv2d(8, 3, 3, padding=1), forward

    def run(self, x):
        return self.layer(self.act(self.wide(x)))

    def forward(self, x):
        return self.rule(self, x)


def outcome(model, *inputs):
    """Returns what a model gives, or None where it raises."""
    try:
        return model(*inputs)
    except Exception:  # whatever a model raises
        return None


def same_or_refused(program, model, *inputs):
    """Whether both give the same; False if both refuse. Where the model runs, so must the program.

    What a program refuses, it refuses in a sentence of gfx, or as torch does.
    """
    wanted, got = outcome(model, *inputs), outcome(program, *inputs)
    assert (wanted is None) == (got is None), [tuple(x.shape) for x in inputs]
    if wanted is not None:
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)
    return wanted is not None


@torch.no_grad()
@pytest.mark.parametrize("kind", [*PIECES, *ACTIVATIONS])
def test_a_program_takes_the_sizes_that_the_model_takes(kind):
    model = Body((PIECES | ACTIVATIONS)[kind]).eval()
    # what runs through torch.export stands for one number of pieces; symbolic trace, for as many
    follows_one = kind in ("rests", "iterates", "zips", "nested")
    program = gfx.trace(model, torch.rand(2, 3, 16, 16))
    taken = 0
    for batch in (1, 2, 3):
        for size in SIZES:
            x = torch.rand(batch, 3, *size)
            if follows_one:
                got = outcome(program.module, x)
                if got is not None:
                    torch.testing.assert_close(got, model(x), atol=1e-5, rtol=1e-4)
                taken += got is not None
            else:
                taken += same_or_refused(program.module, model, x)
    assert taken
    if kind not in ("asserts_rank", "checks_by_torch"):
        assert taken < 3 * len(SIZES)


@torch.no_grad()
@pytest.mark.parametrize("kind", BRANCHES)
def test_a_branch_by_the_size_of_an_activation_holds_or_refuses(kind):
    model = Body(BRANCHES[kind]).eval()
    program = gfx.trace(model, torch.rand(2, 3, 16, 16))
    taken = 0
    for batch in (1, 2, 3):
        for size in SIZES:
            x = torch.rand(batch, 3, *size)
            try:
                got = program.module(x)
            except gfx.errors.InputError:
                continue
            taken += 1
            torch.testing.assert_close(got, model(x), atol=1e-5, rtol=1e-4)
    assert taken


def never_other(program, model, *inputs):
    """Whether a program runs; then it gives what the model gives. Else it may refuse."""
    got = outcome(program, *inputs)
    if got is not None:
        torch.testing.assert_close(got, model(*inputs), atol=1e-5, rtol=1e-4)
    return got is not None


@torch.no_grad()
@pytest.mark.parametrize("kind", RANKED)
def test_at_another_rank_a_program_equals_the_model_or_refuses(kind):
    model = Body(RANKED[kind]).eval()
    program = gfx.trace(model, torch.rand(2, 3, 16, 16))
    for shape in ((3, 16, 16), (16, 16), (16,), (1, 2, 3, 16, 16), (1, 1, 2, 3, 16, 16)):
        never_other(program.module, model, torch.rand(shape))
    assert never_other(program.module, model, torch.rand(3, 3, 16, 16))
    if kind in ("multiplies", "unpacks_two"):
        assert never_other(program.module, model, torch.rand(3, 16, 16))


@torch.no_grad()
@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("kind", KEYED)
def test_with_other_keys_a_program_equals_the_model_or_refuses(kind, check):
    model = Body(KEYED[kind]).eval()
    a, b, c = (torch.rand(2, 3, 16, 16) for _ in range(3))
    program = gfx.trace(model, ({"a": a, "b": b},), check=check)
    batches = ({"a": a}, {"b": b, "a": a}, {"a": a, "c": c}, {"a": a, "mask": c})
    for batch in (*batches, {"a": a, "b": b, "c": c}, {"a": a, "b": b, "mask": c}):
        never_other(program.module, model, batch)
    assert never_other(program.module, model, {"a": b, "b": c})
    if check and kind != "weighs":
        assert never_other(program.module, model, {"b": c, "a": b})
    with pytest.raises(gfx.errors.InputError, match=r"sorted\(x\) == \['a', 'b'\]"):
        program.module({"a": a, "mask": c})


class ByDtype(nn.Module):
    """Doubles what is given in float64; a branch by a size makes torch.export follow it."""

    def __init__(self, factor):
        super().__init__()
        self.factor, self.layer = factor, nn.Conv2d(3, 3, 1)

    def forward(self, x):
        y = x * self.factor if x.dtype == torch.float64 else x
        if x.shape[0] > 100:
            y = y + 1
        return self.layer(y.float())


def test_a_branch_by_dtype_is_a_rule_where_it_matters():
    x = torch.randn(2, 3, 8, 8)
    program = gfx.trace(ByDtype(2).eval(), x)
    said = r"with x.dtype == 'torch.float32', which .* x is 2x3x8x8 of torch.float64; at these dty"
    with pytest.raises(gfx.InputError, match=said):
        program.module(x.double())
    model = ByDtype(1).eval()
    torch.testing.assert_close(gfx.trace(model, x).module(x.double()), model(x.double()))
