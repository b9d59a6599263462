"""Whatever structure a model returns its outputs in, a file gives it back, and trace takes it."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor, nn

import gfx
from gfx.objects.take_apart import leaves, plain
from support.laws import law
from support.output_objects import Structured, same_value, structures, untrusted

EXAMPLE = torch.linspace(-1, 1, 3 * 64).view(1, 3, 8, 8)


class Sides(NamedTuple):
    left: Any
    right: Any


def parts(a: Tensor, b: Tensor) -> Iterator[Tensor]:
    for tensor in (a, b):
        yield from tensor.chunk(3, 1)


STRUCTURES: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "tensor": lambda a, b: a,
    "tuple": lambda a, b: (a, b),
    "list of one": lambda a, b: [a],
    "named tuple": Sides,
    "named tuples in one another": lambda a, b: Sides(Sides(a, None), [Sides(b, 3)]),
    "named tuple in a dictionary": lambda a, b: {"x": Sides(a, b)},
    "dictionary in a tuple": lambda a, b: (a, {"x": {"y": b, "z": (a, 1)}}),
    "dictionary by number": lambda a, b: {0: a, 7: b},
    "list of a generator": lambda a, b: list(parts(a, b)),
    "tuple of a generator": lambda a, b: tuple(parts(a, b)),
    "dictionary of a generator": lambda a, b: {f"p{i}": x for i, x in enumerate(parts(a, b))},
    "lists in lists": lambda a, b: [[a], [[b], []]],
    "one tensor twice": lambda a, b: (a, [a, a]),
    "plain values": lambda a, b: (a, 3, 0.5, "rgb", None, True),
    "the input": lambda a, b: (a, b),
    "empty containers": lambda a, b: (a, (), [], {}),
    "object in a named tuple": lambda a, b: Sides({"x": Sides(a, b)}, [b]),
}


class Net(nn.Module):
    def __init__(self, make: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.make = nn.Conv2d(3, 3, 1), make

    def forward(self, x: Tensor) -> Any:
        y = self.conv(x)
        return self.make(y, x if self.make is STRUCTURES["the input"] else y.tanh())


class ByExport(Net):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x) if len(x) == x.shape[0] else x


@pytest.mark.parametrize("net", [Net, ByExport])
@pytest.mark.parametrize("name", STRUCTURES)
def test_a_structure_comes_back_from_a_file(name: str, net: type[Net], tmp_path: Path) -> None:
    model = net(STRUCTURES[name]).eval()
    program = gfx.trace(model, EXAMPLE)
    wanted = model(EXAMPLE)
    assert same_value(wanted, program.module(EXAMPLE))
    gfx.save(program, tmp_path / "a.gfx")
    loaded, warned = untrusted(tmp_path / "a.gfx")
    assert warned is not same_value(wanted, loaded(EXAMPLE))
    assert same_value(wanted, gfx.open_model(tmp_path / "a.gfx", trust=True)(EXAMPLE))
    assert same_value(plain(wanted), plain(loaded(EXAMPLE)))
    again = gfx.trace(loaded, EXAMPLE)
    assert same_value(plain(wanted), plain(again.module(EXAMPLE)))
    gfx.save(again, tmp_path / "b.gfx")
    gfx.save(loaded, tmp_path / "c.gfx")
    assert same_value(wanted, gfx.open_model(tmp_path / "b.gfx", trust=True)(EXAMPLE))
    assert (tmp_path / "c.gfx").read_bytes() == (tmp_path / "a.gfx").read_bytes()


@law(6)
@given(recipe=structures(), ratio=st.sampled_from([None, 0.5]))
def test_any_structure_comes_back_from_files_of_programs_and_results(
    recipe: Any, ratio: float | None
) -> None:
    model = Structured(recipe).eval()
    small: Any = gfx.trace(model, EXAMPLE).module
    if ratio is not None:
        small = gfx.apply({"passes": [{"channel_prune": {"ratio": ratio}}]}, model, EXAMPLE)
    with tempfile.TemporaryDirectory() as folder:
        gfx.save(small, Path(folder, "a.gfx"))
        loaded, _ = untrusted(Path(folder, "a.gfx"))
        trusted = gfx.open_model(Path(folder, "a.gfx"), trust=True)
    wanted = small(EXAMPLE)
    assert same_value(wanted, trusted(EXAMPLE))
    for a, b in zip(leaves(wanted), leaves(loaded(EXAMPLE)), strict=True):
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b
