"""Architectures of spandrel: super-resolution, restoration, inpainting, faces."""

from typing import Any

import torch

from thirdparty.cases import Case, Inputs, image

__all__ = ["CASES"]

SMALL = image(3, 16, 16)


def of(name: str, inputs: Inputs = SMALL, kind: str = "", **arguments: Any) -> Case:
    """Lists an architecture by the name of its package and the arguments of its class."""
    kind = kind or name
    return Case(f"spandrel/{kind}", f"spandrel.architectures.{name}", kind, inputs, arguments)


def masked() -> tuple[Any, ...]:
    """Makes an image and the mask of what is to be painted."""
    return torch.rand(1, 3, 32, 32), torch.rand(1, 1, 32, 32).round()


CASES = (
    of("ESRGAN", num_filters=8, num_blocks=2, scale=4),
    Case("spandrel/Compact", "spandrel.architectures.Compact.__arch.SRVGG", "SRVGGNetCompact",
         SMALL, dict(num_feat=8, num_conv=3)),
    of("SPAN", num_in_ch=3, num_out_ch=3, feature_channels=8),
    of("OmniSR", num_feat=16, res_num=1, block_num=1),
    of(
        "SwinIR", img_size=16, embed_dim=12, depths=(2,), num_heads=(2,), window_size=8,
        upsampler="pixelshuffledirect", upscale=2,
    ),
    of(
        "Swin2SR", img_size=16, embed_dim=12, depths=(2,), num_heads=(2,), window_size=8,
        upsampler="pixelshuffledirect", upscale=2,
    ),
    of(
        "HAT", img_size=16, embed_dim=12, depths=(2,), num_heads=(2,), window_size=8,
        squeeze_factor=4, num_feat=8, upscale=2,
    ),
    of("DAT", img_size=16, embed_dim=16, depth=[2], num_heads=[2], split_size=[8, 8]),
    of("NAFNet", width=8, middle_blk_num=1, enc_blk_nums=[1], dec_blk_nums=[1]),
    of("RealCUGAN", image(3, 32, 32), kind="UpCunet2x"),
    of("CRAFT", embed_dim=12, depths=(2,), num_heads=(2,)),
    of("RGT", img_size=16, embed_dim=12, depth=(2,), num_heads=(2,), split_size=(8, 8)),
    of("PLKSR", dim=16, n_blocks=2),
    of("PLKSR", kind="RealPLKSR", dim=16, n_blocks=2),
    of("LaMa", masked, in_nc=4),
    of("MoSR", n_block=2, dim=16),
    of("MMRealSR", image(3, 32, 32), num_in_ch=3, num_out_ch=3, num_feat=8, num_block=1,
       num_grow_ch=4, num_feats=[8, 16, 16, 16], num_blocks=[1, 1, 1, 1]),
    of("SAFMN", dim=16, n_blocks=2),
    of("RestoreFormer", image(3, 32, 32), n_embed=16, embed_dim=16, ch=32, ch_mult=(1, 2),
       num_res_blocks=1, attn_resolutions=(16,), resolution=32, z_channels=16, head_size=4),
    Case(
        "spandrel/GFPGANv1Clean", "spandrel.architectures.GFPGAN.__arch.gfpganv1_clean_arch",
        "GFPGANv1Clean", image(3, 32, 32),
        dict(out_size=32, num_style_feat=16, channel_multiplier=1, narrow=0.125),
    ),
    of("RCAN", n_resgroups=2, n_resblocks=2, n_feats=16),
    of("SwiftSRGAN", num_channels=8, num_blocks=2),
    of("DRUNet", in_nc=3, out_nc=3, nc=[8, 8, 16, 16], nb=1),
    of("DnCNN", in_nc=3, out_nc=3, nc=8, nb=4),
    of("FBCNN", nc=[8, 8, 16, 512], nb=1),
    of("SCUNet", image(3, 64, 64), config=[1, 1, 1, 2, 1, 1, 1], dim=64, input_resolution=64),
    of("Uformer", image(3, 64, 64), img_size=64, embed_dim=8, depths=[1] * 9,
       num_heads=[1, 1, 2, 2, 2, 2, 2, 1, 1], win_size=4),
    of("DITN", dim=12, ITL_blocks=1, SAL_blocks=1),
    of("MoESR", dim=16, n_blocks=1, n_block=1),
    of("FDAT", embed_dim=16, num_groups=1, depth_per_group=2, num_heads=2, mid_dim=8),
    of("KBNet", kind="KBNet_s", width=8, middle_blk_num=1, enc_blk_nums=[1], dec_blk_nums=[1]),
    of("RetinexFormer", n_feat=8, stage=1),
    of("MixDehazeNet", image(3, 64, 64), embed_dims=[8, 16, 16, 16, 8], depths=[1, 1, 1, 1, 1]),
    of("SAFMNBCIE", dim=16, n_blocks=1),
    of("SeemoRe", num_experts=2, num_layers=2, embedding_dim=16),
    of("DRCT", img_size=16, embed_dim=12, depths=(2,), num_heads=(2,), window_size=8, gc=4,
       upsampler="pixelshuffle", upscale=2),
    of("ATD", img_size=16, embed_dim=12, depths=(2,), num_heads=(2,), window_size=8,
       category_size=16, num_tokens=8, upsampler="pixelshuffledirect", upscale=2),
    of("GRL", img_size=16, embed_dim=12, depths=[2], num_heads_window=[2], num_heads_stripe=[2],
       window_size=8, upsampler="pixelshuffle", upscale=2),
    Case("spandrel/HVICIDNet", "spandrel.architectures.HVICIDNet.__arch.cidnet", "CIDNet", SMALL,
         dict(channels=[12, 12, 24, 48], heads=[1, 2, 4, 8])),
    of("FFTformer", image(3, 32, 32), dim=8, num_blocks=[1, 1, 1], num_refinement_blocks=1),
)  # fmt: skip
