"""The systems of GAN Compression run from a generator and pairs to a net within the budget."""

import os

import pytest
import torch

import gfx
from support.training_runs import pairs


def compressed(name, preset, folder, **how):
    torch.manual_seed(0)
    model = gfx.zoo.build("resnet_9blocks", ngf=16, n_blocks=9, image_size=16).eval()
    how = {"data": pairs(60, 16), "scale": 0.002, "val": 0.2, "run": folder, **how}
    return gfx.compress(name, model, preset=preset, **how), model


def test_the_fast_pipeline_is_planned_from_the_model_as_it_was_given(tmp_path):
    made, _ = compressed("gan-compression-fast", "cityscapes", tmp_path / "run", dry_run=True)
    by_name = {stage.name: stage for stage in made.plan.stages}
    assert list(by_name) == ["given", "supernet", "search", "finetune"]
    assert by_name["search"].macs <= 0.1 * by_name["given"].macs
    assert by_name["finetune"].macs == by_name["search"].macs


@pytest.mark.skipif(not os.environ.get("GFX_SLOW"), reason="GFX_SLOW=1 runs it")
def test_it_ends_with_a_net_within_the_budget(tmp_path):
    made, model = compressed("gan-compression", None, tmp_path, scale=0.0005)
    assert list(made.scores) == ["given", "teacher", "distill", "supernet", "search", "finetune"]
    example = torch.zeros(1, 3, 16, 16)
    assert made.finished
    assert gfx.cost(made.model, example).macs.exact <= 0.1 * gfx.cost(model, example).macs.exact
    assert set(made.scores["finetune"]) == {"l1", "psnr"}
    report = gfx.report(made.model)
    assert [step.name for step in report.passes].count("widths") == 1
    assert report.before.macs.exact == gfx.cost(model, example).macs.exact
    assert report.after.macs.exact == gfx.cost(made.model, example).macs.exact
    assert (tmp_path / f"{len(made.plan.stages) - 2:02d}-search" / "front.html").is_file()
