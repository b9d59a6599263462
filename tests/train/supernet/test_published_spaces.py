"""The published search spaces, at full size: their subnets are among the widths, to the integer."""

import pytest
import torch

import gfx
from gfx.errors import InputError, RecipeError
from gfx.train.systems import load_system
from support.published_subnets import MOBILE_RESNET


def tied(spaces, parts):
    """Ties the parts of each published number, and gives them its choices."""
    values = {
        glob: [width * times for width in sorted(choices)]
        for choices, globs in zip(spaces, parts, strict=True)
        for glob, times in globs.items()
    }
    return {"values": values, "together": [list(globs) for globs in parts], "min_channels": 1}


def chosen(net, spaces, code, parts):
    """Returns the widths of a subnet that is named by its eight numbers."""
    named = [sorted(space).index(int(n)) for space, n in zip(spaces, code.split("_"), strict=True)]
    assert len(net.dimensions) == len(parts)
    return {
        name: net.widths[name][k]
        for names, k in zip(net.dimensions, named, strict=True)
        for name in names
    }


# the place of each number, and what it is times in each group
RESNET = [
    {"stem.conv": 1},
    {"down.0.conv": 2},
    {"down.1.conv": 4},
    *[
        {f"blocks.{i}.conv1.pointwise": 4 for i in three}
        for three in ((0, 1, 2), (3, 4, 5), (6, 7, 8))
    ],
    {"up.0.conv": 2},
    {"up.1.conv": 1},
]
CHANNELS = [[64, 56, 48, 40, 32, 24, 16]] * 8


@pytest.mark.parametrize(
    ("code", "macs", "params"), [(name, *figures) for name, figures in MOBILE_RESNET.items()]
)
def test_a_published_subnet_is_in_the_space_with_its_integers(resnet, code, macs, params):
    widths = chosen(resnet, CHANNELS, code, RESNET)
    cost = resnet.cost(widths)
    assert (cost.macs.output_norm, cost.params) == (macs, params)
    assert resnet.set(widths) == widths


@pytest.fixture(scope="module")
def resnet():
    with torch.device("meta"):
        net = gfx.zoo.build("mobile_resnet_9blocks", ngf=64)
        x = torch.zeros(1, 3, 256, 256)
    return gfx.supernet(net, x, widths=tied(CHANNELS, RESNET), order=None)


def test_the_space_is_sampled_and_priced_by_its_eight_numbers(resnet):
    assert [len(names) for names in resnet.dimensions] == [1, 1, 1, 3, 3, 3, 1, 1]
    drawn = [resnet.sample(0, step) for step in range(64)]
    for widths in drawn:
        for names in resnet.dimensions:
            assert len({widths[name] for name in names}) == 1
    macs = resnet.price(drawn)["exact"]
    assert len({*macs.tolist()}) > 60
    assert macs[7] == resnet.cost(drawn[7]).macs.exact


spade_subnets = pytest.mark.parametrize(
    ("code", "macs", "params"),
    [
        ("32_40_40_32_40_24_32_24", 31.114, 21_002_811),
        ("32_32_48_32_32_32_32_24", 31.608, 20_425_019),
    ],
)


@spade_subnets
def test_a_published_spade_subnet_is_in_the_space(spade, code, macs, params):
    widths = chosen(spade, SPADE_CHANNELS, code, SPADE)
    cost = spade.cost(widths)
    assert (round(cost.macs.output / 1e9, 3), cost.params) == (macs, params)


def block(path, times, *, up=False):
    norms = ("norm1", "norm2", *(["norm_shortcut"] if up else []))
    found = {f"{path}.{norm}.shared": 2 for norm in norms} | {f"{path}.conv1": times}
    return found | ({f"{path}.conv2": times} if up else {})


SPADE = [
    {"stem": 16},
    block("head", 16),
    block("middle1", 16),
    block("middle2", 16),
    *[block(f"up.{i}", times, up=True) for i, times in enumerate((8, 4, 2, 1))],
]
SPADE_CHANNELS = [[48, 40, 32, 24]] * 8


@pytest.fixture(scope="module")
def spade():
    with torch.device("meta"):
        net = gfx.zoo.build("spade", ngf=48, mobile=True, spectral=False)
        x = torch.zeros(1, 36, 256, 512)
    return gfx.supernet(net, x, widths=tied(SPADE_CHANNELS, SPADE), order=None)


def test_ties_go_with_the_file_and_are_checked(tmp_path):
    net = gfx.zoo.build("mobile_resnet_9blocks", ngf=8, n_blocks=2, image_size=32)
    x = torch.zeros(1, 3, 32, 32)
    widths = {"step": 4, "together": [["blocks.*.conv1.pointwise"], ["stem.*", "up.1.*"]]}
    made = gfx.supernet(net, x, widths=widths)
    assert len(made.dimensions) == len(made.widths) - 2
    gfx.save(made, tmp_path / "net.gfx")
    assert gfx.supernet(tmp_path / "net.gfx", x).dimensions == made.dimensions
    noted = gfx.apply({"passes": [{"widths": widths}]}, net, x)
    assert gfx.supernet(noted, x).dimensions == made.dimensions
    drawn = {tuple(made.sample(1, step).items()) for step in range(40)}
    assert all(dict(w)["stem.conv"] == dict(w)["up.1.conv"] for w in drawn)
    for wrong, said in (
        ([["nothing.*"]], "no group with a choice is named by nothing"),
        (
            [["stem.*", "down.1.*"]],
            r"down\.1\.conv has 7 widths and stem\.conv 2; give them as many",
        ),
        ([["stem.*"], ["stem.*", "up.1.*"]], r"stem\.conv is named twice"),
        ("stem", r"lists of globs are expected, such as \[\[blocks"),
    ):
        with pytest.raises(RecipeError, match=said):
            gfx.supernet(net, x, widths={"step": 4, "together": wrong})
    spoilt = gfx.load(tmp_path / "net.gfx")
    spoilt.meta["gfx_supernet"]["together"] = [["stem.conv", "down.1.conv"]]
    with pytest.raises(InputError, match="the file ties widths that are not of this net"):
        gfx.supernet(spoilt, x)


@spade_subnets
def test_the_space_of_the_preset_is_the_published_one(preset_space, code, macs, params):
    widths = chosen(preset_space, SPADE_CHANNELS, code, SPADE)
    cost = preset_space.cost(widths)
    assert (round(cost.macs.output / 1e9, 3), cost.params) == (macs, params)


@pytest.fixture(scope="module")
def preset_space(spade):
    noted = load_system("gan-compression", "gaugan-cityscapes").stage("supernet").passes[1]
    with torch.device("meta"):
        net = gfx.zoo.build("spade", ngf=48, mobile=True, spectral=False)
        x = torch.zeros(1, 36, 256, 512)
    asked = {key: noted["widths"][key] for key in ("values", "together", "min_channels")}
    found = gfx.supernet(net, x, widths=asked, order=None)
    assert found.widths == spade.widths
    assert found.dimensions == spade.dimensions
    return found
