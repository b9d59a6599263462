"""The latency model, on machines made of formulas: no clock is looked at."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

import gfx
from gfx.compression.factor import Form
from gfx.coupling.removal import narrowed
from gfx.deploy.latency import MachineMeasurer, latency_model
from gfx.deploy.latency.correction import nonnegative
from gfx.deploy.latency.disk_store import Store
from gfx.errors import TimingError
from gfx.ir.layers import layers_of
from gfx.progress import listening, time_limit
from support.synthetic_machine import Machine


def at(groups, rows):
    """Makes programs of some widths of all free groups."""
    names = [group.name for group in groups.free]
    return [narrowed(groups, dict(zip(names, row, strict=True))) for row in rows.tolist()]


def dcgan(ngf=8):
    return gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=ngf)))


def whole_blocks(model, count=20, seed=1):
    """Draws widths that are multiples of 16, or the group's size."""
    full = np.array([group.size for group in model.groups])
    rows = np.random.default_rng(seed).integers(1, full + 1, (count, len(full)))
    return np.where(full > 16, np.maximum(rows // 16 * 16, 16), full)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def test_an_additive_machine_is_predicted_at_the_grid(cache):
    machine, groups = Machine(block=16), dcgan(16)
    model = latency_model(groups, measurer=machine, cache=cache, threads=1)
    rows = whole_blocks(model)
    true = machine.programs(at(groups, rows), "eager", 1)
    assert np.allclose(model.predict(rows), true, rtol=0.02)


def test_between_grid_points_a_machine_of_blocks_is_predicted(cache):
    machine, groups = Machine(block=16), dcgan(16)
    model = latency_model(groups, measurer=machine, cache=cache, threads=1)
    full = [group.size for group in model.groups]
    rows = np.random.default_rng(2).integers(1, np.array(full) + 1, (20, len(full)))
    true = machine.programs(at(groups, rows), "eager", 1)
    assert np.abs(model.predict(rows) / true - 1).max() < 0.15


def test_a_backend_that_is_slower_throughout_is_found_by_its_factors(cache):
    machine, groups = Machine(0, 16, 1.5), dcgan(16)
    model = latency_model(groups, backend="compile", measurer=machine, cache=cache, threads=1)
    rows = whole_blocks(model, 10)
    true = machine.programs(at(groups, rows), "compile", 1)
    assert np.allclose(model.predict(rows), true, rtol=0.2)


def test_many_configurations_are_predicted_as_one_by_one(cache):
    model = latency_model(dcgan(), measurer=Machine(), cache=cache, threads=1)
    full = np.array([group.size for group in model.groups])
    rows = np.random.default_rng(3).integers(1, full + 1, (50, len(full)))
    single = [model.predict(row)[0] for row in rows]
    assert np.allclose(model.predict(rows), single, rtol=1e-12)
    assert model.predict(np.zeros((0, len(full)), dtype=int)).shape == (0,)


def test_a_form_takes_its_parts_and_not_the_layer(cache):
    groups = dcgan()
    model = latency_model(groups, measurer=Machine(0, 16), cache=cache, threads=1)
    layer = layers_of(groups.program)[1]  # 4x4, 64 to 32 channels, to 8x8
    times = model.of_forms(layer, [None, Form(), Form(kind="low_rank", rank=16)])
    options = np.array([0, 1, 2, 2])
    channels = np.array([[64, 64, 64, 32], [32, 32, 32, 32], [32, 32, 32, 32]])
    found = times.differences(options, channels)
    dense = 16 * 16 * 64 * 32
    separable = 16 * 16 * 64 + 64 * 64 * 32
    low = 16 * 16 * 64 * 16 + 64 * 16 * 32
    share = model.factors["transposed"]
    assert found[0] == 0
    assert np.isclose(found[1] / share, (separable - dense) * 1e-6, rtol=0.2)
    assert np.isclose(found[2] / share, (low - dense) * 1e-6, rtol=0.2)
    assert np.isclose(found[3], found[2] / 2, rtol=0.2)


def test_what_is_known_is_not_measured_again(cache):
    machine = Machine()
    first = latency_model(dcgan(), measurer=machine, cache=cache, threads=1)
    asked = machine.asked
    second = latency_model(dcgan(), measurer=machine, cache=cache, threads=1)
    assert machine.asked == asked > 0
    row = [group.size - 1 for group in first.groups]
    assert first.predict([row]) == second.predict([row])
    assert first.full == second.full


@pytest.mark.parametrize("change", [{"threads": 2}, {"backend": "onnxruntime"}])
def test_other_threads_or_another_backend_are_measured_anew(cache, change):
    machine = Machine()
    latency_model(dcgan(), measurer=machine, cache=cache, threads=1)
    asked = machine.asked
    latency_model(dcgan(), measurer=machine, cache=cache, **{"threads": 1, **change})
    assert machine.asked > asked


def test_another_version_of_torch_is_measured_anew(cache, monkeypatch):
    machine = Machine()
    latency_model(dcgan(), measurer=machine, cache=cache, threads=1)
    asked = machine.asked
    other = gfx.deploy.latency.model.machine().__class__("A (AVX2)", 2, "Linux", "9.9")
    monkeypatch.setattr("gfx.deploy.latency.model.machine", lambda: other)
    latency_model(dcgan(), measurer=machine, cache=cache, threads=1)
    assert machine.asked == 2 * asked


def test_a_program_of_other_weights_shares_what_was_measured(cache):
    machine = Machine()
    torch.manual_seed(0)
    latency_model(dcgan(), measurer=machine, cache=cache, threads=1)
    asked = machine.asked
    torch.manual_seed(1)
    latency_model(dcgan(), measurer=machine, cache=cache, threads=1)
    assert machine.asked == asked


@pytest.mark.parametrize(
    "damage", [b"", b"[1]\xff", b'{"format": "gfx latency 1", "values": {"a": NaN}}']
)
def test_a_damaged_file_is_measured_anew_and_mended(cache, damage):
    machine = Machine()
    model = latency_model(dcgan(), measurer=machine, cache=cache, threads=1)
    asked = machine.asked
    files = list(cache.rglob("*.json"))
    assert files
    for file in files:
        file.write_bytes(damage)
    again = latency_model(dcgan(), measurer=machine, cache=cache, threads=1)
    assert machine.asked == 2 * asked
    assert again.full == model.full
    latency_model(dcgan(), measurer=machine, cache=cache, threads=1)
    assert machine.asked == 2 * asked


def test_a_cache_that_cannot_be_written_is_a_note(tmp_path):
    (tmp_path / "file").write_text("in the way")
    model = latency_model(dcgan(), measurer=Machine(), cache=tmp_path / "file", threads=1)
    (note,) = model.notes
    assert "is not kept" in note
    assert "set GFX_CACHE" in note


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("GFX_CACHE", raising=False)
    latency_model(dcgan(), measurer=Machine(), threads=1)
    assert list((tmp_path / "xdg" / "gfx" / "latency").iterdir())
    monkeypatch.setenv("GFX_CACHE", str(tmp_path / "own"))
    latency_model(dcgan(), measurer=Machine(), threads=1)
    assert list((tmp_path / "own" / "latency").iterdir())


def test_old_measurements_go_when_there_are_many(tmp_path, monkeypatch):
    monkeypatch.setattr("gfx.deploy.latency.disk_store._FILES", 3)
    store = Store(tmp_path, "machine")
    for i in range(6):
        store.write(f"thing {i}", {"a": i})
    assert len(list(tmp_path.glob("*.json"))) == 3


def test_numbers_add_to_those_that_another_wrote(tmp_path):
    Store(tmp_path, "machine").write("thing", {"a": 1})
    Store(tmp_path, "machine").write("thing", {"b": 2})
    assert Store(tmp_path, "machine").read("thing") == {"a": 1, "b": 2}
    assert Store(tmp_path, "other").read("thing") == {}


def test_a_machine_that_drifts_says_how_much():
    now = [0.0, 1.0]

    def clock():
        now[1] *= 1.05  # every look takes longer than the last
        now[0] += now[1]
        return now[0]

    with pytest.raises(TimingError) as caught:
        MachineMeasurer(clock=clock).programs([gfx.trace(nn.ReLU(), torch.ones(1))], "eager", 1)
    text = str(caught.value)
    assert "too noisy to time 1 program:" in text
    assert "% longer in one round than in another, in 3 attempts (up to 40 % is allowed)" in text
    assert "stop what else runs" in text


def test_a_steady_clock_gives_what_it_counts():
    ticks = iter(range(10_000))
    program = gfx.trace(nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU()), torch.ones(1, 2, 4, 4))
    measurer = MachineMeasurer(clock=lambda: float(next(ticks)))
    assert measurer.programs([program], "eager", 1) == [1000.0]
    assert set(measurer.nodes([program], 1)[0].values()) == {1000.0}


def test_least_squares_are_never_negative():
    rng = np.random.default_rng(0)
    table, true = rng.random((40, 6)), np.array([1.0, 0.0, 2.0, 0.5, 0.0, 3.0])
    assert np.allclose(nonnegative(table, table @ true), true, atol=1e-6)
    assert (nonnegative(table, -np.ones(40)) == 0).all()


def test_a_strong_pull_gives_what_it_pulls_to():
    rng = np.random.default_rng(0)
    table, wanted = rng.random((10, 2)), np.array([1.0, 2.0])
    found = nonnegative(table, rng.random(10), wanted, 1e4)
    assert np.allclose(found, wanted, atol=1e-4)


def test_a_program_whose_widths_are_fixed_is_measured_all_the_same(cache):
    groups = gfx.channels(gfx.trace(nn.Sequential(nn.Conv2d(3, 3, 3)), torch.ones(1, 3, 8, 8)))
    model = latency_model(groups, measurer=Machine(), cache=cache, threads=1)
    assert model.groups == ()
    assert np.isclose(model.predict(np.zeros((1, 0), dtype=int))[0], model.full, rtol=0.1)


@pytest.mark.parametrize(
    "layer",
    [nn.Linear(8, 8), nn.Conv1d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=4)],
    ids=["linear", "1d", "grouped"],
)
def test_layers_without_a_table_are_fitted_where_they_stand(cache, layer):
    kind = nn.Linear if isinstance(layer, nn.Linear) else type(layer)
    ends = [(kind(8, 8, 1) if kind is not nn.Linear else kind(8, 8)) for _ in range(2)]
    shape = {nn.Linear: (1, 8), nn.Conv1d: (1, 8, 16), nn.Conv2d: (1, 8, 16, 16)}[kind]
    net = nn.Sequential(ends[0], nn.ReLU(), layer, nn.ReLU(), ends[1])
    groups = gfx.channels(gfx.trace(net, torch.ones(shape)))
    model = latency_model(groups, measurer=Machine(), cache=cache, threads=1)
    full = [group.size for group in model.groups]
    assert np.isclose(model.predict([full])[0], model.full, rtol=0.05)


class Counted(Machine):
    """Counts the convolutions that it is asked for, by all but their channels."""

    def __init__(self):
        super().__init__()
        self.points_of = Counter()

    def points(self, points, backend, threads):
        self.points_of.update(
            (part.kernel, part.transposed, part.groups > 1, shape[2:]) for part, shape, _ in points
        )
        return super().points(points, backend, threads)


@pytest.mark.parametrize("backend", ["eager", "compile", "onnxruntime"])
def test_a_convolution_is_measured_at_few_of_its_channels(cache, backend):
    net = nn.Sequential(
        nn.Conv2d(3, 1024, 3, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(1024, 2048, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(2048, 3, 5),
    )
    groups = gfx.channels(gfx.trace(net, torch.ones(1, 3, 4, 4)))
    machine = Counted()
    model = latency_model(groups, backend=backend, measurer=machine, cache=cache, threads=1)
    assert len(machine.points_of) == 3
    assert max(machine.points_of.values()) <= 18 * 18 + 4 * 4
    machine.points_of.clear()
    layer = layers_of(groups.program)[1]
    times = model.of_forms(layer, [None, *(Form(rank=rank) for rank in (1, 2, 3))])
    widths = np.random.default_rng(0).integers(1, (1024, 2048), (200, 2)).T
    times.differences(np.arange(200) % 4, np.stack([*widths, widths[1]]))
    depthwise = [n for (_, _, grouped, _), n in machine.points_of.items() if grouped]
    assert sum(depthwise) <= 3 * 10
    assert sum(machine.points_of.values()) <= 3 * 100


def test_once_the_time_is_over_the_ends_of_a_table_are_enough(cache):
    machine, clock = Counted(), iter([0.0, *(2.0 for _ in range(1000))])
    with time_limit(1, clock.__next__) as deadline:
        model = latency_model(dcgan(), measurer=machine, cache=cache, threads=1)
    assert max(machine.points_of.values()) <= 4
    assert "predictions are rough" in deadline.notes[0]
    full = [group.size for group in model.groups]
    assert np.isclose(model.predict([full])[0], model.full, rtol=0.2)
    whole = latency_model(dcgan(), measurer=machine, cache=cache, threads=1)
    assert np.isclose(whole.predict([full])[0], model.full, rtol=0.1)


def test_measurements_say_what_they_measure_and_how_far_they_are(cache):
    told = []
    program = gfx.trace(nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU()), torch.ones(1, 2, 4, 4))
    with listening(told.append):
        latency_model(dcgan(), measurer=Machine(), cache=cache, threads=1)
        MachineMeasurer().programs([program], "eager", 1)
    counted = {event.what: (event.done, event.total) for event in told}
    assert counted["measuring convolutions over their channels"] == (5, 5)
    assert counted["measuring the nodes of narrowed programs"] == (10, 10)
    assert counted["timing 1 program"] == (3, 3)
