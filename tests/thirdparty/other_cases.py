"""Generators of the packages that have a few each."""

from typing import Any

import torch
from torch import nn

from thirdparty.cases import Case, Inputs, image

__all__ = ["CASES"]

NARROW = (32, 16, 16, 8, 8)
UNET = dict(norm_num_groups=4, layers_per_block=1)
DIFFUSERS = dict(
    block_out_channels=(8, 16), norm_num_groups=4, latent_channels=2,
    down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
)  # fmt: skip
MONAI = dict(
    num_res_blocks=(1, 1), channels=(8, 16), attention_levels=(False, True), norm_num_groups=4
)


def from_config(kind: Any, arguments: dict[str, Any]) -> nn.Module:
    """Makes a super-image model from its configuration class."""
    import super_image

    return kind(getattr(super_image, kind.__name__.replace("Model", "Config"))(**arguments))


def from_settings(kind: Any, arguments: dict[str, Any]) -> nn.Module:
    """Makes a vocoder from its settings."""
    from hifi_gan.env import AttrDict

    return kind(AttrDict(arguments))


def biggan(kind: Any, arguments: dict[str, Any]) -> nn.Module:
    """Makes a BigGAN from its configuration class."""
    from pytorch_pretrained_biggan import BigGANConfig

    return kind(BigGANConfig(**arguments))


def super_image(kind: str, inputs: Inputs | None = None, **arguments: Any) -> Case:
    """Lists a model of super-image."""
    inputs = inputs or image(3, 12, 12)
    config, name = dict(scale=2, **arguments), f"{kind}Model"
    return Case(f"super-image/{kind}", "super_image", name, inputs, config, prepare=from_config)


def segmentation(kind: str, **arguments: Any) -> Case:
    """Lists a model of segmentation-models-pytorch, without pretrained weights."""
    arguments = dict(encoder_name="tu-mobilenetv3_small_050", encoder_weights=None) | arguments
    package = "segmentation_models_pytorch"
    return Case(f"smp/{kind}", package, kind, image(3, 64, 64), arguments)


def timed(*shape: int) -> Inputs:
    """Makes an image and a time step."""
    return lambda: (torch.rand(1, *shape), torch.tensor([3]))


CASES = (
    Case(
        "pytorch-pretrained-biggan/BigGAN", "pytorch_pretrained_biggan", "BigGAN",
        lambda: (torch.randn(1, 16), torch.softmax(torch.randn(1, 10), 1), 0.4),
        dict(
            output_dim=128, z_dim=16, class_embed_dim=16, channel_width=8, num_classes=10,
            layers=[(False, 16, 16), (True, 16, 16), (False, 16, 16), (True, 16, 8), (False, 8, 8),
                    (True, 8, 4), (False, 4, 4), (True, 4, 2), (False, 2, 2), (True, 2, 1)],
            attention_layer_position=8, eps=1e-4, n_stats=51,
        ),
        prepare=biggan,
    ),
    Case(
        "gan-face-generate/Generator", "gan_face_generate.models", "Generator",
        lambda: (torch.randn(1, 16, 1, 1),), dict(ngpu=0, nc=3, nz=16, ngf=8),
    ),
    Case(
        "hifi-gan/Generator 1", "hifi_gan.models", "Generator", lambda: (torch.randn(1, 80, 8),),
        dict(
            resblock="1", upsample_rates=[4, 2], upsample_kernel_sizes=[8, 4],
            upsample_initial_channel=16, resblock_kernel_sizes=[3, 5],
            resblock_dilation_sizes=[[1, 3, 5], [1, 3, 5]], num_mels=80,
        ),
        prepare=from_settings,
    ),
    Case(
        "hifi-gan/Generator 2", "hifi_gan.models", "Generator", lambda: (torch.randn(1, 80, 8),),
        dict(
            resblock="2", upsample_rates=[4, 2], upsample_kernel_sizes=[8, 4],
            upsample_initial_channel=16, resblock_kernel_sizes=[3, 5],
            resblock_dilation_sizes=[[1, 3], [1, 3]], num_mels=80,
        ),
        prepare=from_settings,
    ),
    super_image("Edsr", n_feats=8, n_resblocks=2),
    super_image("Carn"),
    super_image("Pan", nf=8, unf=8, nb=2),
    super_image("Rcan", n_resgroups=2, n_resblocks=2, n_feats=16),
    super_image("Msrn", n_blocks=2, n_feats=8),
    super_image("Awsrn", bam=False),
    super_image("A2n"),
    super_image("Drln"),
    super_image("Mdsr"),
    super_image("Ddbpn"),
    Case("diffusers/AutoencoderKL decoder", "diffusers", "AutoencoderKL", image(2, 8, 8),
         DIFFUSERS, "decoder"),
    Case("diffusers/AutoencoderKL", "diffusers", "AutoencoderKL", image(3, 16, 16), DIFFUSERS),
    Case("diffusers/VQModel decoder", "diffusers", "VQModel", image(2, 8, 8), DIFFUSERS, "decoder"),
    Case("diffusers/VQModel", "diffusers", "VQModel", image(3, 16, 16), DIFFUSERS),
    Case("diffusers/UNet2DModel", "diffusers", "UNet2DModel", timed(3, 16, 16),
         dict(sample_size=16, block_out_channels=(8, 16), attention_head_dim=4,
              down_block_types=("DownBlock2D", "AttnDownBlock2D"),
              up_block_types=("AttnUpBlock2D", "UpBlock2D"), **UNET)),
    Case("diffusers/UNet2DConditionModel", "diffusers", "UNet2DConditionModel",
         lambda: (torch.rand(1, 4, 16, 16), torch.tensor([3]), torch.randn(1, 5, 12)),
         dict(sample_size=16, block_out_channels=(8, 16), attention_head_dim=2,
              cross_attention_dim=12, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
              up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), **UNET)),
    Case("monai/SPADENet decoder", "monai.networks.nets", "SPADENet", image(3, 32, 32),
         dict(spatial_dims=2, in_channels=1, out_channels=3, label_nc=3, input_shape=[32, 32],
              channels=[8, 16], z_dim=8, is_vae=False, spade_intermediate_channels=8), "decoder"),
    Case("monai/AutoencoderKL decoder", "monai.networks.nets", "AutoencoderKL", image(2, 8, 8),
         dict(spatial_dims=2, in_channels=1, out_channels=1, latent_channels=2, **MONAI),
         "decoder"),
    Case("monai/AutoencoderKL", "monai.networks.nets", "AutoencoderKL", image(1, 16, 16),
         dict(spatial_dims=2, in_channels=1, out_channels=1, latent_channels=2, **MONAI)),
    Case("monai/DiffusionModelUNet", "monai.networks.nets", "DiffusionModelUNet", timed(1, 16, 16),
         dict(spatial_dims=2, in_channels=1, out_channels=1, num_head_channels=8, **MONAI)),
    Case("monai/UNet", "monai.networks.nets", "UNet", image(1, 16, 16),
         dict(spatial_dims=2, in_channels=1, out_channels=1, channels=(8, 16, 16),
              strides=(2, 2), num_res_units=1)),
    Case("monai/VQVAE decoder", "monai.networks.nets", "VQVAE", image(8, 4, 4),
         dict(spatial_dims=2, in_channels=1, out_channels=1, channels=(8, 16), num_res_layers=1,
              num_res_channels=(8, 16), downsample_parameters=((2, 4, 1, 1),) * 2,
              upsample_parameters=((2, 4, 1, 1, 0),) * 2, num_embeddings=8, embedding_dim=8),
         "decoder"),
    Case("monai/Generator", "monai.networks.nets", "Generator", lambda: (torch.randn(1, 8),),
         dict(latent_shape=(8,), start_shape=(8, 4, 4), channels=(8, 4, 1), strides=(2, 2, 1))),
    segmentation("Unet", decoder_channels=NARROW),
    segmentation("UnetPlusPlus", decoder_channels=NARROW),
    segmentation("FPN"),
    segmentation("Linknet"),
    segmentation("MAnet", decoder_channels=NARROW),
    segmentation("PSPNet"),
    segmentation("DeepLabV3Plus"),
    segmentation("UPerNet"),
    segmentation("Segformer", encoder_name="mit_b0"),
)  # fmt: skip
