"""Taps: where they go, that they change nothing, and what they see."""

import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gfx
from gfx.compression.taps import Places
from support.laws import through
from support.oracle import alike
from support.tap_checks import tap, taps_of


def places(model, inputs=None, **fields):
    return [c.node for c in gfx.report(tap(model, inputs, **fields)).passes[0].changes]


def skips(small):
    return {skip.node: skip.why for skip in gfx.report(small).passes[0].skips}


def net(act=nn.ReLU):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), act(), nn.Conv2d(4, 4, 3), act(), nn.Conv2d(4, 3, 1)
    return nn.Sequential(*layers).double()


def image(size=9):
    torch.manual_seed(1)
    return torch.randn(2, 3, size, size, dtype=torch.float64)


def small_resnet(**options):
    return gfx.zoo.build("resnet_9blocks", ngf=2, image_size=16, **options)


# --- where: the papers' rules


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
            nn.ReLU(True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
        )

    def forward(self, x):
        return x + self.conv_block(x)


def numbered_resnet(blocks=9, width=2):
    """The ResNet generator whose layers are called model.0, model.1, ... as in the papers."""
    layers = [
        nn.ReflectionPad2d(3),
        nn.Conv2d(3, width, 7),
        nn.InstanceNorm2d(width),
        nn.ReLU(True),
    ]
    for _ in range(2):
        layers += [
            nn.Conv2d(width, 2 * width, 3, 2, 1),
            nn.InstanceNorm2d(2 * width),
            nn.ReLU(True),
        ]
        width *= 2
    layers += [Block(width) for _ in range(blocks)]
    for _ in range(2):
        layers += [nn.ConvTranspose2d(width, width // 2, 3, 2, 1, output_padding=1)]
        layers += [nn.InstanceNorm2d(width // 2), nn.ReLU(True)]
        width //= 2
    layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh()]
    return Named(nn.Sequential(*layers))


class Named(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x)


X = torch.randn(1, 3, 16, 16)


def test_gan_compression_taps_the_layers_of_the_paper():
    assert places(numbered_resnet(), X, rule="gan_compression") == [
        "model.9",
        "model.12",
        "model.15",
        "model.18",
    ]


def test_the_features_are_those_of_hooks_on_the_layers_of_the_paper():
    model, wanted = numbered_resnet().eval(), {}
    for i in (9, 12, 15, 18):
        hook = lambda _, __, y, i=i: wanted.update({f"model_{i}": y.clone()})  # noqa: E731
        model.model[i].register_forward_hook(hook)
    features = gfx.tapped(tap(model, X, rule="gan_compression"))(X)[1]
    wanted.clear()
    model(X)
    assert list(features) == list(wanted)
    assert all(alike(features[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(("blocks", "last"), [(6, ["model.12", "model.15"]), (2, ["model.11"])])
def test_gan_compression_follows_the_number_of_blocks(blocks, last):
    assert places(numbered_resnet(blocks), X, rule="gan_compression") == ["model.9", *last]


def test_a_generator_without_residual_blocks_is_told_what_to_use():
    with pytest.raises(
        gfx.PreconditionError, match=r"has none; leave rule out, add otherwise: auto"
    ):
        tap(gfx.zoo.build("dcgan", ngf=2), rule="gan_compression")


def test_where_a_rule_finds_no_place_the_ends_of_stages_may_stand_for_it():
    model = gfx.zoo.build("dcgan", ngf=2)
    assert places(model, rule="gan_compression", otherwise="auto") == places(model)
    note = (
        gfx.report(tap(model, rule="gan_compression", otherwise="auto")).passes[0].details["note"]
    )
    assert "this one has none: the taps are those of layers: auto" in note
    ours = places(small_resnet(), rule="gan_compression", otherwise="auto")
    assert ours == places(small_resnet(), rule="gan_compression")
    with pytest.raises(gfx.RecipeError, match="otherwise is for a rule; add rule"):
        tap(model, otherwise="auto")


# numbers of table II → what ends these convolutions
TABLE = {
    "resnet_9blocks": ["down.1.act", "blocks.2.norm2", "blocks.5.norm2", "blocks.8.norm2"],
    "unet_256": ["down.1.act", "down.3.act", "up.3.act", "up.5.act"],
    "srresnet": ["blocks.3.norm2", "blocks.7.norm2", "blocks.11.norm2", "blocks.15.norm2"],
    "sagan": ["up.0.act", "up.3.act"],
}


@pytest.mark.parametrize("name", TABLE)
def test_gcc_taps_by_the_numbers_of_table_ii(name):
    with torch.device("meta"):
        model = gfx.zoo.build(name)
    small = tap(model, gfx.zoo.example_inputs(name), rule="gcc")
    report = gfx.report(small).passes[0]
    assert [change.node for change in report.changes] == TABLE[name]
    assert "reconstructed" not in report.details["gcc"]


def test_for_another_number_of_convolutions_the_places_are_scaled_and_said_to_be_ours():
    small = tap(small_resnet(n_blocks=6), rule="gcc")
    notes = gfx.report(small).passes[0].details["gcc"]
    assert notes["convolutions"] == 18
    assert "no generator of 18 convolutions" in notes["reconstructed"]


def test_gcc_with_serial_numbers_and_the_layers_themselves():
    found = places(small_resnet(), rule="gcc", serial=[1, 9], after="layer")
    assert found == ["stem.conv", "blocks.2.conv2"]


def test_a_serial_number_beyond_the_last_convolution_is_an_error():
    with pytest.raises(gfx.PreconditionError, match="convolution 25, and the program has 24"):
        tap(small_resnet(), rule="gcc", serial=[3, 25])


def test_swish_spelled_out_is_one_activation():
    class Swish(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)

        def forward(self, x):
            h = self.first(x)
            return self.last(h * torch.sigmoid(h))

    assert places(Swish(), X, rule="gcc", serial=[1]) == ["mul"]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("resnet_9blocks", "stem.act down.1.act blocks.2 blocks.5 blocks.8 up.1.act"),
        ("unet_256", "down.2.act down.4.act down.7.act up.1.act up.4.act up.6.act"),
        ("dcgan", "project.act up.1.act up.2.act"),
    ],
)
def test_auto_taps_where_stages_end_and_inside_of_long_ones(name, wanted):
    with torch.device("meta"):
        model = gfx.zoo.build(name)
    assert places(model, gfx.zoo.example_inputs(name)) == wanted.split()


def test_rules_find_the_same_places_whatever_was_put_in_before():
    model = small_resnet().eval()
    for rule in ("gan_compression", "gcc", None):
        once = tap(model, rule=rule) if rule else tap(model)
        again = gfx.apply({"passes": [{"mask": {}}]}, once)
        twice = tap(again, rule=rule) if rule else tap(again)
        assert taps_of(twice) == taps_of(once)
        assert gfx.report(twice).passes[0].changes == ()


# --- where: globs


class FunctionalBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x):
        return F.relu(x + self.norm(self.conv(x)))


class Nested(nn.Module):
    def __init__(self, exported=False):
        super().__init__()
        self.stem, self.out = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 1)
        self.blocks = nn.Sequential(FunctionalBlock(), FunctionalBlock(), FunctionalBlock())
        self.exported = exported

    def forward(self, x):
        h = self.blocks(F.relu(self.stem(x)))
        if self.exported and h.shape[1] == 4:
            h = h * 2
        return torch.tanh(self.out(h))


def hooked(model, x, paths):
    found = {}
    for path in paths:
        hook = lambda _, __, y, path=path: found.update({path.replace(".", "_"): y.clone()})  # noqa: E731
        model.get_submodule(path).register_forward_hook(hook)
    model(x)
    return found


@pytest.mark.parametrize("kept", ["traced", "exported", "saved", "pickled"])
def test_a_module_that_holds_others_is_tapped_where_it_ends(tmp_path, kept):
    torch.manual_seed(0)
    model, x = Nested(kept == "exported").eval(), torch.randn(2, 3, 8, 8)
    graph = through("export" if kept == "exported" else "symbolic", model, (x,)).module
    if kept == "saved":
        gfx.save(graph, tmp_path / "net.gfx")
        graph = gfx.load(tmp_path / "net.gfx")
    elif kept == "pickled":
        graph = pickle.loads(pickle.dumps(graph))
    paths = ["blocks.0", "blocks.1", "stem"]
    features = gfx.tapped(tap(graph, x, layers=paths))(x)[1]
    wanted = hooked(model, x, paths)
    assert features.keys() == wanted.keys()
    assert all(alike(features[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("saved", [False, True])
def test_a_module_that_is_called_twice_is_tapped_at_each_call(tmp_path, saved):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.out = FunctionalBlock(), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            return self.out(self.block(self.out(self.block(x))))

    model, x = Twice().eval(), torch.randn(1, 4, 8, 8)
    graph = gfx.trace(model, x).module
    if saved:
        gfx.save(graph, tmp_path / "net.gfx")
        graph = gfx.load(tmp_path / "net.gfx")
    small = tap(graph, x, layers=["block", "out"])
    features = gfx.tapped(small)(x)[1]
    assert list(features) == ["block_1", "out_1", "block_2"]
    assert alike(features["block_1"], model.block(x))
    assert alike(features["block_2"], model.block(model.out(model.block(x))))
    assert skips(small) == {"out.2": "it is the output, which gfx.tapped returns in any case"}


def test_the_defaults_of_spade_are_named_by_globs():
    with torch.device("meta"):
        model = gfx.zoo.build("spade")
    found = places(model, gfx.zoo.example_inputs("spade"), layers=["head", "middle1", "up.1"])
    assert found == ["head", "middle1", "up.1"]


def test_a_glob_that_matches_nothing_names_what_is_near():
    with pytest.raises(
        gfx.PreconditionError, match=r"no module that runs is named 'block.2'; near are blocks.2,"
    ):
        tap(small_resnet(), layers=["block.2"])


def test_rules_and_layers_contradict_each_other():
    with pytest.raises(gfx.RecipeError, match="both say what to tap"):
        tap(net(), image(), layers=["1"], rule="gcc")
    with pytest.raises(gfx.RecipeError, match="serial and after are for rule: gcc"):
        tap(net(), image(), serial=[1])
    with pytest.raises(gfx.RecipeError, match="serial=0; convolutions count from 1"):
        tap(net(), image(), rule="gcc", serial=[0])


def test_what_cannot_be_tapped_is_skipped_with_the_reason():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.unused = nn.Conv2d(3, 3, 1), nn.Identity()

        def forward(self, x):
            self.unused(x)
            return self.conv(x)

    assert skips(tap(Odd(), X, layers=["conv"])) == {
        "conv": "it is the output, which gfx.tapped returns in any case"
    }
    assert "no layer has another one behind it" in skips(tap(Odd(), X))["auto"]


def test_a_weight_that_a_module_computes_is_no_activation():
    class Scaled(nn.Module):
        def forward(self, weight):
            return weight * 2

    class Computes(nn.Module):
        def __init__(self):
            super().__init__()
            self.scaled, self.conv = Scaled(), nn.Conv2d(3, 4, 1)
            self.weight = nn.Parameter(torch.ones(3, 4, 1, 1))

        def forward(self, x):
            return F.conv2d(self.conv(x), self.scaled(self.weight))

    small = tap(Computes(), X, layers=["scaled", "conv"])
    assert taps_of(small) == ["conv"]
    assert skips(small) == {"scaled": "it does not follow from the input"}


def test_tapping_twice_adds_nothing():
    small = tap(net(), image(), layers=["1", "3"])
    again = tap(small, image(), layers=["1"])
    assert skips(again) == {"1": "it is tapped already, as 1"}
    assert again.code == small.code


def test_later_taps_go_with_the_earlier_ones():
    small = tap(tap(net(), image(), layers=["3"]), image(), layers=["1"])
    assert list(gfx.tapped(small)(image())[1]) == ["1", "3"]
    assert taps_of(small) == ["3", "1"]


def test_a_module_of_the_name_taps_is_no_hindrance():
    class Plumbing(nn.Module):
        def __init__(self):
            super().__init__()
            self.taps, self.type_ = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)

        def forward(self, x):
            return self.type_(self.taps(x))

    model = Plumbing().eval()
    small = tap(model, X, layers=["taps"])
    assert alike(gfx.tapped(small)(X)[1]["taps"], model.taps(X))
    stripped = gfx.apply({"passes": ["strip_taps"]}, small, X)
    assert stripped.code == gfx.trace(model, X).module.code


def test_paths_that_become_the_same_name_get_numbers():
    class Names(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Sequential(nn.Conv2d(3, 4, 1))
            self.a_0, self.keys, self.out = nn.ReLU(), nn.Tanh(), nn.Conv2d(4, 3, 1)

        def forward(self, x):
            return self.out(self.keys(self.a_0(self.a(x))))

    assert taps_of(tap(Names(), X, layers=["a.0", "a_0", "keys"])) == ["a_0", "a_0_2", "keys_2"]


def test_functions_are_inside_the_module_that_they_read_and_feed():
    graph = pickle.loads(pickle.dumps(gfx.trace(Nested().eval(), X).module))
    found = Places(gfx.trace(graph, X))
    assert [node.name for node in found.ends("blocks.0")] == ["relu_1"]
    assert [node.name for node in found.ends("blocks")] == ["relu_3"]
