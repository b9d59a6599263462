"""Objects that a forward returns become dictionaries of their fields, also in files."""

import collections
import dataclasses
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import gfx


@dataclasses.dataclass
class Plain:
    image: Tensor
    mask: Tensor | None = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    image: Tensor
    name: str = "rgb"


@dataclasses.dataclass
class Registered:
    image: Tensor
    mask: Tensor


torch.export.register_dataclass(Registered)


class Pair(NamedTuple):
    image: Tensor
    mask: Tensor


class Slots:
    __slots__ = ("image", "mask")

    def __init__(self, image: Tensor, mask: Tensor) -> None:
        self.image, self.mask = image, mask


class Node:
    def __init__(self, image: Tensor, mask: Tensor) -> None:
        self.image, self.mask = image, mask


pytree.register_pytree_node(Node, lambda n: ([n.image, n.mask], None), lambda v, _: Node(*v))


class Attributes(collections.OrderedDict):
    def __getattr__(self, name: str) -> Any:
        return self[name]


class AttrsLike:
    """Looks as a class of attrs does."""

    __attrs_attrs__ = (types.SimpleNamespace(name="image"), types.SimpleNamespace(name="mask"))

    def __init__(self, image: Tensor, mask: Tensor) -> None:
        self.image, self.mask = image, mask


KINDS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "Plain": Plain,
    "Frozen": lambda a, b: Frozen(a),
    "Registered": Registered,
    "Slots": Slots,
    "Node": Node,
    "Attributes": lambda a, b: Attributes(image=a, mask=b),
    "AttrsLike": AttrsLike,
    "SimpleNamespace": lambda a, b: types.SimpleNamespace(image=a, mask=b),
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
@pytest.mark.parametrize("kind", KINDS)
def test_an_object_becomes_a_dictionary_of_its_fields(
    kind: str, net: type[Net], x: Tensor, tmp_path: Path
) -> None:
    model = net(KINDS[kind]).eval()
    small = gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5}}]}, model, x)
    program = gfx.trace(model, x)
    wanted, got = model(x), program.module(x)
    assert type(got) is dict
    image = wanted["image"] if isinstance(wanted, dict) else wanted.image
    assert torch.allclose(got["image"], image, atol=1e-6)
    said = f"the graph returns a dictionary of fields in the place of {kind}"
    assert said in program.provenance.notes
    assert said in gfx.report(small).notes
    gfx.save(small, tmp_path / "a.gfx")
    assert torch.equal(gfx.load(tmp_path / "a.gfx")(x)["image"], small(x)["image"])


def test_objects_inside_of_containers_are_taken_apart(x: Tensor) -> None:
    program = gfx.trace(Net(lambda a, b: {"all": [Plain(a, b), (b,)]}).eval(), x)
    out = program.module(x)
    assert list(out["all"][0]) == ["image", "mask"]
    assert isinstance(out["all"][1], tuple)


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
    monkeypatch.delattr(f"{__name__}.Pair")
    with pytest.raises(gfx.ArchiveError, match="Pair, which cannot be imported"):
        gfx.open_model(tmp_path / "a.gfx", trust=True)
