"""Metrics between two outputs: values that are known, every form of output, every refusal."""

import sys
from math import inf, log10, nan

import pytest
import torch
from torch import nn

from gfx.errors import InputError
from gfx.metrics import METRICS, metric


def images(seed=0, size=16, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 3, size, size, generator=generator) * scale


def test_relative_l2_is_the_norm_of_the_difference_over_that_of_the_original():
    a, b = images(0), images(1)
    found = metric("relative_l2")(a, b)
    assert found == pytest.approx(float((b - a).norm() / a.norm()))


def test_relative_l2_takes_all_floating_outputs_together():
    a, b = {"x": images(0), "n": torch.arange(3)}, {"x": images(1), "n": torch.arange(3) + 5}
    a["y"], b["y"] = (images(2, 4), 1), (images(3, 4), 1)
    gap = (images(1) - images(0)).square().sum() + (images(3, 4) - images(2, 4)).square().sum()
    size = images(0).square().sum() + images(2, 4).square().sum()
    assert metric("relative_l2")(a, b) == pytest.approx(float((gap / size).sqrt()))


def test_an_original_of_zeros_is_compared_absolutely():
    assert metric("relative_l2")(torch.zeros(4), torch.ones(4)) == 2.0
    assert metric("relative_l2")(torch.zeros(4), torch.zeros(4)) == 0.0


@pytest.mark.parametrize("scale", [1.0, 255.0, 2.0])
def test_psnr_takes_the_range_of_the_original(scale):
    a, b = images(0, scale=scale), images(1, scale=scale)
    wanted = 20 * log10(float(a.max() - a.min())) - 10 * log10(float((a - b).square().mean()))
    assert metric("psnr")(a, b) == pytest.approx(wanted)


@pytest.mark.parametrize("name", METRICS)
def test_identical_outputs_cost_nothing_and_worse_ones_more(name):
    measured = metric(name, extractor=(lambda x: x) if name == "feature" else None)
    a, noise = images(0), images(1) - 0.5
    costs = [measured.cost(measured(a, a + noise * share)) for share in (0, 0.1, 0.3, 0.9)]
    assert costs[0] == pytest.approx(0, abs=1e-12)
    assert costs == sorted(costs)
    assert costs[1] > 0


def test_ssim_of_scaled_images_is_the_same():
    a, b = images(0), images(1)
    assert metric("ssim")(a, b) == pytest.approx(metric("ssim")(a * 255, b * 255), abs=1e-6)


def test_features_are_those_of_the_extractor():
    torch.manual_seed(0)
    extractor = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    a, b = images(0), images(1)
    found = metric("feature", extractor=extractor)(a, b)
    assert extractor.training
    assert all(module.training for module in extractor.modules())
    with torch.no_grad():
        x, y = extractor.eval()(a), extractor(b)
    assert found == pytest.approx(float((y - x).norm() / x.norm()))


def test_an_extractor_sees_the_original_once():
    calls = []
    measured = metric("feature", extractor=lambda x: calls.append(x) or x)
    a = images(0)
    for seed in (1, 2, 3):
        measured(a, images(seed))
    assert sum(torch.equal(x, a) for x in calls) == 1


def test_functions_and_extractors_may_write_into_what_they_are_given():
    a, b = images(0), images(1)
    kept = a.clone(), b.clone()
    metric(lambda x, y: (x.sub_(y)).abs_().max())(a, b)
    metric("feature", extractor=nn.ReLU(inplace=True))(a.sub_(1), b.sub_(1))
    assert torch.equal(a, kept[0] - 1)
    assert torch.equal(b, kept[1] - 1)


def test_any_function_is_a_metric():
    def worst(teacher, student):
        return (teacher - student).abs().max()

    found = metric(worst)
    assert found.name == "worst"
    assert not found.higher_is_better
    assert found(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 5.0])) == 3.0
    assert found.cost(3.0) == 3.0
    assert metric(found) is found


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "metric told returned a NoneType; it must return one number"),
        ("0.1", "metric told returned a str"),
        (torch.ones(2), "metric told returned a Tensor"),
        (True, "metric told returned a bool"),
        (nan, "metric told returned nan"),
        (inf, "metric told returned inf"),
    ],
)
def test_what_is_no_number_is_refused(value, text):
    def told(teacher, student):
        return value

    with pytest.raises(InputError, match=text):
        metric(told)(images(), images())


def test_unknown_metrics_are_refused():
    with pytest.raises(InputError, match="there is no metric 'psrn'; did you mean 'psnr'"):
        metric("psrn")
    with pytest.raises(InputError, match="there are relative_l2, psnr, ssim, feature"):
        metric("zzz")
    with pytest.raises(InputError, match="metric is a int"):
        metric(3)


def test_a_missing_extractor_is_named():
    with pytest.raises(InputError, match="pass extractor=, a function or module"):
        metric("feature")
    with pytest.raises(InputError, match="metric=psnr does not use it"):
        metric("psnr", extractor=nn.Identity())
    with pytest.raises(InputError, match="extractor is a int"):
        metric("feature", extractor=3)


@pytest.mark.parametrize("name", ["psnr", "ssim"])
def test_image_metrics_name_what_they_cannot_take(name):
    with pytest.raises(InputError, match=f"metric {name} needs images .* has shape 2x8"):
        metric(name)(torch.rand(2, 8), torch.rand(2, 8))
    flat = torch.ones(1, 3, 16, 16)
    with pytest.raises(InputError, match=r"output is constant \(1\)"):
        metric(name)(flat, images()[:1])


def test_ssim_needs_images_of_the_size_of_its_window():
    with pytest.raises(InputError, match="at least 11 pixels, and the output has 8"):
        metric("ssim")(images(0, 8), images(1, 8))


@pytest.mark.parametrize("name", ["psnr", "ssim"])
def test_a_missing_torchmetrics_names_the_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.setitem(sys.modules, "torchmetrics.functional", None)
    with pytest.raises(InputError, match=r"pip install 'gfx-compiler\[metrics\]'"):
        metric(name)


def test_outputs_that_do_not_fit_are_refused():
    measured = metric("relative_l2")
    with pytest.raises(InputError, match="not of one structure"):
        measured(images(), (images(),))
    with pytest.raises(InputError, match="the outputs are 2x3x16x16 and 2x3x8x8"):
        measured(images(), images(size=8))
    with pytest.raises(InputError, match="holds no floating tensor"):
        measured(torch.arange(3), torch.arange(3))
    with pytest.raises(InputError, match="output of the changed model is not finite"):
        measured(images(), images() / 0)
    with pytest.raises(InputError, match="output of the original model is not finite"):
        measured(images() / 0, images())
