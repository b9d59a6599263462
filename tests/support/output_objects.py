"""Classes of objects that models return, five of each kind, and random structures of them."""

import collections
import dataclasses
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import hypothesis.strategies as st
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import gfx

__all__ = [
    "KINDS",
    "Stand",
    "Structured",
    "StructuredByExport",
    "same_value",
    "structures",
    "untrusted",
]


@dataclass
class Plain:
    image: Any
    mask: Any = None


@dataclass(frozen=True)
class Frozen:
    image: Any
    name: Any = "rgb"


@dataclass(slots=True, kw_only=True)
class Slotted:
    image: Any
    mask: Any


@dataclass
class Child(Plain):
    extra: Any = 3
    KIND: ClassVar[str] = "child"


class Outer:
    @dataclass
    class Inner:
        image: Any
        _hidden: Any


@dataclass
class Registered:
    image: Any
    mask: Any = None


@dataclass(frozen=True)
class RegisteredFrozen:
    a: Any
    b: Any


@dataclass
class RegisteredChild(Registered):
    scale: Any = 0.5


torch.export.register_dataclass(Registered)
torch.export.register_dataclass(RegisteredFrozen)
torch.export.register_dataclass(RegisteredChild)


class Node:
    def __init__(self, image: Any, mask: Any) -> None:
        self.image, self.mask = image, mask


class Hidden:
    """Its parts have no public names, and what it notes beside them is no tensor."""

    def __init__(self, parts: Any, scale: int) -> None:
        self._parts, self._scale = list(parts), scale


pytree.register_pytree_node(Node, lambda n: ([n.image, n.mask], None), lambda v, _: Node(*v))
pytree.register_pytree_node(
    Hidden, lambda n: (n._parts, {"scale": n._scale}), lambda v, c: Hidden(v, c["scale"])
)


class Attributes(collections.OrderedDict):
    def __getattr__(self, name: str) -> Any:
        return self[name]


class Loose(dict):
    pass


class ModelOutput(collections.OrderedDict):
    """As the outputs of diffusers and transformers: a dataclass that is a dictionary too."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None:
                super().__setitem__(field.name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.keys() and value is not None:
            super().__setitem__(name, value)
        super().__setattr__(name, value)

    def __reduce__(self) -> Any:
        values = [getattr(self, field.name) for field in dataclasses.fields(self)]
        return type(self), tuple(values)


@dataclass
class Sample(ModelOutput):
    sample: Any


@dataclass
class SampleAndLoss(ModelOutput):
    sample: Any
    loss: Any = None


@dataclass
class Logits(ModelOutput):
    logits: Any
    hidden: Any = None


class AttrsLike:
    """Looks as a class of attrs does; the argument of `_mask` is `mask`."""

    __attrs_attrs__ = (types.SimpleNamespace(name="image"), types.SimpleNamespace(name="_mask"))

    def __init__(self, image: Any, mask: Any) -> None:
        self.image, self._mask = image, mask


class AttrsFrozen:
    """Has slots, and names of arguments of its own."""

    __slots__ = ("image", "mask")
    __attrs_attrs__ = (
        types.SimpleNamespace(name="image", alias="picture"),
        types.SimpleNamespace(name="mask", alias="mask"),
    )

    def __init__(self, picture: Any, mask: Any) -> None:
        object.__setattr__(self, "image", picture)
        object.__setattr__(self, "mask", mask)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(name)

    def __getstate__(self) -> Any:
        return self.image, self.mask

    def __setstate__(self, state: Any) -> None:
        self.__init__(*state)


class Pair(NamedTuple):
    image: Any
    mask: Any


class WithDefault(NamedTuple):
    image: Any
    name: Any = "rgb"


Made = collections.namedtuple("Made", "a b")

KINDS: dict[str, Callable[[Any, Any], Any]] = {
    "Plain": Plain,
    "Frozen": Frozen,
    "Slotted": lambda a, b: Slotted(image=a, mask=b),
    "Child": lambda a, b: Child(a, b),
    "Inner": Outer.Inner,
    "Registered": Registered,
    "RegisteredFrozen": RegisteredFrozen,
    "RegisteredChild": lambda a, b: RegisteredChild(a, b),
    "Node": Node,
    "Hidden": lambda a, b: Hidden([a, b], 3),
    "Attributes": lambda a, b: Attributes(image=a, mask=b),
    "Loose": lambda a, b: Loose({"a": a, 3: b}),
    "Sample": lambda a, b: Sample(a),
    "SampleAndLoss": SampleAndLoss,
    "Logits": Logits,
    "AttrsLike": AttrsLike,
    "AttrsFrozen": AttrsFrozen,
    "Pair": Pair,
    "WithDefault": WithDefault,
    "Made": Made,
    "OrderedDict": lambda a, b: collections.OrderedDict(a=a, b=b),
}


@dataclass(frozen=True)
class Stand:
    """Stands for the n-th tensor that a model makes."""

    number: int


def structures() -> st.SearchStrategy[Any]:
    """Draws recipes of outputs: ("list", parts), (kind, first, second), Stand, or a plain value."""
    tensors = st.builds(Stand, st.integers(0, 2))
    values = st.sampled_from([None, 3, 0.5, "rgb", True])
    return st.tuples(st.just("tuple"), tensors, _deeper(tensors, st.one_of(tensors, values), 2))


def _deeper(tensors: Any, leaves: Any, depth: int) -> st.SearchStrategy[Any]:
    if not depth:
        return leaves
    below = _deeper(tensors, leaves, depth - 1)
    containers = st.tuples(st.sampled_from(["list", "tuple", "dict"]), below, below)
    objects = st.tuples(st.sampled_from(sorted(KINDS)), tensors, below)
    return st.one_of(objects, containers, leaves)


def _made(recipe: Any, tensors: list[Tensor]) -> Any:
    """Makes the structure of a recipe."""
    if isinstance(recipe, Stand):
        return tensors[recipe.number]
    if not isinstance(recipe, tuple):
        return recipe
    kind, *parts = recipe
    first, second = (_made(part, tensors) for part in parts)
    if kind == "list":
        return [part for part in (first, second)]
    if kind == "tuple":
        return tuple(part for part in (first, second))
    return {"a": first, "b": second} if kind == "dict" else KINDS[kind](first, second)


class Structured(nn.Module):
    """Returns its three tensors in a structure."""

    def __init__(self, recipe: Any) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 1)
        self.recipe = recipe

    def forward(self, x: Tensor) -> Any:
        y = self.last(self.first(x))
        return _made(self.recipe, [y, y.sigmoid(), y.mean(1)])


class StructuredByExport(Structured):
    """Symbolic trace cannot take it."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(x) if len(x) == x.shape[0] else x


def same_value(wanted: Any, got: Any) -> bool:
    """Whether two outputs are of the same classes, hold the same values, and print alike."""
    if type(wanted) is not type(got):
        return False
    if isinstance(wanted, Tensor):
        return bool(torch.allclose(wanted, got, atol=1e-6))
    if isinstance(wanted, dict):
        same = list(wanted) == list(got)
        if not same or not all(same_value(wanted[k], got[k]) for k in wanted):
            return False
    if isinstance(wanted, list | tuple):
        return len(wanted) == len(got) and all(map(same_value, wanted, got))
    held = _held(wanted)
    if not held:
        return isinstance(wanted, dict) or bool(wanted == got)
    other = _held(got)
    return list(held) == list(other) and all(same_value(held[k], other[k]) for k in held)


def _held(value: Any) -> dict[str, Any]:
    slots = getattr(type(value), "__slots__", ())
    return {**getattr(value, "__dict__", {}), **{name: getattr(value, name) for name in slots}}


def untrusted(path: Path) -> tuple[Any, bool]:
    """Loads a file without trust; also returns whether a warning named what stands for objects."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        loaded = gfx.load(path)
    said = [str(warning.message) for warning in told]
    assert all("in the place of" in text and "trust=True" in text for text in said), said
    return loaded, bool(said)
