"""Losses of the papers, each a small module.

What is the student's comes first, what is the teacher's second, and the teacher gets no gradient.
"""

from gfx.tune.losses.adversarial import DiscriminatorLoss, GeneratorLoss
from gfx.tune.losses.attention import AttentionLoss
from gfx.tune.losses.base import Loss, TapLoss
from gfx.tune.losses.features import ChannelLoss, ContentLoss, FeatureLoss, TextureLoss
from gfx.tune.losses.flow import FSPLoss
from gfx.tune.losses.images import OutputLoss, ReconstructionLoss, SSIMLoss, TotalVariationLoss
from gfx.tune.losses.kernels import KernelAlignmentLoss
from gfx.tune.losses.relative import RelativeLoss, SelfSupervisedLoss
from gfx.tune.losses.weighted import Weighted

__all__ = [
    "AttentionLoss",
    "ChannelLoss",
    "ContentLoss",
    "DiscriminatorLoss",
    "FSPLoss",
    "FeatureLoss",
    "GeneratorLoss",
    "KernelAlignmentLoss",
    "Loss",
    "OutputLoss",
    "ReconstructionLoss",
    "RelativeLoss",
    "SSIMLoss",
    "SelfSupervisedLoss",
    "TapLoss",
    "TextureLoss",
    "TotalVariationLoss",
    "Weighted",
]
