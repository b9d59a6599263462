"""Prepare, train, save, load, convert: the masked model and what is left of it give the same."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import fx, nn
from typer.testing import CliRunner

import gfx
from gfx.cli import app
from gfx.ir.modules import MaskedLayer, Tap, is_own
from gfx.ir.program import Program
from support.laws import law
from support.masked_programs import zeroed_masks
from support.oracle import alike, assert_equal_outputs, flat
from support.strategies import specs

KINDS: dict[str, dict[str, Any]] = {
    "channel": {"sparsity": 0.5},
    "channel, global": {"sparsity": 0.5, "scope": "global"},
    "filter": {"granularity": "filter", "sparsity": 0.5},
    "element": {"granularity": "element", "sparsity": 0.75},
    "ppcd": {"kind": "ppcd", "alpha": 0.8, "strength": 20.0},
    "slimming": {"kind": "slimming", "strength": 0.1},
    "slimming, proximal": {"kind": "slimming", "strength": 1.0, "proximal": True},
    "l1": {"kind": "l1", "strength": 0.1},
}
FEWER = set(KINDS) - {"element"}  # MACs
THRESHOLDS = {"ppcd": 0.87, "slimming": 0.98, "l1": 0.06}  # some channels are below


class Net(nn.Module):
    """A residual stream with a norm in it, an inner group, a layer that upsamples, a dense end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm1 = nn.Conv2d(3, 10, 3, padding=1), nn.BatchNorm2d(10)
        self.inner, self.norm2 = nn.Conv2d(10, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.body = nn.Conv2d(6, 10, 3, padding=1)
        self.up = nn.ConvTranspose2d(10, 8, 4, 2, 1, bias=False)
        self.norm3 = nn.InstanceNorm2d(8, affine=True)
        self.fc, self.head = nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm1(self.stem(x)).relu()
        x = x + self.body(self.norm2(self.inner(x)).relu())
        x = self.norm3(self.up(x)).relu().permute(0, 2, 3, 1)
        return self.head(self.fc(x).relu()).permute(0, 3, 1, 2).tanh()


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(step)).double()
    return x, nn.functional.interpolate(x, scale_factor=2).tanh()


def prepared(fields: dict[str, Any], model: nn.Module | None = None) -> fx.GraphModule:
    torch.manual_seed(0)
    recipe = {"passes": [{"mask": {"end": 6, "every": 2, "min_channels": 1, **fields}}]}
    return gfx.apply(recipe, (model or Net().double()).train(), batch(0)[0])


def trained(model: fx.GraphModule, kind: str = "agp", steps: int = 8) -> fx.GraphModule:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    schedule = gfx.schedule(model, optimizer)
    for step in range(steps):
        x, y = batch(step)
        loss = (model(x) - y).abs().mean() + schedule.loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if not schedule.done:
            schedule.step()
    if kind != "agp":
        schedule.binarize(THRESHOLDS[kind])
    return model


def plain(model: nn.Module) -> bool:
    """Whether nothing of gfx is left: no module, no key, no line of code."""
    names = [*model.state_dict(), *(n for n, _ in model.named_modules())]
    assert not any("mask" in name or "penalt" in name for name in names), names
    assert "mask" not in model.code
    return not any(is_own(m) for m in model.modules())


@pytest.mark.parametrize("name", KINDS)
def test_what_was_trained_with_masks_is_saved_loaded_and_folded(name, tmp_path):
    masked = trained(prepared(KINDS[name]), KINDS[name].get("kind", "agp"))
    gfx.save(masked, tmp_path / "masked.gfx")
    loaded = gfx.load(tmp_path / "masked.gfx")
    small = gfx.apply({"passes": ["fold_masks"]}, loaded, batch(0)[0])
    assert plain(small)
    for mode in (True, False):
        x = batch(99)[0]
        a, b = copy.deepcopy(masked).train(mode)(x), copy.deepcopy(small).train(mode)(x)
        assert_equal_outputs(a, b)
    before, after = (gfx.cost(m, batch(0)[0]) for m in (masked, small))
    assert (after.macs.exact < before.macs.exact) == (name in FEWER)
    report = gfx.report(small)
    assert (report.before.macs, report.after.macs) == (before.macs, after.macs)
    gfx.save(small, tmp_path / "small.gfx")
    assert alike(gfx.load(tmp_path / "small.gfx")(x), small(x))


def test_penalised_channels_that_no_threshold_cut_are_told():
    small = gfx.apply({"passes": ["fold_masks"]}, prepared({"kind": "slimming"}), batch(0)[0])
    assert plain(small)
    skips = gfx.report(small).passes[0].skips
    assert {s.why.partition(",")[0] for s in skips} == {
        "it zeroes nothing: schedule.binarize(alpha)"
    }


def test_the_shell_folds_a_saved_model(tmp_path):
    masked = trained(prepared({})).eval()
    gfx.save(masked, tmp_path / "masked.gfx")
    (tmp_path / "fold.yaml").write_text("recipe: 1\npasses: [fold_masks]\n")
    arguments = ["apply", tmp_path / "fold.yaml", tmp_path / "masked.gfx", "-o", tmp_path / "s.gfx"]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    small = gfx.load(tmp_path / "s.gfx")
    assert plain(small)
    assert_equal_outputs(masked(batch(9)[0]), small(batch(9)[0]))


MASKS = st.sampled_from(
    (
        {"granularity": "channel"},
        {"granularity": "filter"},
        {"granularity": "element"},
        {"kind": "slimming"},
        {"kind": "ppcd"},
    )
)
BETWEEN = st.sampled_from(
    (
        {"channel_prune": {"ratio": 0.25, "importance": "random"}},
        {"decompose": {"kind": "tucker", "rank": 0.5}},
        {"distill_taps": {"layers": "auto"}},
        {"fuse_batch_norm": {}},
    )
)


@law(6)
@given(specs(2), MASKS, st.lists(BETWEEN, max_size=2, unique_by=str), st.booleans())
def test_other_passes_may_come_between_masking_and_folding(spec, fields, between, training):
    model, inputs = spec.build()
    masked = applied({"mask": {"min_channels": 1, **fields}}, model.train(training), inputs)
    masked = zeroed(masked or gfx.trace(model, inputs).module, inputs)
    for pass_ in between:
        masked = applied(pass_, masked, inputs) or masked
    wanted = masked(*inputs)
    assume(flat(wanted).isfinite().all())
    small = gfx.apply({"passes": ["fold_masks"]}, masked, inputs)
    assert_equal_outputs(wanted, small(*inputs))
    assert not any(is_own(m) for m in small.modules() if not isinstance(m, Tap))
    assert gfx.cost(small, inputs).macs.exact <= gfx.cost(masked, inputs).macs.exact


def applied(pass_: dict[str, Any], model: nn.Module, inputs: tuple) -> fx.GraphModule | None:
    """Applies a pass, or returns None where there is nothing for it to do."""
    try:
        return gfx.apply({"seed": 0, "passes": [pass_]}, model, inputs, verify=False)
    except gfx.PreconditionError:
        return None


def zeroed(model: fx.GraphModule, inputs: tuple) -> fx.GraphModule:
    """Zeroes some of what each mask masks."""
    program = zeroed_masks(Program(model, inputs), share=0.4)
    for layer in program.module.modules():
        if isinstance(layer, MaskedLayer):
            layer.mask.copy_(torch.rand(layer.mask.shape) > 0.4)
    return program.module
