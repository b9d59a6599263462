"""Clocks, samples, intervals and backends: everything here runs on clocks of its own."""

import gc
import itertools
import sys

import numpy as np
import pytest
import torch
from torch import nn

from gfx.deploy.timing import (
    BACKENDS,
    Interval,
    Machine,
    TimingSample,
    demand_steady,
    interleaved,
    machine,
    prepare,
    seconds,
    speedup,
)
from gfx.deploy.timing.backends import using_threads
from gfx.errors import InputError, TimingError
from gfx.progress import listening
from support.oracle import alike


class FakeMachine:
    """A clock that only moves when a runner runs, by what the runner is said to take."""

    def __init__(self):
        self.now = 0.0
        self.ran = []

    def __call__(self):
        return self.now

    def runner(self, name, times):
        source = itertools.cycle(times)

        def run():
            self.ran.append(name)
            self.now += next(source)

        return run


def test_each_runner_gets_its_own_times_whatever_the_order():
    clock = FakeMachine()
    runners = [clock.runner("a", [1.0]), clock.runner("b", [2.0]), clock.runner("c", [4.0])]
    samples = interleaved(runners, rounds=6, warmups=0, clock=clock)
    assert [s.times.tolist() for s in samples] == [[1.0] * 6, [2.0] * 6, [4.0] * 6]


def test_the_order_alternates_so_that_a_drift_cancels():
    clock = FakeMachine()
    interleaved([clock.runner("a", [1]), clock.runner("b", [1])], rounds=4, warmups=0, clock=clock)
    assert "".join(clock.ran) == "abbabaab"


def test_of_three_runners_each_is_first_as_often():
    clock = FakeMachine()
    interleaved([clock.runner(n, [1]) for n in "abc"], rounds=6, warmups=0, clock=clock)
    assert sorted("".join(clock.ran[i : i + 3]) for i in range(0, 18, 3)) == [
        "abc", "acb", "bac", "bca", "cab", "cba",
    ]  # fmt: skip


@pytest.mark.parametrize(("rounds", "warmups"), [(100, 100), (5, 0), (1, 3)])
def test_each_runner_is_called_as_often_as_asked(rounds, warmups):
    clock = FakeMachine()
    interleaved([clock.runner(n, [1]) for n in "ab"], rounds=rounds, warmups=warmups, clock=clock)
    assert clock.ran.count("a") == clock.ran.count("b") == rounds + warmups


def test_warm_ups_are_not_timed():
    clock = FakeMachine()
    slow_at_first = clock.runner("a", [100.0, 100.0, 1.0, 1.0, 1.0])
    (sample,) = interleaved([slow_at_first], rounds=3, warmups=2, clock=clock)
    assert sample.times.tolist() == [1.0, 1.0, 1.0]


def test_progress_is_told_after_each_round():
    clock, told = FakeMachine(), []
    with listening(lambda event: told.append((event.done, event.total))):
        interleaved([clock.runner("a", [1])], rounds=3, warmups=0, clock=clock)
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_no_garbage_is_collected_while_the_clock_runs_and_then_again():
    seen = []
    interleaved([lambda: seen.append(gc.isenabled())], rounds=2, warmups=0)
    assert seen == [False, False]
    assert gc.isenabled()


def test_a_runner_that_fails_leaves_the_garbage_collector_on():
    def fails():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        seconds(fails)
    assert gc.isenabled()


def test_no_rounds_are_refused():
    with pytest.raises(InputError, match="rounds=0 and warmups=0: give rounds ≥ 1"):
        interleaved([int], rounds=0, warmups=0)


def test_the_quantiles_are_those_of_the_times():
    sample = TimingSample(np.arange(1, 12) / 10)  # 0.1 to 1.1
    assert (sample.median, sample.p10, sample.p90) == pytest.approx((0.6, 0.2, 1.0))
    assert sample.spread == pytest.approx(0.8 / 0.6)


@pytest.mark.parametrize(
    ("count", "rank"),  # a table of order statistics: Conover, Practical Nonparametric Statistics
    [(5, 0), (6, 0), (9, 1), (10, 1), (20, 5), (100, 39)],
)
def test_the_error_is_half_the_interval_between_two_of_the_times(count, rank):
    times = np.arange(1.0, count + 1)
    sample = TimingSample(np.random.default_rng(0).permutation(times))
    expected = (times[count - 1 - rank] - times[rank]) / 2 / sample.median
    assert sample.error == pytest.approx(expected)


def test_steady_times_are_not_noisy_although_one_is_far_out():
    sample = TimingSample([0.010] * 19 + [0.500])
    assert not sample.noisy
    demand_steady(sample, "the model")


def test_times_that_jump_are_noisy_and_the_error_says_by_how_much():
    sample = TimingSample([0.010, 0.020] * 10)
    assert sample.noisy
    with pytest.raises(
        TimingError,
        match=r"too noisy to time resnet: median 15 ms ± 33 %, p10 10 ms, p90 20 ms over 20 "
        r"rounds, and the median must be known to ± 10 %; stop what else runs, or take more",
    ):
        demand_steady(sample, "resnet")


def test_few_rounds_that_differ_are_noisy_where_many_are_not():
    few, many = [0.8, 1.0, 1.2], np.random.default_rng(0).uniform(0.8, 1.2, 400)
    assert TimingSample(few).noisy
    assert not TimingSample(many).noisy


@pytest.mark.parametrize("ratio", [0.5, 1.0, 3.4])
def test_the_interval_covers_the_true_ratio_as_often_as_it_says(ratio):
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        machine_noise = rng.lognormal(0, 0.5, 30)  # of both, round by round
        before = ratio * machine_noise * rng.lognormal(0, 0.1, 30)
        found = speedup(
            TimingSample(before), TimingSample(machine_noise * rng.lognormal(0, 0.1, 30))
        )
        covered += found.low <= ratio <= found.high
    assert covered >= 88  # 95 expected


def test_noise_that_hits_both_of_a_pair_does_not_widen_the_interval():
    noise = np.random.default_rng(2).lognormal(0, 1, 50)
    found = speedup(TimingSample(3 * noise), TimingSample(noise))
    assert (found.value, found.low, found.high) == pytest.approx((3, 3, 3))


def test_swapping_the_two_gives_the_reciprocal():
    rng = np.random.default_rng(3)
    a, b = TimingSample(rng.uniform(1, 2, 21)), TimingSample(rng.uniform(1, 2, 21))
    there, back = speedup(a, b), speedup(b, a)
    assert (there.value, there.low, there.high) == pytest.approx(
        (1 / back.value, 1 / back.high, 1 / back.low), rel=1e-2
    )


def test_the_same_samples_give_the_same_interval():
    rng = np.random.default_rng(4)
    a, b = TimingSample(rng.uniform(1, 2, 20)), TimingSample(rng.uniform(1, 2, 20))
    assert speedup(a, b) == speedup(a, b)


def test_samples_of_different_length_are_no_pairs():
    with pytest.raises(InputError, match="samples of 3 and 2 rounds are no pairs"):
        speedup(TimingSample([1, 1, 1]), TimingSample([1, 1]))


@pytest.mark.parametrize(
    ("interval", "margin", "decided"),
    [
        (Interval(2.0, 1.5, 2.5), 0.0, True),
        (Interval(0.5, 0.4, 0.6), 0.0, True),
        (Interval(1.1, 0.9, 1.3), 0.0, False),
        (Interval(1.02, 1.01, 1.03), 0.05, False),
        (Interval(0.98, 0.97, 0.99), 0.05, False),
    ],
)
def test_an_interval_decides_if_it_does_not_straddle_one(interval, margin, decided):
    assert interval.decided(margin) is decided


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()


INPUTS = (torch.linspace(-1, 1, 3 * 36).reshape(1, 3, 6, 6),)


def test_an_eager_runner_computes_what_the_model_does_in_eval_mode(net):
    (got,) = prepare(net, INPUTS).outputs()
    expected = net.eval()(*INPUTS)
    assert alike(expected, got)


def test_the_model_and_the_random_state_are_left_as_they_were(net):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.random.get_rng_state()
    prepare(net, INPUTS)()
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())


def test_threads_are_set_while_it_runs_only():
    seen = []

    class Counts(nn.Module):
        def forward(self, x):
            seen.append(torch.get_num_threads())
            return x + 1

    before = torch.get_num_threads()
    runner = prepare(Counts(), INPUTS, threads=before + 2)
    runner()
    assert set(seen) == {before + 2}
    assert torch.get_num_threads() == before


def test_threads_are_put_back_although_the_model_fails():
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="no"), using_threads(before + 1):
        raise ValueError("no")
    assert torch.get_num_threads() == before


def test_runners_hold_no_gradients(net):
    assert not prepare(net, INPUTS).outputs()[0].requires_grad


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"backend": "tensorrt"}, "backend 'tensorrt' is unknown; choose one of eager, compile, o"),
        ({"threads": 0}, "threads=0: give 1 or more"),
        ({"device": "mps"}, "device 'mps' cannot be timed; give cpu, cuda or cuda:0"),
        ({"device": "cuda:x"}, "device 'cuda:x' cannot be timed; give cpu"),
    ],
)
def test_what_cannot_be_done_is_said(net, options, text):
    with pytest.raises(InputError, match=text):
        prepare(net, INPUTS, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_missing_cuda_device_is_said(net):
    with pytest.raises(InputError, match="'cuda': this torch finds no CUDA device; give cpu"):
        prepare(net, INPUTS, device="cuda")


def test_a_model_that_does_not_run_on_the_inputs_is_said(net):
    with pytest.raises(InputError, match=r"Sequential does not run on these inputs.*eager \(Runt"):
        prepare(net, (torch.ones(1, 5, 6, 6),))


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_a_missing_package_names_the_extra(net, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    text = rf"ONNX takes {name}, which is not installed: pip install 'gfx-compiler\[onnx\]'"
    with pytest.raises(InputError, match=text):
        prepare(net, INPUTS, "onnxruntime")


def test_onnxruntime_computes_what_the_model_does(net):
    runner = prepare(net, INPUTS, "onnxruntime", threads=1)
    torch.testing.assert_close(runner.outputs()[0], net.eval()(*INPUTS))
    assert runner.written


def test_a_model_that_cannot_be_exported_is_said():
    class Looks(nn.Module):
        def forward(self, x):
            return x + 1 if x.sum() > 0 else x

    with pytest.raises(InputError, match="Looks does not run on these inputs with the backend on"):
        prepare(Looks(), INPUTS, "onnxruntime")


def test_compiled_modules_of_one_class_do_not_crowd_each_other_out(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda own, **_: compiled.append(own) or own)
    for _ in range(2):
        prepare(nn.Sequential(nn.Conv2d(3, 4, 3)), INPUTS, "compile")
    first, second = compiled
    assert first.__code__ is not second.__code__


def test_the_key_is_short_stable_and_fit_for_a_file():
    key = Machine("A/B (R)", 2, "Linux x", "2.13").key("compile", 4)
    assert key == "A-B-R-2-Linux-x-torch-2.13-compile-4-threads"
    assert machine().key() == machine().key("eager", torch.get_num_threads())
    assert machine().key() != machine().key("eager", torch.get_num_threads() + 1)
    assert len({machine().key(backend) for backend in BACKENDS}) == len(BACKENDS)


def test_a_machine_without_cpuinfo_still_has_a_name(monkeypatch):
    from pathlib import Path

    from gfx.deploy.timing.machine_info import _model

    def missing(*_args, **_kwargs):
        raise OSError("no such file")

    monkeypatch.setattr(Path, "read_text", missing)
    assert _model()


def test_what_the_user_froze_stays_frozen():
    gc.unfreeze()  # what the tests themselves froze
    try:
        interleaved([int], rounds=1)
        assert gc.get_freeze_count() == 0
        gc.freeze()
        interleaved([int], rounds=1)
        assert gc.get_freeze_count() > 0
    finally:
        gc.freeze()
