"""Losses of the papers, each a small module.

The student's values come first, the teacher's second, and the teacher gets no gradient.
"""

from gfx.train.losses.adversarial import DiscriminatorLoss, GeneratorLoss
from gfx.train.losses.attention import AttentionLoss
from gfx.train.losses.base import Loss, TapLoss
from gfx.train.losses.feature_losses import ChannelLoss, ContentLoss, FeatureLoss, TextureLoss
from gfx.train.losses.fsp import FSPLoss
from gfx.train.losses.image_losses import (
    OutputLoss,
    ReconstructionLoss,
    SSIMLoss,
    TotalVariationLoss,
)
from gfx.train.losses.kernel_alignment import KernelAlignmentLoss
from gfx.train.losses.relative import RelativeLoss, SelfSupervisedLoss
from gfx.train.losses.weighted import Weighted

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
