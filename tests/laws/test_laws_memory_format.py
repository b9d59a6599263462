"""Laws of the memory format: a channels-last net is one after a pass, a file, a copy, a trace."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import gfx
from gfx.pipeline.registry import discover

FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}
CONVS = (nn.modules.conv._ConvNd,)


class Net(nn.Module):
    """Every kind of convolution, norms, weights that are computed, and constants to fold."""

    def __init__(self, rank: int = 2, spectral: bool = False) -> None:
        super().__init__()
        conv, up = (nn.Conv2d, nn.ConvTranspose2d) if rank == 2 else (nn.Conv3d, nn.ConvTranspose3d)
        norm = nn.BatchNorm2d if rank == 2 else nn.BatchNorm3d
        self.stem, self.norm = conv(3, 16, 3, padding=1), norm(16)
        self.deep = conv(16, 16, 3, padding=1, groups=16)
        self.point, self.body = conv(16, 16, 1), conv(16, 16, 3, padding=1)
        self.up, self.norm2 = up(16, 12, 4, 2, 1), norm(12)
        self.out = conv(12, 3, 3, padding=1)
        self.gain = nn.Parameter(torch.ones(1, 16, *[1] * rank))
        if spectral:
            parametrizations.spectral_norm(self.body)
            parametrizations.weight_norm(self.stem)
            nn.utils.spectral_norm(self.out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.stem(x)).relu()
        x = x + self.body(self.point(self.deep(x)).relu()) * (self.gain * 2 + 1)
        return self.out(self.norm2(self.up(x)).relu())


def built(rank: int = 2, spectral: bool = False) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model = Net(rank, spectral).eval().to(memory_format=FORMATS[rank])
    return model, torch.randn(1, 3, *[8] * rank)


def row_major(module: nn.Module) -> list[str]:
    """Lists the convolutions whose weights are not channels-last."""
    return [
        path
        for path, m in module.named_modules()
        if isinstance(m, CONVS)
        and m.weight.ndim in (4, 5)
        and not m.weight.is_contiguous(memory_format=FORMATS[m.weight.ndim - 2])
    ]


FIELDS = {
    "channel_prune": [{"ratio": 0.5}, {"ratio": 0.5, "targets": ["stem"]}, {"ratio": 0.25}],
    "decompose": [{"kind": k} for k in ("depthwise_separable", "spatial", "tucker", "low_rank")],
    "fold_masks": [{}, {"layout": "csr"}],
    "mask": [{}, {"granularity": "element"}, {"kind": "slimming"}],
    "refit": [{}],
    # a parameter of the model's own cannot be drawn anew
    "reinitialise": [{"targets": ["stem", "norm*", "deep", "point", "body", "up", "out"]}],
}
CASES = [
    (name, fields)
    for name in sorted(discover().passes)
    for fields in FIELDS.get(name, [{}])
    if name not in ("refit", "distill_taps", "strip_taps", "fold_masks")
]


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize(
    ("name", "fields"), CASES, ids=[f"{n}{i}" for i, (n, _) in enumerate(CASES)]
)
def test_every_pass_keeps_a_channels_last_net(name, fields, rank):
    model, x = built(rank)
    try:
        small = gfx.apply({"passes": [{name: fields}]}, model, x)
    except gfx.PreconditionError:
        assert rank == 3  # what the pass is not made for
        return
    assert row_major(model) == []
    assert row_major(small) == []


@pytest.mark.parametrize("rank", [2, 3])
def test_a_recipe_of_many_passes_keeps_it(rank):
    model, x = built(rank, spectral=True)
    passes = ["fold_parametrizations", "fuse_batch_norm", "fold_constants"]
    passes += [{"channel_prune": {"ratio": 0.5}}, "refit"]
    small = gfx.apply({"passes": passes}, model, x, data=[torch.cat([x, x + 1, x - 1, x * 2])])
    assert row_major(small) == []
    masks = {"mask": {"one_shot": True, "end": 0}}
    masked = gfx.apply({"passes": ["fold_parametrizations", masks]}, model, x)
    schedule = gfx.schedule(masked)
    while not schedule.done:
        schedule.step()
    assert row_major(gfx.apply({"passes": ["fold_masks"]}, masked, x)) == []


@pytest.mark.parametrize(
    "name", ["channel_prune", "decompose", "fuse_batch_norm", "fold_constants"]
)
def test_a_pass_by_hand_keeps_it_too(name):
    model, x = built()
    program = gfx.trace(model, x)
    discover().passes[name]().apply(program, gfx.Context())
    assert row_major(program.module) == []


@pytest.mark.parametrize("rank", [2, 3])
def test_a_trace_a_copy_and_files_keep_it(rank, tmp_path):
    model, x = built(rank)
    program = gfx.trace(model, x)
    assert row_major(program.module) == []
    assert row_major(program.copy().module) == []
    small = gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5}}]}, model, x)
    for name in ("a.gfx", "a.pt"):
        gfx.save(small, tmp_path / name)
    assert row_major(gfx.load(tmp_path / "a.gfx")) == []
    assert row_major(torch.load(tmp_path / "a.pt", weights_only=False)) == []


def test_folding_computed_weights_keeps_it():
    model, x = built(spectral=True)
    program = gfx.trace(model, x)
    discover().passes["fold_parametrizations"]().apply(program, gfx.Context())
    assert row_major(program.module) == []


def test_a_row_major_net_stays_one():
    torch.manual_seed(0)
    model, x = Net().eval(), torch.randn(1, 3, 8, 8)
    small = gfx.apply({"passes": ["fuse_batch_norm", {"channel_prune": {"ratio": 0.5}}]}, model, x)
    weights = [m.weight for m in small.modules() if isinstance(m, CONVS)]
    assert all(weight.is_contiguous() for weight in weights)


def test_one_layer_of_another_format_leaves_each_as_it_is():
    model, x = built()
    model.out.weight.data = model.out.weight.data.contiguous()
    small = gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5}}]}, model, x)
    assert row_major(small) == ["out"]
