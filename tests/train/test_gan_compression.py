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


def painted(folder, **how):
    """Runs the preset of GauGAN on small maps of labels."""
    torch.manual_seed(0)
    size = {"labels": 5, "height": 64, "width": 64, "doublings": 5}
    model = gfx.zoo.build("spade", ngf=8, **size).eval()
    labels = torch.randint(0, 5, (60, 16, 16)).repeat_interleave(4, 1).repeat_interleave(4, 2)
    maps = torch.nn.functional.one_hot(labels, 5).permute(0, 3, 1, 2).float()
    images = maps.argmax(1, keepdim=True).expand(-1, 3, -1, -1) / 2 - 1
    how = {"data": (maps, images), "val": 0.2, "run": folder, **how}
    return gfx.compress("gan-compression", model, preset="gaugan-cityscapes", **how)


@pytest.mark.skipif(not os.environ.get("GFX_SLOW"), reason="GFX_SLOW=1 runs it")
def test_the_preset_of_gaugan_runs_on_maps_of_labels(tmp_path):
    plan = painted(tmp_path / "plan", scale=0.0005, dry_run=True).plan
    made = painted(tmp_path / "run", scale=0.0005)
    assert made.finished
    given, *_, last = plan.stages
    assert last.macs <= 0.114 * given.macs
    # 48 of 64 of every part, and separable convolutions for scale and shift
    taught = gfx.load(tmp_path / "run" / "02-distill.gfx")
    mobile = {"labels": 5, "height": 64, "width": 64, "doublings": 5, "spectral": False}
    thin = gfx.zoo.build("spade", ngf=6, mobile=True, **mobile)
    assert gfx.cost(gfx.apply({"passes": ["strip_taps"]}, taught), plan.example).params == (
        gfx.cost(thin, plan.example).params
    )


def test_names_of_another_spade_are_told_with_what_is_there():
    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.mlp_gamma, self.mlp_beta = (torch.nn.Conv2d(3, 3, 3, padding=1) for _ in "ab")

        def forward(self, x):
            return x * self.mlp_gamma(x) + self.mlp_beta(x)

    how = {"data": pairs(60, 16), "val": 0.2, "dry_run": True}
    with pytest.raises(gfx.errors.RecipeError, match=r"named '\*\.scale'.*mlp_gamma"):
        gfx.compress("gan-compression", Block(), preset="gaugan-cityscapes", **how)
