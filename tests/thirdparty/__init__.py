"""Generators of published packages, in small configurations, as anyone would build them."""

from types import MappingProxyType

from thirdparty import other_cases, spandrel_cases

__all__ = ["CASES", "REFUSED", "SLOW"]

CASES = (*other_cases.CASES, *spandrel_cases.CASES)

# what a refusal says
REFUSED = MappingProxyType(
    {
        "spandrel/SeemoRe": "cannot be turned into a graph: .*data-dependent",
        "spandrel/HVICIDNet": "returns what no shape foretells",
    }
)

# over five seconds, mostly in torch.export: the tests leave them to docs/coverage.md
SLOW = frozenset(
    {f"smp/{n}" for n in (
        "UnetPlusPlus FPN Linknet MAnet PSPNet DeepLabV3Plus UPerNet Segformer".split()
    )}
    | {f"spandrel/{n}" for n in (
        "OmniSR HAT DAT CRAFT RGT LaMa Uformer FFTformer SCUNet ATD HVICIDNet GFPGANv1Clean "
        "DRCT".split()
    )}
    | {"super-image/Drln", "super-image/A2n", "diffusers/AutoencoderKL", "diffusers/VQModel",
       "diffusers/UNet2DModel", "diffusers/UNet2DConditionModel", "monai/AutoencoderKL",
       "monai/DiffusionModelUNet"}
)  # fmt: skip
