"""At sizes for which it does not stand, a program raises; at all others it equals the model."""

import copy
import math
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import gfx
from gfx.ir.modules import SizeRules
from support.asserting_forwards import (
    asserts_both,
    asserts_height,
    asserts_square,
    asserts_values,
)

SIZES = ((9, 9), (24, 9), (24, 24), (32, 24), (16, 48), (25, 31), (24, 1))


class Body(nn.Module):
    """Layers for a forward that decides by sizes, and channels that may go."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        super().__init__()
        self.wide, self.act = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()
        self.layer, self.rule = nn.Conv2d(8, 3, 3, padding=1), forward

    def run(self, x: Tensor) -> Tensor:
        return self.layer(self.act(self.wide(x)))

    def forward(self, x: Tensor) -> Any:
        return self.rule(self, x)


class Asks(nn.Module):
    """Reads a size where it is a part of another model."""

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 1)) if x.shape[3] % 2 else x * 2


class Inside(nn.Module):
    """Reads a shape in a submodule, of an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.asks = Body(Body.run), Asks()

    def forward(self, x: Tensor) -> Tensor:
        return self.asks(self.body(F.avg_pool2d(x, 3, 1, 1)))


def by_width(net: Body, x: Tensor) -> Tensor:
    return net.run(x) if x.shape[-1] > 10 else 2 * x


def by_remainder(net: Body, x: Tensor) -> Tensor:
    return net.run(F.pad(x, (0, 1))) if x.shape[2] % 8 else net.run(x)


def by_square(net: Body, x: Tensor) -> Tensor:
    return net.run(x) if x.shape[2] == x.shape[3] else 2 * x


def by_largest(net: Body, x: Tensor) -> Tensor:
    return net.run(x) if max(x.shape[2], x.shape[3]) > 20 else 2 * x


def by_root(net: Body, x: Tensor) -> Tensor:
    return net.run(x) * int(math.sqrt(x.shape[2] * x.shape[3]))


def by_set(net: Body, x: Tensor) -> Tensor:
    return net.run(x) if x.shape[3] in (24, 32) else 2 * x


def by_loop(net: Body, x: Tensor) -> Tensor:
    y = net.run(x)
    for _ in range(x.shape[3] // 8):
        y = y * 1.5
    return y


def by_levels(net: Body, x: Tensor) -> Tensor:
    y = net.run(x)
    for _ in range(int(math.log2(x.shape[2]))):
        y = y + 1
    return y


def by_batch(net: Body, x: Tensor) -> Tensor:
    return net.run(x) if x.shape[0] == 1 else 2 * net.run(x)


def by_several(net: Body, x: Tensor) -> Tensor:
    return net.run(x) if x.shape[0] > 3 else 2 * net.run(x)


def by_parts(net: Body, x: Tensor) -> Tensor:
    y: Any = 0
    for part in net.run(x).split(8, dim=3):
        y = y + part.mean()
    return x * y


def by_columns(net: Body, x: Tensor) -> Tensor:
    y: Any = 0
    for part in x.unbind(3):
        y = y + part.mean()
    return net.run(x) * y


def by_ratio(net: Body, x: Tensor) -> Tensor:
    return net.run(x) if x.shape[3] / x.shape[2] >= 1 and not x.shape[2] < 12 else 2 * x


KINDS: dict[str, Callable[[], nn.Module]] = {
    rule.__name__: (lambda rule=rule: Body(rule))  # type: ignore[misc]
    for rule in (
        *(by_width, by_remainder, by_square, by_largest, by_root, by_set, by_loop, by_levels),
        *(by_batch, by_several, by_parts, by_columns, by_ratio),
    )
} | {"inside": Inside}


def stands(run: Callable[..., Any], model: nn.Module, *inputs: Any) -> bool:
    """Whether what was traced computes; then it must compute what the model does."""
    try:
        got = run(*inputs)
    except gfx.errors.InputError:
        return False
    torch.testing.assert_close(got, model(*inputs), atol=1e-5, rtol=1e-4)
    return True


def forms(program: gfx.Program, folder: Path) -> dict[str, Callable[..., Any]]:
    """Returns a program in all the forms that it may be kept in."""
    gfx.save(program.module, folder / "net.gfx")
    return {
        "as traced": program.module,
        "deep copy": copy.deepcopy(program.module),
        "pickle": pickle.loads(pickle.dumps(program.module)),
        "file": gfx.load(folder / "net.gfx"),
        "program": program.copy().module,
        "node by node": fx.Interpreter(program.module).run,
        "traced again": gfx.trace(program.module, program.example_inputs).module,
        "part": gfx.trace(nn.Sequential(program.module), program.example_inputs).module,
    }


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 2])
def test_at_another_size_a_program_equals_the_model_or_raises(
    kind: str, batch: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = KINDS[kind]().eval()
    program = gfx.trace(model, torch.rand(batch, 3, 24, 24))
    assert program.provenance.frontend == "export"
    assert any("stands for inputs with" in note for note in program.provenance.notes)
    kept = forms(program, tmp_path)
    refused = 0
    for n, (height, width) in [*((b, s) for b in (1, 2, 5) for s in SIZES)]:
        x = torch.rand(n, 3, height, width)
        found = {name: stands(run, model, x) for name, run in kept.items()}
        assert len(set(found.values())) == 1, found
        refused += not found["as traced"]
    assert refused
    assert stands(kept["file"], model, torch.rand(batch, 3, 24, 24))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["by_width", "by_loop", "by_batch", "by_parts", "inside"])
def test_passes_keep_the_rules(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = KINDS[kind]().eval(), torch.rand(1, 3, 24, 24)
    small = gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5}}]}, model, x)
    gfx.save(small, tmp_path / "small.gfx")
    for run in (small, gfx.load(tmp_path / "small.gfx"), gfx.apply("convert", small, x)):
        rules = [m for m in run.modules() if isinstance(m, SizeRules)]
        assert len(rules) == 1
        assert run(x).shape == model(x).shape
        other = torch.rand(3, 3, 9, 9)
        with pytest.raises(
            gfx.errors.InputError, match=r"here: x is 3x3x9x9; .* trace the model anew"
        ):
            run(other)
    bare = gfx.trace(model, x)
    assert gfx.cost(bare).params == sum(p.numel() for p in model.parameters())
    assert not [g for g in gfx.channels(bare) if "size_rules" in str(g)]


class Lists(nn.Module):
    """Adds up the images of a list."""

    def __init__(self, ask: bool) -> None:
        super().__init__()
        self.layer, self.ask = nn.Conv2d(3, 3, 3, padding=1), ask

    def forward(self, images: list[Tensor], scale: float = 1.0) -> Tensor:
        y = self.layer(images[-1])
        for image in images:
            y = y + image * scale
        return y if not self.ask or images[0].shape[3] > 10 else 2 * y


@torch.no_grad()
@pytest.mark.parametrize(("ask", "frontend"), [(False, "symbolic"), (True, "export")])
def test_a_list_of_another_length_is_refused(ask: bool, frontend: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Lists(ask).eval()

    def images(*widths: int) -> list[Tensor]:
        return [torch.rand(1, 3, 12, width) for width in widths]

    program = gfx.trace(model, (images(12, 12),))
    assert program.provenance.frontend == frontend
    for name, run in forms(program, tmp_path).items():
        assert stands(run, model, images(16, 16)), name
        assert not stands(run, model, images(12)), name
        assert not stands(run, model, images(12, 12, 12)), name
        assert stands(run, model, images(9, 9)) != ask, name
    with pytest.raises(gfx.errors.InputError, match=r"len\(images\) == 2.*images is 3 items"):
        program.module(images(9, 9, 9))


class Open(nn.Module):
    """Reads sizes, and decides nothing by them; `len` keeps symbolic trace out."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = (x.shape[i] for i in range(len(x.shape)))
        y = F.interpolate(self.layer(x), size=(2 * h, w + 1))
        return y.reshape(n, 2, 4, -1).mean(1)[..., : h * w // 2]


@torch.no_grad()
def test_sizes_that_decide_nothing_stay_free() -> None:
    model = Open().eval()
    program = gfx.trace(model, torch.rand(1, 3, 24, 24))
    assert program.provenance.frontend == "export"
    assert not [m for m in program.module.modules() if isinstance(m, SizeRules)]
    for size in SIZES:
        assert stands(program.module, model, torch.rand(2, 3, *size))


@torch.no_grad()
def test_a_program_with_rules_compiles_and_exports(tmp_path: Path) -> None:
    model, x = Body(by_width).eval(), torch.rand(1, 3, 24, 24)
    program = gfx.trace(model, x)
    compiled = torch.compile(program.module, backend="eager")
    torch.testing.assert_close(compiled(x), model(x))
    with pytest.raises(Exception, match=r"x.shape\[3\] > 10"):
        compiled(torch.rand(1, 3, 24, 9))
    dims = {3: torch.export.Dim("w", min=11, max=64)}
    exported = torch.export.export(program.module, (x,), dynamic_shapes=(dims,)).module()
    assert stands(exported, model, torch.rand(1, 3, 24, 30))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer versions of torch advise others
        traced = torch.jit.trace(program.module, x)
    torch.testing.assert_close(traced(x), model(x))
    torch.testing.assert_close(fx.symbolic_trace(program.module)(x), model(x))
    written = gfx.export(model, tmp_path / "net.onnx", x)
    assert written.dynamic == ("batch", "height")
    assert written.fixed == ("width (ONNX cannot check that x.shape[3] > 10, which must hold)",)
    written = gfx.export(model, tmp_path / "net.pt2", x)
    assert written.error is not None
    held = torch.export.load(tmp_path / "net.pt2").module()
    torch.testing.assert_close(held(x), model(x), atol=1e-5, rtol=1e-4)
    with pytest.raises(Exception, match=r"11|> 10"):
        held(torch.rand(1, 3, 24, 9))


@pytest.mark.parametrize("rule", [asserts_height, asserts_both, asserts_square])
def test_what_forward_asserts_of_sizes_is_asked_by_the_program(rule):
    model = Body(rule).eval()
    program = gfx.trace(model, torch.rand(1, 3, 24, 24))
    assert program.provenance.frontend == "symbolic"
    taken = [stands(program.module, model, torch.rand(1, 3, *size)) for size in SIZES]
    assert 0 < sum(taken) < len(SIZES)


def test_what_forward_asserts_of_values_is_no_rule():
    program = gfx.trace(Body(asserts_values).eval(), torch.rand(1, 3, 24, 24))
    assert not [m for m in program.module.modules() if isinstance(m, SizeRules)]
