"""gfx.bench and gfx bench: what they say, on clocks of their own where time would show."""

import itertools
import json
import re
import subprocess
import sys

import pytest
import torch
from torch import fx, nn
from typer.testing import CliRunner

import gfx
from gfx.cli import app
from gfx.deploy.bench import Bench, Figures, NodeTime, Profile, memory
from gfx.deploy.bench import child_process as child
from gfx.deploy.bench.bench_result import rows
from gfx.deploy.bench.memory import MemoryPeak
from gfx.deploy.bench.node_times import profile_eager
from gfx.deploy.bench.onnx_times import Made, Origins, read_events
from gfx.deploy.bench.profile import marked
from gfx.deploy.bench.protocol import TimingProtocol, protocol_of, timed
from gfx.deploy.bench.timed_model import batch_of, subjects
from gfx.deploy.timing import Interval, Machine, TimingSample, machine, prepare, speedup
from gfx.errors import InputError

IMAGE = torch.linspace(-1, 1, 3 * 64).reshape(1, 3, 8, 8)
NAMES = ("small", "large")


class Net(nn.Module):
    """A convolution with an addition, and a count of its calls."""

    calls = 0

    def __init__(self, width=4):
        super().__init__()
        self.inner = nn.Conv2d(3, width, 3, padding=1)
        self.head = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x):
        type(self).calls += not isinstance(x, fx.Proxy)
        return self.head(torch.relu(self.inner(x))) + x


class Looks(nn.Module):
    """What no front end can trace: it looks at values."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * self.scale if float(x.sum().detach()) > -1e9 else x[:, : int(x.sum())]


class Steps:
    """A clock that moves a second each time it is asked."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


def quick(model, inputs=IMAGE, **options):
    options = {"memory": False, "profile": False, "rounds": 5, "clock": Steps(), **options}
    return gfx.bench(model, inputs, **options)


def made(before, after, names=NAMES):
    """A Bench of hand-made times: `before` of the other, `after` of the model."""
    figures = [
        Figures(name, TimingSample(times), 1, MemoryPeak(2_000_000, "counted"), 4_000, "no trace")
        for name, times in zip(names, (after, before), strict=True)
    ]
    return Bench(
        *figures,
        speedup=speedup(TimingSample(before), TimingSample(after)),
        profile="",
        machine=Machine("A CPU", 2, "Linux", "2.13"),
        backend="eager",
        threads=1,
        device="cpu",
        inputs=(((1, 3, 8, 8), "float32"),),
        rounds=len(before),
        warmups=3,
    )


# --- what is measured


def test_a_model_alone_has_figures_and_no_speedup():
    found = quick(Net())
    assert (found.against, found.speedup, found.verdict) == (None, None, "")
    assert found.model.latency.times.tolist() == [1.0] * 5
    assert found.model.throughput == 1.0
    assert found.model.cost.macs.exact == 8 * 8 * 27 * 4 * 2
    assert found.model.model_bytes == sum(p.nbytes for p in Net().parameters())


def test_images_a_second_are_of_the_whole_batch():
    found = quick(Net(), IMAGE.repeat(4, 1, 1, 1))
    assert (found.model.batch, found.model.throughput) == (4, 4.0)


def test_two_models_run_on_the_same_inputs_and_are_compared():
    found = quick(Net(4), against=Net(8), names=NAMES)
    assert (found.model.name, found.against.name) == NAMES
    assert found.speedup == Interval(1.0, 1.0, 1.0)
    assert found.model.cost.macs.exact * 2 == found.against.cost.macs.exact


def test_the_models_and_the_random_state_are_left_as_they_were():
    model = Net().train()
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    quick(model, profile=True)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


def test_a_model_that_looks_at_values_is_timed_all_the_same():
    assert quick(Looks()).model.latency.median == 1.0


def test_what_no_trace_gives_is_said(monkeypatch):
    from gfx.deploy.bench import timed_model as subject

    def refuses(*_, **__):
        raise gfx.TraceError("no front end can take Net")

    monkeypatch.setattr(subject, "trace", refuses)
    found = quick(Net(), profile=True)
    assert found.model.cost == "no front end can take Net"
    assert found.profile == "no profile, as it takes a trace: no front end can take Net"
    assert "model: MACs not counted: no front end can take Net" in str(found)
    assert found.to_dict()["profile"] is None
    assert found.to_dict()["model"]["macs"] is None


def test_a_program_brings_its_inputs():
    program = gfx.trace(Net(), IMAGE)
    assert quick(program, None).inputs == (((1, 3, 8, 8), "float32"),)


def test_inputs_nobody_gave_are_inferred_and_said():
    found = quick(nn.Sequential(nn.Conv2d(3, 2, 1)), None)
    assert found.notes[0].startswith("assumed input: 1x3x256x256")
    assert found.notes[0] in str(found)


def test_arguments_that_are_no_tensors_stay_as_they_are_given():
    class Scaled(nn.Module):
        def forward(self, x, scale=1.0, *, shift):
            return x * scale + shift

    example = {"x": torch.ones(2), "scale": 3.0, "shift": torch.ones(2)}
    (subject,) = subjects(Scaled(), example, None, NAMES)
    assert torch.equal(subject.module(*subject.inputs), torch.full((2,), 4.0))


def test_inputs_are_cast_to_the_type_of_the_other_model():
    _, other = subjects(Net(), IMAGE, Net().double(), NAMES)
    assert other.inputs[0].dtype == torch.float64


def test_memory_that_tensors_share_counts_once():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    (subject,) = subjects(model, torch.ones(1, 4), None, NAMES)
    assert subject.model_bytes == 64


@pytest.mark.parametrize(("shape", "batch"), [((4, 3, 8, 8), 4), ((7,), 7), ((), 1)])
def test_the_batch_is_the_first_size(shape, batch):
    assert batch_of((torch.ones(shape),)) == batch


# --- how often


def test_the_papers_protocol_is_100_warm_ups_and_100_runs():
    calls = []
    samples = timed([lambda: calls.append("a")], protocol_of("paper", None, None, batch=1))
    assert (len(calls), len(samples[0].times)) == (200, 100)


def test_the_papers_protocol_calls_the_model_as_often():
    model = Looks()
    found = quick(model, protocol="paper", rounds=None)
    assert (found.rounds, found.warmups, found.protocol) == (100, 100, "paper")
    assert "(protocol paper)" in str(found)
    assert "latency mean" in str(found)


@pytest.mark.parametrize(("cost", "rounds"), [(0.001, 100), (1.0, 20), (60.0, 11)])
def test_rounds_that_nobody_asked_for_are_what_time_allows(cost, rounds):
    now = [0.0]

    def run():
        now[0] += cost

    (sample,) = timed([run], TimingProtocol(), clock=lambda: now[0])
    assert abs(len(sample.times) - rounds) <= 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"rounds": 4}, "rounds=4 is too few to tell noise from a difference; give 5 or more"),
        ({"warmups": -1}, "warmups=-1: give 0 or more"),
        ({"protocol": "mine"}, "protocol 'mine' is unknown; there is paper"),
        ({"protocol": "paper"}, "protocol paper is 100 warm-ups and 100 rounds; leave out rounds"),
        ({"backend": "tpu"}, "backend 'tpu' is unknown; choose one of eager, compile, onnxruntime"),
        ({"device": "xpu"}, "device 'xpu' cannot be timed; give cpu, cuda or cuda:0"),
        ({"threads": 0}, "threads=0: give 1 or more"),
    ],
)
def test_what_cannot_be_measured_is_said(options, text):
    with pytest.raises(InputError, match=text):
        quick(Net(), **options)


def test_the_papers_protocol_is_for_one_image():
    with pytest.raises(InputError, match="paper times one image and the inputs are a batch of 2"):
        quick(Net(), IMAGE.repeat(2, 1, 1, 1), protocol="paper", rounds=None)


def test_models_made_for_other_sizes_are_not_compared():
    small, large = gfx.trace(Net(), IMAGE), gfx.trace(Net(), IMAGE[..., :4])
    with pytest.raises(InputError, match=r"model is for inputs of 1x3x8x8 and against for 1x3x8x4"):
        quick(small, None, against=large)


def test_an_other_that_does_not_take_the_inputs_is_said():
    with pytest.raises(InputError, match=r"Sequential does not run on these inputs"):
        quick(Net(), against=nn.Sequential(nn.Conv2d(5, 2, 1)))
    with pytest.raises(InputError, match=r"against does not take these inputs: the example"):
        quick(Net(), against=nn.Bilinear(2, 2, 2))


def test_a_model_without_values_is_refused():
    with pytest.raises(InputError, match="Net is on the meta device, without values"):
        quick(Net().to("meta"))


# --- what is said


def test_a_clear_difference_is_a_verdict_with_its_interval():
    found = made(before=[2.0, 2.1, 2.0, 1.9, 2.0, 2.0, 2.1, 2.0, 1.9, 2.0], after=[1.0] * 10)
    assert found.decided
    assert found.verdict == (
        "small is faster than large: 2.00x (1.95 to 2.05), 95 % interval over 10 rounds"
    )
    assert made([1.0] * 6, [2.0] * 6).verdict.startswith("small is slower than large: 0.50x (0.50")


def test_an_interval_that_holds_one_decides_nothing():
    found = made([1.0, 1.05, 0.95, 1.04, 0.96, 1.0], [1.0] * 6)
    assert not found.decided
    assert found.verdict.startswith("cannot tell on this machine: 1.00x (0.95 to 1.04), 95 % int")
    assert found.verdict.endswith("the interval holds 1; take more rounds, or the two are as fast")


def test_a_difference_as_small_as_between_two_copies_decides_nothing():
    found = made([1.01] * 6, [1.0] * 6)
    assert not found.decided
    assert found.verdict.endswith("less than 2 % may be where the models lie in memory")


def test_times_that_jump_decide_nothing_although_each_pair_agrees():
    times = [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]
    found = made([1.2 * t for t in times], times)
    assert found.speedup.decided()
    assert not found.decided
    assert "cannot tell on this machine: 1.20x (1.20 to 1.20)" in found.verdict
    assert "the times of small jump (median 1500 ms ± 33 %" in found.verdict


def test_times_that_jump_still_decide_what_is_far_beyond_the_noise():
    times = [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]
    assert made([8 * t for t in times], times).decided


def test_a_single_model_whose_times_jump_is_marked():
    found = made([1.0] * 8, [1.0, 2.0] * 4)
    alone = Bench(**{**vars(found), "against": None, "speedup": None})
    assert alone.verdict.startswith("this machine is too noisy to rely on the time of small (med")


def test_the_summary_shows_both_side_by_side():
    text = re.sub(" +", " ", str(made([2.0] * 6, [1.0] * 6)))
    assert "1x3x8x8 on cpu, eager, 1 thread, 6 rounds after 3 warm-ups" in text
    assert "latency median 1000 ms 2000 ms" in text
    assert "peak memory 2.00 MB 2.00 MB" in text
    assert "large: MACs not counted: no trace" in text


def test_the_data_say_all_of_it():
    found = quick(Net(), against=Net(8), profile=True)
    data = json.loads(json.dumps(found.to_dict()))
    assert data["model"]["latency_ms"]["median"] == 1000.0
    assert data["model"]["latency_ms"]["rounds"] == [1000.0] * 5
    assert data["speedup"] == {"value": 1.0, "low": 1.0, "high": 1.0, "decided": False}
    assert data["inputs"] == [{"shape": [1, 3, 8, 8], "dtype": "float32"}]
    assert data["against"]["macs"]["exact"] == 2 * data["model"]["macs"]["exact"]
    assert data["model"]["peak_memory"] == {"bytes": None, "how": "not asked for"}
    assert data["machine"]["cores"] == machine().cores
    assert {row["layer"] for row in data["profile"]["nodes"]} == {"inner", "relu", "head", "add"}
    assert data["verdict"].startswith("cannot tell on this machine")


def test_memory_that_nobody_asked_for_has_no_line():
    assert "peak memory" not in str(quick(Net()))


# --- where the time goes


def test_the_profile_names_each_node_and_its_shares_sum_to_one():
    found = profile_eager(gfx.trace(Net(), IMAGE), runs=3, threads=1, clock=Steps())
    assert [node.layer for node in found.nodes] == ["inner", "relu", "head", "add"]
    assert [node.seconds for node in found.nodes] == [1.0] * 4
    assert sum(node.share for node in found.nodes) == pytest.approx(1)
    assert [node.macs for node in found.nodes] == [6912, 0, 6912, 0]
    assert found.nodes[0].rate == 6912.0


def test_the_profile_is_the_median_over_its_runs():
    program = gfx.trace(nn.Sequential(nn.ReLU()), IMAGE)
    ticks = itertools.accumulate(itertools.chain(*[(0.0, t) for t in (50.0, 1.0, 9.0, 2.0)]))
    found = profile_eager(program, runs=3, threads=1, clock=lambda: next(ticks))
    assert found.seconds == 2.0  # the first run only warms up


def test_a_profile_leaves_a_program_as_it_was():
    program = gfx.trace(nn.Sequential(nn.BatchNorm2d(3)).train(), IMAGE)
    mean = program.module.get_buffer("0.running_mean").clone()
    profile_eager(program, runs=2, threads=1)
    assert program.training
    assert torch.equal(program.module.get_buffer("0.running_mean"), mean)


def test_layers_far_below_the_best_rate_are_marked():
    nodes = [
        NodeTime("a", "a", "Conv2d", None, 0.010, 1000),
        NodeTime("b", "b", "Conv2d", None, 0.010, 200),
        NodeTime("c", "c", "Conv2d", None, 0.010, 300),
        NodeTime("d", "d", "ReLU", None, 0.010, 0),
        NodeTime("e", "e", "Conv2d", None, 0.00001, 100_000),  # too short to be the best
    ]
    found = marked("eager", 3, nodes, ())
    assert [node.slow for node in found.nodes] == [False, True, False, False, False]
    assert found.best == 100_000.0
    assert "1 layer with 25% of the time below a quarter of the best 100.00 K MACs/s" in str(found)
    assert found.kinds() == pytest.approx({"Conv2d": 0.75, "ReLU": 0.25}, abs=1e-3)


def test_the_slowest_rows_come_first_or_all_in_order():
    nodes = [NodeTime(n, n, "Conv2d", None, t, None) for n, t in (("a", 1.0), ("b", 2.0))]
    profile = Profile("eager", 1, tuple(nodes))
    assert [row[0] for row in rows(profile, 1)] == ["b"]
    assert [row[0] for row in rows(profile, 0)] == ["a", "b"]
    assert rows(profile, 0)[0][5] == "?"


def test_compile_says_that_its_profile_is_of_eager(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    found = quick(Net(), backend="compile", profile=True)
    assert found.profile.backend == "eager"
    assert "compile fuses nodes, so this profile is of eager" in str(found)


def event(name, op, duration):
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": duration, "args": {"op_name": op}}


def test_events_of_onnxruntime_add_up_by_layer():
    origins = Origins(
        {"stem/Conv": Made("stem", "Conv", "x"), "stem/Relu": Made("stem", "Relu", "y")},
        {"stem": NodeTime("stem_node", "stem", "Block", (1, 2), 0.0, 9)},
    )
    run = [
        event("stem/Conv", "Conv", 3),
        event("stem/Relu", "Relu", 1),
        event("ReorderInput_token_4", "ReorderInput", 2),
        event("ReorderInput_token_5", "ReorderInput", 2),
        {"cat": "Session", "name": "model_run"},
    ]
    found = read_events([event("stem/Conv", "Conv", 999), run[-1], *run, *run], origins, 2)
    assert [(n.node, n.layer, n.kind, n.macs) for n in found] == [
        ("stem_node", "stem", "Block", 9),
        ("ReorderInput", "ReorderInput", "added by onnxruntime", None),
    ]
    assert [n.seconds for n in found] == pytest.approx([4e-6, 4e-6])


def test_what_is_fused_stands_where_its_operation_came_from():
    origins = Origins({"a": Made("head", "Conv", "x"), "b": Made("tanh", "Tanh", "a")}, {})
    assert origins.of("b_nchwc", "Conv").layer == "head"
    assert origins.of("fused b", "FusedConv").layer == "head"
    assert origins.of("b", "Tanh").layer == "tanh"
    assert origins.of("b", "Gelu").layer == "tanh"


def test_onnxruntime_is_profiled_by_its_own_clock():
    found = gfx.bench(Net(), IMAGE, backend="onnxruntime", rounds=5, memory=False)
    assert found.profile.backend == "onnxruntime"
    layers = {node.layer: node.macs for node in found.profile.nodes}
    assert {layers["inner"], layers["head"]} == {6912}


# --- memory


def test_peak_memory_is_what_a_run_takes_beyond_the_model(tmp_path):
    model = gfx.zoo.build("dcgan", ngf=8)
    found = gfx.bench(model, rounds=5, profile=False).model.memory
    assert found.how == (
        "RSS of a run at its peak beyond that of the loaded, warm model, in a process of its own"
    )
    assert found.bytes is not None
    assert 0 < found.bytes < 50_000_000


def test_a_run_that_takes_40_mb_is_seen_to_take_them():
    code = (
        "import json, numpy; from gfx.deploy.bench.child_process import beyond\n"
        "print(json.dumps(beyond(lambda: numpy.ones(5_000_000).sum())))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 30e6 < json.loads(done.stdout)["bytes"] < 60e6


def test_where_the_system_does_not_tell_nothing_is_guessed(monkeypatch, tmp_path):
    monkeypatch.setattr(child, "_STATUS", tmp_path / "missing")
    assert child.beyond(lambda: None) == {
        "bytes": None,
        "how": "this system has no /proc, which tells resident memory",
    }


def test_a_peak_that_cannot_be_set_back_is_said_to_be_a_bound(monkeypatch, tmp_path):
    monkeypatch.setattr(child, "_CLEAR", tmp_path / "missing" / "file")
    assert child.beyond(lambda: None)["how"].endswith(
        "at most, as the kernel sets no peak back here"
    )


def test_a_model_that_no_other_process_can_read_goes_as_an_archive():
    class Local(Net):
        pass

    (subject,) = subjects(Local(), IMAGE, None, NAMES)
    runner = prepare(subject.module, subject.inputs, threads=1)
    found = memory.peak_memory(subject, runner, subject.traced(check=False))
    assert found.bytes is not None
    missing = memory.peak_memory(subject, runner, "it looks at values")
    assert missing == MemoryPeak(
        None, "the model can neither be pickled nor traced (it looks at values)"
    )


# --- the shell

SMALL, LARGE = "zoo:dcgan?ngf=4", "zoo:dcgan?ngf=8"
QUICK = ("--rounds", "5", "--no-memory")


def run(*arguments):
    return CliRunner().invoke(app, ["bench", *arguments])


def test_the_shell_prints_figures_a_verdict_and_layers():
    result = run(SMALL, "--against", LARGE, *QUICK, "--top", "2", "--threads", "1")
    assert result.exit_code == 0, result.stderr
    text = " ".join(result.stdout.split())  # a line breaks where the figures end
    for part in ("latency median", "throughput", "MACs exact", "95 % interval over 5 rounds",
                 "2 of ", "MACs/s", "time goes to"):  # fmt: skip
        assert part in text
    assert SMALL in text
    assert LARGE in text


def test_the_shell_prints_data():
    result = run(SMALL, "--json", "--no-profile", *QUICK, "--seed", "3")
    data = json.loads(result.stdout)
    assert data["model"]["name"] == SMALL
    assert (data["against"], data["profile"], data["rounds"]) == (None, None, 5)


def test_the_shell_takes_files_and_the_inputs_that_came_with_them(tmp_path):
    gfx.save(gfx.apply({"passes": ["fuse_batch_norm"]}, gfx.zoo.build("dcgan", ngf=4).eval()),
             tmp_path / "a.gfx")  # fmt: skip
    result = run(str(tmp_path / "a.gfx"), "--against", SMALL, "--json", "--no-profile", *QUICK)
    data = json.loads(result.stdout)
    assert data["inputs"] == [{"shape": [1, 100, 1, 1], "dtype": "float32"}]
    assert data["model"]["macs"]["exact"] <= data["against"]["macs"]["exact"]


def test_of_two_models_the_factory_is_for_the_one_that_needs_it(tmp_path, monkeypatch):
    code = "import gfx\ndef make():\n    return gfx.zoo.build('dcgan', ngf=8)\n"
    (tmp_path / "benched_factory.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    torch.save(gfx.zoo.build("dcgan", ngf=8).state_dict(), tmp_path / "weights.pt")
    result = run(str(tmp_path / "weights.pt"), "--against", SMALL, "--model",
                 "benched_factory:make", "--json", "--no-profile", *QUICK)  # fmt: skip
    data = json.loads(result.stdout)
    assert data["model"]["macs"]["exact"] > data["against"]["macs"]["exact"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--rounds", "2"), "error: rounds=2 is too few"),
        (("--backend", "tpu"), "error: backend 'tpu' is unknown; choose one of"),
        (("--device", "mps"), "error: device 'mps' cannot be timed"),
        (("--protocol", "paper", "--rounds", "20"), "error: protocol paper is 100 warm-ups"),
        (("--against", "zoo:resnet_9blocks?ngf=4"), "error: zoo:dcgan?ngf=4 is for inputs of"),
        (("--input", "1x7x1x1"), "error: DcganGenerator does not run on these inputs"),
        (("--against", "missing.gfx"), "error: missing.gfx does not exist"),
    ],
)
def test_the_shell_explains_what_is_wrong(arguments, text):
    result = run(SMALL, *arguments)
    assert result.exit_code == 1
    assert text in result.stderr
    assert "Traceback" not in result.stderr
