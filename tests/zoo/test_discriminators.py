"""The zoo's discriminators have the published sizes, and score, train and open as files do."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gfx import zoo
from gfx.errors import InputError
from gfx.io.archive.factories import from_zoo
from gfx.train.losses.adversarial import DiscriminatorLoss, GeneratorLoss

SMALL: dict[str, dict[str, Any]] = {
    "patchgan": {"ndf": 4, "image_size": 64},
    "patchgan_pixel": {"ndf": 4, "image_size": 8},
    "multiscale_patchgan": {"input_nc": 5, "ndf": 4, "image_size": 64},
    "dcgan_discriminator": {"ndf": 4, "image_size": 16},
    "sagan_discriminator": {"ndf": 8, "image_size": 16},
    "biggan_discriminator": {"ch": 8, "n_classes": 5, "image_size": 16},
    "stargan_discriminator": {"ndf": 4, "n_layers": 3, "image_size": 16},
    "srgan_discriminator": {"ndf": 4, "hidden": 8, "image_size": 32},
}
SHAPES: dict[str, Any] = {
    "patchgan": (2, 1, 6, 6),
    "patchgan_pixel": (2, 1, 8, 8),
    "dcgan_discriminator": (2, 1),
    "sagan_discriminator": (2, 1),
    "biggan_discriminator": (2, 1),
    "srgan_discriminator": (2, 1),
}
every = pytest.mark.parametrize("name", list(SMALL))


def total(scores: Any) -> Tensor:
    """Sums all scores that a discriminator returns."""
    if isinstance(scores, Tensor):
        return scores.sum()
    return torch.stack([total(each) for each in scores]).sum()


def test_generators_and_discriminators_are_told_apart() -> None:
    assert set(zoo.discriminators()) == set(SMALL)
    assert not set(zoo.discriminators()) & set(zoo.names())


@pytest.mark.parametrize(
    ("name", "options", "params"),
    [
        # the training logs of CycleGAN and pix2pix print 2.765 M and 2.769 M
        ("patchgan", {}, 2_764_737),
        ("patchgan", {"input_nc": 6, "norm": "batch"}, 2_768_705),
        # one grey image and its translation, printed as 2.765 M, and as 0.662 M with two layers
        ("patchgan", {"input_nc": 2, "norm": "batch"}, 2_764_609),
        ("patchgan", {"input_nc": 2, "norm": "batch", "n_layers": 2}, 662_337),
        # SPADE's log prints 5.6 M
        ("multiscale_patchgan", {"num_scales": 2, "spectral": True}, 5_601_410),
        ("multiscale_patchgan", {}, 8_404_803),
        ("dcgan_discriminator", {}, 2_765_568),
        # compare_gan, which is of BigGAN's authors, states this integer
        ("biggan_discriminator", {}, 87_982_370),
        # no count is published of these: by arithmetic from the tables of the papers
        ("stargan_discriminator", {}, 44_762_048),
        ("stargan_discriminator", {"n_labels": 8}, 44_786_624),
        ("patchgan_pixel", {}, 256 + 8_320 + 129),
        (
            "sagan_discriminator",
            {},
            3_136 + 131_200 + 524_544 + 2_097_664 + 8_193 + 82_241 + 328_321,
        ),
        ("srgan_discriminator", {}, 23_563_649),
    ],
)
def test_a_discriminator_has_the_published_parameters(
    name: str, options: dict[str, Any], params: int
) -> None:
    with torch.device("meta"):
        model = zoo.build(name, **options, init="default")
    assert sum(parameter.numel() for parameter in model.parameters()) == params


def test_the_patchgan_takes_the_weights_of_gan_compressions_at_its_width() -> None:
    shapes = [tuple(p.shape) for p in zoo.build("patchgan", input_nc=6, ndf=48).parameters()]
    ends = [(6, 48), (48, 96), (96, 192), (192, 384), (384, 1)]
    assert shapes == [s for i, o in ends for s in ((o, i, 4, 4), (o,))]


@every
def test_a_discriminator_scores_and_has_gradients_to_image_and_weights(name: str) -> None:
    torch.manual_seed(0)
    model = zoo.build(name, **SMALL[name])
    image, *rest = zoo.example_inputs(name, batch=2, **SMALL[name])
    assert model.training
    image.requires_grad_()
    scores = model(image, *rest)
    if name in SHAPES:
        assert scores.shape == SHAPES[name]
    total(scores).backward()
    assert image.grad.isfinite().all()
    assert image.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@every
@pytest.mark.parametrize("kind", ["hinge", "lsgan", "vanilla"])
def test_the_adversarial_losses_take_what_a_discriminator_returns(name: str, kind: Any) -> None:
    torch.manual_seed(0)
    model = zoo.build(name, **SMALL[name])
    image, *rest = zoo.example_inputs(name, batch=2, **SMALL[name])
    scores = model(image, *rest)
    if name == "stargan_discriminator":
        scores, _ = scores
    loss = DiscriminatorLoss(kind)(scores, scores) + GeneratorLoss(kind)(scores)
    assert loss.isfinite()
    loss.backward()


def test_the_multiscale_patchgan_returns_every_layer_of_every_scale() -> None:
    model = zoo.build("multiscale_patchgan", **SMALL["multiscale_patchgan"])
    found = model(*zoo.example_inputs("multiscale_patchgan", **SMALL["multiscale_patchgan"]))
    assert [len(scale) for scale in found] == [5, 5, 5]
    assert [scale[0].shape[-1] for scale in found] == [33, 17, 9]
    assert [tuple(scale[-1].shape) for scale in found] == [(1, 1, s, s) for s in (11, 7, 5)]


def test_the_hinge_of_several_scales_is_the_mean_of_each() -> None:
    model = zoo.build("multiscale_patchgan", **SMALL["multiscale_patchgan"])
    found = model(*zoo.example_inputs("multiscale_patchgan", **SMALL["multiscale_patchgan"]))
    means = torch.stack([scale[-1].mean() for scale in found])
    assert torch.allclose(GeneratorLoss("hinge")(found), -means.mean(), atol=1e-6)


def test_stargan_returns_scores_of_patches_and_logits_of_labels() -> None:
    model = zoo.build("stargan_discriminator", **SMALL["stargan_discriminator"])
    source, labels = model(torch.zeros(2, 3, 16, 16))
    assert (source.shape, labels.shape) == ((2, 1, 2, 2), (2, 5))


@pytest.mark.parametrize(("n_layers", "field"), [(1, 16), (2, 34), (3, 70), (4, 142)])
def test_a_score_of_the_patchgan_sees_patches_of_the_published_size(
    n_layers: int, field: int
) -> None:
    # ones everywhere: no gradient can vanish by chance
    options = {"ndf": 1, "n_layers": n_layers, "norm": "none", "image_size": 256, "input_nc": 1}
    model = zoo.build("patchgan", **options, init="default").double()
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    image = torch.ones(1, 1, 256, 256, dtype=torch.double, requires_grad=True)
    scores = model(image)
    middle = scores.shape[-1] // 2
    scores[0, 0, middle, middle].backward()
    rows = image.grad[0, 0].abs().sum(dim=1).nonzero()
    assert int(rows.max() - rows.min()) + 1 == field


def test_a_score_of_the_pixelgan_sees_one_pixel() -> None:
    model = zoo.build("patchgan_pixel", ndf=4, norm="none", init="default")
    image = torch.ones(1, 3, 8, 8, requires_grad=True)
    model(image)[0, 0, 3, 4].backward()
    assert image.grad[0].abs().sum(0).nonzero().tolist() == [[3, 4]]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sagan_discriminator", {**SMALL["sagan_discriminator"], "n_classes": 5}),
        ("biggan_discriminator", SMALL["biggan_discriminator"]),
    ],
)
def test_a_projection_depends_on_the_class(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = zoo.build(name, **options).eval()
    image, label = zoo.example_inputs(name, batch=1, **options)
    every_class = torch.cat([model(image, torch.full_like(label, c)) for c in range(5)])
    assert len(every_class.unique()) == 5


def test_the_example_inputs_of_a_projection_have_classes_only_where_there_are_some() -> None:
    assert len(zoo.example_inputs("sagan_discriminator", **SMALL["sagan_discriminator"])) == 1
    assert len(zoo.example_inputs("sagan_discriminator", n_classes=3)) == 2


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sagan_discriminator", {**SMALL["sagan_discriminator"], "n_classes": 5}),
        ("biggan_discriminator", SMALL["biggan_discriminator"]),
    ],
)
def test_every_weight_has_a_spectral_norm_of_one(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = zoo.build(name, **options)
    inputs = zoo.example_inputs(name, batch=2, **options)
    for _ in range(30):
        model(*inputs)
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.Embedding)]
    assert all(parametrize.is_parametrized(layer, "weight") for layer in layers)
    for layer in model.eval().modules():
        if layer in layers:
            norm = torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2)
            assert norm.item() == pytest.approx(1, abs=0.02)


def test_spades_discriminator_has_spectral_norms_between_the_first_and_the_last() -> None:
    model = zoo.build("multiscale_patchgan", spectral=True, **SMALL["multiscale_patchgan"])
    wrapped = [p for p, m in model.named_modules() if parametrize.is_parametrized(m)]
    assert wrapped == [f"scales.{s}.middle.{i}.conv" for s in range(3) for i in range(3)]
    plain = zoo.build("multiscale_patchgan", **SMALL["multiscale_patchgan"])
    assert not any(parametrize.is_parametrized(m) for m in plain.modules())


def test_init_draws_the_weights_that_it_names() -> None:
    torch.manual_seed(0)
    first = zoo.build("patchgan", norm="batch")
    weight = first.layers[2].conv.weight
    assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert first.layers[2].norm.weight.mean().item() == pytest.approx(1, abs=0.01)
    assert first.score.bias.item() == 0
    orthogonal = zoo.build("patchgan", ndf=8, init="orthogonal").layers[1].conv.weight.flatten(1)
    assert torch.allclose(orthogonal @ orthogonal.T, torch.eye(16), atol=1e-5)
    torch.manual_seed(0)
    assert torch.equal(zoo.build("patchgan", norm="batch").layers[2].conv.weight, weight)
    assert not torch.equal(zoo.build("patchgan", norm="batch").layers[2].conv.weight, weight)


def test_a_discriminator_opens_by_name_with_options_as_a_file_does() -> None:
    model = from_zoo("zoo:patchgan?input_nc=6&ndf=48")
    assert model(torch.zeros(1, 6, 64, 64)).shape == (1, 1, 6, 6)
    assert from_zoo("zoo:sagan_discriminator?n_classes=7&ndf=8").classes.num_embeddings == 7


@every
def test_options_and_about_describe_a_discriminator(name: str) -> None:
    assert set(SMALL[name]) <= set(zoo.options(name))
    assert "init" in zoo.options(name)
    assert zoo.about(name).endswith(".")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("patchgann", {}, "there is no generator or discriminator 'patchgann'; did you mean patch"),
        ("patchgan", {"ndff": 3}, "patchgan has no option 'ndff'; did you mean ndf?"),
        ("patchgan", {"norm": "bath"}, "norm is 'bath'; did you mean batch?"),
        ("patchgan", {"norm": 3}, "norm is 3; choose one of instance, batch, none"),
        ("patchgan", {"norm": ["batch"]}, r"norm is \['batch'\]"),
        ("patchgan", {"init": "norm"}, "init is 'norm'; did you mean normal?"),
        ("patchgan", {"n_layers": 11}, "n_layers is 11; give at most 10"),
        ("patchgan", {"image_size": 16}, "image_size is 16; give at least 24"),
        ("multiscale_patchgan", {"num_scales": 11}, "num_scales is 11; give at most 10"),
        ("multiscale_patchgan", {"spectral": 1}, "spectral is 1; give true or false"),
        ("dcgan_discriminator", {"image_size": 48}, "image_size is 48; give a power of two"),
        ("sagan_discriminator", {"n_classes": 0}, "n_classes is 0; give a whole number from 1"),
        ("sagan_discriminator", {"n_classes": "a"}, "n_classes is 'a'; give a whole number"),
        ("sagan_discriminator", {"ndf": 4}, "ndf is 4; give at least 8"),
        ("biggan_discriminator", {"ch": 4}, "ch is 4; give at least 8"),
        ("stargan_discriminator", {"image_size": 96}, "image_size is 96; give a multiple of 64"),
        ("srgan_discriminator", {"image_size": 24}, "image_size is 24; give a multiple of 16"),
    ],
)
def test_a_wrong_option_of_a_discriminator_is_an_error_that_says_what_to_do(
    name: str, options: dict[str, Any], message: str
) -> None:
    for call in (zoo.build, zoo.example_inputs):
        with pytest.raises(InputError, match=message):
            call(name, **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("patchgan", {"n_layers": n, "image_size": 3 * 2**n, "ndf": 2}) for n in (1, 2, 3, 4)),
        *(
            (
                "multiscale_patchgan",
                {"n_layers": n, "num_scales": s, "image_size": 2 ** (n + s - 1)},
            )
            for n in (1, 2, 3)
            for s in (1, 2, 3)
        ),
        ("patchgan_pixel", {"image_size": 2}),
        ("dcgan_discriminator", {"image_size": 8}),
        ("sagan_discriminator", {"image_size": 16, "ndf": 8}),
        ("biggan_discriminator", {"image_size": 16, "ch": 8}),
        ("stargan_discriminator", {"image_size": 2, "n_layers": 1}),
        ("srgan_discriminator", {"image_size": 16}),
    ],
)
def test_the_smallest_image_that_the_options_take_is_scored(
    name: str, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    model = zoo.build(name, **options)
    assert total(model(*zoo.example_inputs(name, batch=2, **options))).isfinite()
