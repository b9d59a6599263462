"""No mode of the caller changes what the methods of what gfx hands out do."""

import copy
import dataclasses
import inspect
import types
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_ambient_modes import MODES, RECIPE, Net, ambient
from torch import Tensor, fx, nn

import gfx
from gfx.metrics import metric

SPECIAL = ("__len__", "__iter__", "__str__", "__repr__")
IMAGE = torch.linspace(-1, 1, 3 * 64).view(1, 3, 8, 8)
GIVEN = ("Read", "Budget")  # their methods only view what they are given, or compute with numbers
# what needs arguments: how it is called
CALLS: dict[str, Any] = {
    "Program.submodule": lambda f, o: f(next(n for n in o.nodes() if n.op == "call_module")),
    "Program.tensor": lambda f, o: f("tail.weight"),
    "Program.copy": lambda f, o: [f(), f(on_write=True)],
    "Groups.__getitem__": lambda f, o: f(0),
    "Groups.axes_of": lambda f, o: f("tail.weight"),
    "Groups.labels_of": lambda f, o: f(_layer(o), 1),
    "Groups.mac_sizes": lambda f, o: f(_layer(o)),
    "Groups.averages": lambda f, o: f(_layer(o)),
    "Groups.regroups": lambda f, o: f(_layer(o)),
    "Groups.value_of": lambda f, o: f(_layer(o)),
    "Groups.path_of": lambda f, o: f(o.program.tensor("tail.weight")),
    "Groups.kept": lambda f, o: f(o.none_removed()),
    "Groups.role": lambda f, o: f("tail.weight", 0),
    "Groups.shared": lambda f, o: f("tail.weight", 0),
    "Findings.__getitem__": lambda f, o: f(0),
    "Findings.filter": lambda f, o: f(lambda row: row.macs > 0),
    "Findings.sort": lambda f, o: f("macs"),
    "Findings.recipe": lambda f, o: f({"macs": 0.5}),
    "Row.rate": lambda f, o: f("prune 0.5"),
    "Picture.shows": lambda f, o: f(IMAGE),
    "Schedule.load_state_dict": lambda f, o: f(o.state_dict()),
    "Schedule.binarize": lambda f, o: _unless_refused(f, 0.1),
    "Interval.decided": lambda f, o: f(0.1),
    "Machine.key": lambda f, o: f(),
    "Metric.__call__": lambda f, o: f(IMAGE, IMAGE * 0.5),
    "Metric.cost": lambda f, o: f(0.5),
    "ImageFolder.batches": lambda f, o: list(f(IMAGE)),
    "ImageFolder.ranged": lambda f, o: f(_traced()),
    "InputSpec.tensor": lambda f, o: f(torch.float32, torch.device("cpu")),
}


def _traced() -> gfx.Program:
    torch.manual_seed(0)
    return gfx.trace(Net().eval(), torch.rand(1, 3, 8, 8))


def _unless_refused(function: Any, *given: Any) -> Any:
    try:
        return function(*given)
    except gfx.InputError as error:
        return str(error)


def _layer(groups: gfx.Groups) -> fx.Node:
    return next(n for n in groups.program.nodes() if n.target == "tail")


@cache
def handed_out() -> dict[str, Any]:
    """Makes one object of each kind that a verb hands out."""
    torch.manual_seed(0)
    model, x = Net().eval(), torch.rand(1, 3, 8, 8)
    small = gfx.apply(RECIPE, model, x)

    def masked(kind: str, **fields: Any) -> fx.GraphModule:
        return gfx.apply({"passes": [{"mask": {"kind": kind, **fields}}]}, model, x)

    return {
        "trace": gfx.trace(model, x),
        "report": gfx.report(small),
        "channels": gfx.channels(model, x),
        "cost": gfx.cost(model, x),
        "inspect": gfx.inspect(model, x),
        "schedule": masked("agp", end=3),
        "ppcd": masked("ppcd", end=3),
        "slimming": masked("slimming"),
        "bench": gfx.bench(small, x, against=model, rounds=5, warmups=1, memory=False),
        "recipe": gfx.Recipe.load(RECIPE),
        "metric": metric("relative_l2"),
    }


def fresh(name: str) -> Any:
    """Returns what a verb handed out, as new."""
    found = handed_out()[name]
    return gfx.schedule(copy.deepcopy(found)) if isinstance(found, fx.GraphModule) else found


def public(value: Any) -> Iterator[tuple[str, Any]]:
    """Iterates over the names and definitions of public methods and properties of an object."""
    for kind in type(value).__mro__ if type(value).__name__ not in GIVEN else ():
        if kind.__module__.partition(".")[0] not in ("gfx", "passes"):
            continue
        for name, member in vars(kind).items():
            if not name.startswith("_") or name in (*SPECIAL, "__getitem__", "__call__"):
                yield name, member


def results(value: Any) -> dict[str, Any]:
    """Calls all that is public of an object and describes what comes back."""
    found: dict[str, Any] = {}
    for name, member in public(value):
        full = f"{type(value).__name__}.{name}"
        if isinstance(member, property | cached_property):
            found[full] = described(getattr(value, name))
        elif isinstance(member, types.FunctionType):
            bound = getattr(value, name)
            needs = [
                p for p in inspect.signature(bound).parameters.values()
                if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
            ]  # fmt: skip
            assert full in CALLS or not needs, f"say in CALLS how {full} is called"
            call = CALLS.get(full)
            found[full] = described(call(bound, value) if call else bound())
    return found


def described(value: Any, depth: int = 4) -> Any:
    """Writes a value as plain data: of tensors the numbers, and how they were made."""
    if isinstance(value, Tensor):
        made = (value.dtype, value.device.type, value.is_inference(), value.requires_grad)
        return made, None if value.is_meta else value.detach().flatten().tolist()
    if isinstance(value, nn.Module):
        held = [*value.named_parameters(), *value.named_buffers()]
        return {name: described(tensor) for name, tensor in held}
    if isinstance(value, np.ndarray):
        return value.dtype.name, value.tolist()
    if isinstance(value, fx.Node | fx.Graph) or depth == 0:
        return type(value).__name__
    if isinstance(value, Mapping):
        return {str(key): described(part, depth - 1) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset | Iterator):
        return [described(part, depth - 1) for part in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: described(getattr(value, name), depth - 1) for name in names}
    return value if isinstance(value, str | int | float | bool | None) else type(value).__name__


def inside(value: Any, seen: set[type], depth: int = 5) -> Iterator[Any]:
    """Iterates over the objects of gfx that can be reached by public attributes, one of a class."""
    if depth == 0 or isinstance(value, nn.Module | Tensor | fx.Node | fx.Graph | str):
        return
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple) and not type(value).__module__.startswith("gfx"):
        for part in value[:3]:
            yield from inside(part, seen, depth - 1)
        return
    if not type(value).__module__.startswith("gfx") or type(value) in seen:
        return
    seen.add(type(value))
    yield value
    for name, part in list(getattr(value, "__dict__", {}).items()):
        if not name.startswith("_"):
            yield from inside(part, seen, depth - 1)


@cache
def wanted(name: str) -> dict[str, Any]:
    return all_results(name)


def all_results(name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for value in inside(fresh(name), set()):
        found |= results(value)
    return found


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled:UserWarning")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [
    "trace", "report", "channels", "cost", "inspect", "schedule", "ppcd", "slimming", "bench",
    "recipe", "metric",
])  # fmt: skip
def test_the_methods_of_what_a_verb_hands_out_do_the_same_in_every_mode(
    name: str, mode: str
) -> None:
    expected = wanted(name)
    values = list(inside(fresh(name), set()))
    got: dict[str, Any] = {}
    with MODES[mode]():
        before = ambient()
        for value in values:
            got |= results(value)
        assert ambient() == before
    assert {key: got[key] for key in got if got[key] != expected[key]} == {}
    assert got.keys() == expected.keys()


def folder_of_images(path: Path) -> gfx.images:
    from PIL import Image

    path.mkdir()
    for i in range(2):
        pixels = np.full((8, 8, 3), 40 + 60 * i, np.uint8)
        Image.fromarray(pixels).save(path / f"{i}.png")
    return gfx.images(path)


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled:UserWarning")
@pytest.mark.parametrize("mode", MODES)
def test_a_folder_of_images_gives_the_same_in_every_mode(mode: str, tmp_path: Path) -> None:
    folder = folder_of_images(tmp_path / "images")
    expected = results(folder)
    with MODES[mode]():
        got = results(folder)
    assert got == expected


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled:UserWarning")
@pytest.mark.parametrize("mode", MODES)
def test_what_a_program_copies_and_a_schedule_steps_can_be_trained(mode: str) -> None:
    program, masked = _traced(), copy.deepcopy(handed_out()["schedule"])
    with MODES[mode]():
        twin = program.copy()
        schedule = gfx.schedule(masked)
        for _ in range(3):
            schedule.step()
    x = torch.rand(1, 3, 8, 8)
    for module in (twin.module, masked):
        module(x).sum().backward()
        assert all(p.grad is not None for p in module.parameters())


def test_a_generator_is_shielded_step_by_step_and_its_reader_is_not() -> None:
    from gfx.ir.ambient_modes import in_neutral_modes

    @in_neutral_modes
    def made() -> Iterator[Tensor]:
        for _ in range(2):
            yield torch.zeros(1)

    with torch.device("meta"):
        for tensor in made():
            assert tensor.device.type == "cpu"
            assert torch.zeros(1).is_meta
