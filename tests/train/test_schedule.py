"""Schedules: exact numbers on time, in the user's own loop, saved and resumed bit for bit."""

import copy
import io
import time
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import fx, nn

import gfx
from gfx.compression.importance import rank
from gfx.ir.modules import ChannelMask, LearnedMask, MaskedLayer, Ramp
from gfx.ir.program import Program
from gfx.train.schedule import Schedule
from support.laws import law

KINDS: dict[str, dict[str, Any]] = {
    "channel": {"sparsity": 0.5},
    "global": {"sparsity": 0.75, "scope": "global", "initial": 0.1},
    "filter": {"granularity": "filter", "initial": 0.25},
    "element": {"granularity": "element", "sparsity": 0.9},
    "element, global": {"granularity": "element", "scope": "global", "sparsity": 0.75},
    "one shot": {"one_shot": True, "begin": 3},
    "ppcd": {"kind": "ppcd", "alpha": 0.8, "strength": 20.0},
    "slimming": {"kind": "slimming", "strength": 0.1},
    "slimming, proximal": {"kind": "slimming", "strength": 2.0, "proximal": True},
    "l1": {"kind": "l1", "strength": 0.01},
    "l1, proximal": {"kind": "l1", "strength": 0.5, "proximal": True},
}
kinds = pytest.mark.parametrize("fields", KINDS.values(), ids=list(KINDS))


class Net(nn.Module):
    """A residual stream, an inner group, and a layer that upsamples."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm1 = nn.Conv2d(3, 10, 3, padding=1), nn.BatchNorm2d(10)
        self.inner, self.norm2 = nn.Conv2d(10, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.body = nn.Conv2d(6, 10, 3, padding=1)
        self.up, self.norm3 = nn.ConvTranspose2d(10, 8, 4, 2, 1), nn.BatchNorm2d(8)
        self.head = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm1(self.stem(x)).relu()
        x = x + self.body(self.norm2(self.inner(x)).relu())
        return self.head(self.norm3(self.up(x)).relu()).tanh()


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(2, 3, 6, 6, generator=generator)
    return x, nn.functional.interpolate(x, scale_factor=2).tanh()


def masked(fields: dict[str, Any], model: nn.Module | None = None) -> fx.GraphModule:
    torch.manual_seed(0)
    recipe = {"passes": [{"mask": {"end": 8, "every": 2, "min_channels": 1, **fields}}]}
    return gfx.apply(recipe, (model or Net()).train(), batch(0)[0], verify=False)


def masks(model: nn.Module) -> dict[str, ChannelMask | MaskedLayer]:
    kinds = ChannelMask | MaskedLayer
    return {name: m for name, m in model.named_modules() if isinstance(m, kinds)}


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def train(model: Any, optimizer: Any, schedule: Schedule, steps: range) -> list[float]:
    """The user's own loop, with two more lines."""
    losses = []
    for step in steps:
        x, y = batch(step)
        loss = nn.functional.l1_loss(model(x), y) + schedule.loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if not schedule.done:
            schedule.step()
        losses.append(loss.item())
    return losses


@kinds
def test_a_loop_trains_with_two_more_lines(fields):
    model = masked(fields)
    optimizer = optimizer_of(model)
    schedule = gfx.schedule(model, optimizer)
    assert np.isfinite(train(model, optimizer, schedule, range(12))).all()
    if fields.get("kind") in ("slimming", "l1"):
        schedule.binarize(0.9 if fields["kind"] == "slimming" else 0.05)
    assert schedule.sparsity() > 0
    assert all(m.mask.any() for m in masks(model).values())


@kinds
def test_resuming_equals_an_uninterrupted_run_bit_for_bit(fields):
    whole = masked(fields)
    optimizer = optimizer_of(whole)
    schedule = gfx.schedule(whole, optimizer)
    wanted = train(whole, optimizer, schedule, range(8))

    first = masked(fields)
    optimizer = optimizer_of(first)
    schedule = gfx.schedule(first, optimizer)
    got = train(first, optimizer, schedule, range(5))
    file = io.BytesIO()
    parts = {"model": first.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**parts, "schedule": schedule.state_dict()}, file)

    second = masked(fields, model=Net())
    optimizer = optimizer_of(second)
    schedule = gfx.schedule(second, optimizer)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    schedule.load_state_dict(saved["schedule"])
    got += train(second, optimizer, schedule, range(5, 8))
    assert got == wanted
    a, b = whole.state_dict(), second.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("granularity", ["channel", "filter", "element"])
@law(6)
@given(
    st.floats(0, 0.9),
    st.floats(0, 0.99),
    st.integers(0, 5),
    st.integers(0, 12),
    st.integers(1, 5),
)
def test_sparsity_never_falls_and_ends_exactly_where_it_was_asked_for(
    granularity, scope, first, more, begin, length, every
):
    final = first + (0.95 - first) * more
    fields = {"granularity": granularity, "scope": scope, "initial": first, "sparsity": final}
    model = net(granularity)
    for mask in masks(model).values():
        mask.ramp, mask.scope = Ramp(first, final, begin, begin + length, every), scope
        mask.mask.fill_(True)
    schedule = gfx.schedule(model)
    sizes = [m.mask.numel() for m in masks(model).values()]
    before = [0] * len(sizes)
    while not schedule.done:
        schedule.step()
        zeros = [int((~m.kept).sum()) for m in masks(model).values()]
        assert sum(zeros) >= sum(before), fields
        assert scope == "global" or all(a >= b for a, b in zip(zeros, before, strict=True))
        before = zeros
        assert all(0 <= z < n for z, n in zip(zeros, sizes, strict=True))
    assert schedule.target() == final
    if scope == "local":
        assert before == [min(round(final * n), n - 1) for n in sizes]
    else:
        assert sum(before) == min(round(final * sum(sizes)), sum(sizes) - len(sizes))


NETS: dict[str, fx.GraphModule] = {}


def net(granularity: str) -> fx.GraphModule:
    if granularity not in NETS:
        NETS[granularity] = masked({"granularity": granularity})
    return NETS[granularity]


def test_the_ramp_is_that_of_zhu_and_gupta():
    model = masked({"initial": 0.2, "sparsity": 0.8, "begin": 10, "end": 110, "every": 25})
    schedule = gfx.schedule(model)
    targets = {}
    while not schedule.done:
        schedule.step()
        targets[schedule.steps] = schedule.target()
    for t in (10, 35, 60, 85, 110):
        wanted = 0.8 + (0.2 - 0.8) * (1 - (t - 10) / (4 * 25)) ** 3
        assert targets[t] == pytest.approx(wanted, rel=1e-12)
    assert targets[9] == 0


def test_masks_change_only_when_they_are_due():
    model = masked({"sparsity": 0.9, "begin": 2, "end": 9, "every": 3})
    schedule = gfx.schedule(model)
    changed, before = [], schedule.sparsity()
    while not schedule.done:
        schedule.step()
        if schedule.sparsity() != before:
            changed.append(schedule.steps)
        before = schedule.sparsity()
    assert changed == [5, 8]  # at 2 it is still 0, and at 9 it would take half a channel more


def test_channels_go_in_the_order_of_their_rank():
    torch.manual_seed(0)
    program = gfx.trace(Net().eval(), batch(0)[0])
    groups = gfx.channels(program)
    ranked = rank(groups, groups.free, "l1")
    model = gfx.apply({"passes": [{"mask": {"min_channels": 1}}]}, program.module, batch(0)[0])
    schedule = gfx.schedule(model)
    once(schedule)
    for group in groups.free:
        mask = model.get_submodule(f"masks.{group.name}").kept
        lowest = np.argsort(ranked[group.name], kind="stable")[: group.size // 2]
        assert set((~mask).nonzero().flatten().tolist()) == set(lowest.tolist())


def once(schedule: Schedule) -> None:
    """Goes to the end."""
    while not schedule.done:
        schedule.step()


def test_filters_are_ranked_by_their_own_layer_alone():
    model = masked({"granularity": "filter", "one_shot": True})
    once(gfx.schedule(model))
    for layer, path in {"stem": "masks.stem", "body": "masks.body", "up": "masks.up"}.items():
        weight = model.get_submodule(layer).weight
        sums = weight.abs().sum((0, 2, 3) if layer == "up" else (1, 2, 3))
        zeros = (~model.get_submodule(path).kept).nonzero().flatten()
        lowest = sums.argsort()[: len(sums) // 2]
        assert set(zeros.tolist()) == set(lowest.tolist())


def test_elements_go_by_magnitude_under_one_threshold_where_the_scope_is_global():
    model = masked({"granularity": "element", "scope": "global", "one_shot": True})
    once(gfx.schedule(model))
    layers = masks(model).values()
    kept = torch.cat([m.weight[m.kept].abs() for m in layers])
    gone = torch.cat([m.weight[~m.kept].abs() for m in layers])
    assert gone.max() <= kept.min()
    shares = {round(float(m.mask.double().mean()), 2) for m in layers}
    assert len(shares) > 1


class Fours(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.up, self.mix = nn.ConvTranspose2d(8, 12, 2, 2), nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mix(self.up(self.first(x)).movedim(1, -1)).movedim(-1, 1)


@pytest.mark.parametrize("scope", ["local", "global"])
def test_a_pattern_of_two_in_four_holds_along_the_inputs(scope):
    fields = {"granularity": "element", "pattern": "2:4", "scope": scope, "end": 6}
    model = masked(fields, Fours())
    assert list(masks(model)) == ["up", "mix"]  # the first has 3 inputs
    schedule = gfx.schedule(model)
    rising = []
    while not schedule.done:
        schedule.step()
        rising.append(schedule.sparsity())
        for name, dim in {"up": 0, "mix": 1}.items():
            fours = masks(model)[name].mask.movedim(dim, -1).reshape(-1, 4)
            assert int(fours.sum(1).min()) >= 2
    assert rising == sorted(rising)
    assert 0 < rising[2] < 0.5 == rising[-1]
    weight, mask = (getattr(model.get_submodule("mix"), name) for name in ("weight", "kept"))
    kept = torch.where(mask, weight.abs(), torch.inf).reshape(-1, 4).amin(1)
    gone = torch.where(mask, 0.0, weight.abs()).reshape(-1, 4).amax(1)
    assert (gone <= kept).all()


def test_a_pattern_that_no_longer_fits_the_width_is_an_error():
    model = masked({"granularity": "element", "pattern": "2:4"}, Fours())
    small = gfx.apply({"passes": [{"channel_prune": {"widths": {"up": 9}}}]}, model, batch(0)[0])
    with pytest.raises(gfx.InputError, match=r"mix is masked in fours.*has 9 inputs"):
        gfx.schedule(small)


def test_what_was_masked_may_come_back():
    model = masked({"end": 4, "every": 2})
    schedule = gfx.schedule(model)
    schedule.step()
    schedule.step()
    mask = model.get_submodule("masks.inner").kept
    gone = int((~mask).nonzero()[0])
    with torch.no_grad():
        model.get_submodule("inner").weight[gone] = 100.0  # its values were kept
    once(schedule)
    assert model.get_submodule("masks.inner").kept[gone]


def test_one_shot_is_done_at_its_step():
    model = masked({"one_shot": True, "begin": 3, "sparsity": 0.5})
    schedule = gfx.schedule(model)
    seen = []
    while not schedule.done:
        schedule.step()
        seen.append(schedule.sparsity())
    assert seen == [0, 0, 0.5]


def test_one_shot_from_the_start_is_done_after_the_first_step():
    schedule = gfx.schedule(masked({"one_shot": True}))
    schedule.step()
    assert schedule.done
    assert schedule.sparsity() == 0.5


def test_the_model_is_left_as_it_is():
    model = masked({})
    text, state = model.code, copy.deepcopy(model.state_dict())
    metas = [dict(node.meta) for node in model.graph.nodes]
    held = {name: id(p) for name, p in model.named_parameters()}
    schedule = gfx.schedule(model)
    assert model.code == text
    assert [dict(node.meta) for node in model.graph.nodes] == metas
    assert {name: id(p) for name, p in model.named_parameters()} == held
    assert all(torch.equal(model.state_dict()[name], state[name]) for name in state)
    assert schedule.sparsity() == 0


def test_learned_masks_are_binary_once_they_were_due():
    model = masked({"kind": "ppcd", "alpha": 0.8, "begin": 2, "end": 8})
    schedule = gfx.schedule(model)
    mask = model.get_submodule("masks.inner")
    with torch.no_grad():
        mask.m.copy_(torch.tensor([0.9, 0.5, 0.1, 0.79, 0.81, 0.0]))
    schedule.step()
    assert not mask.binary
    once(schedule)
    assert mask.kept.tolist() == [True, False, False, False, True, False]
    with torch.no_grad():
        mask.m.fill_(0.1)
        mask.m[3] = 0.2
    schedule.binarize()
    assert mask.kept.tolist() == [False, False, False, True, False, False]  # the largest stays
    schedule.binarize(0.1)
    assert mask.mask.all()


def test_the_loss_of_learned_masks_is_the_sum_of_their_means():
    model = masked({"kind": "ppcd", "strength": 3.0})
    learned = [m for m in model.modules() if isinstance(m, LearnedMask)]
    with torch.no_grad():
        for mask in learned:
            mask.m.normal_()
    wanted = sum(3.0 * np.abs(m.m.detach().numpy()).mean() for m in learned)
    loss = gfx.schedule(model).loss()
    assert loss.shape == ()
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-6)
    loss.backward()
    assert all(torch.equal(m.m.grad, m.m.sign() * 3.0 / m.size) for m in learned)


@pytest.mark.parametrize(("kind", "layers"), [("slimming", "norm"), ("l1", "stem inner body up")])
def test_the_loss_of_penalties_is_the_sum_of_magnitudes(kind, layers):
    model = masked({"kind": kind, "strength": 0.25})
    names = ["norm1", "norm2", "norm3"] if layers == "norm" else layers.split()
    with torch.no_grad():
        for name in names:
            model.get_submodule(name).weight.normal_()
    weights = [model.get_submodule(name).weight.detach().double().numpy() for name in names]
    wanted = 0.25 * sum(np.abs(w).sum() for w in weights)
    assert float(gfx.schedule(model).loss().detach()) == pytest.approx(wanted, rel=1e-6)


def test_there_is_no_loss_without_penalties():
    loss = gfx.schedule(masked({})).loss()
    assert (loss.shape, float(loss)) == ((), 0.0)
    proximal = masked({"kind": "slimming", "proximal": True})
    assert float(gfx.schedule(proximal, optimizer_of(proximal)).loss()) == 0


def test_a_proximal_step_is_a_soft_threshold_by_strength_times_the_learning_rate():
    model = masked({"kind": "slimming", "strength": 0.5, "proximal": True})
    scale = model.get_submodule("norm2").weight
    with torch.no_grad():
        scale.copy_(torch.tensor([0.3, -0.3, 0.05, -0.05, 0.0, 0.1]))
    before = scale.detach().double().numpy()
    groups = [{"params": [scale], "lr": 0.2}, {"params": [p for p in model.parameters()][:0]}]
    groups[1]["params"] = [p for p in model.parameters() if p is not scale]
    optimizer = torch.optim.SGD(groups, lr=10.0)
    schedule = gfx.schedule(model, optimizer)
    schedule.step()
    wanted = np.sign(before) * np.maximum(np.abs(before) - 0.5 * 0.2, 0)
    assert np.allclose(scale.detach().numpy(), wanted, atol=1e-7)
    schedule.binarize()  # what is exactly 0 goes
    assert model.get_submodule("masks.inner").kept.tolist() == [True, True, *[False] * 4]


def test_slimming_removes_a_channel_of_a_residual_stream_only_if_no_norm_needs_it():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm_a = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
            self.b, self.norm_b = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
            self.head = nn.Conv2d(4, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.norm_a(self.a(x))
            return self.head(x + self.norm_b(self.b(x)).relu())

    model = masked({"kind": "slimming"}, Twice())
    with torch.no_grad():
        model.get_submodule("norm_a").weight.copy_(torch.tensor([0.0, 1.0, 0.0, -1.0]))
        model.get_submodule("norm_b").weight.copy_(torch.tensor([0.0, 0.0, 0.5, 0.1]))
    gfx.schedule(model).binarize(0.5)
    assert model.get_submodule("masks.a").kept.tolist() == [False, True, True, True]


@pytest.mark.parametrize(("kind", "layer"), [("slimming", "norm2"), ("l1", "inner")])
def test_thresholds_look_at_what_is_penalised_not_at_the_bias_beside_it(kind, layer):
    model = masked({"kind": kind})
    with torch.no_grad():
        weight = model.get_submodule(layer).weight
        weight.fill_(1.0)
        weight[3] = 0.0
        model.get_submodule(layer).bias.fill_(5.0)
    gfx.schedule(model).binarize()
    assert model.get_submodule("masks.inner").kept.tolist() == [i != 3 for i in range(6)]


def test_l1_thresholds_the_mean_magnitude_of_filters():
    model = masked({"kind": "l1"})
    layer = model.get_submodule("inner")
    with torch.no_grad():
        layer.weight.fill_(0.25)
        layer.weight[2] = 0.0625
    gfx.schedule(model).binarize(0.125)
    assert model.get_submodule("masks.inner").kept.tolist() == [i != 2 for i in range(6)]


def test_penalties_have_no_end():
    schedule = gfx.schedule(masked({"kind": "slimming"}))
    for _ in range(50):
        schedule.step()
    assert not schedule.done


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@kinds
def test_a_schedule_follows_a_cast(fields, dtype):
    model = masked(fields)
    optimizer = optimizer_of(model)
    schedule = gfx.schedule(model, optimizer)
    model.to(dtype)
    schedule.step()
    loss = schedule.loss()
    assert torch.isfinite(loss)
    assert loss.dtype in (torch.float32, torch.float64)


@pytest.mark.parametrize("name", ["channel", "ppcd", "slimming", "l1"])
def test_loops_run_under_autocast(name):
    model = masked(KINDS[name])
    optimizer = optimizer_of(model)
    schedule = gfx.schedule(model, optimizer)
    for step in range(2):
        x, y = batch(step)
        with torch.autocast("cpu", torch.bfloat16):
            loss = nn.functional.l1_loss(model(x), y) + schedule.loss()
        assert loss.dtype == torch.float32
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def test_a_schedule_finds_masks_inside_wrappers_and_bigger_modules():
    class System(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.generator = masked({})
            self.discriminator = nn.Conv2d(3, 1, 3)

    system = System()
    inside = gfx.schedule(system)
    assert {name.split(".")[0] for name in inside.sparsities()} == {"generator"}
    plain = gfx.schedule(masked({}))
    wrapped = gfx.schedule(torch.compile(masked({}), backend="eager"))
    assert wrapped.sparsities().keys() == plain.sparsities().keys()
    parallel = gfx.schedule(nn.DataParallel(masked({})))
    parallel.load_state_dict(plain.state_dict())


def test_a_schedule_takes_what_accelerate_prepares():
    accelerate = pytest.importorskip("accelerate")
    # another test of this process may have made one of another precision
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    model = masked({})
    accelerator = accelerate.Accelerator(cpu=True, mixed_precision="bf16")
    prepared, optimizer = accelerator.prepare(model, optimizer_of(model))
    schedule = gfx.schedule(prepared, optimizer)
    x, y = batch(0)
    accelerator.backward(nn.functional.l1_loss(prepared(x), y) + schedule.loss())
    optimizer.step()
    once(schedule)
    assert schedule.sparsity() == 0.5


def test_a_schedule_follows_a_model_in_distributed_data_parallel(tmp_path):
    model = masked({"kind": "ppcd", "strength": 20.0})
    alone = masked({"kind": "ppcd", "strength": 20.0})
    file = f"file://{tmp_path}/group"
    torch.distributed.init_process_group("gloo", init_method=file, rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(model)
        optimizer = optimizer_of(parallel)
        got = train(parallel, optimizer, gfx.schedule(parallel, optimizer), range(4))
    finally:
        torch.distributed.destroy_process_group()
    optimizer = optimizer_of(alone)
    schedule = gfx.schedule(alone, optimizer)
    assert got == pytest.approx(train(alone, optimizer, schedule, range(4)), rel=1e-5)
    assert gfx.schedule(model).sparsities() == schedule.sparsities()


def test_a_compiled_model_follows_its_masks():
    torch._dynamo.reset()
    model = masked({"every": 1})
    compiled = torch.compile(model, backend="aot_eager")
    schedule = gfx.schedule(compiled)
    x = batch(0)[0]
    for _ in range(3):
        schedule.step()
        assert torch.allclose(compiled(x), model(x), atol=1e-5)


def test_a_pickled_model_goes_on_with_its_schedule():
    model = masked({})
    schedule = gfx.schedule(model)
    schedule.step()
    file = io.BytesIO()
    torch.save({"model": model, "schedule": schedule.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=False)
    again = gfx.schedule(saved["model"])
    again.load_state_dict(saved["schedule"])
    for each in (schedule, again):
        once(each)
    for name, mask in masks(model).items():
        assert torch.equal(masks(saved["model"])[name].mask, mask.mask)


def test_a_saved_model_still_knows_its_schedule(tmp_path):
    model = masked({"sparsity": 0.25, "begin": 1, "end": 3, "every": 1})
    schedule = gfx.schedule(model)
    schedule.step()
    schedule.step()
    gfx.save(model, tmp_path / "masked.gfx")
    loaded = gfx.load(tmp_path / "masked.gfx")
    again = gfx.schedule(loaded)
    again.load_state_dict(schedule.state_dict())
    once(again)
    once(schedule)
    for name, mask in masks(model).items():
        assert torch.equal(masks(loaded)[name].mask, mask.mask)
    twin = gfx.schedule(copy.deepcopy(model))
    assert twin.sparsities() == schedule.sparsities()


def test_a_pruned_model_still_knows_its_schedule():
    model = masked({"one_shot": True})
    recipe = {"passes": [{"channel_prune": {"ratio": 0.5, "min_channels": 1}}]}
    small = gfx.apply(recipe, model, batch(0)[0])
    schedule = gfx.schedule(small)
    once(schedule)
    assert {n: m.mask.numel() for n, m in masks(small).items()} == {
        "masks.stem": 5,
        "masks.inner": 3,
        "masks.up": 4,
    }
    assert {name: int(m.mask.sum()) for name, m in masks(small).items()} == {
        "masks.stem": 3,  # round(2.5) is 2
        "masks.inner": 1,
        "masks.up": 2,
    }


def test_two_passes_keep_schedules_of_their_own():
    recipe = [
        {"mask": {"targets": ["inner"], "end": 4, "every": 1, "sparsity": 0.5, "min_channels": 1}},
        {"mask": {"targets": ["up"], "end": 8, "every": 1, "sparsity": 0.75, "min_channels": 1}},
    ]
    torch.manual_seed(0)
    model = gfx.apply({"passes": recipe}, Net().train(), batch(0)[0])
    schedule = gfx.schedule(model)
    for _ in range(4):
        schedule.step()
    shares = schedule.sparsities()
    assert shares["masks.inner"] == 0.5
    assert 0 < shares["masks.up"] < 0.75
    once(schedule)
    assert schedule.sparsities() == {"masks.inner": 0.5, "masks.up": 0.75}


def test_a_step_that_is_not_due_costs_microseconds():
    schedule = gfx.schedule(masked({"end": 100_000, "every": 50_000}))
    schedule.step()
    started = time.perf_counter()
    for _ in range(1000):
        schedule.step()
    assert time.perf_counter() - started < 0.2  # seconds for 1000; 0.01 on an idle machine


def test_stepping_past_the_end_is_an_error_that_says_what_to_do():
    schedule = gfx.schedule(masked({"end": 2}))
    once(schedule)
    with pytest.raises(gfx.InputError, match=r"a schedule stepped past its end.*at step 2.*step 3"):
        schedule.step()


def test_a_model_without_masks_is_an_error():
    with pytest.raises(gfx.InputError, match=r"Net holds no masks.*put some in first"):
        gfx.schedule(Net())
    with pytest.raises(gfx.InputError, match=r"the model is a dict, not a torch\.nn\.Module"):
        gfx.schedule({})


def test_masks_that_are_binary_at_all_times_are_not_binarized():
    with pytest.raises(gfx.InputError, match=r"binarize: these masks are of kind agp"):
        gfx.schedule(masked({})).binarize(0.5)


@pytest.mark.parametrize("alpha", [-0.5, float("nan"), float("inf")])
def test_a_threshold_that_is_none_is_named(alpha):
    schedule = gfx.schedule(masked({"kind": "ppcd"}))
    with pytest.raises(gfx.InputError, match=r"binarize: alpha=.* is no threshold"):
        schedule.binarize(alpha)


def test_the_state_of_another_schedule_is_an_error_that_names_the_difference():
    schedule = gfx.schedule(masked({}))
    other = gfx.schedule(masked({"sparsity": 0.9})).state_dict()
    with pytest.raises(gfx.InputError, match=r"has final=0\.5 here and final=0\.9 in the state"):
        schedule.load_state_dict(other)
    fewer = gfx.schedule(masked({"keep": ("up",)})).state_dict()
    with pytest.raises(gfx.InputError, match=r"masks\.up is in this model and not the state"):
        schedule.load_state_dict(fewer)
    with pytest.raises(gfx.InputError, match=r"this is not the state of a schedule"):
        schedule.load_state_dict({"lr": 1})


def test_a_proximal_penalty_needs_the_optimizer_of_its_weights():
    model = masked({"kind": "slimming", "proximal": True})
    with pytest.raises(gfx.InputError, match=r"is proximal.*gfx\.schedule\(model, optimizer\)"):
        gfx.schedule(model)
    with pytest.raises(gfx.InputError, match=r"norm1\.weight is under a proximal penalty, and the"):
        gfx.schedule(model, optimizer_of(Net()))


@pytest.mark.parametrize("fields", [{}, {"granularity": "element"}])
def test_weights_that_are_not_finite_are_named(fields):
    model = masked({**fields, "every": 1})
    with torch.no_grad():
        model.get_submodule("inner").weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(gfx.InputError, match=r"step 1: weights behind .* are not finite"):
        gfx.schedule(model).step()


def test_a_program_of_its_own_shares_the_parameters():
    from gfx.train.schedule.find_masks import program_of

    model = masked({})
    program = program_of(model)
    assert isinstance(program, Program)
    assert program.tensor("inner.weight") is model.get_submodule("inner").weight


def test_an_optimizer_of_another_model_is_refused():
    model = masked({"end": 2})
    other = torch.optim.SGD(Net().parameters(), 0.1)
    with pytest.raises(
        gfx.InputError, match=r"optimizer \(SGD, .* trains none of the .* parameters"
    ):
        gfx.schedule(model, other)
    with pytest.raises(gfx.InputError, match=r"the optimizer is a float, not a torch\.optim"):
        gfx.schedule(model, 0.1)
    both = torch.optim.SGD([*Net().parameters(), *model.parameters()], 0.1)
    assert not gfx.schedule(model, both).done
