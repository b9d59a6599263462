"""What gfx.apply promises: copies, modes, seeds, budgets, checks after every pass."""

import copy
import io
import pickle
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import gfx
from gfx.contract import Context, Keeps, Outcome, Pass
from gfx.costs import Budget
from gfx.ir.program import Program
from gfx.pipeline import resolve
from gfx.pipeline.recipe import Recipe
from passes.channel_prune import ChannelPrune
from passes.fuse_batch_norm import FuseBatchNorm
from support.blocks import Spec
from support.laws import law
from support.oracle import alike
from support.strategies import specs


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.body = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Dropout(0.5))
        self.to_rgb = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        return torch.tanh(self.to_rgb(self.body(x) + x))


@dataclass(frozen=True)
class Scale(Pass):
    """Multiplies a weight, and says whatever it is told to say."""

    name: ClassVar[str] = "scale"
    keeps: ClassVar[Keeps] = Keeps.VALUES

    by: float = 1.0
    tells: bool = True

    def apply(self, program: Program, context: Context) -> Outcome:
        outcome = Outcome()
        program.tensor("to_rgb.weight").data.mul_(self.by)
        if self.tells:
            outcome.change("to_rgb", "weight", 1.0, self.by)
        return outcome


@dataclass(frozen=True)
class Idle(Pass):
    name: ClassVar[str] = "idle"
    keeps: ClassVar[Keeps] = Keeps.VALUES

    def apply(self, program: Program, context: Context) -> Outcome:
        return Outcome()


@dataclass(frozen=True)
class Noise(Idle):
    name: ClassVar[str] = "noise"
    keeps: ClassVar[Keeps] = Keeps.SIGNATURE

    seed: int | None = None

    def apply(self, program: Program, context: Context) -> Outcome:
        outcome = Outcome()
        weight = program.tensor("stem.weight").data
        weight += torch.randn_like(weight)
        outcome.change("stem", "weight", None, self.seed)
        return outcome


@dataclass(frozen=True)
class Calibrate(Idle):
    name: ClassVar[str] = "calibrate"

    @property
    def needs_data(self) -> bool:
        return True

    def apply(self, program: Program, context: Context) -> Outcome:
        return Outcome(details={"batches": len(context.data)})


@dataclass(frozen=True)
class Breaks(Idle):
    name: ClassVar[str] = "breaks"

    def apply(self, program: Program, context: Context) -> Outcome:
        program.module.to_rgb = nn.Conv2d(5, 3, 1)
        outcome = Outcome()
        outcome.change("to_rgb", "replaced")
        return outcome


def make() -> Generator:
    return Generator().eval()


X = torch.zeros(1, 3, 8, 8)


def run(*passes: Pass, model: nn.Module | None = None, **options: Any) -> Any:
    return gfx.apply(Recipe(passes=passes), model or make(), X, **options)


def state_of(model: nn.Module) -> bytes:
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    return file.getvalue()


def test_the_model_is_left_unchanged_bit_for_bit() -> None:
    model = make()
    before, text = state_of(model), repr(model)
    small = gfx.apply({"passes": ["fuse_batch_norm", {"channel_prune": {"ratio": 0.5}}]}, model, X)
    assert state_of(model) == before
    assert repr(model) == text
    assert not {p.data_ptr() for p in small.parameters()} & {
        p.data_ptr() for p in model.parameters()
    }


@pytest.mark.parametrize("failing", [Scale(by=2.0), Breaks(), Scale(by=2.0, tells=False)])
def test_a_failed_check_stops_the_run_and_leaves_the_model_alone(failing: Pass) -> None:
    model = make()
    before = state_of(model)
    with pytest.raises(gfx.VerificationError, match=f"^{failing.name}: "):
        run(Idle(), failing, model=model)
    assert state_of(model) == before


def test_each_check_stops_what_it_should() -> None:
    with pytest.raises(gfx.VerificationError, match="scale: values: output 0"):
        run(Scale(by=2.0))
    with pytest.raises(gfx.VerificationError, match="scale: honesty: reports no change, but the v"):
        run(Scale(by=2.0, tells=False))
    with pytest.raises(gfx.VerificationError, match=r"scale: honesty: reports 1 change\(s\)"):
        run(Scale(by=1.0))
    with pytest.raises(gfx.VerificationError, match=r"breaks: structure: .*to_rgb"):
        run(Breaks())


def test_without_verification_nothing_is_checked_and_the_report_says_so() -> None:
    small = run(Scale(by=2.0, tells=False), verify=False)
    told = gfx.report(small)
    assert not told.verified
    assert told.passes[0].checks == ()
    assert "NOT VERIFIED" in str(told)
    with pytest.raises(gfx.VerificationError, match="breaks: the result does not run: node to_rgb"):
        run(Breaks(), verify=False)


def test_a_pass_that_returns_no_outcome_is_named() -> None:
    class Mute(Idle):
        name: ClassVar[str] = "mute"

        def apply(self, program: Program, context: Context) -> Outcome:
            return None  # type: ignore[return-value]

    with pytest.raises(
        gfx.VerificationError, match="mute: apply returned NoneType, not an Outcome"
    ):
        run(Mute())


@pytest.mark.parametrize("text", ["nothing is left", "picky: nothing is left"])
def test_what_a_pass_raises_begins_with_its_name_once(text: str) -> None:
    class Odd(gfx.GfxError):
        def __init__(self, what: str, size: int) -> None:
            super().__init__(what)
            self.size = size

    class Picky(Idle):
        name: ClassVar[str] = "picky"

        def requires(self, program: Program) -> None:
            raise Odd(text, 3)

    with pytest.raises(Odd, match=r"^picky: nothing is left$") as caught:
        run(Picky())
    assert caught.value.size == 3
    assert caught.value.__cause__ is None or str(caught.value.__cause__) == "nothing is left"


def test_every_flag_of_train_and_eval_is_kept() -> None:
    model = Generator().train()
    model.norm.eval()
    model.body[2].eval()
    small = run(Idle(), model=model)
    kept = {path: m.training for path, m in small.named_modules()}
    assert kept == {path: m.training for path, m in model.named_modules() if path in kept}
    assert all(not m.training for m in run(Idle()).modules())


def test_frozen_parameters_and_dtype_are_kept() -> None:
    model = make().double()
    model.stem.requires_grad_(False)
    small = gfx.apply(Recipe(passes=(FuseBatchNorm(),)), model, X.double())
    assert {name for name, p in small.named_parameters() if not p.requires_grad} == {
        "stem.weight",
        "stem.bias",
    }
    assert {p.dtype for p in small.parameters()} == {torch.float64}


@pytest.fixture(scope="module")
def small() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        recipe = {"passes": ["fuse_batch_norm", {"channel_prune": {"ratio": 0.5}}]}
        return gfx.apply(recipe, make(), X)


def test_the_result_copies_and_pickles_with_its_report(small: Any) -> None:
    x = torch.randn(1, 3, 8, 8)
    for other in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        assert alike(other(x), small(x))
        assert gfx.report(other) == gfx.report(small)
        assert other.training is small.training


def test_the_result_trains(small: Any) -> None:
    model = copy.deepcopy(small).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = [p.detach().clone() for p in model.parameters()]
    model(torch.randn(2, 3, 8, 8)).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    optimizer.step()
    assert not any(torch.equal(p, q) for p, q in zip(before, model.parameters(), strict=True))


def test_the_result_exports(small: Any) -> None:
    x = torch.randn(1, 3, 8, 8)
    exported = torch.export.export(small, (x,)).module()
    assert torch.allclose(exported(x), small(x))


def test_the_result_compiles(small: Any) -> None:
    x = torch.randn(1, 3, 8, 8)
    compiled = torch.compile(small, backend="eager")
    assert alike(compiled(x), small(x))
    assert gfx.report(compiled) is gfx.report(small)


def test_a_graph_module_can_be_compressed_again(small: Any) -> None:
    again = gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5}}]}, small, X)
    assert again.stem.out_channels == 4
    assert small.stem.out_channels == 8
    assert gfx.report(again).passes[0].name == "channel_prune"


def bytes_of(model: nn.Module) -> list[bytes]:
    return [p.detach().numpy().tobytes() for p in model.parameters()]


def test_the_same_seed_gives_the_same_bytes_and_leaves_the_global_state_alone() -> None:
    model, state = make(), torch.random.get_rng_state()
    first, second, third = (run(Noise(), model=model, seed=s) for s in (1, 1, 2))
    assert bytes_of(first) == bytes_of(second) != bytes_of(third)
    assert torch.equal(state, torch.random.get_rng_state())
    assert gfx.report(first).recipe["seed"] == 1
    assert gfx.report(first).passes[0].changes[0].after == 1


def test_the_expanded_recipe_reproduces_the_result() -> None:
    model = make()
    recipe = {"seed": 3, "passes": [{"channel_prune": {"importance": "random", "ratio": 0.5}}]}
    first = gfx.apply(recipe, model, X)
    told = gfx.report(first).recipe
    assert told["input"] == [{"shape": [1, 3, 8, 8], "dtype": "float32"}]
    second = gfx.apply(told, model)
    assert bytes_of(first) == bytes_of(second)
    assert gfx.report(first) == gfx.report(second)


def test_a_seed_out_of_range_is_an_error() -> None:
    with pytest.raises(gfx.RecipeError, match="seed is -1"):
        run(seed=-1)


def test_the_recipes_input_is_used_in_the_models_dtype() -> None:
    small = gfx.apply({"input": [2, 3, 8, 8], "passes": []}, make().double())
    assert gfx.report(small).inputs == ("float64 2x3x8x8",)


def test_a_pass_gets_the_budget_and_the_seed_only_if_it_has_none() -> None:
    budgets = (Budget(limit=100.0),)
    context = Context(seed=3, budgets=budgets)
    assert resolve(ChannelPrune(), context) == ChannelPrune(budget=budgets, seed=3)
    assert resolve(ChannelPrune(ratio=0.0, seed=5), context) == ChannelPrune(ratio=0.0, seed=5)
    assert resolve(ChannelPrune(widths={"a": 2}, seed=5), context).budget is None
    assert resolve(Idle(), context) == Idle()


def test_a_budget_drives_channel_prune() -> None:
    prune = {"channel_prune": {"tolerance": 0.1}}  # it has a single group of 16 channels
    small = gfx.apply({"budget": {"macs": 0.5}, "passes": [prune]}, make(), X)
    told = gfx.report(small)
    assert told.before is not None
    assert told.after is not None
    assert 0.45 <= told.after.macs.exact / told.before.macs.exact <= 0.5
    assert told.recipe["budget"] == {"macs": 0.5}
    assert told.recipe["passes"][0]["channel_prune"]["budget"] is None


def test_an_unmet_budget_is_an_error_with_the_shortfall() -> None:
    with pytest.raises(gfx.BudgetError, match="exceeds the budget by"):
        gfx.apply({"budget": {"macs": 0.5}, "passes": ["fuse_batch_norm"]}, make(), X)


def test_a_pass_that_needs_data_gets_it_or_is_an_error() -> None:
    with pytest.raises(gfx.RecipeError, match="calibrate needs data to look at; give data="):
        run(Calibrate())
    assert gfx.report(run(Calibrate(), data=[X, X])).passes[0].details == {"batches": 2}


def test_what_is_no_module_is_an_error() -> None:
    with pytest.raises(gfx.InputError, match=r"the model is a dict, not a torch.nn.Module"):
        gfx.apply({"passes": []}, {})  # type: ignore[arg-type]


def test_an_input_that_does_not_run_is_an_error() -> None:
    with pytest.raises(gfx.GfxError, match="4"):
        gfx.apply({"passes": []}, make(), torch.zeros(1, 4, 8, 8))


@dataclass(frozen=True)
class Rename(Idle):
    """Changes the program, not its values."""

    name: ClassVar[str] = "rename"

    def apply(self, program: Program, context: Context) -> Outcome:
        outcome = Outcome()
        dropout = program.module.get_submodule("body.2")
        dropout.p /= 2  # type: ignore[operator,assignment]
        outcome.change("body.2", "p")
        return outcome


def test_a_checked_pass_costs_at_most_three_forwards() -> None:
    calls: list[str] = []

    class Counted(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if type(x) is torch.Tensor:
                calls.append("run")
            return super().forward(x)

    Counted.__module__ = "torch.nn.counted"  # so that it is traced as a leaf
    model = make()
    model.to_rgb = Counted(16, 3, 3, padding=1)

    def forwards(*passes: Pass) -> int:
        calls.clear()
        run(*passes, model=model)
        return len(calls)

    tracing = forwards()
    assert forwards(Idle(), Idle()) == tracing
    assert forwards(Rename()) == tracing + 2
    # what a pass gave is what the next one is held against
    assert forwards(Rename(), Idle(), Rename()) == tracing + 3


def test_a_model_on_the_meta_device_is_checked_for_shapes_only() -> None:
    model = make().to("meta")
    small = gfx.apply(Recipe(passes=(FuseBatchNorm(),)), model, X.to("meta"))
    check = gfx.report(small).passes[0].checks[-1]
    assert (check.name, check.passed) == ("values", None)
    assert {p.device.type for p in small.parameters()} == {"meta"}


def test_a_result_remembers_the_inputs_it_was_made_with(tmp_path):
    options = {"image_size": 32}
    model = gfx.zoo.build("stargan", **options).eval()
    inputs = gfx.zoo.example_inputs("stargan", **options)
    recipe = {"passes": [{"channel_prune": {"ratio": 0.5}}]}
    small = gfx.apply(recipe, model, inputs, verify=False)
    gfx.save(small, tmp_path / "small.gfx")
    for again in (small, copy.deepcopy(small), gfx.load(tmp_path / "small.gfx")):
        assert gfx.cost(again).macs == gfx.report(small).after.macs
    smaller = gfx.apply(recipe, small, verify=False)
    assert gfx.report(smaller).inputs == gfx.report(small).inputs


@dataclass(frozen=True)
class Rewrites(Scale):
    """Writes every tensor of the program in place, by the ways that torch and numpy offer."""

    name: ClassVar[str] = "rewrites"

    def apply(self, program: Program, context: Context) -> Outcome:
        for number, tensor in enumerate(program.module.state_dict().values()):
            if number % 3 == 0:
                tensor.zero_()
            elif number % 3 == 1:
                tensor.detach().numpy()[...] = 0
            else:
                torch.zeros(tensor.shape, dtype=tensor.dtype, out=tensor)
        if not self.tells:
            raise RuntimeError("halfway")
        return Outcome()


def named(*passes: Any) -> tuple[Pass, ...]:
    return Recipe.load({"passes": list(passes)}).passes


PRUNE = ChannelPrune(ratio=0.5)
MASK = {"sparsity": 0.5, "one_shot": True}
# each writes weights in a way of its own, and the last one does not come to its end
WRITERS: dict[str, tuple[Pass, ...]] = {
    "none": (),
    "prune": (PRUNE,),
    "fuse": (FuseBatchNorm(),),
    "fold": named("fold_parametrizations"),
    "mask": named({"mask": {**MASK, "granularity": "element"}}),
    "fold_masks": named({"mask": {**MASK, "granularity": "channel"}}, "fold_masks"),
    "fast": named("fuse_batch_norm", "fold_constants", "fast_instance_norm", "channels_last"),
    "in place": named("write_in_place"),
    "decompose": named({"decompose": {"kind": "low_rank", "rank": 0.5}}),
    "refit": (PRUNE, *named("refit")),
    "taps": (PRUNE, *named({"distill_taps": {"layers": "auto"}})),
    "rewrites": (Rewrites(),),
    "raises": (PRUNE, Rewrites(tells=False)),
}


def tensors_of(model: nn.Module) -> list[torch.Tensor]:
    held = [*model.parameters(), *model.buffers()]
    return held + [t.grad for t in held if t.grad is not None]


def seen(model: nn.Module) -> list[Any]:
    """What can be seen of the tensors of a model, but for their values."""
    return [
        (id(t), t._version, t.requires_grad, id(t.grad), t.is_leaf, t._backward_hooks, t.stride())
        for t in tensors_of(model)
    ]


def addresses(model: nn.Module) -> set[int]:
    return {t.untyped_storage().data_ptr() for t in tensors_of(model) if t.numel()}


@pytest.mark.parametrize("writer", WRITERS)
@law(6)
@given(specs(wraps=True), st.booleans(), st.booleans())
def test_nothing_is_written_on_the_model_and_nothing_shared_with_it(
    writer: str, spec: Spec, verify: bool, training: bool
) -> None:
    model, inputs = spec.build()
    model.train(training)
    for number, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(number % 3 != 0)
        if number % 2:
            parameter.grad = torch.ones_like(parameter)
    views = [t.detach().numpy() for t in tensors_of(model)]
    values = [t.detach().clone() for t in tensors_of(model)]
    before, places = seen(model), addresses(model)
    data = [inputs] if any(p.needs_data for p in WRITERS[writer]) else None
    try:
        small = gfx.apply(Recipe(passes=WRITERS[writer]), model, inputs, data=data, verify=verify)
    except (gfx.GfxError, RuntimeError):  # whatever is raised
        small = nn.Identity()
    assert (seen(model), addresses(model)) == (before, places)
    assert all(map(torch.equal, values, map(torch.detach, tensors_of(model))))
    assert not addresses(small) & places
    # memory that others look at is still that of the model
    for tensor, view in zip(tensors_of(model), views, strict=True):
        tensor.data.fill_(3)
        assert (view == 3).all()
