"""The systems of GAN Compression run from a generator and pairs to a net within the budget."""

import os

import pytest
import torch

import gfx
from gfx.train.search.front_file import read_front
from support.training_runs import Patch, cycled, files_of, generator, pairs, state_of, two_sets
from support.training_runs import compressed as run_of


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
    taught, example = gfx.load(tmp_path / "run" / "02-distill.gfx"), torch.zeros(1, 5, 64, 64)
    mobile = {"labels": 5, "height": 64, "width": 64, "doublings": 5, "spectral": False}
    thin = gfx.zoo.build("spade", ngf=6, mobile=True, **mobile)
    assert gfx.cost(taught, example) == gfx.cost(thin, example)


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


def unpaired(folder, **how):
    """Trains a teacher from new weights, a supernet by its images, and searches in it."""
    teacher = cycled(2)["stages"]["train"]
    taught = {"losses": {"recon": 10}, "teacher": "teacher", "discriminator": "none"}
    fit = {**taught, "batch": 2, "steps": 2, "sample": "uniform"}
    asked = {"by": "random", "evaluations": 4}
    recipe = {
        "data": {"search": 0.3},
        "stages": {
            "teacher": {"do": [{"reinitialise": {"std": 0.5}}], **teacher},
            "supernet": {
                "do": ["sort_channels", {"widths": {"values": {"*": [4, 8]}}}],
                "fit": fit,
            },
            "search": {"search": asked},
            "finetune": {"fit": {**taught, "batch": 2, "steps": 2}, "keep": "if_better"},
        },
    }
    how = {"data": two_sets(24), "discriminator": Patch(3), "val": 0.2, "run": folder, **how}
    return run_of(recipe, **how)


def test_a_search_without_pairs_compares_with_the_teacher_of_its_supernet(tmp_path):
    made = unpaired(tmp_path)
    found, teacher = (gfx.load(tmp_path / f"{name}.gfx") for name in ("03-search", "01-teacher"))
    apart = made.scores["search"]["l1"]
    front = read_front(tmp_path / "03-search")
    assert min(net.value for net in front.nets) == pytest.approx(apart, rel=1e-5)
    given, _ = pairs(24)
    with torch.no_grad():  # of all examples: near to what held-out ones say
        near = (found(given) - teacher(given)).abs().mean()
        far = (found(given) - generator()(given)).abs().mean()
    assert abs(apart - near) < abs(apart - far) / 4


def test_a_system_without_pairs_goes_on_bit_for_bit(tmp_path):
    whole = unpaired(tmp_path / "whole")
    for seconds in (0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, None):
        again = unpaired(tmp_path / "parts", time=seconds)
    assert state_of(again.model) == state_of(whole.model)
    assert files_of(tmp_path / "parts").keys() == files_of(tmp_path / "whole").keys()
    assert again.scores == whole.scores


def test_the_unpaired_pipeline_is_planned_to_its_end(tmp_path):
    torch.manual_seed(0)
    model = gfx.zoo.build("resnet_9blocks", ngf=16, n_blocks=9, image_size=16).eval()
    how = {"data": two_sets(60, 16), "scale": 0.0005, "val": 0.2, "run": tmp_path}
    how |= {} if os.environ.get("GFX_SLOW") else {"dry_run": True}
    made = gfx.compress("gan-compression-unpaired", model, preset="horse2zebra", **how)
    names = ["given", "teacher", "distill", "supernet", "search", "finetune"]
    assert [stage.name for stage in made.plan.stages] == names
    assert made.plan.stages[-1].macs <= 0.0528 * made.plan.stages[0].macs
    assert made.finished == bool(os.environ.get("GFX_SLOW"))
