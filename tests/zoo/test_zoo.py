"""The zoo's generators have the published sizes, and compile, run and train."""

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from gfx import zoo
from gfx.costs import cost_of
from gfx.errors import GfxError, InputError
from gfx.ir.program import Program
from support.published_subnets import MOBILE_RESNET

SMALL: dict[str, dict[str, Any]] = {
    "resnet_9blocks": {"ngf": 4, "n_blocks": 2, "image_size": 16},
    "mobile_resnet_9blocks": {"ngf": 4, "n_blocks": 3, "image_size": 16},
    "unet_256": {"ngf": 4, "n_down": 4, "image_size": 16},
    "spade": {"ngf": 2, "labels": 5, "height": 64, "width": 128},
    "pix2pixhd_global": {"ngf": 4, "n_blocks": 2, "image_size": 32, "in_channels": 5},
    "stargan": {"ngf": 4, "n_blocks": 2, "image_size": 16},
    "srresnet": {"ngf": 4, "n_blocks": 2, "image_size": 8},
    "dcgan": {"ngf": 4, "image_size": 16},
    "sagan": {"ngf": 8, "z_dim": 8},
    "biggan_128": {"ch": 4, "n_classes": 5, "z_dim": 8, "shared_dim": 6, "image_size": 32},
}
SHAPES = {
    "resnet_9blocks": (3, 16, 16),
    "mobile_resnet_9blocks": (3, 16, 16),
    "unet_256": (3, 16, 16),
    "spade": (3, 64, 128),
    "pix2pixhd_global": (3, 32, 64),
    "stargan": (3, 16, 16),
    "srresnet": (3, 32, 32),
    "dcgan": (3, 16, 16),
    "sagan": (3, 64, 64),
    "biggan_128": (3, 32, 32),
}
every = pytest.mark.parametrize("name", list(SMALL))


class Count:
    """Counts what one call of a generator costs, on meta tensors, by the definitions alone."""

    def __init__(self, name: str, **options: Any) -> None:
        self.output = self.exact = self.norm = self.linear = self.attention = 0
        self.attention_convs = 0
        with torch.device("meta"):
            model = zoo.build(name, **options).eval()
            inputs = zoo.example_inputs(name, **options)
        for module in model.modules():
            module.register_forward_hook(self.hook)
            if hasattr(module, "query"):
                module.register_forward_hook(self.attend)
        model(*inputs)
        self.params = sum(parameter.numel() for parameter in model.parameters())
        vectors = [v for path, v in model.named_buffers() if path.endswith(("_u", "_v"))]
        self.spectral_vectors = sum(vector.numel() for vector in vectors)

    def hook(self, module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            kernel = module.kernel_size[0] * module.kernel_size[1]
            self.output += out.numel() * kernel * module.in_channels // module.groups
            if isinstance(module, nn.ConvTranspose2d):
                self.exact += args[0].numel() * kernel * module.out_channels // module.groups
            else:
                self.exact += out.numel() * kernel * module.in_channels // module.groups
        elif isinstance(module, nn.Linear):
            self.linear += out.numel() * module.in_features
        elif isinstance(module, nn.InstanceNorm2d):
            self.norm += out.numel()

    def attend(self, module: Any, args: tuple[Tensor, ...], out: Tensor) -> None:
        """Price both matrix products: queries by keys, then weights by values."""
        positions = args[0].shape[2] * args[0].shape[3]
        pooled = positions // 4 if hasattr(module, "out") else positions
        channels = module.key.out_channels + module.value.out_channels
        self.attention += out.shape[0] * positions * pooled * channels
        convs = [conv for conv in module.children() if isinstance(conv, nn.Conv2d)]
        self.attention_convs += positions * sum(c.in_channels * c.out_channels for c in convs)


@pytest.mark.parametrize(
    ("name", "options", "output", "params"),
    [
        ("resnet_9blocks", {}, 56_799_264_768, 11_378_179),
        ("mobile_resnet_9blocks", {}, 18_314_428_416, 1_987_075),
        ("unet_256", {}, 18_140_364_800, 54_413_955),
        ("spade", {}, 281_276_612_608, 93_048_003),
        ("spade", {"dataset": "coco"}, 191_140_069_376, 97_480_899),
        ("pix2pixhd_global", {}, 151_322_099_712, 182_546_755),
        ("stargan", {}, 13_181_648_896, 8_430_528),
        ("srresnet", {}, 1_277_669_376, 1_549_462),
        ("dcgan", {}, 428_343_296, 3_576_704),
        # decomposing one stage, as in table 4 of GAN Compression; the printed row for the
        # down-samplings (55.5 G, 11.13 M) does not follow from arithmetic, with or without the stem
        ("resnet_9blocks", {"separable": ["blocks"]}, 18_314_428_416, 1_987_075),
        ("resnet_9blocks", {"separable": ["up"]}, 48_322_576_384, 11_054_339),
    ],
)
def test_output_macs_and_parameters_equal_the_measured_integers(
    name: str, options: dict[str, Any], output: int, params: int
) -> None:
    count = Count(name, **options)
    assert (count.output, count.params) == (output, params)


@pytest.mark.parametrize(
    ("name", "options", "output", "exact", "params"),
    [
        ("resnet_9blocks", {}, "56.799", "49.552", "11.378"),
        ("mobile_resnet_9blocks", {}, "18.314", "11.067", "1.987"),
        ("mobile_resnet_9blocks", {"ngf": 48}, "10.565", "6.488", "1.131"),
        ("mobile_resnet_9blocks", {"ngf": 32}, "4.929", "3.117", "0.514"),
        ("mobile_resnet_9blocks", {"ngf": 16}, "1.408", "0.955", "0.137"),
        ("unet_256", {}, "18.140", "6.048", "54.414"),
        ("unet_256", {"ngf": 16}, "1.219", "0.406", "3.404"),
        ("unet_256", {"ngf": 12}, "0.707", "0.236", "1.916"),
        ("unet_256", {"ngf": 8}, "0.333", "0.111", "0.852"),
        ("spade", {"mobile": True}, "118.603", "118.603", "70.681"),
        ("pix2pixhd_global", {}, "151.322", "122.331", "182.547"),
        ("stargan", {}, "13.182", "9.960", "8.431"),
        ("srresnet", {"image_size": 256}, "145.370", "145.370", "1.549"),
        ("resnet_9blocks", {"separable": ["down"]}, "54.666", "47.418", "11.052"),
        ("resnet_9blocks", {"separable": ["stem", "down"]}, "54.072", "46.824", "11.043"),
    ],
)
def test_counts_print_as_published(
    name: str, options: dict[str, Any], output: str, exact: str, params: str
) -> None:
    count = Count(name, **options)
    printed = (f"{count.output / 1e9:.3f}", f"{count.exact / 1e9:.3f}", f"{count.params / 1e6:.3f}")
    assert printed == (output, exact, params)


@pytest.mark.parametrize(
    ("ngf", "params"), [(64, 1_987_075), (48, 1_130_883), (32, 514_307), (16, 137_347)]
)
def test_mobile_resnet_has_the_measured_parameters_at_every_ngf(ngf: int, params: int) -> None:
    assert Count("mobile_resnet_9blocks", ngf=ngf).params == params


@pytest.mark.parametrize(
    ("widths", "macs", "params"), [(name, *figures) for name, figures in MOBILE_RESNET.items()]
)
def test_mobile_resnet_subnets_equal_the_published_integers(
    widths: str, macs: int, params: int
) -> None:
    count = Count("mobile_resnet_9blocks", widths=[int(width) for width in widths.split("_")])
    assert (count.output + count.norm, count.params) == (macs, params)


@pytest.mark.parametrize(
    ("widths", "macs", "params"),
    [
        ("32_40_40_32_40_24_32_24", "31.114", 21_002_811),
        ("32_32_48_32_32_32_32_24", "31.608", 20_425_019),
    ],
)
def test_mobile_spade_subnets_equal_the_published_figures(
    widths: str, macs: str, params: int
) -> None:
    count = Count("spade", mobile=True, widths=[int(width) for width in widths.split("_")])
    assert (f"{count.output / 1e9:.3f}", count.params) == (macs, params)


def test_mobile_spade_has_the_measured_parameters() -> None:
    assert Count("spade", mobile=True).params == 70_680_771


def test_dcgan_exact_macs_count_transposed_convolutions_on_their_input() -> None:
    assert f"{Count('dcgan').exact / 1e9:.4f}" == "0.1046"


def test_sagan_counts_split_into_convolutions_and_attention() -> None:
    count = Count("sagan")
    # here the 1x1 convolutions of the attention are part of its cost
    assert f"{(count.output - count.attention_convs) / 1e6:.1f}" == "432.0"
    assert f"{(count.attention + count.attention_convs) / 1e6:.1f}" == "95.4"
    assert f"{(count.exact + count.attention) / 1e9:.4f}" == "0.2003"


def test_sagan_parameters_print_as_published_without_the_spectral_norm_vectors() -> None:
    count = Count("sagan")
    assert count.params == 3_832_885
    assert f"{count.params / 1e6:.2f}" == "3.83"
    # both vectors of all four normalised layers together would print as 3.85
    assert count.spectral_vectors == 17_344


def test_biggan_counts_split_into_convolutions_linears_and_attention() -> None:
    count = Count("biggan_128")
    assert count.params == 70_433_988
    # here the 1x1 convolutions of the attention count as convolutions, and the linears as nothing
    assert f"{count.output / 1e9:.3f}" == "20.616"
    assert count.exact == count.output
    assert f"{count.attention / 1e9:.3f}" == "0.503"


@every
def test_costing_agrees_with_the_definitions_on_the_full_size_generator(name: str) -> None:
    with torch.device("meta"):
        program = Program(fx.symbolic_trace(zoo.build(name)), zoo.example_inputs(name))
    cost, count = cost_of(program), Count(name)
    products = count.linear + count.attention
    assert cost.params == count.params
    assert cost.macs.exact == count.exact + products
    assert cost.macs.output == count.output + products
    assert cost.macs.output_norm == count.output + count.norm + products


def test_names_list_the_ten_generators() -> None:
    assert set(zoo.names()) == set(SMALL)


@every
def test_a_generator_makes_finite_images_and_gradients_in_either_mode(name: str) -> None:
    torch.manual_seed(0)
    model = zoo.build(name, **SMALL[name])
    inputs = zoo.example_inputs(name, batch=2, **SMALL[name])
    assert model.training
    for mode in (True, False):
        images = model.train(mode)(*inputs)
        assert images.shape == (2, *SHAPES[name])
        assert images.isfinite().all()
        assert images.std() > 0
        images.square().sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@every
def test_a_generator_traces_symbolically_to_torch_modules_and_any_batch(name: str) -> None:
    torch.manual_seed(0)
    model = zoo.build(name, **SMALL[name]).double().eval()
    traced = fx.symbolic_trace(model)
    leaves = [
        traced.get_submodule(str(n.target)) for n in traced.graph.find_nodes(op="call_module")
    ]
    assert all(type(leaf).__module__.startswith("torch.nn") for leaf in leaves)
    for batch in (1, 3):
        inputs = zoo.example_inputs(name, batch=batch, **SMALL[name])
        inputs = tuple(x.double() if x.is_floating_point() else x for x in inputs)
        with torch.no_grad():
            assert torch.equal(traced(*inputs), model(*inputs))


@every
def test_every_parameter_of_a_generator_is_used_by_its_graph(name: str) -> None:
    model = zoo.build(name, **SMALL[name])
    images = model(*zoo.example_inputs(name, batch=2, **SMALL[name]))
    grads = torch.autograd.grad(images.sum(), list(model.parameters()), allow_unused=True)
    assert all(grad is not None for grad in grads)


@every
def test_example_inputs_are_the_same_each_time(name: str) -> None:
    first = zoo.example_inputs(name, **SMALL[name])
    torch.rand(3)
    again = zoo.example_inputs(name, **SMALL[name])
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


def test_example_inputs_follow_the_default_dtype_and_device() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert zoo.example_inputs("dcgan")[0].dtype == torch.float64
        assert zoo.example_inputs("spade", **SMALL["spade"])[0].dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        assert zoo.example_inputs("stargan")[1].device.type == "meta"


@every
def test_options_and_about_describe_a_generator(name: str) -> None:
    assert set(SMALL[name]) <= set(zoo.options(name))
    assert zoo.about(name).endswith(".")


def test_mobile_resnet_widths_lie_at_paths_a_recipe_can_name() -> None:
    with torch.device("meta"):
        model = zoo.build("mobile_resnet_9blocks", widths=(16, 16, 32, 16, 32, 64, 16, 24))
    inner = {2: 64, 3: 128, 6: 256}
    paths = {
        "stem.conv": 16,
        "down.0.conv": 32,
        "down.1.conv": 128,
        **{f"blocks.{block}.conv1.pointwise": width for block, width in inner.items()},
        "blocks.0.conv2.pointwise": 128,
        "up.0.conv": 32,
        "up.1.conv": 24,
        "to_rgb": 3,
    }
    assert {path: model.get_submodule(path).out_channels for path in paths} == paths


def test_spectral_norm_comes_in_both_of_torchs_styles() -> None:
    spade = zoo.build("spade", **SMALL["spade"]).state_dict()
    sagan = zoo.build("sagan", **SMALL["sagan"]).state_dict()
    assert "head.conv1.weight_orig" in spade
    assert "project.conv.parametrizations.weight.original" in sagan
    assert "head.conv1.weight" in zoo.build("spade", spectral=False, **SMALL["spade"]).state_dict()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dcgann", {}, "there is no generator or discriminator 'dcgann'; did you mean dcgan?"),
        (
            "qqq",
            {},
            "there is no generator or discriminator 'qqq'; choose one of resnet_9blocks, ",
        ),
        ("dcgan", {"ngff": 3}, "dcgan has no option 'ngff'; did you mean ngf?"),
        ("dcgan", {"ngf": 0}, "dcgan: ngf is 0; give a whole number of at least 1"),
        ("dcgan", {"ngf": True}, "dcgan: ngf is True; give a whole number of at least 1"),
        ("dcgan", {"ngf": 2.5}, "dcgan: ngf is 2.5; give a whole number"),
        ("dcgan", {"image_size": 48}, "image_size is 48; give a power of two, at least 8"),
        ("resnet_9blocks", {"image_size": 18}, "image_size is 18; give a multiple of 4"),
        ("resnet_9blocks", {"image_size": 4}, "image_size is 4; give at least 8"),
        ("resnet_9blocks", {"separable": ["blocs"]}, "list some of stem, down, blocks, up"),
        ("resnet_9blocks", {"separable": "blocks"}, "separable is 'blocks'; list some of"),
        ("resnet_9blocks", {"separable": 3}, "separable is 3; list some of"),
        ("mobile_resnet_9blocks", {"widths": (16, 16)}, "widths has 2 entries"),
        ("mobile_resnet_9blocks", {"widths": (0,) * 8}, "give eight whole numbers"),
        ("mobile_resnet_9blocks", {"widths": 16}, "widths is 16; give eight whole numbers"),
        ("unet_256", {"n_down": 1, "image_size": 8}, "n_down is 1; give at least 2"),
        ("unet_256", {"image_size": 128}, "image_size is 128; give a multiple of 256"),
        ("unet_256", {"dropout": 1.0}, "dropout is 1.0; give a share from 0 up to 1"),
        ("unet_256", {"dropout": "a"}, "dropout is 'a'; give a share from 0 up to 1"),
        ("spade", {"dataset": "cityscape"}, "dataset is 'cityscape'; did you mean cityscapes?"),
        ("spade", {"dataset": ["coco"]}, r"dataset is \['coco'\]"),
        ("spade", {"height": 100}, "height is 100; give a multiple of 64"),
        ("spade", {"labels": 0}, "labels is 0; give a whole number of at least 1"),
        ("spade", {"hidden": 0}, "hidden is 0; give a whole number of at least 1"),
        ("spade", {"doublings": 4}, "doublings is 4; give 5 or 6"),
        ("spade", {"widths": (1, 2)}, "give eight whole numbers"),
        ("spade", {"mobile": 1}, "mobile is 1; give true or false"),
        ("stargan", {"image_size": 4}, "image_size is 4; give at least 8"),
        ("srresnet", {"scale": 3}, "scale is 3; give a power of two, at least 2"),
        ("sagan", {"ngf": 4}, "ngf is 4; give at least 8"),
        ("biggan_128", {"ch": 2}, "ch is 2; give at least 4"),
        ("biggan_128", {"z_dim": 100}, "z_dim is 100; give a multiple of 6"),
    ],
)
def test_a_wrong_name_or_option_is_an_error_that_says_what_to_do(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        zoo.build(name, **options)
    with pytest.raises(InputError, match=message):
        zoo.example_inputs(name, **options)


def test_a_wrong_batch_is_an_error() -> None:
    with pytest.raises(GfxError, match="dcgan: batch is 0; give a whole number of at least 1"):
        zoo.example_inputs("dcgan", batch=0)
