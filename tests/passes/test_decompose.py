"""decompose: the figures of table 4, what it leaves alone and why, and what it equals."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

import gfx
from gfx.contract import Context, Outcome
from gfx.ir.execute import distance
from gfx.ir.node_origin import Origin, origin
from gfx.ir.program import Program
from gfx.testing import check_pass
from passes.decompose import Decompose


def on_meta(name: str, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return gfx.zoo.build(name, **options)


def decomposed(
    model: nn.Module, *shape: int, data: Any = None, **fields: Any
) -> tuple[Program, Outcome, torch.Tensor]:
    """Returns the decomposed program, its outcome, and the output of the original."""
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64)
    program = gfx.trace(model.double().eval(), x).copy()
    before = program.module(x)
    return program, Decompose(**fields).apply(program, Context(data)), before


def skips(outcome: Outcome) -> dict[str, str]:
    return {skip.node: skip.why for skip in outcome.skips}


def small_resnet(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return gfx.zoo.build("resnet_9blocks", ngf=4, n_blocks=2, image_size=16, **options)


@pytest.mark.parametrize(
    ("where", "macs", "params"),
    [
        ("body", 18_314_428_416, 1_987_075),
        ("up", 48_322_576_384, 11_054_339),
        ("down", 54_665_936_896, 11_052_419),
        (["down", "stem"], 54_071_590_912, 11_043_353),
    ],
)
def test_a_stage_of_the_resnet_costs_what_the_arithmetic_of_table_4_says(
    where: Any, macs: int, params: int
) -> None:
    recipe = {"passes": [{"decompose": {"where": where, "norm": "instance"}}]}
    small = gfx.apply(recipe, on_meta("resnet_9blocks"), verify=False)
    cost = gfx.report(small).after
    assert cost is not None
    assert (cost.macs.output, cost.params) == (macs, params)


def test_a_separable_body_is_the_mobile_resnet_to_the_parameter() -> None:
    recipe = {"passes": [{"decompose": {"where": "body", "norm": "instance"}}]}
    small = gfx.apply(recipe, on_meta("resnet_9blocks"), verify=False)
    mobile = on_meta("mobile_resnet_9blocks")
    shapes = [{n: tuple(t.shape) for n, t in m.state_dict().items()} for m in (small, mobile)]
    assert shapes[0] == shapes[1]


def test_full_rank_equals_the_original() -> None:
    model = small_resnet().double().eval()
    x = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    small = gfx.apply({"passes": [{"decompose": {"rank": 49}}]}, model, x)
    assert distance(model(x), small(x)) < 1e-9
    names = dict(small.named_modules())
    assert "blocks.1.conv2.depthwise" in names
    assert "up.0.conv.pointwise" in names


@pytest.mark.parametrize("kind", ["depthwise_separable", "spatial", "tucker", "low_rank"])
def test_the_error_of_a_kernel_falls_with_the_rank_down_to_nothing(kind: Any) -> None:
    errors = []
    for rank in (0.1, 0.25, 0.5, 1.0):
        program, outcome, before = decomposed(
            small_resnet(), 1, 3, 16, 16, kind=kind, rank=rank, where=("body",)
        )
        errors.append([row["error"] for row in outcome.details["layers"]])
    for one, two in pairwise(errors):
        assert all(a >= b - 1e-12 for a, b in zip(one, two, strict=True))
    assert max(errors[-1]) < 1e-12
    assert distance(before, program.module(program.example_inputs[0])) < 1e-9


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"rank": 1.0},
        {"norm": "instance"},
        {"norm": "batch", "init": "random"},
        {"kind": "spatial"},
        {"kind": "tucker"},
        {"kind": "low_rank", "rank": 2},
    ],
)
def test_it_obeys_the_laws(fields: dict[str, Any]) -> None:
    assert len(check_pass(Decompose(**fields)).accepted) == 4


def test_a_rank_left_open_never_costs_more() -> None:
    for kind in ("depthwise_separable", "spatial", "tucker", "low_rank"):
        small = gfx.apply({"passes": [{"decompose": {"kind": kind}}]}, small_resnet())
        told = gfx.report(small)
        assert told.before is not None
        assert told.after is not None
        assert told.after.macs.exact < told.before.macs.exact
        assert told.after.params < told.before.params


def test_a_layer_that_would_not_get_cheaper_is_left_alone_unless_a_rank_is_given() -> None:
    model = nn.Sequential(nn.ConvTranspose2d(4, 8, 2, stride=2))
    _, outcome, _ = decomposed(model, 1, 4, 6, 6)
    assert not outcome.modified
    assert skips(outcome)["0"] == (
        "at rank 1 it would have 5,184 MACs and 60 parameters in the place of 4,608 and 136"
    )
    _, outcome, _ = decomposed(model, 1, 4, 6, 6, rank=1)
    assert outcome.modified


def test_a_layer_called_twice_is_decomposed_at_both_calls() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(torch.relu(self.conv(x)))

    program, outcome, before = decomposed(Twice(), 1, 4, 8, 8, rank=9)
    assert len(outcome.changes) == 1
    targets = [str(n.target) for n in program.nodes() if n.op == "call_module"]
    assert targets == ["conv.depthwise", "conv.pointwise"] * 2
    assert distance(before, program.module(program.example_inputs[0])) < 1e-12


def test_a_layer_that_has_two_paths_is_one_layer() -> None:
    class Alias(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
            self.second = nn.Sequential(nn.ReLU(), self.first[0])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x))

    program, outcome, before = decomposed(Alias(), 1, 4, 8, 8, rank=9)
    assert len(outcome.changes) == 1
    assert distance(before, program.module(program.example_inputs[0])) < 1e-12
    assert sum(p.numel() for p in program.module.parameters()) == 16 * 9 + 16 + 16 * 4 + 4


def test_the_last_part_stands_for_the_layer_and_what_lies_between_for_nothing() -> None:
    program, _, _ = decomposed(nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU()), 1, 4, 8, 8)
    found = {str(n.target): origin(n) for n in program.nodes() if n.op == "call_module"}
    assert found["0.depthwise"] is None
    assert found["0.pointwise"] == Origin("_0")


def test_what_cannot_be_decomposed_is_left_alone_with_the_reason() -> None:
    class Odd(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spectral = nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 3))
            self.point = nn.Conv2d(4, 4, 1)
            self.deep = nn.Conv2d(4, 4, 3, groups=4)
            self.hooked = nn.Conv2d(4, 4, 3)
            self.hooked.register_forward_pre_hook(lambda module, args: args)
            self.tied, self.other = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
            self.other.weight = self.tied.weight
            self.up = nn.ConvTranspose2d(4, 4, 3, stride=2)
            self.kernel = nn.Parameter(torch.randn(4, 4, 3, 3))
            self.line = nn.Linear(9, 9)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.hooked(self.deep(self.point(self.spectral(x))))
            x = self.up(self.other(self.tied(x)), output_size=[10, 10])
            return self.line(nn.functional.conv2d(x, self.kernel, padding=1)[..., 1:, 1:])

    _, outcome, _ = decomposed(Net(), 1, 4, 14, 14)
    found = skips(outcome)
    assert not outcome.modified
    assert found["spectral"] == (
        "its Conv2d has a hook or a parametrization; run fold_parametrizations before"
    )
    assert found["point"] == "a 1x1 kernel has nothing to separate"
    assert "it is depthwise already" in found["deep"]
    assert "hook" in found["hooked"]
    assert found["tied"] == "its weight is shared with other.weight"
    assert found["other"] == "its weight is shared with tied.weight"
    assert found["up"] == "up calls it with more than its input"
    assert found["conv2d"] == "a call of conv2d on tensors, not a torch.nn layer"
    assert found["line"] == "Linear is no Conv2d or ConvTranspose2d"
    _, outcome, _ = decomposed(nn.Sequential(Odd(4, 4, 3)), 1, 4, 8, 8)
    assert not outcome.modified


def test_an_instance_norm_over_a_single_position_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3))
    _, outcome, _ = decomposed(model, 1, 4, 3, 3, norm="instance")
    assert skips(outcome)["0"] == (
        "its output is a single position, which an instance norm would erase"
    )


def test_layers_gives_each_its_rank_and_keep_takes_some_out() -> None:
    program, outcome, _ = decomposed(
        small_resnet(), 1, 3, 16, 16,
        layers={"blocks.0.conv1": 3, "blocks.*": 2}, keep=("blocks.1.*",),
    )  # fmt: skip
    ranks = {row["layer"]: row["rank"] for row in outcome.details["layers"]}
    assert ranks == {"blocks.0.conv1": 3, "blocks.0.conv2": 2}
    assert program.tensor("blocks.0.conv1.depthwise.weight").shape[0] == 48
    assert skips(outcome)["up.0.conv"] == "layers does not name it"


def test_layers_takes_the_path_of_a_layer_before_the_stage_of_that_name() -> None:
    model = nn.Sequential()
    for name, outputs in {"head": 8, "up": 8, "body": 3}.items():
        model.add_module(name, nn.Conv2d(3 if name == "head" else 8, outputs, 3, padding=1))
    _, one, _ = decomposed(model, 1, 3, 8, 8, layers={"body": 1})
    assert [change.node for change in one.changes] == ["body"]
    _, stage, _ = decomposed(model, 1, 3, 8, 8, where="body", rank=1)
    assert [change.node for change in stage.changes] == ["up"]
    assert one.resolved is not None
    assert one.resolved.layers == {"body": 1}  # type: ignore[attr-defined]


def test_the_resolved_pass_gives_the_same_bytes() -> None:
    program, outcome, _ = decomposed(small_resnet(), 1, 3, 16, 16, rank=0.3, where=("body",))
    assert outcome.resolved is not None
    again = gfx.trace(small_resnet().double().eval(), program.example_inputs).copy()
    outcome.resolved.apply(again, gfx.Context())
    first, second = program.module.state_dict(), again.module.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_wrong_part_is_found_by_the_values_check(monkeypatch: pytest.MonkeyPatch) -> None:
    from gfx.compression.factor import rewrite_layers as module
    from gfx.ir.rewrite import split

    def wrong(program: Program, path: str, parts: nn.Sequential) -> Any:
        wrong_parts = nn.Sequential(*parts, nn.ReLU())
        return split(program, path, wrong_parts)

    monkeypatch.setattr(module, "split", wrong)
    for norm in ("none", "instance"):
        with pytest.raises(gfx.VerificationError, match="decompose: values"):
            gfx.apply({"passes": [{"decompose": {"norm": norm}}]}, small_resnet())


def test_fitting_to_data_beats_the_nearest_kernel_on_what_the_layers_read() -> None:
    model = small_resnet().double().eval()
    torch.manual_seed(1)
    # correlated inputs, as images are
    data = [nn.functional.avg_pool2d(torch.randn(2, 3, 24, 24), 9, 1).double() for _ in range(8)]
    errors = {}
    for init in ("svd", "data"):
        recipe = {"passes": [{"decompose": {"where": "blocks.0.conv1", "init": init}}]}
        small = gfx.apply(recipe, model, data[0], data=data)
        with torch.no_grad():
            errors[init] = distance(model(data[-1]), small(data[-1]))
    assert errors["data"] < errors["svd"]


def test_data_that_is_missing_or_not_finite_is_told() -> None:
    recipe = {"passes": [{"decompose": {"init": "data"}}]}
    with pytest.raises(gfx.RecipeError, match="decompose needs data to look at"):
        gfx.apply(recipe, small_resnet())
    with pytest.raises(gfx.PreconditionError, match="noise would not do"):
        decomposed(small_resnet(), 1, 3, 16, 16, init="data")
    bad = torch.full((1, 3, 16, 16), float("nan"))
    with pytest.raises(gfx.InputError, match=r"stem.conv reads values that are not finite on ba"):
        gfx.apply(recipe, small_resnet(), data=[bad])


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"where": "blocks"}, r"no convolution or linear layer is named 'blocks'; blocks.\* names"),
        ({"where": "to_rbg"}, "named 'to_rbg'; did you mean 'to_rgb'"),
        ({"layers": {"blocks.9.*": 1}}, r"layers: no convolution or linear layer is named 'blocks"),
        ({"rank": 0}, r"decompose: rank=0 must be an integer of at least 1"),
        ({"rank": 1.5}, r"decompose: rank=1.5 must be"),
        ({"rounds": 0}, "rounds=0 must be between 1 and 100000"),
        ({"batches": 0}, "batches=0 must be between 1 and 100000"),
        ({"kind": "tucker", "norm": "instance"}, "leave norm out or use kind=depthwise_separable"),
        ({"layers": {"*": 1}, "rank": 1}, "layers and rank both say what to do; give one"),
        ({"kind": "cp"}, "kind: expected one of 'depthwise_separable', 'spatial'"),
    ],
)  # fmt: skip
def test_bad_fields_are_told(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(gfx.RecipeError, match=text):
        gfx.apply({"passes": [{"decompose": fields}]}, small_resnet())


def test_a_stage_that_is_not_there_is_told() -> None:
    model = gfx.zoo.build("dcgan", ngf=4)
    with pytest.raises(gfx.PreconditionError, match=r"where: body: no layer of the program is in"):
        gfx.apply({"passes": [{"decompose": {"where": "body"}}]}, model)


def test_a_stage_that_is_not_there_may_be_skipped() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 3))
    fields = {"where": "body", "otherwise": "skip"}
    small = gfx.apply({"passes": [{"decompose": fields}]}, model, torch.rand(1, 3, 8, 8))
    report = gfx.report(small).passes[0]
    assert not report.changes
    assert [(skip.node, skip.why) for skip in report.skips] == [
        ("0", "where does not name it"),
        ("2", "where does not name it"),
    ]
