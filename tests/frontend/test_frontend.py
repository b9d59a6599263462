"""The front end: what it returns equals the model, and the model stays as it was."""

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from gfx import zoo
from gfx.errors import InputError, TraceError
from gfx.frontend import trace
from gfx.frontend.refusal import Refusal
from gfx.ir.ops import op_name
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate
from support import frontend_models as models
from support.laws import through
from support.zoo_small import SMALL


def image(seed: int = 0, batch: int = 1, size: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, size, size, generator=generator, dtype=torch.float64)


def sequence(seed: int, length: int) -> Tensor:
    return image(seed, size=length * 8).flatten()[: length * 8].view(1, length, 8)


def build(kind: Callable[..., nn.Module], **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return kind(**options).double().eval()


def outputs(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Runs something on copies of its arguments, seeded."""
    args, kwargs = pytree.tree_map_only(Tensor, torch.clone, (args, kwargs))
    torch.manual_seed(3)
    with torch.no_grad():
        return function(*args, **kwargs)


def assert_same(got: Any, expected: Any) -> None:
    assert pytree.tree_structure(got) == pytree.tree_structure(expected)
    for one, other in zip(pytree.tree_leaves(got), pytree.tree_leaves(expected), strict=True):
        if not isinstance(other, Tensor):
            assert one == other
            continue
        largest = max(float(other.abs().max()), 1e-30)
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        assert float((one - other).abs().max()) <= 1e-9 * largest


def class_state(module: nn.Module) -> dict[str, Any]:
    """Returns the class attributes; `__slotnames__` is Python's own note on a copied class."""
    return {k: v for k, v in vars(type(module)).items() if k != "__slotnames__"}


def export_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes symbolic trace refuse everything."""

    def refuse(*_: Any) -> Any:
        raise Refusal("not in this test")

    monkeypatch.setattr("gfx.frontend.front_end_search.symbolic_graph", refuse)


def ops(program: Program) -> list[str]:
    """Lists what a program does: layers by path, other operations by name."""
    nodes = [n for n in program.nodes() if n.op not in ("placeholder", "output", "get_attr")]
    return [str(n.target) if n.op == "call_module" else op_name(n) for n in nodes]


CASES = [
    # class, options, example inputs, other inputs of the same kind, front end
    (models.ShapeBranch, {}, (image(),), (image(1),), "export"),
    (models.FlagBranch, {}, (image(),), (image(1),), "symbolic"),
    (models.Length, {}, (image(),), (image(1),), "export"),
    (models.Iteration, {}, (image(),), (image(1),), "export"),
    (models.ShapeIteration, {}, (image(),), (image(1),), "export"),
    (models.Rearranged, {}, (image(),), (image(1, 2, 12),), "symbolic"),
    (models.Variadic, {}, (image()[:, :1], image()[:, 1:]), None, "symbolic"),
    (models.Asserting, {}, (image(),), (image(1, 2),), "symbolic"),
    (models.Outputs, {}, (image(),), (image(1, 2),), "symbolic"),
    (models.NoneDefault, {}, (image(),), (image(1, 2),), "symbolic"),
    (models.NoneDefault, {}, (image(), torch.ones(1, 4, 8, 8)), None, "symbolic"),
    (models.Scaling, {}, (image(),), (image(1),), "symbolic"),
    (models.Growing, {}, (image(),), (image(1),), "symbolic"),
    (models.Reversing, {}, ([image(), image(1)],), ([image(2), image(3)],), "symbolic"),
    (models.TypeAs, {}, (image(),), (image(1),), "symbolic"),
    (models.TypeAsBuffer, {}, (image(),), (image(1),), "export"),
    (models.WrongBranch, {}, (image(),), (image(1),), "export"),
    (models.NumpyScalar, {}, (image(),), (image(1),), "symbolic"),
    (models.LongType, {}, (image(),), (image(1),), "export"),
    (models.Drawing, {}, (image(),), (image(1, 2),), "export"),
    (models.HiddenDrawing, {}, (image(),), (image(1),), "export"),
    (models.PythonDrawing, {}, (image(),), (image(1),), "symbolic"),
    (models.InplaceStatement, {}, (image(),), (image(1),), "symbolic"),
    (models.ItemAssignment, {}, (image(),), (image(1),), "symbolic"),
    (models.MadeInside, {}, (image(),), (image(1),), "symbolic"),
    (models.Subclasses, {}, (image(),), (image(1),), "symbolic"),
    (models.Normed, {}, (image(),), (image(1, 2, 12),), "symbolic"),
    (models.Normed, {"branch": True}, (image(),), (image(1, 2, 12),), "export"),
    (models.Shared, {"branch": True}, (image(),), (image(1, 3, 6),), "export"),
    (models.Functional, {}, (image(),), (image(1, 2, 8),), "export"),
    (models.NoGrad, {}, (image(),), (image(1, 2),), "export"),
    (models.Statistics, {}, (image(),), (image(1, 2),), "symbolic"),
    (models.Initialised, {}, (image(),), (image(1, 2),), "symbolic"),
    (models.Attending, {}, (sequence(0, 5),), (sequence(1, 7),), "export"),
    (models.SizedUp, {}, (image(),), (image(1, 2, 9),), "export"),
    (models.WrittenViews, {}, (image(),), (image(1, 2, 6),), "export"),
    (models.Opaque, {}, (image(),), (image(1, 2),), "symbolic"),
    (models.Opaque, {"branch": True}, (image(),), (image(1),), "export"),
]


@pytest.mark.parametrize(("kind", "options", "example", "other", "frontend"), CASES)
def test_program_equals_the_model(
    kind: type[nn.Module],
    options: dict[str, Any],
    example: tuple[Any, ...],
    other: tuple[Any, ...] | None,
    frontend: str,
) -> None:
    model = build(kind, **options)
    program = trace(model, example)
    assert program.provenance.frontend == frontend
    for inputs in (example, other or example):
        assert_same(outputs(program.module, *inputs), outputs(model, *inputs))


@pytest.mark.parametrize(("kind", "options", "example", "other", "frontend"), CASES)
def test_model_stays_as_it_was(
    kind: type[nn.Module],
    options: dict[str, Any],
    example: tuple[Any, ...],
    other: Any,
    frontend: str,
) -> None:
    model = build(kind, **options).train()
    model.step_hook = model.register_forward_hook(lambda *_: None)
    before = [(m, dict(vars(m))) for m in model.modules()]
    state = copy.deepcopy(model.state_dict())
    classes = {m: (type(m), class_state(m)) for m in model.modules()}
    inputs = copy.deepcopy(example)
    stream = torch.get_rng_state()
    trace(model, example)
    assert torch.equal(stream, torch.get_rng_state())
    for module, attributes in before:
        assert list(vars(module)) == list(attributes)
        assert all(vars(module)[name] is value for name, value in attributes.items())
        assert (type(module), class_state(module)) == classes[module]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert_same(example, inputs)


@pytest.mark.parametrize("kind", [models.Rearranged, models.Normed, models.Shared, models.Outputs])
def test_both_front_ends_agree(kind: type[nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(kind)
    symbolic = trace(model, image())
    export_only(monkeypatch)
    exported = trace(model, image())
    assert (symbolic.provenance.frontend, exported.provenance.frontend) == ("symbolic", "export")
    assert [s for s in ops(symbolic) if s != "getattr"] == [
        s for s in ops(exported) if s != "size"
    ] or kind is models.Rearranged  # spells sizes in another way
    assert_same(outputs(exported.module, image(1, 2)), outputs(symbolic.module, image(1, 2)))
    assert set(exported.module.state_dict()) == set(symbolic.module.state_dict())


@pytest.mark.parametrize("name", sorted(SMALL))
def test_export_raises_zoo_generators_to_the_same_modules(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = zoo.build(name, **SMALL[name]).double().eval()
    inputs = [t.double() if t.is_floating_point() else t for t in example(name)]
    symbolic = trace(model, inputs)
    export_only(monkeypatch)
    exported = trace(model, inputs)
    assert_same(outputs(exported.module, *inputs), outputs(model, *inputs))
    called = [[n.target for n in p.nodes() if n.op == "call_module"] for p in (symbolic, exported)]
    assert called[0] == [target for target in called[1] if target != "size_rules"]


def example(name: str) -> tuple[Tensor, ...]:
    return zoo.example_inputs(name, **SMALL[name])


@pytest.mark.parametrize("branch", [False, True])
def test_program_in_training_mode_trains_as_the_model(branch: bool) -> None:
    model = build(models.Normed, branch=branch).train()
    program = trace(model, image())
    twin = copy.deepcopy(model)
    assert program.training
    for seed in (1, 2):
        assert_same(outputs(program.module, image(seed, 4)), outputs(twin, image(seed, 4)))
    assert_same(dict(program.module.state_dict()), dict(twin.state_dict()))
    assert int(program.module.bn.num_batches_tracked) == 2
    program.module.eval()
    assert_same(outputs(program.module, image(5)), outputs(twin.eval(), image(5)))


def test_buffer_updates_of_the_model_itself_are_kept_in_training() -> None:
    model = build(models.Statistics).train()
    program = trace(model, image())
    twin = copy.deepcopy(model)
    assert_same(outputs(program.module, image(1, 2)), outputs(twin, image(1, 2)))
    assert not torch.equal(program.tensor("running"), torch.zeros(4))
    assert torch.equal(program.tensor("running"), twin.running)
    assert "training mode" in program.provenance.notes[0]


def test_parameters_get_gradients_through_the_program() -> None:
    model = build(models.Functional)
    program = trace(model, image())
    program.module(image()).sum().backward()
    model(image()).sum().backward()
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    got = {name: p.grad for name, p in program.module.named_parameters() if p.grad is not None}
    assert_same(got, expected)


@pytest.mark.parametrize("branch", [False, True])
def test_shared_parameters_stay_shared(branch: bool) -> None:
    module = trace(build(models.Shared, branch=branch), image()).module
    assert module.one.weight is module.two.weight
    assert sum(p.numel() for p in module.parameters()) == 3 * 3 * 9 + 3 + 3


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
def test_a_tensor_with_several_paths_goes_by_the_first(
    frontend: Literal["symbolic", "export"],
) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(4))
            self.layer, self.one, self.two = nn.Linear(3, 4), nn.Module(), nn.Module()
            self.one.shift = nn.Parameter(torch.ones(4))
            self.one.register_buffer("noise", torch.ones(4))
            self.two.shift, self.three, self.again = self.one.shift, self.one, self.gain

        def forward(self, x: Tensor) -> Tensor:
            x = self.layer(x) * self.again + self.two.shift + self.three.noise
            return x * self.gain + self.one.shift

    graph = through(frontend, Tied(), (torch.ones(1, 3),)).graph
    paths = [n.target for n in graph.nodes if n.op == "get_attr"]
    assert sorted(paths) == ["gain", "one.noise", "one.shift"]


@pytest.mark.parametrize("branch", [False, True])
def test_program_can_be_copied(branch: bool) -> None:
    model = build(models.Normed, branch=branch)
    twin = copy.deepcopy(trace(model, image()).module)
    assert_same(outputs(twin, image(1)), outputs(model, image(1)))


@pytest.mark.parametrize("kind", [models.Functional, models.Statistics])
def test_program_can_be_pickled(kind: type[nn.Module]) -> None:
    model = build(kind)
    again = pickle.loads(pickle.dumps(trace(model, image()).module))
    assert_same(outputs(again, image(1)), outputs(model, image(1)))


@pytest.mark.parametrize("kind", [models.Functional, models.Outputs])
def test_program_can_be_exported_and_compiled(kind: type[nn.Module]) -> None:
    model = build(kind)
    module = trace(model, image()).module
    exported = torch.export.export(module, (image(),)).module()
    # torch.export gives back containers of its own kind
    got, expected = outputs(exported, image()), outputs(model, image())
    assert_same(pytree.tree_leaves(got), pytree.tree_leaves(expected))
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    assert_same(outputs(compiled, image()), outputs(model, image()))


def test_device_dtype_and_persistence_are_kept() -> None:
    model = build(models.Functional).half()
    program = trace(model, image().half())
    assert {p.dtype for p in program.module.parameters()} == {torch.float16}
    assert "var" not in program.module.state_dict()
    assert "mean" in program.module.state_dict()


def test_model_on_the_meta_device_is_traced_by_shapes() -> None:
    model = build(models.Normed, branch=True).to("meta")
    program = trace(model, image().to("meta"))
    assert {p.device.type for p in program.module.parameters()} == {"meta"}


def test_containers_keep_their_training_flags() -> None:
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.Tanh())
    model[0].eval()
    module = trace(model, torch.ones(2, 3, 8, 8)).module
    flags = {path: m.training for path, m in module.named_modules()}
    assert flags == {path: m.training for path, m in model.named_modules()}
    assert flags["0"] is False


def test_wrappers_are_taken_off() -> None:
    model = nn.DataParallel(nn.Sequential(nn.DataParallel(nn.Conv2d(3, 4, 3)), nn.ReLU()))
    program = trace(model, torch.ones(1, 3, 8, 8))
    assert program.provenance.source == "Sequential"
    assert ops(program) == ["0", "1"]
    assert type(program.module.get_submodule("0")) is nn.Conv2d


@pytest.mark.parametrize("kind", [models.FrozenSettings, models.Helped])
def test_what_a_subclass_adds_or_forbids_stays(kind: type[nn.Module]) -> None:
    model = build(kind)
    program = trace(model, image())
    assert_same(outputs(program.module, image(1)), outputs(model, image(1)))


def test_a_layer_whose_weight_is_written_first_reads_what_was_written() -> None:
    model = build(models.Merged)
    program = trace(model, image())
    assert program.provenance.frontend == "symbolic"
    assert ops(program) == ["getattr", "mul", "conv2d", "add"]
    assert_same(outputs(program.module, image(1)), outputs(model, image(1)))


def test_a_weight_that_is_read_before_it_is_written_is_refused() -> None:
    with pytest.raises(TraceError, match=r"overwrites merged\.weight after it was read"):
        trace(build(models.Merged, early=True), image())


def test_a_size_that_depends_on_values_is_refused_by_its_reason() -> None:
    program = trace(build(models.MaskedWrite), image())
    with pytest.raises(InputError, match=r"getitem.* returns what no shape foretells"):
        propagate(program)


def test_plain_subclasses_become_the_layers_they_are() -> None:
    program = trace(build(models.Subclasses), image())
    assert type(program.module.plain) is nn.Conv2d
    assert ops(program) == ["plain", "div", "conv2d"]


def test_wrong_graph_is_noticed_only_when_checked() -> None:
    assert trace(build(models.WrongBranch), image()).provenance.frontend == "export"
    unchecked = trace(build(models.WrongBranch), image(), check=False)
    assert unchecked.provenance.frontend == "symbolic"


def test_unchecked_trace_still_goes_on_when_shapes_do_not_fit() -> None:
    program = trace(build(models.Opaque, branch=True), image(), check=False)
    assert program.provenance.frontend == "export"


def test_arguments_by_name_and_beyond_the_signature() -> None:
    model = build(models.Keywords)
    program = trace(model, {"x": image(), "gain": torch.tensor(2.0)})
    gain = torch.tensor(3.0)
    assert_same(outputs(program.module, x=image(1), gain=gain), outputs(model, image(1), gain=gain))


def test_numbers_between_tensors_keep_their_place() -> None:
    model = build(models.Positional)
    y = torch.ones(1, 4, 8, 8)
    program = trace(model, (image(), 2.0, y))
    assert_same(outputs(program.module, image(1), 2.0, y), outputs(model, image(1), 2.0, y))
    assert program.provenance.notes == ("the argument gain is fixed at 2.0",)


def test_defaults_are_fixed_and_stated() -> None:
    program = trace(build(models.FlagBranch), image())
    assert program.provenance.notes == ("the argument bright is fixed at False",)
    assert list(inspect.signature(program.module.forward).parameters) == ["x"]
    bright = trace(build(models.FlagBranch), {"x": image(), "bright": True})
    assert "add" in ops(bright)


def test_python_draws_are_stated() -> None:
    program = trace(build(models.PythonDrawing), image())
    assert "Python's or numpy's random numbers" in program.provenance.notes[0]


def test_fixed_sizes_are_stated() -> None:
    program = trace(build(models.Length), image())
    assert program.provenance.notes == (
        "the program stands for inputs with x.shape[0] == 1, where forward decides as on the "
        "example, and refuses others; trace the model on an input of other sizes for those",
    )


class Stubborn(nn.Module):
    """Writes an attribute of a tensor, and asks numpy for a number."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        self.conv.weight.data = self.conv.weight.data * float(x.detach().numpy().max() > -1e9)
        return self.conv(x)


def test_many_submodules_of_one_kind_are_kept_whole_together() -> None:
    model = build(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), *(Stubborn() for _ in range(20))))
    program = trace(model, image())
    assert [path for path, _ in program.provenance.opaque] == [str(i) for i in range(1, 21)]
    assert_same(outputs(program.module, image(1)), outputs(model, image(1)))


def test_opaque_leaf_has_a_reason_and_the_rest_is_compiled() -> None:
    program = trace(build(models.Opaque, branch=True), image())
    [(path, reason)] = program.provenance.opaque
    assert path == "body.1"
    assert "torch.export: RuntimeError: .numpy() is not supported" in reason
    # the results of body.1 are known for the example's sizes only
    assert ops(program) == ["size_rules", "body.0", "body.1", "body.2", "mul"]


def test_graph_never_overwrites_the_callers_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    export_only(monkeypatch)
    x = image()
    trace(build(models.Scaling), x).module(x)
    assert torch.equal(x, image())
    act = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 4, 3)).double()
    trace(act, x).module(x)
    assert torch.equal(x, image())


def test_graph_module_is_copied_and_used_as_it_is() -> None:
    given = fx.symbolic_trace(build(models.Normed))
    program = trace(given, image())
    assert program.provenance.frontend == "given"
    assert program.module is not given
    assert [n.name for n in program.nodes()] == [n.name for n in given.graph.nodes]
    assert_same(outputs(program.module, image(1)), outputs(given, image(1)))


def test_module_of_an_exported_program_becomes_a_plain_graph() -> None:
    model = build(models.Functional)
    exported = torch.export.export(model, (image(),)).module()
    program = trace(exported, image())
    assert type(program.graph._codegen) is fx.graph.CodeGen
    assert not [n for n in program.nodes() if "aten" in str(n.target)]
    assert_same(outputs(program.module, image(1)), outputs(model, image(1)))


def test_result_is_traced_again() -> None:
    first = trace(build(models.Normed, branch=True), image())
    again = trace(first.module, image())
    assert again.text().splitlines()[1:] == first.text().splitlines()[1:]


def test_spectral_norm_after_a_training_step_is_copied() -> None:
    model = build(models.Normed).train()
    model(image(0, 2)).sum().backward()  # leaves weights with a history on the modules
    program = trace(model, image())
    assert_same(outputs(program.module.eval(), image(1)), outputs(model.eval(), image(1)))


def test_hooks_of_the_model_are_part_of_the_graph() -> None:
    model = build(models.Stem)
    model.register_forward_hook(lambda module, args, result: result * 2)
    assert "mul" in ops(trace(model, image()))


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(InputError, match=r"the model is a dict, not a torch.nn.Module"):
        trace({}, image())


def test_lazy_modules_are_refused() -> None:
    with pytest.raises(InputError, match="parameter weight is not initialised yet"):
        trace(nn.LazyConv2d(4, 3), image())


def test_model_that_cannot_be_copied_is_refused() -> None:
    class Stuck(models.Stem):
        def __deepcopy__(self, memo: Any) -> Any:
            raise RuntimeError("glued")

    with pytest.raises(InputError, match=r"Stuck cannot be copied \(RuntimeError: glued\)"):
        trace(Stuck(), image())


@pytest.mark.parametrize("check", [True, False])
def test_wrong_input_names_the_module_and_the_shape(check: bool) -> None:
    model = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Conv2d(1, 4, 3)))
    with pytest.raises(InputError, match=r"1\.0 \(Conv2d\) fails on shapes \(1x3x8x8\)"):
        trace(model, image().float(), check=check)


def test_wrong_input_of_a_graph_module_names_the_module() -> None:
    given = fx.symbolic_trace(nn.Sequential(nn.Conv2d(1, 4, 3)))
    with pytest.raises(InputError, match=r"0 \(Conv2d\) fails on shapes \(1x3x8x8\)"):
        trace(given, image().float())


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((image(), image(), image()), "too many positional arguments"),
        ({"z": image()}, "missing a required argument: 'x'"),
        ("nothing", "example_inputs is a str"),
        ((image().numpy(),), "example input x is a numpy array; use torch.as_tensor"),
    ],
)
def test_inputs_that_do_not_fit_the_signature_are_refused(inputs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        trace(build(models.FlagBranch), inputs)


def test_model_that_no_front_end_takes_is_refused() -> None:
    with pytest.raises(TraceError, match=r"Hopeless cannot be turned into a graph: symbolic trace"):
        trace(build(models.Hopeless), image())


def test_value_that_decides_is_refused_without_noise(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TraceError, match="ValueBranch cannot be turned into a graph"):
        trace(build(models.ValueBranch), image())
    assert capfd.readouterr() == ("", "")
