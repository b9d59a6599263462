"""The report: plain data that survives JSON, and text a person reads."""

import json
from typing import Any

import pytest
import torch
from torch import nn

import gfx
from gfx.contract import Change, Skip
from gfx.costs import Cost, Macs
from gfx.pipeline.pass_report import PassReport
from gfx.pipeline.report import Report, attach, render, report, said
from gfx.pipeline.verify import Check


@pytest.fixture(scope="module")
def told() -> Report:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 3))
        model = nn.Sequential(*layers, nn.BatchNorm2d(3, affine=False, track_running_stats=False))
        recipe = {"passes": ["fuse_batch_norm", {"channel_prune": {"ratio": 0.5}}]}
        return gfx.report(gfx.apply(recipe, model.eval(), torch.zeros(1, 3, 8, 8)))


def test_it_tells_what_was_done_refused_checked_and_spent(told: Report) -> None:
    fuse, prune = told.passes
    assert fuse.changes == (Change("1", "folded into 0"),)
    assert fuse.skips == (Skip("4", "it keeps no running statistics (track_running_stats=False)"),)
    assert [check.name for check in fuse.checks] == ["structure", "signature", "honesty", "values"]
    assert fuse.checks[3].error is not None
    assert fuse.checks[3].error < 1e-4
    assert prune.spec["ratio"] == 0.5
    assert prune.details["achieved"]["ratio"] == 0.5
    assert told.before is not None
    assert told.after is not None
    assert told.after.params < told.before.params
    assert told.after == prune.after
    assert told.before == fuse.before
    assert fuse.after == prune.before


def test_it_equals_its_own_json_copy(told: Report) -> None:
    again = Report.from_dict(json.loads(json.dumps(told.to_dict())))
    assert again == told
    assert str(again) == str(told)


def test_the_clock_does_not_count_in_comparisons(told: Report) -> None:
    data = told.to_dict()
    data["seconds"] += 1
    data["passes"][0]["seconds"] += 1
    assert Report.from_dict(data) == told


def test_its_recipe_is_the_expanded_one(told: Report) -> None:
    assert gfx.Recipe.load(told.recipe).spec() == told.recipe
    assert told.recipe["passes"][0] == {"fuse_batch_norm": {"targets": ["*"]}}


def test_the_text_says_it_all_in_about_forty_lines(told: Report) -> None:
    text = render(told, width=120)
    assert len(text.splitlines()) <= 40
    for part in (
        "model Sequential, front end symbolic, inputs float32 1x3x8x8",
        "MACs, exact",
        "1. fuse_batch_norm()",
        "1: folded into 0",
        "left alone 4: it keeps no running statistics",
        "2. channel_prune(ratio=0.5",
        "0: channels 8 → 4",
        "checked structure; signature; honesty; values differ by",
        "recipe\n  recipe: 1\n",
    ):
        assert part in text


def test_long_lists_are_cut_with_a_count() -> None:
    changes = tuple(Change(f"conv{i}", "channels", 64, 32) for i in range(100))
    one = PassReport("prune", {"keep": ["x" * 200]}, changes)
    text = str(Report(source="Net", passes=(one,), verified=True))
    assert "... and 94 more" in text
    assert max(len(line) for line in text.splitlines()) < 120


def test_what_was_not_checked_says_why() -> None:
    check = Check("values", None, detail="on the meta device: only shapes were checked")
    one = PassReport("prune", {}, checks=(check,))
    text = str(Report(source="Net", passes=(one,), verified=True))
    assert "values not checked (on the meta device" in text


def test_a_cost_of_zero_has_no_share() -> None:
    cost = Cost(Macs(), 0, 0, 0)
    assert "-" in str(Report(source="Net", before=cost, after=cost))


def test_a_module_without_a_report_is_told_what_to_do() -> None:
    with pytest.raises(gfx.GfxError, match=r"this Linear has no gfx report; pass what gfx.apply"):
        gfx.report(nn.Linear(1, 1))


def test_a_report_kept_as_data_is_read_and_a_broken_one_refused() -> None:
    module: Any = nn.Linear(1, 1)
    module.gfx_report = Report(source="Net").to_dict()
    assert report(module) == Report(source="Net")
    module.gfx_report = {"source": 3}
    with pytest.raises(gfx.GfxError, match=r"this is no gfx report: .*expected text, got 3"):
        report(module)


def test_attaching_twice_keeps_the_last_only() -> None:
    import copy

    module: Any = torch.fx.symbolic_trace(nn.Linear(1, 1))
    attach(module, Report(source="First"))
    attach(module, Report(source="Second"))
    assert report(copy.deepcopy(module)).source == "Second"


def test_what_is_gone_is_called_none_and_not_null() -> None:
    assert said(None) == "none"
    assert said({"tap": [None, 1.5]}) == "tap none, 1.5"
