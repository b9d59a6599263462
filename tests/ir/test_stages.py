"""Stages, from the graph alone: hand-checked tables, and the laws that names and sizes obey."""

from collections import Counter

import pytest
import torch
from hypothesis import given

import gfx
from gfx.ir.stages import STAGES, layer_path, layers, stages
from support.laws import law, moved, renamed
from support.staged_generators import STAGED, expected
from support.strategies import specs
from support.zoo_small import SMALL


def by_path(program):
    found = stages(program)
    return {layer_path(node): found[node.name] for node in layers(program)}


@pytest.mark.parametrize("name", STAGED)
def test_stages_are_those_a_person_would_say(name):
    make, shapes, table = STAGED[name]
    program = gfx.trace(make().eval(), tuple(torch.randn(shape) for shape in shapes))
    found = by_path(program)
    assert found == expected(table, found)


# counts as in the papers' figures and tables: stem, down, body, up, head
ZOO = {
    "resnet_9blocks": (1, 2, 18, 2, 1),
    "mobile_resnet_9blocks": (1, 2, 36, 2, 1),
    "unet_256": (0, 8, 0, 8, 0),
    "spade": (0, 1, 8, 64, 1),
    "pix2pixhd_global": (1, 4, 18, 4, 1),
    "stargan": (1, 2, 12, 2, 1),
    "srresnet": (1, 0, 33, 2, 1),
    "dcgan": (0, 0, 0, 5, 0),
    "sagan": (0, 0, 0, 11, 0),
    "biggan_128": (0, 0, 0, 40, 1),
}


@pytest.mark.parametrize("name", ZOO)
def test_stages_of_the_reference_generators(name):
    with torch.device("meta"):
        model = gfx.zoo.build(name)
    found = Counter(stages(gfx.trace(model, gfx.zoo.example_inputs(name))).values())
    assert tuple(found[stage] for stage in STAGES) == ZOO[name]


def test_stages_of_resnet_9blocks_are_those_of_the_paper():
    found = by_path(gfx.trace(gfx.zoo.build("resnet_9blocks", ngf=4, image_size=32)))
    table = {"stem": "stem.*", "down": "down.*", "body": "blocks.*", "up": "up.*", "head": "to_rgb"}
    assert found == expected(table, found)


@pytest.mark.parametrize("name", SMALL)
def test_names_do_not_change_the_stages(name):
    program = gfx.trace(gfx.zoo.build(name, **SMALL[name]))
    again, paths = renamed(program)
    wanted = {moved(path, paths): stage for path, stage in by_path(program).items()}
    assert by_path(again) == wanted


@law(8, swept=15)
@given(specs(approximate=True))
def test_names_do_not_change_the_stages_of_random_generators(spec):
    program = gfx.trace(*spec.build())
    found = list(stages(program).values())
    assert list(stages(renamed(program)[0]).values()) == found
    assert set(found) <= set(STAGES)


@pytest.mark.parametrize("name", [name for name in STAGED if STAGED[name][1][0] == (1, 3, 16, 16)])
def test_the_size_of_the_image_does_not_change_the_stages(name):
    make, (image, *others), _ = STAGED[name]
    model, found = make().eval(), []
    for batch, size in ((1, 8), (2, 16), (3, 64)):
        shapes = [(batch, *image[1:2], size, size), *((batch, *other[1:]) for other in others)]
        found.append(by_path(gfx.trace(model, tuple(torch.randn(shape) for shape in shapes))))
    assert found[0] == found[1] == found[2]


def test_a_program_without_layers_has_no_stages():
    assert stages(gfx.trace(torch.nn.Tanh(), torch.randn(1, 3, 8, 8))) == {}


def test_a_smaller_program_has_the_stages_of_its_original():
    model = gfx.zoo.build("resnet_9blocks", ngf=4, n_blocks=2, image_size=16).eval()
    before = by_path(gfx.trace(model))
    small = gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5}}]}, model)
    assert by_path(gfx.trace(small)) == before
