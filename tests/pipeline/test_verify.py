"""The four checks: each lets an honest pass through and names what a dishonest one did."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import fx, nn

import gfx
from gfx.contract import Context, Keeps, Outcome, Pass
from gfx.ir.execute import distance, draw, run, tolerance
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate
from gfx.ir.structure import differences
from gfx.pipeline.verify import honesty, signature, structure, values


@dataclass(frozen=True)
class Act(Pass):
    name: ClassVar[str] = "act"
    keeps: ClassVar[Keeps] = Keeps.VALUES

    def apply(self, program: Program, context: Context) -> Outcome:
        return Outcome()


@dataclass(frozen=True)
class Careless(Act):
    keeps: ClassVar[Keeps] = Keeps.NOTHING


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.to_rgb = nn.Conv2d(8, 3, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.drop(self.norm(self.stem(x)))
        return {"image": self.to_rgb(x), "features": x}


def make(dtype: torch.dtype = torch.float64) -> Program:
    module = fx.symbolic_trace(Net().to(dtype))
    program = Program(module, (torch.zeros(1, 3, 4, 4, dtype=dtype),))
    propagate(program)
    return program


def find(program: Program, target: str) -> fx.Node:
    return next(node for node in program.nodes() if node.target == target)


def edit_nothing(program: Program) -> None:
    pass


def leave_dead_code(program: Program) -> None:
    with program.graph.inserting_after(find(program, "stem")):
        program.graph.call_function(torch.relu, (find(program, "stem"),))
    program.module.recompile()


def forget_to_recompile(program: Program) -> None:
    node = find(program, "drop")
    node.replace_all_uses_with(find(program, "norm"))
    program.graph.erase_node(node)


def leave_a_module(program: Program) -> None:
    forget_to_recompile(program)
    program.module.recompile()


def lose_a_module(program: Program) -> None:
    del program.module.norm


def lie_about_channels(program: Program) -> None:
    program.module.stem.out_channels = 7  # type: ignore[union-attr]


def narrow_without_repair(program: Program) -> None:
    stem = program.module.stem
    assert isinstance(stem, nn.Conv2d)
    stem.weight = nn.Parameter(stem.weight[:4])
    stem.bias = nn.Parameter(stem.bias[:4])  # type: ignore[index]
    stem.out_channels = 4


def record_a_stale_shape(program: Program) -> None:
    find(program, "norm").meta["val"] = torch.zeros(1, 4, 4, 4)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (leave_dead_code, "act: structure: node relu.* is dead: nothing uses it"),
        (forget_to_recompile, "act: structure: the code is not the graph's; call program.recomp"),
        (leave_a_module, "act: structure: submodule drop is called by no node"),
        (lose_a_module, "act: structure: the graph is not sound: .*norm"),
        (lie_about_channels, "module stem says out_channels=7, but its weight has 8"),
        (narrow_without_repair, "act: structure: .*norm"),
        (
            record_a_stale_shape,
            "node norm is recorded as float32 1x4x4x4, but running it gives float64 1x8x4x4",
        ),
    ],
)
def test_a_program_that_is_not_well_formed_is_named(
    edit: Callable[[Program], None], message: str
) -> None:
    program = make()
    edit(program)
    with pytest.raises(gfx.VerificationError, match=message):
        structure(Act(), program)


def test_a_well_formed_program_passes_every_check() -> None:
    before = make()
    after = before.copy()
    assert structure(Act(), after).passed
    assert signature(Act(), before, after).passed
    assert honesty(Act(), before, after, Outcome()).passed
    check, _ = values(Act(), after, before)
    assert (check.passed, check.error, check.tolerance) == (True, 0.0, 1e-9)


def test_an_in_place_operation_that_nothing_reads_is_not_dead() -> None:
    class InPlace(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x * 2
            y.add_(1)
            return y

    program = Program(fx.symbolic_trace(InPlace()), (torch.zeros(2),))
    program.recompile()
    assert structure(Act(), program).passed
    assert torch.equal(program.module(torch.zeros(2)), torch.ones(2))


def change_channels(program: Program) -> None:
    program.module.to_rgb = nn.Conv2d(8, 4, 1).double()


def rename_an_output(program: Program) -> None:
    output = find(program, "output")
    values_ = output.args[0]
    assert isinstance(values_, dict)
    output.args = ({"picture": values_["image"], "features": values_["features"]},)


def add_an_input(program: Program) -> None:
    with program.graph.inserting_after(find(program, "x")):
        program.graph.placeholder("noise", default_value=None)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change_channels, r"output 0 \(to_rgb\) was float64 1x3x4x4, now it is float64 1x4x4x4"),
        (
            rename_an_output,
            r"output was {'image': 'float64 1x3x4x4'.*, now it is {'pict",
        ),
        (add_an_input, r"the inputs were \(x\), now they are \(x, noise\)"),
    ],
)
def test_a_changed_signature_is_named(edit: Callable[[Program], None], message: str) -> None:
    before = make()
    after = before.copy()
    edit(after)
    propagate(after)
    with pytest.raises(gfx.VerificationError, match=message):
        signature(Act(), before, after)
    assert signature(Careless(), before, after).passed is None


def flip_a_bit(program: Program) -> None:
    program.tensor("stem.weight").data[0, 0, 0, 0] *= -1


def freeze(program: Program) -> None:
    program.tensor("stem.weight").requires_grad_(False)


def set_a_mode(program: Program) -> None:
    program.module.drop.eval()  # type: ignore[union-attr]


def set_an_attribute(program: Program) -> None:
    program.module.drop.p = 0.25  # type: ignore[union-attr,assignment]


def drop_the_dropout(program: Program) -> None:
    forget_to_recompile(program)
    program.recompile()


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (flip_a_bit, "the values of stem.weight differ"),
        (freeze, "stem.weight is Parameter 8x3x3x3 .* no grad, it was"),
        (set_a_mode, "drop.training is False, it was True"),
        (set_an_attribute, "drop.p is 0.25, it was 0.5"),
        (drop_the_dropout, "the graph has `to_rgb = .*` where it had `drop = "),
    ],
)
def test_a_change_that_is_not_told_is_a_lie(edit: Callable[[Program], None], what: str) -> None:
    before = make()
    after = before.copy()
    edit(after)
    with pytest.raises(gfx.VerificationError, match=f"act: honesty: reports no change, but {what}"):
        honesty(Act(), before, after, Outcome())
    told = Outcome()
    told.change("stem", "something")
    assert honesty(Act(), before, after, told).passed


def test_a_change_that_was_not_made_is_a_lie() -> None:
    before = make()
    outcome = Outcome()
    outcome.change("stem", "out_channels", 8, 4)
    with pytest.raises(
        gfx.VerificationError, match=r"reports 1 change\(s\), the first at stem \(out_channels\)"
    ):
        honesty(Act(), before, before.copy(), outcome)


def test_bytes_decide_not_values() -> None:
    before = make()
    before.tensor("stem.bias").data[:2] = torch.tensor([float("nan"), 0.0])
    after = before.copy()
    assert next(differences(before, after), None) is None
    after.tensor("stem.bias").data[1] = -0.0
    assert next(differences(before, after)) == "the values of stem.bias differ"


def test_other_values_are_named_with_expected_and_got() -> None:
    before = make()
    after = before.copy()
    after.tensor("to_rgb.bias").data[1] += 0.5
    with pytest.raises(
        gfx.VerificationError,
        match=r"act: values: output 0 \(to_rgb\) at \(0, 1, \d, \d\): expected .*, got .* 1e-09",
    ):
        values(Act(), after, before)


def test_values_that_are_not_finite_fail_even_without_a_reference() -> None:
    program = make()
    program.tensor("stem.bias").data[0] = float("inf")
    with pytest.raises(
        gfx.VerificationError, match=r"48 of 48 values that are not finite at output 0 \(to_rgb\)"
    ):
        values(Act(), program, None)


class Listed(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> Any:
        return (x * self.factor).tolist()


def test_numbers_that_are_not_finite_are_traced_and_fail_by_name() -> None:
    program = gfx.trace(Listed(float("nan")), torch.rand(3))
    assert program.provenance.frontend == "symbolic"
    with pytest.raises(gfx.errors.VerificationError, match=r"gives nan at output 0 \(tolist\)"):
        values(Act(), program, None)


def test_the_meta_device_has_shapes_only_and_the_check_says_so() -> None:
    program = Program(
        fx.symbolic_trace(Net().to("meta")), (torch.zeros(1, 3, 4, 4, device="meta"),)
    )
    check, output = values(Act(), program, program.copy())
    assert (check.passed, output) == (None, None)
    assert "meta device" in check.detail


def count_forwards(program: Program, calls: list[str], name: str) -> None:
    program.module.register_forward_pre_hook(lambda *_: calls.append(name))


def test_a_known_output_of_the_reference_is_not_computed_again() -> None:
    before = make()
    after = before.copy()
    calls: list[str] = []
    count_forwards(before, calls, "before")
    count_forwards(after, calls, "after")
    _, known = values(Act(), after, before)
    values(Act(), after, before, known)
    assert calls == ["after", "before", "after"]


def test_running_leaves_no_trace() -> None:
    program = make().copy()
    before, state = program.copy(), torch.random.get_rng_state()
    first = run(program, draw(program))
    second = run(program, draw(program))
    assert distance(first, second) == 0
    assert next(differences(before, program), None) is None
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_buffer_that_a_forward_replaces_is_put_back() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.count = self.count + 1
            return x * self.count

    root = nn.Sequential(Counting())
    graph = fx.Graph()
    graph.output(graph.call_module("0", (graph.placeholder("x"),)))
    program = Program(fx.GraphModule(root, graph), (torch.ones(1),))
    assert run(program, program.example_inputs) == 1
    assert run(program, program.example_inputs) == 1
    assert program.tensor("0.count") == 0


def test_check_inputs_keep_integers_and_the_range_of_the_example() -> None:
    image, label = torch.rand(2, 3, 4, 4) * 0.5 + 0.25, torch.tensor([3, 1])
    program = Program(make().module, (image, label, torch.zeros(4), 7))
    drawn = draw(program)
    assert torch.equal(drawn[1], label)
    assert drawn[3] == 7
    assert not torch.equal(drawn[0], image)
    assert image.min() <= drawn[0].min() <= drawn[0].max() <= image.max()
    assert drawn[2].std() > 0


@pytest.mark.parametrize(
    ("reference", "got", "expected"),
    [
        (torch.tensor([1, 2]), torch.tensor([1, 2]), 0.0),
        (torch.tensor([1, 2]), torch.tensor([1, 3]), float("inf")),
        (torch.zeros(2), torch.tensor([0.0, 0.5]), 0.5),
        (torch.zeros(2), torch.zeros(3), float("inf")),
        (torch.tensor([float("nan")]), torch.tensor([float("nan")]), float("inf")),
        ([torch.ones(1)], (torch.ones(1),), float("inf")),
        ({"a": 3}, {"a": 3}, 0.0),
        (torch.empty(0), torch.empty(0), 0.0),
    ],
)
def test_distance_is_relative_to_the_largest_reference(
    reference: Any, got: Any, expected: float
) -> None:
    assert distance(reference, got) == expected


@pytest.mark.parametrize(
    ("dtype", "allowed"),
    [(torch.float64, 1e-9), (torch.float32, 1e-4), (torch.bfloat16, 2e-2)],
)
def test_the_tolerance_follows_the_coarsest_dtype(dtype: torch.dtype, allowed: float) -> None:
    assert tolerance(make(dtype)) == allowed


def test_weights_that_are_not_finite_are_named():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    with torch.no_grad():
        model[2].weight[0, 1] = torch.inf
    with pytest.raises(gfx.GfxError, match=r"the model's own 2\.weight holds some: give one whose"):
        gfx.apply(
            {"passes": [{"channel_prune": {"ratio": 0.5, "importance": "random"}}]},
            model,
            torch.ones(1, 3, 8, 8),
        )
