"""Costs against the figures that the papers print."""

import pytest

from support.programs import zoo_cost
from support.published_subnets import MOBILE_RESNET

PUBLISHED = {
    # name, options: measure → integer
    ("resnet_9blocks", ()): {"output": 56_799_264_768, "params": 11_378_179},
    ("mobile_resnet_9blocks", ()): {"params": 1_987_075},
    ("mobile_resnet_9blocks", (("ngf", 48),)): {"params": 1_130_883},
    ("mobile_resnet_9blocks", (("ngf", 32),)): {"params": 514_307},
    ("mobile_resnet_9blocks", (("ngf", 16),)): {"params": 137_347},
    ("unet_256", ()): {"output": 18_140_364_800, "params": 54_413_955},
    ("spade", ()): {
        "output": 281_276_612_608,
        "exact": 281_276_612_608,
        "params": 93_048_003,
    },
    ("spade", (("dataset", "coco"),)): {
        "output": 191_140_069_376,
        "exact": 191_140_069_376,
        "params": 97_480_899,
    },
    ("pix2pixhd_global", ()): {"output": 151_322_099_712, "params": 182_546_755},
    ("stargan", ()): {"output": 13_181_648_896, "params": 8_430_528},
    ("srresnet", ()): {"output": 1_277_669_376, "exact": 1_277_669_376, "params": 1_549_462},
    ("dcgan", ()): {"output": 428_343_296, "params": 3_576_704},
    ("biggan_128", ()): {"params": 70_433_988},
}
# units: G, and digits printed
PRINTED = {
    ("resnet_9blocks", ()): {"exact": 49.552},
    ("mobile_resnet_9blocks", ()): {"output": 18.314, "exact": 11.067},
    ("mobile_resnet_9blocks", (("ngf", 48),)): {"output": 10.565, "exact": 6.488},
    ("mobile_resnet_9blocks", (("ngf", 32),)): {"output": 4.929, "exact": 3.117},
    ("mobile_resnet_9blocks", (("ngf", 16),)): {"output": 1.408, "exact": 0.955},
    ("unet_256", ()): {"exact": 6.048},
    ("unet_256", (("ngf", 16),)): {"output": 1.219, "exact": 0.406},
    ("pix2pixhd_global", ()): {"exact": 122.331},
    ("stargan", ()): {"exact": 9.960},
    ("srresnet", (("image_size", 256),)): {"output": 145.370},
    ("dcgan", ()): {"exact": 0.1046},
    ("sagan", ()): {"exact": 0.2003, "output": 0.5274},
}


@pytest.mark.parametrize(("model", "figures"), PUBLISHED.items(), ids=str)
def test_published_integers_come_out(model, figures):
    found = zoo_cost(model[0], **dict(model[1]))
    for measure, figure in figures.items():
        got = found.params if measure == "params" else getattr(found.macs, measure)
        assert got == figure, measure


@pytest.mark.parametrize(("model", "figures"), PRINTED.items(), ids=str)
def test_published_digits_come_out(model, figures):
    found = zoo_cost(model[0], **dict(model[1]))
    for convention, figure in figures.items():
        digits = len(str(figure).partition(".")[2])
        assert getattr(found.macs, convention) / 1e9 == pytest.approx(figure, abs=0.6 * 10**-digits)


@pytest.mark.parametrize(("widths", "figures"), MOBILE_RESNET.items())
def test_published_subnets_come_out(widths, figures):
    found = zoo_cost("mobile_resnet_9blocks", widths=tuple(map(int, widths.split("_"))))
    assert (found.macs.output_norm, found.params) == figures


def test_published_shares_of_convolutions_and_attention_come_out():
    shares = {"Conv2d": 20.616, "bmm": 0.503}  # units: G
    nodes = zoo_cost("biggan_128").nodes
    for what, figure in shares.items():
        found = sum(row.macs.exact for row in nodes if what in (row.kind, row.target))
        assert found / 1e9 == pytest.approx(figure, abs=0.0006)
