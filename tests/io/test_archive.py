"""Archives give back the same program, run nothing, and refuse clearly."""

import contextlib
import copy
import errno
import json
import math
import os
import pickle
import random
import zipfile
from pathlib import Path

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from gfx.errors import ArchiveError
from gfx.io.archive import check_writable, load, open_model, save
from gfx.ir.modules import ChannelMask, LearnedMask, Penalty, Tap, masked_layer
from gfx.ir.program import Program
from support.oracle import alike

# torch's own words, about an old style that users still have
OLD_STYLE = "ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning"


class Everything(nn.Module):
    """One of each: layers, tied weights, constants, odd arguments, nested outputs."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect")
        self.norms = nn.Sequential(
            nn.BatchNorm2d(8), nn.InstanceNorm2d(8, affine=True), nn.GroupNorm(2, 8), nn.PReLU(8)
        )
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.deconv = nn.ConvTranspose2d(8, 8, 4, 2, 1, groups=2, bias=False)
        self.one = nn.Conv2d(8, 8, 1)
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.table = nn.Embedding(4, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.memory = nn.LSTM(8, 4, bidirectional=True)
        self.drop = nn.Dropout(0.5)
        self.gain = nn.Parameter(torch.full((1,), 2.0))
        self.register_buffer("ramp", torch.arange(8.0))
        self.register_buffer("scratch", torch.ones(1).expand(8), persistent=False)
        self.constant = torch.tensor([1.5])
        self.one.to(memory_format=torch.channels_last)
        self.first.bias.requires_grad_(False)
        self.norms[0].eval()
        self.drop.eval()

    def forward(self, x, scale=1.0):
        x = self.one(self.deconv(self.up(self.norms(self.stem(x)))))
        y = self.drop(self.first(x.mean((2, 3)))) + self.table(torch.tensor([1])) * self.gain
        y = (self.second(y) + self.ramp) * self.scratch + self.constant
        y = y.unsqueeze(1).to(x.dtype)
        y, _ = self.memory(self.attention(y, y, y)[0])
        limit = torch.full((1,), math.inf, dtype=torch.float32).clamp(max=3.0)
        z = F.interpolate(x[..., 1:5, ::2], scale_factor=0.5, mode="nearest") * scale
        parts = torch.chunk(z.contiguous(memory_format=torch.channels_last), 2, dim=1)
        return {"image": parts[1], "rest": [y * limit, math.pi, z[:, None, ..., 0]], "n": (None, 1)}


def traced(model):
    torch.manual_seed(0)
    return fx.symbolic_trace(model)


def small():
    torch.manual_seed(0)
    return fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1)))


def round_trip(module, folder):
    save(module, folder / "a.gfx")
    return load(folder / "a.gfx")


def outputs(module, *inputs):
    torch.manual_seed(1)
    return pytree.tree_leaves(module(*inputs))


def assert_same(module, loaded, *inputs):
    for left, right in zip(outputs(module, *inputs), outputs(loaded, *inputs), strict=True):
        if isinstance(left, torch.Tensor):
            assert alike(left, right)
            assert left.stride() == right.stride()
        else:
            assert left == right
    assert list(module.state_dict()) == list(loaded.state_dict())


def tampered(folder, change, name="graph.json"):
    """Saves a small program, lets `change` edit one member, and returns the new path."""
    save(small(), folder / "good.gfx")
    with zipfile.ZipFile(folder / "good.gfx") as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    if name == "graph.json":
        data = json.loads(members[name])
        change(data)
        members[name] = json.dumps(data).encode()
    else:
        members[name] = change(members[name])
    with zipfile.ZipFile(folder / "bad.gfx", "w") as archive:
        for key, value in members.items():
            archive.writestr(key, value)
    return folder / "bad.gfx"


# round trips


def test_a_program_with_everything_comes_back_bit_for_bit(tmp_path):
    module = traced(Everything())
    loaded = round_trip(module, tmp_path)
    assert_same(module, loaded, torch.randn(1, 3, 8, 8))
    assert loaded.code == module.code
    assert [n.name for n in loaded.graph.nodes] == [n.name for n in module.graph.nodes]
    assert type(loaded).__name__ == "Everything"


def test_modes_and_gradient_flags_come_back(tmp_path):
    module = traced(Everything())
    loaded = round_trip(module, tmp_path)
    modes = {name: part.training for name, part in loaded.named_modules()}
    assert modes == {name: part.training for name, part in module.named_modules()}
    assert not modes["norms.0"]
    flags = {name: p.requires_grad for name, p in loaded.named_parameters()}
    assert flags == {name: p.requires_grad for name, p in module.named_parameters()}
    assert not flags["first.bias"]


def test_parameters_keep_the_order_that_folding_gave_them(tmp_path):
    conv = nn.utils.parametrizations.spectral_norm(nn.Conv2d(2, 2, 1))
    nn.utils.parametrize.remove_parametrizations(conv, "weight")
    loaded = round_trip(leaf_program(conv), tmp_path)
    assert list(loaded.state_dict()) == ["leaf.bias", "leaf.weight"]


def test_tied_parameters_stay_tied(tmp_path):
    loaded = round_trip(traced(Everything()), tmp_path)
    assert loaded.first.weight is loaded.second.weight


def test_shared_modules_stay_shared(tmp_path):
    module = small()
    module.add_module("alias", module.get_submodule("0"))
    module.graph.owning_module = module
    loaded = round_trip(module, tmp_path)
    assert loaded.alias is loaded.get_submodule("0")
    assert list(loaded.state_dict()) == list(module.state_dict())


def test_tensors_that_overlap_in_memory_still_do(tmp_path):
    module = small()
    base = torch.arange(12.0)
    module.register_buffer("whole", base.view(3, 4))
    module.register_buffer("column", base.view(3, 4)[:, 1])
    loaded = round_trip(module, tmp_path)
    loaded.whole.fill_(7.0)
    assert loaded.column.tolist() == [7.0] * 3
    assert loaded.column.stride() == (4,)


def test_a_view_into_a_larger_tensor_is_saved_alone(tmp_path):
    module = small()
    module.register_buffer("part", torch.zeros(1_000_000).view(1000, 1000)[:2, :3])
    save(module, tmp_path / "a.gfx")
    assert (tmp_path / "a.gfx").stat().st_size < 20_000
    assert load(tmp_path / "a.gfx").part.stride() == (1000, 1)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.bfloat16, torch.float16, torch.complex64, torch.complex128]
)
def test_dtypes_come_back(tmp_path, dtype):
    module = small().to(torch.float64)
    module.register_buffer("extra", torch.arange(6.0).view(2, 3).to(dtype))
    module.register_buffer("turned", torch.arange(6.0).view(2, 3).to(dtype).t())
    loaded = round_trip(module, tmp_path)
    assert loaded.extra.dtype == dtype
    assert torch.equal(loaded.extra, module.extra)
    assert torch.equal(loaded.turned, module.turned)
    assert loaded.get_submodule("0").weight.dtype == torch.float64


def test_buffers_outside_the_state_dict_stay_outside(tmp_path):
    module = small()
    module.register_buffer("kept", torch.arange(8.0))
    module.register_buffer("scratch", torch.ones(1).expand(8), persistent=False)
    loaded = round_trip(module, tmp_path)
    assert "kept" in loaded.state_dict()
    assert "scratch" not in loaded.state_dict()
    assert loaded.scratch.tolist() == [1.0] * 8


def test_aten_overloads_come_back(tmp_path):
    graph = fx.Graph()
    x = graph.placeholder("x")
    y = graph.call_function(torch.ops.aten.mul.Tensor, (x, 2.0))
    graph.output(graph.call_function(torch.ops.aten.amax.default, (y, [1], True)))
    module = fx.GraphModule(nn.Module(), graph)
    assert_same(module, round_trip(module, tmp_path), torch.randn(2, 3))


def test_loading_moves_accelerator_devices_to_the_cpu(tmp_path):
    graph = fx.Graph()
    x = graph.placeholder("x")
    noise = graph.call_function(torch.ones, (2,), {"device": torch.device("cuda", 0)})
    graph.output((graph.call_method("to", (x, "cuda:0")), noise))
    loaded = round_trip(fx.GraphModule(nn.Module(), graph), tmp_path)
    assert [t.device.type for t in loaded(torch.ones(2))] == ["cpu", "cpu"]


def test_loading_draws_no_random_numbers(tmp_path):
    save(traced(Everything()), tmp_path / "a.gfx")
    state = torch.get_rng_state()
    load(tmp_path / "a.gfx")
    assert torch.equal(state, torch.get_rng_state())


def test_the_same_module_gives_the_same_bytes(tmp_path):
    save(traced(Everything()), tmp_path / "a.gfx")
    save(load(tmp_path / "a.gfx"), tmp_path / "b.gfx")
    assert (tmp_path / "a.gfx").read_bytes() == (tmp_path / "b.gfx").read_bytes()


def test_report_and_input_shapes_come_back_and_survive_copies(tmp_path):
    module = small()
    report = {"source": "Net", "seconds": 1.5, "passes": [{"name": "p", "seconds": 2.0}]}
    program = Program(module, (torch.zeros(1, 3, 8, 8),))
    save(program, tmp_path / "a.gfx", report=report)
    loaded = copy.deepcopy(load(tmp_path / "a.gfx"))
    assert loaded.gfx_report == {"source": "Net", "passes": [{"name": "p"}]}
    assert loaded.meta["gfx_inputs"] == [{"shape": [1, 3, 8, 8], "dtype": "float32"}]


def test_a_loaded_program_trains_pickles_and_compiles_again(tmp_path):
    loaded = round_trip(small(), tmp_path)
    loaded(torch.randn(1, 3, 8, 8)).sum().backward()
    assert loaded.get_submodule("0").weight.grad is not None
    assert_same(loaded, pickle.loads(pickle.dumps(loaded)), torch.randn(1, 3, 8, 8))


def test_a_pickle_is_written_for_pt_and_opens_with_trust(tmp_path):
    save(small(), tmp_path / "a.pt")
    with pytest.raises(ArchiveError, match=r"pickled torch.fx GraphModule, which runs Python"):
        open_model(tmp_path / "a.pt")
    assert_same(small(), open_model(tmp_path / "a.pt", trust=True), torch.randn(1, 3, 8, 8))


# what cannot be saved


class Doubler(nn.Module):
    def forward(self, x):
        return 2 * x


def leaf_program(leaf):
    graph = fx.Graph()
    graph.output(graph.call_module("leaf", (graph.placeholder("x"),)))
    return fx.GraphModule({"leaf": leaf}, graph)


def frozen_attribute():
    relu = nn.ReLU()
    relu.forward = torch.tanh
    return relu


def hooked():
    conv = nn.Conv2d(2, 2, 1)
    conv.register_forward_hook(lambda *_: None)
    return conv


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        (Doubler, r"module leaf is a .*Doubler; a .gfx file holds classes of torch.nn and of gfx"),
        (
            lambda: type(
                "ChannelMask", (ChannelMask,), {"__module__": "gfx.ir.modules.channel_masks"}
            )(2),
            r"module leaf is a gfx.ir.modules.channel_masks.ChannelMask; a .gfx file holds classes",
        ),
        (frozen_attribute, "module leaf .* forward is overridden on the instance"),
        (hooked, "module leaf carries a hook"),
        (
            lambda: nn.utils.spectral_norm(nn.Conv2d(2, 2, 1)),
            r"in a hook \(SpectralNorm\); run fold_parametrizations before",
        ),
        (
            lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 2, 1)),
            "parametrized weights .*; run fold_parametrizations before",
        ),
        (lambda: nn.Conv2d(2, 2, 1, device="meta"), "leaf.weight has no data"),
        (lambda: nn.LazyConv2d(2, 1), "leaf.weight is a UninitializedParameter"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
def test_a_module_that_a_file_cannot_hold_is_named(tmp_path, leaf, message):
    with pytest.raises(ArchiveError, match=message):
        save(leaf_program(leaf()), tmp_path / "a.gfx")
    assert list(tmp_path.iterdir()) == []


def test_an_edited_module_that_its_constructor_would_not_make_is_refused(tmp_path):
    conv = nn.Conv2d(2, 2, 1)
    conv.weight = nn.Parameter(torch.zeros(5, 2, 1, 1))
    with pytest.raises(ArchiveError, match=r"leaf \(Conv2d\) is not what .*weight.*\(5, 2, 1, 1\)"):
        save(leaf_program(conv), tmp_path / "a.gfx")


@pytest.mark.parametrize("function", [os.system, torch.load, torch.from_file, eval])
def test_a_function_outside_the_allow_list_is_not_saved(tmp_path, function):
    graph = fx.Graph()
    graph.output(graph.call_function(function, (graph.placeholder("x"),)))
    with pytest.raises(ArchiveError, match=f"{function.__name__}, which a .gfx file cannot hold"):
        save(fx.GraphModule(nn.Module(), graph), tmp_path / "a.gfx")


def test_an_argument_that_is_no_data_is_not_saved(tmp_path):
    graph = fx.Graph()
    graph.output(graph.call_function(torch.relu, (graph.placeholder("x"),), {"out": {1, 2}}))
    with pytest.raises(ArchiveError, match=r"node relu: .*of type set"):
        save(fx.GraphModule(nn.Module(), graph), tmp_path / "a.gfx")


def test_something_else_than_a_graph_is_not_saved(tmp_path):
    with pytest.raises(ArchiveError, match=r"cannot save a ReLU; gfx.apply and gfx.trace"):
        save(nn.ReLU(), tmp_path / "a.gfx")
    with pytest.raises(ArchiveError, match=r"a.onnx: gfx writes .gfx archives, or .pt"):
        save(small(), tmp_path / "a.onnx")


# what cannot be written


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    save(small(), tmp_path / "a.gfx")
    before = (tmp_path / "a.gfx").read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArchiveError, match="the disk is full; nothing was written"):
        save(traced(Everything()), tmp_path / "a.gfx")
    assert (tmp_path / "a.gfx").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.gfx"]


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(small(), tmp_path / "a.gfx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device here")
def test_a_device_is_no_place_to_write():
    with pytest.raises(ArchiveError, match="it is a device or a pipe"):
        check_writable("/dev/full")


def test_a_path_that_cannot_be_written_is_told_before(tmp_path):
    with pytest.raises(ArchiveError, match=r"there is no folder .*/missing; create it first"):
        check_writable(tmp_path / "missing" / "a.gfx")
    with pytest.raises(ArchiveError, match="it is a folder; name a file in it"):
        check_writable(tmp_path)
    check_writable(tmp_path / "a.gfx")
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_followed_when_writing(tmp_path):
    (tmp_path / "link.gfx").symlink_to(tmp_path / "real.gfx")
    save(small(), tmp_path / "link.gfx")
    assert (tmp_path / "link.gfx").is_symlink()
    assert (tmp_path / "real.gfx").is_file()


# archives that are not what they say


def node(data, name):
    return next(n for n in data["nodes"] if n["name"] == name)


def own(name, **arguments):
    return lambda data: data["modules"]["1"].update({"class": name, "args": arguments})


def retarget(op, target, args=()):
    def change(data):
        node(data, "_1").update(op=op, target=target, args=[{"node": "_0"}, *args])

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (retarget("call_function", "os.system"), "calls os.system, which is not on the allow-list"),
        (retarget("call_function", "builtins.eval"), "calls builtins.eval, which is not on"),
        (retarget("call_function", "torch.load"), "calls torch.load, which is not on"),
        (retarget("call_function", "torch.ops.aten.from_file.default"), "from_file.default, which"),
        (retarget("call_function", "torch.ops.aten.__class__.mro"), "__class__.mro, which is not"),
        (retarget("call_function", "builtins.getattr", ["__class__"]), "attribute '__class__'"),
        (
            retarget("call_method", "__reduce__"),
            "method __reduce__, which is not on the allow-list",
        ),
        (retarget("call_method", "register_hook"), "method register_hook, which is not on"),
        (retarget("call_module", '0")\nimport os #'), "is no module path"),
        (retarget("call_module", "9"), "node _1 finds no Module at 9"),
        (retarget("get_attr", "0"), "node _1 finds no Tensor at 0"),
        (retarget("call_module", "__init__.__globals__"), "is no module path"),
        (retarget("call_module", "\uff3f_init_\uff3f"), "is no module path"),
        (lambda d: node(d, "_0").update(kwargs={"\uff4bey": 1}), "where a name must stand"),
        (
            lambda d: node(d, "_1").update(
                op="call_function", target="builtins.max", kwargs={"key": {"node": "_0"}}
            ),
            "called with key=, which would call a function",
        ),
        (retarget("jump", "x"), "a node of no known kind: 'jump'"),
        (lambda d: node(d, "_0").update(kwargs={"a=print(1)": 1}), "where a name must stand"),
        (lambda d: d["nodes"][0].update(target="x=print(1)"), "where a name must stand"),
        (lambda d: d["nodes"][0].update(name="a b"), "where a name must stand"),
        (lambda d: node(d, "_0").update(args=[{"node": "_2"}]), "uses node '_2' before"),
        (lambda d: node(d, "_0").update(args=[{"pickle": "x"}]), "of no known kind: 'pickle'"),
        (lambda d: d["modules"]["0"].update({"class": "os.system"}), "class os.system, which is"),
        (
            lambda d: d["modules"]["0"].update({"class": "torch.nn.DataParallel"}),
            "class torch.nn.DataParallel, which is not on the allow-list",
        ),
        (
            own("gfx.modules.Ramp"),
            "class gfx.modules.Ramp, which is not on the allow-list",
        ),
        (own("gfx.modules.MaskedLayer"), "class gfx.modules.MaskedLayer, which is not on the"),
        (
            own("gfx.ir.modules.channel_masks.ChannelMask"),
            "class gfx.ir.modules.channel_masks.ChannelMask, which is",
        ),
        (own("gfx.modules.ChannelMask", size=2, kind="eval"), "kind is one of agp, ppcd, slimming"),
        (
            own("gfx.modules.ChannelMask", size=2, ramp={"tuple": [0.0, 0.5, 9, 3, 1]}),
            "a schedule needs 0 ≤ begin ≤ end and every ≥ 1, not begin=9, end=3, every=1",
        ),
        (own("gfx.modules.Penalty", kind="__class__"), "kind is one of slimming, l1, not"),
        (lambda d: d["modules"]["0"]["args"].update(groups=7), "module 0: torch.nn.Conv2d refuses"),
        (
            lambda d: d["modules"]["0"]["args"].update(out_channels=5),
            r"do not match the graph: 0.weight has shape \[4, 3, 3, 3\], Conv2d needs \[5, 3",
        ),
        (lambda d: d["tensors"].pop("0.bias"), "do not match the graph: 0.bias is not in it"),
        (
            lambda d: d["tensors"].update({"0.bias": d["tensors"]["2.bias"]}),
            "do not match the graph: 0.bias",
        ),
        (lambda d: d["tensors"]["0.bias"].update(data="gone"), "match the graph: gone is missing"),
        (lambda d: d["tensors"]["0.bias"].update(shape=[2, 2]), r"0.bias as .* needs .* \[2, 2\]"),
        (
            lambda d: d["tensors"]["0.bias"].update(stride=[1], offset=10**9),
            "bad.gfx is malformed .RuntimeError",
        ),
        (
            lambda d: d["tensors"].update({"0.forward": d["tensors"].pop("0.bias")}),
            "0.forward would hide an attribute of Conv2d",
        ),
        (lambda d: d.update(format=99), "it has format 99, this gfx reads format 1; update gfx"),
        (lambda d: d.pop("nodes"), "bad.gfx is malformed .KeyError"),
        (lambda d: d.update(name="a-b"), "'a-b' where a name must stand"),
        (lambda d: d.update(inputs={"shape": "dtype"}), "inputs are no list of shapes and dtypes"),
        (lambda d: d.update(inputs=["x"]), "inputs are no list of shapes and dtypes"),
        (
            lambda d: d.update(inputs=[{"shape": [1, "3"], "dtype": "float32"}]),
            "inputs are no list of shapes and dtypes",
        ),
        (
            lambda d: d.update(inputs=[{"shape": [1, 3], "dtype": "nn"}]),
            "inputs are of 'nn', which is no dtype of torch",
        ),
    ],
)
def test_a_forged_archive_is_refused(tmp_path, change, message):
    with pytest.raises(ArchiveError, match=message):
        load(tampered(tmp_path, change))


def leaves_of(data, path=()):
    """Lists the paths to everything in JSON data."""
    yield path
    items = dict(enumerate(data)) if isinstance(data, list) else data
    for key, value in items.items() if isinstance(items, dict) else ():
        yield from leaves_of(value, (*path, key))


def test_no_damage_to_the_graph_escapes_as_another_error(tmp_path):
    draw = random.Random(0)
    junk = [None, True, -1, 2**70, "", "x.y", "\ud800", [], {}, {"node": "_0"}, [[]], 1e999]

    def damage(data):
        *owner, last = draw.choice(list(leaves_of(data))[1:])
        for key in owner:
            data = data[key]
        data[last] = draw.choice(junk)

    for _ in range(150):
        path = tampered(tmp_path, damage)
        with contextlib.suppress(ArchiveError):
            assert isinstance(load(path), fx.GraphModule)


def test_json_that_is_deeper_than_python_goes_is_refused(tmp_path):
    path = tampered(tmp_path, lambda data: data)
    with zipfile.ZipFile(path) as archive:
        weights = archive.read("weights.safetensors")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("graph.json", "[" * 200_000 + "]" * 200_000)
        archive.writestr("weights.safetensors", weights)
    with pytest.raises(ArchiveError, match=r"bad.gfx is malformed .RecursionError"):
        load(path)


def test_weights_that_are_cut_short_are_refused(tmp_path):
    path = tampered(tmp_path, lambda data: data[:-4], "weights.safetensors")
    with pytest.raises(ArchiveError, match=r"bad.gfx is malformed .SafetensorError"):
        load(path)


def test_a_compressed_member_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.gfx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("graph.json", b"0" * 10_000_000)
        archive.writestr("weights.safetensors", b"")
    with pytest.raises(ArchiveError, match=r"graph.json compressed or encrypted"):
        load(tmp_path / "bomb.gfx")


def test_a_zip_with_other_members_is_no_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.gfx", "w") as archive:
        archive.writestr("graph.json", "{}")
        archive.writestr("../evil.py", "")
    with pytest.raises(ArchiveError, match=r"lacks weights.safetensors and holds ../evil.py"):
        load(tmp_path / "a.gfx")


@pytest.mark.parametrize("opener", [load, open_model])
def test_a_truncated_archive_is_refused(tmp_path, opener):
    save(small(), tmp_path / "a.gfx")
    data = (tmp_path / "a.gfx").read_bytes()
    (tmp_path / "half.gfx").write_bytes(data[: len(data) // 2])
    with pytest.raises(ArchiveError, match=r"half.gfx is truncated or damaged"):
        opener(tmp_path / "half.gfx")


def test_a_flipped_bit_is_noticed(tmp_path):
    save(small(), tmp_path / "a.gfx")
    data = bytearray((tmp_path / "a.gfx").read_bytes())
    data[200] ^= 1
    (tmp_path / "a.gfx").write_bytes(data)
    with pytest.raises(ArchiveError, match=r"Bad CRC-32 for file 'graph.json'"):
        load(tmp_path / "a.gfx")


# opening what users have


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.conv(x)


NET = f"{__name__}:Net"


class Hostile:
    """Would touch a file when unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_every_kind_of_file_opens(tmp_path):
    from safetensors.torch import save_file

    net, x = Net(), torch.randn(1, 3, 4, 4)
    torch.save(nn.Sequential(net.conv, nn.ReLU()), tmp_path / "modules.pt")
    torch.save(net, tmp_path / "own.pt")
    torch.save(net.state_dict(), tmp_path / "state.pth")
    wrapped = {f"module.{k}": v for k, v in net.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, tmp_path / "checkpoint.pt")
    save_file(net.state_dict(), tmp_path / "state.safetensors")
    save(fx.symbolic_trace(net), tmp_path / "net.gfx")
    opened = [
        open_model(tmp_path / "modules.pt")[0],
        open_model(tmp_path / "own.pt", trust=True),
        open_model(tmp_path / "state.pth", model=NET),
        open_model(tmp_path / "checkpoint.pt", model=NET),
        open_model(tmp_path / "state.safetensors", model=NET),
        open_model(tmp_path / "net.gfx"),
    ]
    for model in opened:
        assert alike(model(x), net(x))


def test_masks_and_marks_open_without_trust(tmp_path):
    layers = [
        masked_layer(nn.Conv2d(3, 4, 1)),
        ChannelMask(4),
        LearnedMask(4),
        Penalty("l1"),
        Tap(),
    ]
    model = nn.Sequential(*layers, masked_layer(nn.Linear(8, 8)))
    model[0].mask[0] = False
    model[1].add_index(torch.tensor([0, -1, 2, 3]))
    torch.save(model, tmp_path / "model.pt")
    opened = open_model(tmp_path / "model.pt")
    x = torch.randn(1, 3, 8, 8)
    assert alike(opened(x), model(x))
    assert opened[1].ramp == model[1].ramp
    assert str(opened) == str(model)


@pytest.mark.filterwarnings(OLD_STYLE)
def test_old_style_norms_in_hooks_open_without_trust(tmp_path):
    model = nn.Sequential(
        nn.utils.spectral_norm(nn.Conv2d(3, 4, 1)), nn.utils.weight_norm(nn.Conv2d(4, 3, 1))
    ).eval()
    torch.save(model, tmp_path / "a.pt")
    x = torch.randn(1, 3, 4, 4)
    assert alike(open_model(tmp_path / "a.pt")(x), model(x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.export's own
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_exported_program_opens_with_trust_only(tmp_path):
    net, x = Net().eval(), torch.randn(1, 3, 4, 4)
    torch.export.save(torch.export.export(net, (x,)), tmp_path / "a.pt2")
    with pytest.raises(ArchiveError, match=r"torch.export program, and opening one can run code"):
        open_model(tmp_path / "a.pt2")
    assert torch.allclose(open_model(tmp_path / "a.pt2", trust=True)(x), net(x))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_does_not_run(tmp_path, zipped):
    mark = tmp_path / "mark"
    torch.save({"w": Hostile(mark)}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ArchiveError, match=r"wants to use (posix|nt)\.system; nothing was exec"):
        open_model(tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Hostile(mark)))
    with pytest.raises(ArchiveError, match=r"wants to use (posix|nt)\.system; nothing was exec"):
        open_model(tmp_path / "b.pt")
    assert not mark.exists()


def test_a_pickled_class_of_the_user_is_named_with_the_way_on(tmp_path):
    torch.save(Net(), tmp_path / "a.pt")
    with pytest.raises(ArchiveError, match=r"wants to use .*Net; .*--model .*--trust"):
        open_model(tmp_path / "a.pt")


def test_a_state_dict_without_a_factory_asks_for_one(tmp_path):
    torch.save(Net().state_dict(), tmp_path / "a.pt")
    with pytest.raises(ArchiveError, match=r"state dict \(2 tensors.*--model package.module"):
        open_model(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("Net", "'Net' is not of the form package.module:factory"),
        ("no_such_module:Net", "there is no module 'no_such_module' in "),
        (f"{__name__}:Missing", "has no 'Missing'; it has "),
        (f"{__name__}:tampered", "tampered needs .*; write .*tampered\\?.*=VALUE"),
        (f"{__name__}:OLD_STYLE.title", "gave an object of type str, not a module"),
        (f"{__name__}:small", "0.weight, 0.bias, 2.weight, … 1 more.*2 unknown .*conv.weight"),
        (f"{__name__}:wide", r"1 of another shape \(conv.weight is \[3, 3, 1, 1\], needs \[3, 5"),
    ],
)
def test_a_factory_that_does_not_fit_is_explained(tmp_path, factory, message):
    torch.save(Net().state_dict(), tmp_path / "a.pt")
    with pytest.raises(ArchiveError, match=message):
        open_model(tmp_path / "a.pt", model=factory)


def wide():
    net = Net()
    net.conv = nn.Conv2d(5, 3, 1)
    return net


def test_a_factory_is_found_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "my_generator_code.py").write_text(
        "from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Conv2d(3, 3, 1))\n"
    )
    torch.save(nn.Sequential(nn.Conv2d(3, 3, 1)).state_dict(), tmp_path / "a.pt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("/")  # so that the change of sys.path is undone
    assert isinstance(open_model("a.pt", model="my_generator_code:make"), nn.Sequential)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"a": Net().state_dict(), "b": Net().state_dict()},
            r"holds 2 state dicts: a \(2 tensors\), b \(2",
        ),
        ({"step": 3}, r"holds no models \(its keys: step\)"),
        ([1, 2], "an object of type list, not a module or a state dict"),
    ],
)
def test_a_file_without_one_model_is_explained(tmp_path, content, message):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ArchiveError, match=message):
        open_model(tmp_path / "a.pt")


def test_things_that_are_no_model_file_are_told_apart(tmp_path):
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "empty.pt").touch()
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hi")
    torch.save(Net().state_dict(), tmp_path / "good.pt")
    data = (tmp_path / "good.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: len(data) // 2])
    expected = {
        "text.pt": "is no model file: gfx opens .gfx, .pt",
        "empty.pt": "is empty",
        "other.zip": "neither a .gfx archive nor a torch file",
        "cut.pt": "is truncated or damaged",
        "missing.pt": "does not exist; check the path",
        ".": "is a folder; name a file in it",
    }
    for name, message in expected.items():
        with pytest.raises(ArchiveError, match=message):
            open_model(tmp_path / name)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_torchscript_is_refused(tmp_path):
    torch.jit.trace(Net(), torch.zeros(1, 3, 4, 4)).save(tmp_path / "a.pt")
    with pytest.raises(ArchiveError, match="TorchScript archive, which cannot be traced"):
        open_model(tmp_path / "a.pt")


def test_a_factory_for_a_whole_model_is_refused(tmp_path):
    save(small(), tmp_path / "a.gfx")
    with pytest.raises(ArchiveError, match="holds a whole model, so --model x:y has no use"):
        open_model(tmp_path / "a.gfx", model="x:y")
