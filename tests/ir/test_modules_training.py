"""Masked programs are ordinary modules to torch: copied, saved, compiled, exported, distributed."""

import copy
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn.parallel import DistributedDataParallel

import gfx
from gfx.ir.modules import ChannelMask, LearnedMask, MaskedLayer, masked_layer
from gfx.ir.program import Program
from support.laws import EFFORT
from support.masked_programs import masked_weights, masks_of, tapped, with_masks
from support.oracle import alike
from support.two_processes import in_two_processes

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A residual block between convolutions, a concat, and channels that a view makes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.inner = nn.Conv2d(6, 4, 3, padding=1)
        self.outer = nn.ConvTranspose2d(4, 6, 3, padding=1)
        self.linear = nn.Linear(6, 4 * 64)
        self.head = nn.Conv2d(10, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        x = x + self.outer(self.inner(x).relu())
        style = self.linear(x.mean((2, 3))).view(-1, 4, 8, 8)
        return self.head(torch.cat([x, style], 1)).tanh()


def masked(kind: type[ChannelMask] = ChannelMask) -> Program:
    torch.manual_seed(0)
    program = masked_weights(tapped(with_masks(gfx.trace(Net(), X), kind)))
    assert any("index_0" in mask._buffers for mask in masks_of(program).values())
    return program


@pytest.fixture(params=[ChannelMask, LearnedMask], ids=lambda kind: kind.__name__)
def program(request) -> Program:
    return masked(request.param)


def change(module: nn.Module) -> None:
    """Does what a schedule does: writes into masks, in place."""
    for mask in module.modules():
        if isinstance(mask, LearnedMask):
            with torch.no_grad():
                mask.m.copy_(torch.linspace(0.2, 1, mask.size))
            mask.binarize(0.5)
        elif isinstance(mask, ChannelMask):
            mask.mask[0] = False
        elif isinstance(mask, MaskedLayer):
            mask.mask.flatten()[::3] = False


def twins(module: nn.Module, path: Path) -> dict[str, Callable[[], nn.Module]]:
    def saved() -> nn.Module:
        torch.save(module, path)
        return torch.load(path, weights_only=False)

    def loaded() -> nn.Module:
        twin = masked(type(next(m for m in module.modules() if isinstance(m, ChannelMask))))
        twin.module.load_state_dict(module.state_dict(), strict=True)
        return twin.module

    return {
        "deepcopy": lambda: copy.deepcopy(module),
        "pickle": lambda: pickle.loads(pickle.dumps(module)),
        "torch.save": saved,
        "state_dict": loaded,
    }


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save", "state_dict"])
def test_a_copy_computes_the_same_and_has_masks_of_its_own(program, how, tmp_path):
    change(program.module)
    twin = twins(program.module, tmp_path / "model.pt")[how]()
    wanted = program.module(X)
    assert alike(twin(X), wanted)
    settings = [[m.extra_repr() for m in x.modules()] for x in (program.module, twin)]
    assert settings[0] == settings[1]
    for mask in twin.modules():
        if isinstance(mask, ChannelMask):
            mask.mask.fill_(True)
            mask.ramp = mask.ramp._replace(final=0.9)
    assert torch.equal(program.module.train()(X), wanted)


def test_a_compiled_model_sees_a_mask_that_changes_in_place(program):
    torch.compiler.reset()
    module = program.module.eval()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    before = module(X)
    torch.testing.assert_close(compiled(X), before, rtol=1e-4, atol=1e-5)
    change(module)
    after = module(X)
    assert (after - before).abs().max() > 1e-2
    with torch.compiler.set_stance("fail_on_recompile"):
        torch.testing.assert_close(compiled(X), after, rtol=1e-4, atol=1e-5)
    torch.compiler.reset()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, about its own code
@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
@pytest.mark.skipif(EFFORT <= 1, reason="inductor takes ten seconds to start; GFX_LAWS=2 runs it")
def test_a_mask_that_changes_is_seen_in_code_that_inductor_wrote():
    torch.compiler.reset()
    module = nn.Sequential(LearnedMask(3), masked_layer(nn.Conv2d(3, 2, 1)), ChannelMask(2))
    compiled = torch.compile(module, fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(X), module(X))
        change(module)
        torch.testing.assert_close(compiled(X), module(X))
    torch.compiler.reset()


def test_gradients_reach_the_masks_of_a_compiled_model():
    torch.compiler.reset()
    program = masked(LearnedMask)
    module = program.module
    change(module)  # binary from here on: the gradient goes straight through
    slopes = []
    for model in (module, torch.compile(module, backend="aot_eager")):
        module.zero_grad()
        model(X).square().mean().backward()
        slopes.append([mask.m.grad.clone() for mask in masks_of(program).values()])
    for plain, compiled in zip(*slopes, strict=True):
        assert plain.abs().max() > 0
        torch.testing.assert_close(plain, compiled)
    torch.compiler.reset()


class Dtypes(fx.Interpreter):
    """Remembers the type of each node's value."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: dict[str, torch.dtype] = {}

    def run_node(self, n: fx.Node):
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.found[n.name] = value.dtype
        return value


def test_autocast_gives_the_types_that_the_unmasked_model_has(program):
    runs = []
    for module in (gfx.trace(Net(), X).module, program.module):
        run = Dtypes(module)
        with torch.autocast("cpu", torch.bfloat16):
            loss = run.run(X).float().square().mean()
        loss.backward()
        runs.append(run.found)
    plain, with_masks = runs
    assert torch.bfloat16 in plain.values()
    assert {name: with_masks[name] for name in plain} == plain
    assert all(p.grad is None or p.grad.dtype == p.dtype for p in program.module.parameters())


def test_half_precision_stays_what_it_is(program):
    module = program.module.bfloat16()
    change(module)
    assert module(X.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("strict", [False, True])
def test_torch_export_takes_a_masked_model(program, strict):
    module = program.module.eval()
    change(module)
    exported = torch.export.export(module, (X,), strict=strict)
    assert alike(exported.module()(X), module(X))
    names = exported.state_dict.keys()
    assert {name for name in names if "mask" in name}  # state, not constants


def test_masked_weights_get_no_gradient_and_come_back():
    module = masked().module
    layer = next(m for m in module.modules() if isinstance(m, MaskedLayer))
    before = layer.weight.detach().clone()
    module(X).square().sum().backward()
    assert (layer.weight.grad[~layer.kept] == 0).all()
    torch.optim.SGD(module.parameters(), lr=0.1).step()
    assert torch.equal(layer.weight[~layer.kept], before[~layer.kept])
    layer.mask.fill_(True)
    assert torch.equal(layer.masked_weight, layer.weight)


def _slopes(module: nn.Module, x: Tensor) -> dict[str, Tensor]:
    module.zero_grad()
    module(x).square().mean().backward()
    return {n.removeprefix("module."): p.grad.clone() for n, p in module.named_parameters()}


def _process(rank: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Trains one step's gradients on its own half of the batch; only rank 0 knows new masks."""
    module = masked(LearnedMask).module.eval()
    parallel = DistributedDataParallel(module)
    if rank == 0:
        for mask in module.modules():
            if isinstance(mask, LearnedMask):
                mask.mask[0] = False
                mask.binary.fill_(True)
    return _slopes(parallel, X[rank : rank + 1]), module.state_dict()


def test_two_processes_average_the_gradients_of_masks_and_share_their_buffers(tmp_path):
    (first, state), (second, other) = in_two_processes(_process, tmp_path)
    assert all(torch.equal(state[name], other[name]) for name in state)
    module = masked(LearnedMask).module.eval()
    module.load_state_dict(state)
    halves = [_slopes(module, X[r : r + 1]) for r in (0, 1)]
    assert any(name.endswith(".m") for name in first)
    for name in first:
        wanted = (halves[0][name] + halves[1][name]) / 2
        torch.testing.assert_close(first[name], wanted)
        torch.testing.assert_close(second[name], wanted)
