"""Objects that a forward takes and returns keep their class, or become dictionaries of fields."""

import copy
import dataclasses
import importlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gfx
from gfx.io.archive.object_classes import read_call, write_call
from support.output_objects import KINDS, Pair, Plain, same_value, untrusted


class Slots:
    __slots__ = ("image", "mask")

    def __init__(self, image: Tensor, mask: Tensor) -> None:
        self.image, self.mask = image, mask


@dataclasses.dataclass
class Counted:
    image: Tensor
    mask: Tensor
    count: int = dataclasses.field(init=False, default=2)

    def __post_init__(self) -> None:
        self.count = 3


@dataclasses.dataclass
class Clamped:
    image: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        self.mask = self.mask.clamp(0, 1)


@dataclasses.dataclass
class InPlace:
    image: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        self.mask.mul_(2)


class Private:
    def __init__(self) -> None:
        raise TypeError("use Private.of")

    @classmethod
    def of(cls, image: Tensor, mask: Tensor) -> "Private":
        made = object.__new__(cls)
        made.image, made.mask = image, mask
        return made


@dataclasses.dataclass
class KeepsMore:
    image: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        self._shape = self.image.shape


def inner(a: Tensor, b: Tensor) -> Any:
    return dataclasses.make_dataclass("Local", ["image", "mask"])(a, b)


MORE = "its constructor does more than keep its fields"
NEITHER = "it is neither a dataclass nor known to torch.utils._pytree"
LOST: dict[str, tuple[Callable[[Tensor, Tensor], Any], str]] = {
    "Slots": (Slots, NEITHER),
    "SimpleNamespace": (lambda a, b: types.SimpleNamespace(image=a, mask=b), NEITHER),
    "Private": (Private.of, NEITHER),
    "Counted": (Counted, MORE),
    "Clamped": (Clamped, MORE),
    "InPlace": (InPlace, MORE),
    "Local": (inner, "it is defined inside of a function, so that no file can name it"),
}


class Net(nn.Module):
    def __init__(self, make: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 1)
        self.make = make

    def forward(self, x: Tensor) -> Any:
        y = self.last(self.first(x))
        return self.make(y, y.sigmoid())


class ByExport(Net):
    """A net that symbolic trace cannot take."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(x) if len(x) == x.shape[0] else x


@pytest.fixture
def x() -> Tensor:
    return torch.rand(2, 3, 8, 8)


@pytest.mark.parametrize("net", [Net, ByExport])
@pytest.mark.parametrize("kind", LOST)
def test_an_object_that_cannot_be_made_again_becomes_a_dictionary(
    kind: str, net: type[Net], x: Tensor, tmp_path: Path
) -> None:
    make, reason = LOST[kind]
    model = net(make).eval()
    small = gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5}}]}, model, x)
    program = gfx.trace(model, x)
    wanted, got = model(x), program.module(x)
    assert type(got) is dict
    assert torch.allclose(got["image"], wanted.image, atol=1e-6)
    assert torch.allclose(got["mask"], wanted.mask, atol=1e-6)
    said = f"the graph returns a dictionary of fields in the place of {kind}: {reason}"
    assert said in program.provenance.notes
    assert said in gfx.report(small).notes
    gfx.save(small, tmp_path / "a.gfx")
    assert torch.equal(gfx.load(tmp_path / "a.gfx")(x)["image"], small(x)["image"])


def test_what_is_lost_inside_of_an_object_is_said(x: Tensor) -> None:
    program = gfx.trace(Net(lambda a, b: Plain(Slots(a, b), [b])).eval(), x)
    out = program.module(x)
    assert type(out) is Plain
    assert type(out.image) is dict
    assert any("in the place of Slots" in note for note in program.provenance.notes)


def test_a_file_without_trust_returns_fields_and_says_so(x: Tensor, tmp_path: Path) -> None:
    program = gfx.trace(Net(Plain).eval(), x)
    gfx.save(program, tmp_path / "a.gfx")
    warning = (
        r"a\.gfx returns a dictionary with attributes in the place of support\.output_objects\."
        r"Plain: no class is imported .* gfx\.open_model\('.*a\.gfx', trust=True\) imports it"
    )
    for load in (gfx.load, gfx.open_model):
        with pytest.warns(UserWarning, match=warning) as told:
            loaded = load(tmp_path / "a.gfx")
        assert [warned.filename for warned in told] == [__file__]
    out = loaded(x)
    assert torch.equal(out.image, program.module(x).image)
    assert torch.equal(out["mask"], out.mask)
    with pytest.raises(AttributeError, match="there is no field masks; there are image, mask"):
        _ = out.masks
    said = (
        "the graph returns a dictionary with attributes in the place of support.output_objects."
        "Plain; gfx.open_model(file, trust=True) imports the class"
    )
    assert said in gfx.trace(loaded, x).provenance.notes


def test_loading_without_trust_imports_nothing(
    x: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "foreign_outputs.py").write_text(
        "import dataclasses, pathlib\n"
        "@dataclasses.dataclass\n"
        "class Out:\n    image: object\n    mask: object\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    foreign = importlib.import_module("foreign_outputs")
    gfx.save(gfx.trace(Net(foreign.Out).eval(), x), tmp_path / "a.gfx")
    monkeypatch.delitem(sys.modules, "foreign_outputs")
    loaded, warned = untrusted(tmp_path / "a.gfx")
    assert warned
    assert loaded(x).image.shape == (2, 3, 6, 6)
    assert "foreign_outputs" not in sys.modules
    trusted = gfx.open_model(tmp_path / "a.gfx", trust=True)
    assert type(trusted(x)).__module__ == "foreign_outputs"
    monkeypatch.setattr(sys.modules["foreign_outputs"], "Out", Private)
    with pytest.raises(gfx.ArchiveError, match="the one that is installed takes others"):
        gfx.open_model(tmp_path / "a.gfx", trust=True)
    monkeypatch.delattr(sys.modules["foreign_outputs"], "Out")
    with pytest.raises(gfx.ArchiveError, match="Out, which cannot be imported"):
        gfx.open_model(tmp_path / "a.gfx", trust=True)


@pytest.mark.parametrize("change", [
    {"class": ["os; import os", "x"]}, {"class": ["os", "a b"]}, {"build": "eval"},
    {"inside": [[[1], {}]]},
])  # fmt: skip
def test_a_file_cannot_put_code_into_the_description_of_its_objects(
    change: dict[str, Any], x: Tensor, tmp_path: Path
) -> None:
    graph = gfx.trace(Net(Plain).eval(), x).graph
    call = write_call(graph)
    assert call is not None
    call["output"] |= change
    with pytest.raises((gfx.ArchiveError, KeyError)):
        read_call(call, graph)


class Takes(nn.Module):
    """Takes an object, by its attributes and methods."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 1)

    def forward(self, given: Any, weight: float = 2.0) -> Any:
        y = self.last(self.conv(given.image))
        return Plain(y * given.mask.mean() * weight, None)


class TakesByExport(Takes):
    def forward(self, given: Any, weight: float = 2.0) -> Any:
        return super().forward(given, weight) if len(given.image) == 2 else given


@pytest.mark.parametrize("net", [Takes, TakesByExport])
@pytest.mark.parametrize("kind", ["Plain", "Slotted", "Registered", "Node", "Pair", "Attributes"])
def test_objects_are_taken_as_inputs(
    kind: str, net: type[Takes], x: Tensor, tmp_path: Path
) -> None:
    given = KINDS[kind](x, x + 1)
    model = net().eval()
    small = gfx.apply(
        {"passes": [{"channel_prune": {"ratio": 0.5}}]}, model, (given,), data=[(given,)]
    )
    program = gfx.trace(model, (given,))
    fresh = KINDS[kind](2 * x, x)
    gfx.save(small, tmp_path / "a.gfx")
    gfx.save(program, tmp_path / "b.gfx")
    assert same_value(program.module(fresh), model(fresh))
    assert same_value(gfx.open_model(tmp_path / "b.gfx", trust=True)(fresh), model(fresh))
    assert torch.equal(untrusted(tmp_path / "a.gfx")[0](fresh).image, small(fresh).image)
    assert torch.equal(copy.deepcopy(small)(fresh).image, small(fresh).image)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, given: Any) -> Tensor:
        return self.conv(given.image) * given.mask


def test_a_value_beside_the_tensors_of_an_input_is_fixed_and_said(
    x: Tensor, tmp_path: Path
) -> None:
    small = gfx.apply({"passes": []}, Scaled().eval(), (Plain(x, 3.0),))
    assert "the value given['mask'] of the input is fixed at 3.0" in gfx.report(small).notes
    done = gfx.export(small, tmp_path / "a.onnx", (Plain(x, 3.0),))
    assert done.error is not None
    assert done.inputs == ("given_image: float32 batch x 3 x height x width",)


def test_taps_and_masks_keep_the_class(x: Tensor) -> None:
    model = Net(KINDS["Sample"]).eval()
    tapped = gfx.tapped(gfx.apply({"passes": [{"distill_taps": {"layers": ["first"]}}]}, model, x))
    output, features = tapped(x)
    assert type(output) is type(model(x))
    assert list(features) == ["first"]
    masked = gfx.apply({"passes": [{"mask": {"sparsity": 0.5, "end": 1}}]}, model, x)
    gfx.schedule(masked).step()
    assert type(gfx.apply({"passes": ["fold_masks"]}, masked, x)(x)) is type(output)


class Opaque(nn.Module):
    """No front end follows it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Any:
        y = self.conv(x)
        return Plain(y, y.tanh()) if float(y.sum()) > -1e9 else None


def test_a_part_that_stays_whole_returns_its_object(x: Tensor) -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = Opaque()

        def forward(self, x: Tensor) -> Any:
            found = self.part(x)
            return Plain(found.image + 1, found.mask)

    model = Around().eval()
    program = gfx.trace(model, x)
    assert [path for path, _ in program.provenance.opaque] == ["part"]
    assert same_value(model(x), program.module(x))


def test_an_input_that_cannot_be_made_again_is_refused(x: Tensor) -> None:
    with pytest.raises(gfx.InputError, match="given holds a Slots, which gfx cannot make again"):
        gfx.trace(Takes().eval(), (Slots(x, x),))


@pytest.mark.parametrize("kind", ["Plain", "Node", "SampleAndLoss"])
def test_what_runs_a_model_sees_through_objects(kind: str, x: Tensor, tmp_path: Path) -> None:
    model = Net(KINDS[kind]).eval()
    small = gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5}}]}, model, x)
    assert type(small(x)) is type(model(x))
    timed = gfx.bench(small, x, against=model, rounds=5, warmups=1, memory=False)
    assert timed is not None
    done = gfx.export(small, tmp_path / "a.onnx", x)
    assert done.error is not None
    assert gfx.metrics.metric("relative_l2")(model(x), small(x)) > 0
    again = gfx.apply({"passes": ["fuse_batch_norm"]}, small, x)
    assert type(again(x)) is type(model(x))
    assert len(gfx.inspect(small, x).rows) == 2
    compiled = torch.compile(small, backend="eager", fullgraph=True)
    assert type(compiled(x)) is type(model(x))


def test_an_object_that_holds_more_than_data_is_refused(x: Tensor) -> None:
    odd = Net(lambda a, b: types.SimpleNamespace(image=a, how=iter([b])))
    with pytest.raises(gfx.TraceError, match="SimpleNamespace"):
        gfx.trace(odd.eval(), x)


@pytest.mark.parametrize("net", [Net, ByExport])
def test_a_named_tuple_is_saved_and_its_class_restored_with_trust(
    net: type[Net], x: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = gfx.trace(net(Pair).eval(), x)
    wanted = program.module(x)
    assert type(wanted) is Pair
    gfx.save(program, tmp_path / "a.gfx")
    with pytest.warns(UserWarning, match="a tuple of the same names in the place of .*Pair"):
        plain = gfx.load(tmp_path / "a.gfx")
    got = plain(x)
    assert type(got) is not Pair
    assert type(got).__name__ == "Pair"
    assert got._fields == Pair._fields
    assert "trust=True) imports" in str(type(got).__doc__)
    assert torch.equal(got.image, wanted.image)
    trusted = gfx.open_model(tmp_path / "a.gfx", trust=True)
    assert type(trusted(x)) is Pair
    gfx.save(plain, tmp_path / "b.gfx")  # names the class itself again
    assert (tmp_path / "b.gfx").read_bytes() == (tmp_path / "a.gfx").read_bytes()
    monkeypatch.delattr("support.output_objects.Pair")
    with pytest.raises(gfx.ArchiveError, match="Pair, which cannot be imported"):
        gfx.open_model(tmp_path / "a.gfx", trust=True)
