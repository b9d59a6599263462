"""An average of a masked model (EMA) converts to the width that its masks have come to."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import gfx
from support.oracle import alike

X = torch.randn(2, 3, 8, 8)
DECAY = 0.8  # one round of steps later a half of ones is gone


def student(granularity):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 1)
    )
    mask = {"mask": {"sparsity": 0.5, "end": 4, "every": 2, "granularity": granularity}}
    return gfx.apply({"passes": [mask]}, net.eval(), X)


def by_state(average, model):
    """The loop of most repositories, over everything that a state dict holds."""
    now = model.state_dict()
    for name, value in average.state_dict().items():
        value.copy_(DECAY * value + (1 - DECAY) * now[name])


def by_buffers(average, model):
    pairs = zip(
        [*average.parameters(), *average.buffers()],
        [*model.parameters(), *model.buffers()],
        strict=True,
    )
    for old, new in pairs:
        old.data.mul_(DECAY).add_(new.data, alpha=1 - DECAY)


def copied_buffers(average, model):
    for old, new in zip(average.parameters(), model.parameters(), strict=True):
        old.data.lerp_(new.data, 1 - DECAY)
    for old, new in zip(average.buffers(), model.buffers(), strict=True):
        old.data.copy_(new.data)


def trained(granularity, update, steps):
    """Trains a masked student, and keeps its average."""
    model = student(granularity)
    average = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    schedule = gfx.schedule(model, optimizer)
    for _ in range(steps):
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()
        if not schedule.done:
            schedule.step()
        with torch.no_grad():
            update(average, model)
    return model, average


def size(net):
    return gfx.cost(net, X).params


@pytest.mark.parametrize("update", [by_state, by_buffers, copied_buffers])
@pytest.mark.parametrize("granularity", ["channel", "filter"])
def test_an_average_converts_to_the_masked_width(granularity, update):
    model, average = trained(granularity, update, 12)
    small, averaged = (gfx.apply("convert", net, X) for net in (model, average))
    assert size(averaged) == size(small) < size(model)
    assert alike(averaged(X), average(X))


def test_entries_that_are_averages_are_told():
    _, average = trained("channel", by_state, 12)
    report = str(gfx.report(gfx.apply("convert", average, X)))
    assert "are averages" in report
    assert "zero below 0.5" in report


def test_torchs_own_average_converts():
    model = student("channel")
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY), use_buffers=True)
    schedule = gfx.schedule(model, torch.optim.SGD(model.parameters(), lr=0.01))
    for _ in range(12):
        if not schedule.done:
            schedule.step()
        average.update_parameters(model)
    averaged = gfx.apply("convert", average.module, X)
    assert size(averaged) == size(gfx.apply("convert", model, X)) < size(model)


def test_an_average_of_weights_alone_is_told_what_it_lacks():
    def weights(average, model):
        for old, new in zip(average.parameters(), model.parameters(), strict=True):
            old.data.lerp_(new.data, 1 - DECAY)

    _, average = trained("channel", weights, 12)
    report = gfx.report(gfx.apply("convert", average, X))
    details = next(p for p in report.passes if p.name == "fold_masks").details
    assert details["note"].startswith("no mask zeroes anything: none was set yet, or this is an av")


def test_a_learned_mask_is_binary_in_the_average_too():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 1)).eval()
    model = gfx.apply("ppcd", net, X)
    average = copy.deepcopy(model)
    (mask,) = [m for m in model.modules() if hasattr(m, "m")]
    with torch.no_grad():
        mask.m[:3] = 0.1
        gfx.schedule(model).binarize(0.5)
        for _ in range(8):
            by_state(average, model)
    assert size(gfx.apply("convert", average, X)) == size(gfx.apply("convert", model, X))


def test_masks_of_booleans_load_into_masks_of_numbers():
    model, _ = trained("channel", copied_buffers, 5)
    old = {n: v >= 0.5 if n.endswith(".mask") else v for n, v in model.state_dict().items()}
    assert any(v.dtype == torch.bool for v in old.values())
    fresh = student("channel")
    fresh.load_state_dict(old)
    assert torch.equal(fresh(X), model(X))


# indices, which say where the channels of a mask are


def two_heads():
    """A mask over pixels that are shuffled: several positions are one channel."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.PixelShuffle(2), nn.ReLU(), nn.Conv2d(4, 6, 3),
        nn.Flatten(), nn.Linear(6 * 14 * 14, 4),
    )  # fmt: skip
    mask = {"mask": {"sparsity": 0.5, "end": 4, "every": 2, "granularity": "channel"}}
    return gfx.apply({"passes": [mask]}, net.eval(), X)


def indices(model):
    return {n: b for n, b in model.named_buffers() if ".index_" in n}


def test_an_average_over_a_state_dict_leaves_indices_as_they_are():
    model = two_heads()
    assert indices(model)
    average = copy.deepcopy(model)
    schedule = gfx.schedule(model, torch.optim.SGD(model.parameters(), lr=0.01))
    with torch.no_grad():
        for _ in range(12):
            if not schedule.done:
                schedule.step()
            by_state(average, model)
    assert all(torch.equal(b, indices(model)[n]) for n, b in indices(average).items())
    small = gfx.apply("convert", average, X)
    assert size(small) == size(gfx.apply("convert", model, X)) < size(model)
    assert alike(small(X), average(X))


def test_an_index_that_an_average_has_cut_is_told():
    model = two_heads()
    average = AveragedModel(model, multi_avg_fn=cut_average, use_buffers=True)
    for _ in range(3):
        average.update_parameters(model)
    said = r"says where the channels of a mask are, and \d+ of its \d+ entries are not what they "
    with pytest.raises(gfx.InputError, match=said):
        gfx.apply("convert", average.module, X)
    for old, new in zip(average.module.buffers(), model.buffers(), strict=True):
        if not old.is_floating_point():
            old.copy_(new)
    assert alike(gfx.apply("convert", average.module, X)(X), average.module(X))


def cut_average(averaged, current, _):
    """A sum of shares that is a little less than one, as rounding makes it."""
    with torch.no_grad():
        for old, new in zip(averaged, current, strict=True):
            old.copy_(0.8 * old + 0.19999 * new)


def test_indices_go_on_being_known_through_copies_pruning_and_loading():
    model = two_heads()
    twin = two_heads()
    twin.load_state_dict(copy.deepcopy(model).state_dict())
    pruned = gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5, "min_channels": 1}}]}, twin, X)
    again = gfx.apply("convert", pruned, X)
    assert alike(again(X), pruned(X))
