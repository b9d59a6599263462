"""Channels are those of the layers: an image keeps its colours, and what is asked is what goes."""

import pytest
import torch
from torch import nn

import gfx
from gfx.coupling import analyse
from passes.channel_prune import ChannelPrune
from passes.decompose import Decompose
from passes.mask import Mask


class Shifted(nn.Module):
    """As EDSR: an image's mean is taken off by a convolution from 3 to 3 channels, and put back."""

    def __init__(self, colours: int = 3) -> None:
        super().__init__()
        self.sub, self.add = nn.Conv2d(colours, colours, 1), nn.Conv2d(colours, colours, 1)
        self.head, self.body = nn.Conv2d(colours, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.tail = nn.Conv2d(16, colours, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(self.sub(x))
        return self.add(self.tail(x + self.body(x).relu()))


def shifted(colours: int = 3) -> gfx.Program:
    torch.manual_seed(0)
    return gfx.trace(Shifted(colours).eval(), torch.zeros(1, colours, 8, 8))


def outputs(program: gfx.Program) -> dict[str, int]:
    found = program.module.named_modules()
    return {path: m.out_channels for path, m in found if isinstance(m, nn.Conv2d)}


@pytest.mark.parametrize("colours", [2, 3, 4])
@pytest.mark.parametrize("scope", ["local", "global", "isomorphic"])
def test_an_image_keeps_its_colours_and_the_report_says_why(scope, colours):
    program = shifted(colours)
    outcome = ChannelPrune(ratio=0.5, scope=scope).apply(program, gfx.Context())
    wide = outputs(program)
    assert wide["sub"] == wide["tail"] == wide["add"] == colours
    assert wide["head"] == 8
    why = {skip.node: skip.why for skip in outcome.skips}
    assert why["sub"] == (
        f"it has {colours} channels, and min_channels=4 keeps as many, as they may be those of an "
        "image; min_channels: 1 lets them go"
    )


def test_an_explicit_min_channels_still_lets_colours_go():
    program = shifted()
    ChannelPrune(ratio=0.5, min_channels=1).apply(program, gfx.Context())
    assert outputs(program)["sub"] == 2


@pytest.mark.parametrize("fields", [{}, {"granularity": "filter"}, {"kind": "ppcd"}])
def test_masks_leave_an_image_alone_and_keep_as_many_of_all_others(fields):
    program = shifted()
    outcome = Mask(sparsity=0.9, end=1, every=1, alpha=1.0, **fields).apply(program, gfx.Context())
    assert "min_channels=4" in {skip.node: skip.why for skip in outcome.skips}["sub"]
    schedule = gfx.schedule(program.module)
    with torch.no_grad():
        for name, m in program.module.named_parameters():
            if name.endswith(".m"):
                m.fill_(0.5)
    while not schedule.done:
        schedule.step()
    masks = [b for name, b in program.module.named_buffers() if name.endswith(".mask")]
    assert masks
    assert all(int(mask.sum()) == 4 for mask in masks)


@pytest.mark.parametrize("kind", ["slimming", "l1"])
def test_a_threshold_leaves_as_many_too(kind):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 12, 1), nn.BatchNorm2d(12)]
    model = nn.Sequential(*layers, nn.Conv2d(12, 3, 1)).eval()
    masked = gfx.apply({"passes": [{"mask": {"kind": kind}}]}, model, torch.zeros(1, 3, 4, 4))
    gfx.schedule(masked, torch.optim.SGD(masked.parameters(), lr=0.1)).binarize(1e9)
    masks = [b for name, b in masked.named_buffers() if name.endswith(".mask")]
    assert [int(mask.sum()) for mask in masks] == [4]


@pytest.mark.parametrize(
    "passes", [["decompose"], ["channel_prune"], ["channel_prune", "decompose"]]
)
def test_a_budget_takes_no_colour(passes):
    recipe = {"budget": {"macs": 0.6}, "passes": passes, "seed": 0}
    fields = {"channel_prune": {"tolerance": 1}}
    recipe["passes"] = [{name: fields[name]} if name in fields else name for name in passes]
    small = gfx.apply(recipe, Shifted().eval(), torch.zeros(1, 3, 8, 8))
    assert small(torch.rand(1, 3, 8, 8)).shape == (1, 3, 8, 8)
    kept = [p.details.get("kept", {}) | p.spec.get("kept", {}) for p in gfx.report(small).passes]
    assert not any("sub" in names or "tail" in names for names in kept)


def test_decompose_says_which_groups_an_image_keeps_whole():
    program = shifted()
    limit = gfx.Budget(limit=0.5 * gfx.cost(program).macs.exact)
    outcome = Decompose(budget=(limit,), batches=1).apply(program, gfx.Context())
    assert "min_channels=4" in {skip.node: skip.why for skip in outcome.skips}["sub"]


def test_inspect_offers_no_narrowing_of_an_image():
    table = gfx.inspect(Shifted().eval(), torch.zeros(1, 3, 8, 8), batches=1)
    row = table["sub"]
    assert not row.free
    assert "min_channels=4" in row.why
    assert set(table["head"].widths.values()) == {12, 8, 4}


def decoder(widths: tuple[int, ...], groups: int) -> nn.Module:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    model = diffusers.AutoencoderKL(
        block_out_channels=widths,
        norm_num_groups=groups,
        latent_channels=4,
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
    )
    return model.decoder.eval()


@pytest.mark.parametrize("group_norm", ["auto", "regroup", "whole"])
def test_half_of_a_decoder_goes_whatever_goes_together(group_norm):
    model, x = decoder((16, 32, 64, 64), 8), torch.zeros(1, 4, 4, 4)
    fields = {"ratio": 0.5, "group_norm": group_norm, "round_to": 8}
    program = gfx.trace(model, x)
    before, whole = outputs(program), gfx.cost(program).macs.exact
    outcome = ChannelPrune(**fields).apply(program, gfx.Context())
    assert outcome.details["achieved"]["ratio"] == 0.5
    after = outputs(program)
    assert {path for path in before if after[path] != before[path] / 2} == {"conv_out"}
    assert gfx.cost(program).macs.exact < 0.26 * whole
    rows = {row["group"]: row for row in outcome.details["groups"]}
    assert rows["conv_in"] == {"group": "conv_in", "channels": 64, "removed": 32}


def test_a_budget_narrows_the_narrowest_stage_too():
    model, x = decoder((32, 64, 64), 8), torch.zeros(1, 4, 4, 4)
    fields = {"round_to": 8, "tolerance": 1}
    recipe = {"budget": {"macs": 0.5}, "passes": [{"channel_prune": fields}]}
    small = gfx.apply(recipe, model, x)
    wide = {path: m.out_channels for path, m in small.named_modules() if isinstance(m, nn.Conv2d)}
    last = [n for path, n in wide.items() if path.startswith("up_blocks.2")]
    assert max(last) < 32
    assert all(n % 8 == 0 for path, n in wide.items() if path != "conv_out")


def test_a_prune_far_from_what_was_asked_says_so():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 24, 3), nn.Conv2d(24, 12, 3), nn.Conv2d(12, 3, 3))
    program = gfx.trace(model, torch.zeros(1, 3, 12, 12))
    outcome = ChannelPrune(ratio=0.5, round_to=16).apply(program, gfx.Context())
    assert outcome.details["note"] == (
        "8 of 24 channels go, and 12 were asked for: 0 of 1 groups stay whole, the others are "
        "rounded up (round_to=16, min_channels=4); lower round_to"
    )
    why = {skip.node: skip.why for skip in outcome.skips}
    assert why["1"] == "it has 12 channels, and round_to=16, min_channels=4 lets none of them go"
    outcome = ChannelPrune(ratio=0.5).apply(shifted(), gfx.Context())
    assert "note" not in outcome.details


class Grouped(nn.Module):
    """Grouped convolutions of both kinds, whose weights have fewer indices than channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.mid = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 32, 1, groups=4)
        self.up, self.last = nn.ConvTranspose2d(32, 48, 2, 2, groups=4), nn.Conv2d(48, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.up(self.mid(self.first(x)).relu()).relu())


def test_grouped_layers_are_counted_as_wide_as_they_are():
    torch.manual_seed(0)
    program = gfx.trace(Grouped(), torch.zeros(1, 3, 4, 4))
    groups = analyse(program)
    assert {g.name: (g.size, g.width) for g in groups.free} == {
        "first": (4, 16),
        "mid": (8, 32),
        "up": (12, 48),
    }
    original = program.copy()
    outcome = ChannelPrune(ratio=0.5, round_to=8).apply(program, gfx.Context())
    assert program.module.up.out_channels == 24
    changes = {c.node: (c.before, c.after) for c in outcome.changes}
    assert changes == {"first": (16, 8), "mid": (32, 16), "up": (48, 24)}
    assert len(outcome.details["kept"]["up"]) == 24
    again, former = original.copy(), original.copy()
    kept = {name: tuple(stay) for name, stay in outcome.details["kept"].items()}
    ChannelPrune(kept=kept).apply(again, gfx.Context())
    kept["up"] = tuple(i for i in kept["up"] if i < 12)  # as earlier versions wrote it
    ChannelPrune(kept=kept).apply(former, gfx.Context())
    for other in (again, former):
        assert torch.equal(other.module.up.weight, program.module.up.weight)
    ChannelPrune(widths={"up": 36}).apply(original, gfx.Context())
    assert original.module.up.out_channels == 36
    with pytest.raises(gfx.RecipeError, match=r"widths\[up\]=37, but it has 36 channels"):
        ChannelPrune(widths={"up": 37}).apply(original, gfx.Context())
