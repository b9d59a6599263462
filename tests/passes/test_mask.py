"""Masks: where they go, that they change nothing, and that their zeros are removals."""

import numpy as np
import pytest
import torch
from hypothesis import given, reject
from hypothesis import strategies as st
from torch import nn

import gfx
from gfx.coupling import analyse
from gfx.coupling.removal import remove
from gfx.ir.modules import ChannelMask, LearnedMask, MaskedLayer, Penalty, Ramp
from gfx.ir.program import Program
from passes.mask import Mask
from support.blocks import Spec
from support.laws import law
from support.oracle import alike, assert_equal_outputs
from support.patterns import PATTERNS
from support.strategies import specs
from support.zoo_small import SMALL

WAYS = {
    "channel": {},
    "filter": {"granularity": "filter"},
    "element": {"granularity": "element"},
    "ppcd": {"kind": "ppcd"},
    "slimming": {"kind": "slimming"},
    "l1": {"kind": "l1"},
}
ways = pytest.mark.parametrize("fields", WAYS.values(), ids=list(WAYS))


def masks(module: nn.Module) -> dict[str, ChannelMask]:
    return {n: m for n, m in module.named_modules() if isinstance(m, ChannelMask)}


def small_pattern(name: str) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    kind, shapes = PATTERNS[name]
    model = kind().double().eval()
    return model, tuple(torch.randn(shape, dtype=torch.float64) for shape in shapes)


def inserted(program: Program, **fields: object) -> bool:
    try:
        Mask(min_channels=1, **fields).apply(program, gfx.Context())
    except gfx.PreconditionError as error:
        if "mask: nothing can be masked. " not in str(error):
            raise
        return False
    return True


def compare(program: Program, inputs: tuple[torch.Tensor, ...], fields: dict) -> bool:
    """Inserts masks, and compares what the program gives before and after."""
    torch.manual_seed(0)
    wanted = program.module(*inputs)
    done = inserted(program, **fields)
    torch.manual_seed(0)
    assert_equal_outputs(wanted, program.module(*inputs))
    return done


@pytest.mark.parametrize("name", ["resnet_9blocks", "unet_256", "dcgan", "sagan"])
def test_insertion_keeps_the_values_of_the_zoo(name):
    model = gfx.zoo.build(name, **SMALL[name]).double().eval()
    size = {"resnet_9blocks": 16, "unet_256": 32}.get(name)
    x = None if size is None else torch.randn(1, 3, size, size, dtype=torch.float64)
    program = gfx.trace(model, x)
    kind = "slimming" if name in ("unet_256", "dcgan") else "l1"
    for fields in ({"granularity": "filter"}, {"kind": "ppcd"}, {"kind": kind}):
        assert compare(program.copy(), program.example_inputs, fields)


@law(5, swept=8)
@given(specs(approximate=True))
def test_a_zero_in_a_mask_is_a_removal(spec: Spec):
    model, inputs = spec.build()
    program = gfx.trace(model, inputs)
    zeros_are_removals(program, inputs)


@pytest.mark.parametrize("name", PATTERNS)
def test_a_zero_in_a_mask_is_a_removal_in_small_patterns(name):
    model, inputs = small_pattern(name)
    program = gfx.trace(model, inputs)
    compare(program.copy(), inputs, {"granularity": "filter"})
    zeros_are_removals(program, inputs, refused=False)


def zeros_are_removals(program: Program, inputs: tuple, refused: bool = True) -> None:
    """Masks half of each group's channels, and removes the same from another copy."""
    masked, rng = program.copy(), np.random.default_rng(0)
    if not inserted(masked):
        return reject() if refused else None
    groups = analyse(program)
    removed = groups.none_removed()
    there = masks(masked.module)
    for group in groups.free:
        path = "masks." + group.name.replace(".", "_").replace("#", "_")
        if path in there:
            assert there[path].size == group.size
            gone = rng.permutation(group.size)[: group.size // 2]
            there[path].mask[torch.from_numpy(gone)] = False
            removed[group.roots[gone]] = True
    remove(program, groups, removed)
    with torch.no_grad():
        torch.manual_seed(0)
        wanted = program.module(*inputs)
        torch.manual_seed(0)
        assert_equal_outputs(wanted, masked.module(*inputs))
    return None


class Residual(nn.Module):
    """Two layers write the stream that the third reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.body, self.norm2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.inner = nn.Conv2d(8, 6, 1)
        self.head = nn.Conv2d(6, 3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm1(self.stem(x)).relu()
        x = x + self.norm2(self.body(x))
        return self.head(self.inner(x).relu())


def image() -> torch.Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def traced() -> Program:
    torch.manual_seed(0)
    return gfx.trace(Residual().eval(), image())


def test_one_mask_serves_every_reader_of_a_residual_stream():
    program = traced()
    Mask().apply(program, gfx.Context())
    calls = [str(n.target) for n in program.nodes() if str(n.target).startswith("masks.")]
    assert calls == ["masks.stem", "masks.stem", "masks.inner"]


def test_filters_of_a_residual_stream_are_masked_each_after_its_norm():
    program = traced()
    Mask(granularity="filter").apply(program, gfx.Context())
    fed = {str(n.target): str(n.args[0]) for n in program.nodes() if "masks" in str(n.target)}
    assert fed == {"masks.stem": "norm1", "masks.body": "norm2", "masks.inner": "relu_1"}
    assert {m.granularity for m in masks(program.module).values()} == {"filter"}


def test_two_readers_of_one_activation_share_a_call():
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 8, 3)
            self.a, self.b = nn.Conv2d(8, 3, 1), nn.Conv2d(8, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            return self.a(x) * self.b(x)

    program = gfx.trace(Heads(), image())
    Mask(targets=("first",)).apply(program, gfx.Context())
    (call,) = [n for n in program.nodes() if n.target == "masks.first"]
    assert [user.target for user in call.users] == ["a", "b"]


def test_readers_share_no_call_where_something_is_written_between():
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 8, 3)
            self.a, self.b = nn.Conv2d(8, 3, 1), nn.Conv2d(8, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            y = self.a(x)
            x.mul_(2)
            return y + self.b(x)

    model = Writes().eval()
    with torch.no_grad():
        program = gfx.trace(model, image())
        assert compare(program, (image(),), {})
    assert len([n for n in program.nodes() if n.target == "masks.first"]) == 2


def test_a_mask_tells_positions_apart_that_are_of_other_groups():
    model, inputs = small_pattern("DenseBlock")
    program = gfx.trace(model, inputs)
    Mask().apply(program, gfx.Context())
    indices = [n for n in program.nodes() if n.op == "get_attr" and ".index_" in str(n.target)]
    assert indices
    assert all(program.tensor(str(n.target)).dtype == torch.int64 for n in indices)


def test_settings_live_on_the_masks():
    program = traced()
    Mask(initial=0.05, sparsity=0.75, begin=3, end=9, every=2, scope="global").apply(
        program, gfx.Context()
    )
    for mask in masks(program.module).values():
        assert mask.ramp == Ramp(0.05, 0.75, 3, 9, 2)
        assert (mask.kind, mask.granularity, mask.scope) == ("agp", "channel", "global")


def test_one_shot_is_a_ramp_of_one_step():
    program = traced()
    Mask(one_shot=True, sparsity=0.25, begin=7).apply(program, gfx.Context())
    assert {m.ramp for m in masks(program.module).values()} == {Ramp(0.0, 0.25, 7, 7, 1)}


def test_learned_masks_rise_to_alpha():
    program = traced()
    Mask(kind="ppcd", alpha=0.7, end=50, strength=2.0).apply(program, gfx.Context())
    for mask in masks(program.module).values():
        assert isinstance(mask, LearnedMask)
        assert (mask.ramp, mask.strength) == (Ramp(0.0, 0.7, 0, 50, 10), 2.0)
        assert mask.m.requires_grad


def test_penalties_mark_the_norms_of_masked_groups():
    program = traced()
    Mask(kind="slimming", proximal=True).apply(program, gfx.Context())
    marked = {str(n.args[0]) for n in program.nodes() if str(n.target).startswith("penalties.")}
    assert marked == {"norm1", "norm2"}
    assert list(masks(program.module)) == ["masks.stem"]  # no norm scales what inner writes
    penalty = program.module.get_submodule("penalties.norm1")
    assert isinstance(penalty, Penalty)
    assert (penalty.strength, penalty.proximal) == (0.01, True)


def test_elements_keep_their_paths_and_parameters():
    program = traced()
    before = dict(program.module.named_parameters())
    Mask(granularity="element", sparsity=0.9, keep=("head",)).apply(program, gfx.Context())
    after = dict(program.module.named_parameters())
    assert all(after[name] is tensor for name, tensor in before.items())
    masked = [n for n, m in program.module.named_modules() if isinstance(m, MaskedLayer)]
    assert masked == ["stem", "body", "inner"]


def test_a_pattern_of_fours_leaves_layers_whose_inputs_are_none():
    program = traced()
    outcome = Mask(granularity="element", pattern="2:4").apply(program, gfx.Context())
    told = {skip.node: skip.why for skip in outcome.skips}
    assert told["stem"] == "2:4 counts fours of its inputs, and it has 3 for each output"
    assert [change.node for change in outcome.changes] == ["body", "inner"]


def test_a_layer_under_two_names_is_masked_once():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(3, 3, 1)
            self.b = self.a

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x).relu())

    program = gfx.trace(Twice(), image())
    Mask(granularity="element").apply(program, gfx.Context())
    found = {id(m) for m in program.module.modules() if isinstance(m, MaskedLayer)}
    assert len(found) == 1
    assert not [m for m in program.module.modules() if type(m) is nn.Conv2d]


def test_a_name_that_the_model_uses_is_left_to_it():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.masks = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.masks(self.first(x))

    program = gfx.trace(Named(), image())
    Mask().apply(program, gfx.Context())
    assert list(masks(program.module)) == ["masks_.first"]


def test_what_is_masked_is_not_masked_again():
    program = traced()
    Mask(targets=("stem",)).apply(program, gfx.Context())
    outcome = Mask(kind="ppcd").apply(program, gfx.Context())
    told = {skip.node: skip.why for skip in outcome.skips}
    assert told["stem"] == "it is masked already, by masks.stem"
    assert [change.node for change in outcome.changes] == ["inner"]
    Mask(granularity="element").apply(program, gfx.Context())
    with pytest.raises(gfx.PreconditionError, match=r"stem, .*: its weight is masked already"):
        Mask(granularity="element").apply(program, gfx.Context())


def test_the_norms_of_a_group_name_it_where_they_are_penalised():
    program = traced()
    Mask(kind="slimming", targets=("norm2",)).apply(program, gfx.Context())
    assert list(masks(program.module)) == ["masks.stem"]


def test_what_is_not_masked_is_told():
    outcome = Mask(keep=("inner",)).apply(traced(), gfx.Context())
    told = {skip.node: skip.why for skip in outcome.skips}
    assert told["inner"] == "keep names it"
    assert told["head"] == "its channels are the model's output"


def test_weights_that_no_layer_holds_are_told():
    class Called(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(torch.randn(3, 3, 1, 1))

        def forward(self, x):
            return torch.nn.functional.conv2d(x, self.kernel)

    with pytest.raises(gfx.PreconditionError, match="kernel: a call of conv2d on tensors, not a"):
        Mask(granularity="element").apply(gfx.trace(Called().eval(), image()), gfx.Context())


def test_computed_weights_are_told_to_be_folded_first():
    model = nn.Sequential(
        torch.nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 1)), nn.Conv2d(4, 3, 1)
    )
    outcome = Mask(granularity="element").apply(gfx.trace(model.eval(), image()), gfx.Context())
    (skip,) = outcome.skips
    assert (skip.node, skip.why) == (
        "0",
        "its weight is computed; run fold_parametrizations before",
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sparsity": 1.0}, "sparsity=1.0 must be at least 0 and below 1"),
        ({"initial": -0.1}, "initial=-0.1 must be at least 0 and below 1"),
        ({"initial": 0.6}, "initial=0.6 is above sparsity=0.5; a schedule never falls"),
        ({"begin": 20, "end": 10}, "end=10 is before begin=20; both are counted in steps"),
        ({"begin": -1}, "begin=-1 must be at least 0"),
        ({"every": 0}, "every=0 must be at least 1"),
        ({"alpha": 0.0}, "alpha=0.0 must be above 0 and at most 1"),
        ({"strength": -1.0}, "strength=-1.0 must be a number, 0 or above"),
        ({"strength": float("nan")}, "strength=nan must be a number, 0 or above"),
        ({"kind": "ppcd", "granularity": "element"}, "kind=ppcd masks channels, not granularity"),
        ({"pattern": "2:4", "granularity": "element", "sparsity": 0.75}, "pattern=2:4 zeroes half"),
        ({"pattern": "2:4"}, "pattern=2:4 zeroes half"),
        ({"proximal": True}, "proximal shrinks penalised weights, and kind=agp penalises none"),
    ],
)
def test_settings_that_make_no_sense_are_named(fields, message):
    with pytest.raises(gfx.RecipeError) as error:
        Mask(**fields)
    assert f"mask: {message}" in str(error.value)


@pytest.mark.parametrize("granularity", ["channel", "filter", "element"])
def test_a_glob_that_matches_nothing_is_an_error_with_the_nearest_name(granularity):
    with pytest.raises(gfx.RecipeError, match=r"mask: targets: no .* is named 'bodyy'; did you"):
        Mask(granularity=granularity, targets=("bodyy",)).apply(traced(), gfx.Context())
    with pytest.raises(gfx.RecipeError, match=r"mask: keep: no .* is named 'steem'; did you"):
        Mask(granularity=granularity, keep=("steem",)).apply(traced(), gfx.Context())


def test_masking_nothing_is_an_error_with_the_reasons():
    program = gfx.trace(nn.Sequential(nn.Conv2d(3, 3, 3)), image())
    with pytest.raises(gfx.PreconditionError, match=r"0: its channels are the model's output"):
        Mask().apply(program, gfx.Context())


@ways
def test_the_pipeline_takes_every_kind(fields):
    torch.manual_seed(0)
    model = Residual().eval()
    masked = gfx.apply({"passes": [{"mask": fields}]}, model, image())
    assert alike(masked(image()), model(image()))
    assert not masked.training


@law(4)
@given(specs(approximate=True), st.sampled_from(("ppcd", "slimming", "l1")))
def test_every_kind_keeps_values_and_comes_back_from_a_file(tmp_path_factory, spec: Spec, kind):
    model, inputs = spec.build()
    try:
        masked = gfx.apply({"passes": [{"mask": {"kind": kind}}]}, model, inputs)
    except gfx.PreconditionError:
        reject()
    assert_equal_outputs(model(*inputs), masked(*inputs))
    path = tmp_path_factory.mktemp("kinds") / "masked.gfx"
    gfx.save(masked, path)
    loaded = gfx.load(path)
    assert loaded.code == masked.code
    assert str(loaded) == str(masked)  # settings too
    assert gfx.schedule(loaded).state_dict() == gfx.schedule(masked).state_dict()
