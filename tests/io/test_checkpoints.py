"""The right network is found in a checkpoint, or the choice is the user's."""

import pickle
import re
import sys
from collections import OrderedDict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import AveragedModel

import gfx
from gfx.errors import ArchiveError
from gfx.io.archive import open_model
from support.laws import law


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(2)
        self.blocks = nn.Sequential(nn.Conv2d(2, 2, 1), nn.PReLU())

    def forward(self, x):
        return self.blocks(self.norm(x))


class Judge(nn.Module):
    """Another network, with names of the first and other shapes."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.blocks = nn.Sequential(nn.Conv2d(3, 1, 1))


class Wrapper(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Body()

    def forward(self, x):
        return self.net(x)


BODY = f"{__name__}:Body"


def fresh(seed, kind=Body):
    """Builds a network whose values, buffers too, are those of a seed."""
    torch.manual_seed(seed)
    net = kind()
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    return net


def saved(content, folder):
    torch.save(content, folder / "ckpt.pt")
    return folder / "ckpt.pt"


def assert_holds(opened, net):
    wanted = net.state_dict()
    assert opened.state_dict().keys() == wanted.keys()
    for name, tensor in opened.state_dict().items():
        assert torch.equal(tensor, wanted[name]), name


# the law: at any depth, under any prefix, among anything

WORDS = "g d net generator params params_ema g_ema model module _orig_mod state_dict ema".split()
paths = st.lists(st.sampled_from(WORDS), min_size=0, max_size=3)
DISTRACTORS = {
    "epoch": 3,
    "step_counter": torch.tensor(7),
    "n_averaged": torch.tensor(2),
    "config": {"lr": 0.1, "betas": (0.5, 0.9), "name": "x"},
    "optimizer": {"state": {0: {"exp_avg": torch.zeros(2, 2, 1, 1), "step": torch.tensor(1.0)}}},
    "judge": Judge().state_dict(),
    "images": [torch.zeros(1, 3, 2, 2)],
}


def put(content, path, state, cut):
    """Puts a state dict at a path, `cut` words of which are keys and the rest a prefix."""
    for word in path[:cut]:
        content = content.setdefault(word, OrderedDict())
    prefix = "".join(f"{word}." for word in path[cut:])
    content.update({f"{prefix}{name}": tensor for name, tensor in state.items()})


def name_of(path):
    return ".".join(word for word in path if word != "_orig_mod") or "."


@st.composite
def checkpoints(draw):
    places, taken = [], set()
    for path in draw(st.lists(paths, min_size=1, max_size=3)):
        name = name_of(path)
        # one network inside of another is neither
        if any(f"{name}.".startswith(f"{t}.") or f"{t}.".startswith(f"{name}.") for t in taken):
            continue
        if "." in (name, *taken) and taken:
            continue
        taken.add(name)
        places.append((path, draw(st.integers(0, len(path)))))
    first = draw(st.permutations(sorted(DISTRACTORS)))[: draw(st.integers(0, 3))]
    return places, first


@law(examples=60)
@given(checkpoints())
def test_a_network_is_found_wherever_it_is_or_the_choice_is_listed(tmp_path_factory, drawn):
    places, distractors = drawn
    folder = tmp_path_factory.mktemp("law")
    nets = [fresh(seed) for seed in range(len(places))]
    content = {}
    for key in distractors:
        if not (places[0][0] == [] and key == "judge"):
            content[key] = DISTRACTORS[key]
    for (path, cut), net in zip(places, nets, strict=True):
        put(content, path, net.state_dict(), cut)
    file = saved(content, folder)
    names = [name_of(path) for path, _ in places]
    if len(nets) == 1:
        assert_holds(open_model(file, model=BODY), nets[0])
    else:
        with pytest.raises(ArchiveError) as caught:
            open_model(file, model=BODY)
        assert "networks that fit" in str(caught.value)
        assert "--key" in str(caught.value)
        assert all(name in str(caught.value) for name in names)
    for name, net in zip(names, nets, strict=True):
        assert_holds(open_model(file, model=BODY, key=name), net)


# what people have


G, D, EMA = fresh(1), fresh(2, Judge), fresh(3)


def averaged():
    average = AveragedModel(G)
    average.update_parameters(G)
    return average


@pytest.mark.parametrize(
    "content",
    [
        {"params": G.state_dict()},
        {"g": G.state_dict(), "d": D.state_dict()},
        {"state_dict": {f"generator.{k}": v for k, v in G.state_dict().items()}
         | {f"discriminator.{k}": v for k, v in D.state_dict().items()}, "epoch": 1},
        {"n_averaged": torch.tensor(3)} | {f"module.{k}": v for k, v in G.state_dict().items()},
        {"step_counter": torch.tensor(3)} | G.state_dict(),
        {f"module._orig_mod.{k}": v for k, v in G.state_dict().items()},
        {k.replace("blocks.0", "blocks._orig_mod.0"): v for k, v in G.state_dict().items()},
        {"a": [{"b": ({"c": G.state_dict()},)}]},
        {k: v for k, v in G.state_dict().items() if "num_batches" not in k},
        {"model_ema": {k.replace(".", ""): v for k, v in G.state_dict().items()}
         | {"decay": torch.tensor(0.9), "num_updates": torch.tensor(5)}},
        {"a": G.state_dict(), "b": fresh(1).state_dict()},  # the same values: no choice
    ],
    ids="params nets lightning averaged counter compiled inner nested old dotless same".split(),
)  # fmt: skip
def test_checkpoints_of_training_codes_open(tmp_path, content):
    opened = open_model(saved(content, tmp_path), model=BODY)
    for name, tensor in opened.state_dict().items():
        if "num_batches" not in name:
            assert torch.equal(tensor, G.state_dict()[name]), name


@pytest.mark.parametrize("key", [None, "params", "params_ema", "ema"])
def test_networks_of_equal_values_are_found_by_each_name(tmp_path, key):
    same = {name: tensor.clone() for name, tensor in G.state_dict().items()}
    file = saved({"params": G.state_dict(), "params_ema": same}, tmp_path)
    assert_holds(open_model(file, model=BODY, key=key), G)
    with pytest.raises(gfx.ArchiveError, match="holds no network 'd'"):
        open_model(file, model=BODY, key="d")


def test_a_wrapper_takes_the_state_of_what_it_wraps(tmp_path):
    file = saved(G.state_dict(), tmp_path)
    assert_holds(open_model(file, model=f"{__name__}:Wrapper").net, G)
    assert_holds(open_model(file, model=nn.DataParallel(Body())).module, G)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"params": G.state_dict(), "params_ema": EMA.state_dict()}, ["params", "params_ema"]),
        ({"g": G.state_dict(), "d": D.state_dict(), "g_ema": EMA.state_dict()}, ["g", "g_ema"]),
        ({"state_dict": G.state_dict(), "ema_state_dict": EMA.state_dict()},
         ["state_dict", "ema_state_dict"]),
        ({"net": G.state_dict(), "average": {"n_averaged": torch.tensor(1)}
          | {f"module.{k}": v for k, v in EMA.state_dict().items()}}, ["net", "average.module"]),
        ({f"online_model.{k}": v for k, v in G.state_dict().items()}
         | {f"ema_model.{k}": v for k, v in EMA.state_dict().items()}
         | {"initted": torch.tensor(True)}, ["online_model", "ema_model"]),
    ],
)  # fmt: skip
def test_an_average_is_taken_when_asked_and_never_silently(tmp_path, content, names):
    file, listed = saved(content, tmp_path), ", ".join(names)
    expected = rf"holds 2 networks that fit: {re.escape(listed)}; .*--key ema for the average"
    with pytest.raises(ArchiveError, match=expected):
        open_model(file, model=BODY)
    assert_holds(open_model(file, model=BODY, key=names[0]), G)
    assert_holds(open_model(file, model=BODY, key=names[1]), EMA)
    assert_holds(open_model(file, model=BODY, key="ema"), EMA)
    assert_holds(gfx.load(file, model=Body, key="ema"), EMA)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("g_em", r"holds no network 'g_em' \(--key\); did you mean 'g_ema'\?"),
        ("d", r"no network 'd' \(--key\); d is there, but does not fit; those that fit are g, g_"),
        ("nothing", r"no network 'nothing' .*; those that fit are g, g_ema"),
    ],
)
def test_a_key_that_names_nothing_is_explained(tmp_path, key, message):
    file = saved({"g": G.state_dict(), "d": D.state_dict(), "g_ema": EMA.state_dict()}, tmp_path)
    with pytest.raises(ArchiveError, match=message):
        open_model(file, model=BODY, key=key)


def test_a_key_of_two_averages_is_asked_for_in_full(tmp_path):
    states = {"g": G.state_dict(), "g_ema": EMA.state_dict(), "g_avg": fresh(4).state_dict()}
    with pytest.raises(ArchiveError, match=r"--key ema may be g_ema, g_avg; give one of these"):
        open_model(saved(states, tmp_path), model=BODY, key="ema")


def test_a_weight_too_many_is_no_counter(tmp_path):
    more = G.state_dict() | {"attention.weight": torch.zeros(2, 2)}
    with pytest.raises(ArchiveError, match=r"does not fit Body: 1 unknown .*attention\.weight"):
        open_model(saved({"net": more}, tmp_path), model=BODY)
    gain = G.state_dict() | {"gain": torch.tensor(0.5)}
    with pytest.raises(ArchiveError, match=r"1 unknown to the module \(gain\)"):
        open_model(saved(gain, tmp_path), model=BODY)


def test_what_comes_nearest_is_compared(tmp_path):
    content = {"d": D.state_dict(), "epoch": 3}
    with pytest.raises(ArchiveError, match=r"\(d\) does not fit Body: 1 missing .*6 of another s"):
        open_model(saved(content, tmp_path), model=BODY)


def test_several_state_dicts_or_modules_without_more_are_listed(tmp_path):
    states = {"g": G.state_dict(), "d": D.state_dict(), "epoch": 1}
    with pytest.raises(
        ArchiveError, match=r"2 state dicts: g \(8 tensors\), d \(7 tensors\); .*mo"
    ):
        open_model(saved(states, tmp_path))
    modules = {"model": nn.Conv2d(1, 1, 1), "ema": nn.Conv2d(1, 1, 1)}
    file = saved(modules, tmp_path)
    with pytest.raises(ArchiveError, match=r"2 networks that fit: model, ema; .*--key ema"):
        open_model(file)
    assert torch.equal(open_model(file, key="ema").weight, modules["ema"].weight)
    with pytest.raises(ArchiveError, match=r"holds whole models \(model, ema\), so --model has no"):
        open_model(file, model=BODY)


def test_a_key_for_a_whole_model_is_refused(tmp_path):
    torch.save(nn.Conv2d(1, 1, 1), tmp_path / "a.pt")
    with pytest.raises(ArchiveError, match="holds one model, so --key g has no use; drop it"):
        open_model(tmp_path / "a.pt", key="g")


def test_a_container_that_holds_itself_ends(tmp_path):
    content = {"net": G.state_dict()}
    content["self"] = content
    opened = open_model(saved(content, tmp_path), model=BODY)
    assert_holds(opened, G)


# pickles that torch did not write, and trusted ones that need code


def test_a_plain_pickle_is_called_one(tmp_path):
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"G_ema": nn.Conv2d(1, 1, 1), "epoch": 3}))
    refused = r"plain.pkl is a plain pickle, written by pickle.dump and not by torch.save.*--trust"
    with pytest.raises(ArchiveError, match=refused):
        open_model(tmp_path / "plain.pkl")
    assert isinstance(open_model(tmp_path / "plain.pkl", trust=True), nn.Conv2d)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dnnlib.tflib.network", "TensorFlow networks of StyleGAN, which gfx does not read"),
        ("torch_utils.persistence", "StyleGAN2-ADA or StyleGAN3, whose repository must be the cur"),
        ("somebodys.code", r"that wants to use somebodys\.code\.Network; nothing was executed"),
    ],
)
def test_pickles_of_known_origin_are_named(tmp_path, name, said):
    stream = b"\x80\x02c" + name.encode() + b"\nNetwork\n)\x81."
    (tmp_path / "a.pkl").write_bytes(stream)
    with pytest.raises(ArchiveError, match=said):
        open_model(tmp_path / "a.pkl")
    with pytest.raises(ArchiveError, match=r"a.pkl needs the module '\w+', which is not in .*run"):
        open_model(tmp_path / "a.pkl", trust=True)


def test_a_trusted_pickle_finds_its_code_in_the_current_folder(tmp_path, monkeypatch):
    code = "from torch import nn\n\nclass Painter(nn.Sequential):\n    pass\n"
    (tmp_path / "gfx_test_painter.py").write_text(code)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    painter = __import__("gfx_test_painter").Painter(nn.Conv2d(1, 1, 1))
    torch.save(painter, tmp_path / "a.pt")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    monkeypatch.delitem(sys.modules, "gfx_test_painter")
    with pytest.raises(ArchiveError, match="needs the module 'gfx_test_painter', which is not in"):
        open_model(tmp_path / "a.pt", trust=True)
    monkeypatch.chdir(tmp_path)
    assert type(open_model("a.pt", trust=True)).__name__ == "Painter"
    (tmp_path / "gfx_test_painter.py").write_text("")
    monkeypatch.delitem(sys.modules, "gfx_test_painter")
    with pytest.raises(ArchiveError, match=r"needs code that is not there \(AttributeError: .*Pai"):
        open_model("a.pt", trust=True)
    monkeypatch.delitem(sys.modules, "gfx_test_painter")


# what builds the module


CODE = """
from torch import nn

def net(nf=4, norm="none", widths=(), deep=False):
    layers = [nn.Conv2d(1, nf, 1)] + [nn.ReLU()] * deep
    return nn.Sequential(*layers)

def needy(nf):
    return net(nf)

VALUE = 3
"""


@pytest.fixture
def code(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_gfx_nets.py").write_text(CODE)
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "__init__.py").touch()
    (tmp_path / "bag" / "parts.py").write_text("from torch import nn\nLayer = nn.Conv2d\n")
    (tmp_path / "bag" / "whole.py").write_text(
        "from .parts import Layer\n\ndef net(nf=4):\n    return Layer(1, nf, 1)\n"
    )
    (tmp_path / "json.py").write_text(CODE)  # a name that another module has taken
    yield tmp_path
    for name in ("my_gfx_nets", "bag", "bag.parts", "bag.whole", "_gfx_json"):
        sys.modules.pop(name, None)


def built(width):
    return nn.Sequential(nn.Conv2d(1, width, 1)).state_dict()


@pytest.mark.parametrize(
    "model",
    [
        "my_gfx_nets:net?nf=16",
        "my_gfx_nets.py:net?nf=16&norm=batch&widths=8,16&deep=true",
        "./my_gfx_nets.py:needy?nf=16",
        "json.py:net?nf=16",
    ],
)
def test_a_factory_takes_options_and_may_be_in_a_file(code, model):
    torch.save(built(16), code / "a.pt")
    assert open_model("a.pt", model=model)[0].out_channels == 16


def test_a_file_in_a_package_finds_its_neighbours(code):
    torch.save(nn.Conv2d(1, 8, 1).state_dict(), code / "a.pt")
    assert open_model("a.pt", model=f"{code}/bag/whole.py:net?nf=8").out_channels == 8
    assert open_model("a.pt", model="bag.whole:net?nf=8").out_channels == 8


def test_a_class_a_function_and_a_module_build_too(tmp_path):
    file, net = saved(built(4), tmp_path), nn.Sequential(nn.Conv2d(1, 4, 1))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    opened = open_model(file, model=net)
    assert opened is not net
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert open_model(file, model=lambda: nn.Sequential(nn.Conv2d(1, 4, 1)))[0].out_channels == 4


def test_the_zoo_builds_and_is_opened_by_name(tmp_path):
    net = gfx.zoo.build("dcgan", ngf=4)
    file = saved({"netG": net.state_dict()}, tmp_path)
    assert_holds(open_model(file, model="zoo:dcgan?ngf=4"), net)
    assert open_model("zoo:dcgan?ngf=4").state_dict().keys() == net.state_dict().keys()
    with pytest.raises(
        gfx.InputError, match="no generator or discriminator 'dcgam'; did you mean dcgan"
    ):
        open_model(file, model="zoo:dcgam")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("my_gfx_net:net", r"there is no module 'my_gfx_net' in .*did you mean 'my_gfx_nets'\?"),
        ("my_gfx_nets:nett", r"my_gfx_nets has no 'nett'; did you mean 'net'\?"),
        ("my_gfx_net.py:net", r"there is no file my_gfx_net.py; did you mean 'my_gfx_nets.py'\?"),
        ("my_gfx_nets.py", r"is not of the form .*; did you mean my_gfx_nets.py:Factory\?"),
        ("my_gfx_nets.net", r"is not of the form .*; did you mean my_gfx_nets:net\?"),
        ("my_gfx_nets:net?norn=3", r"takes no option 'norn'; did you mean 'norm'\?"),
        ("my_gfx_nets:net?nf", r"option 'nf' has no value; write nf=VALUE"),
        ("my_gfx_nets:net?nf=[", r"option nf"),
        ("my_gfx_nets:needy", r"needs nf; write my_gfx_nets:needy\?nf=VALUE"),
        ("my_gfx_nets:VALUE", r"VALUE is a int, which cannot be called"),
        ("my_gfx_nets:net?nf=many", r"failed: TypeError"),
    ],
)
def test_a_factory_that_is_not_there_is_explained(code, model, message):
    torch.save(built(4), code / "a.pt")
    with pytest.raises(ArchiveError, match=message):
        open_model("a.pt", model=model)
