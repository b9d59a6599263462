"""Terms of objectives: `losses: {gan: hinge, l1: 100, taps: 1}` of a recipe.

Each is a frozen dataclass, found by the entry point `gfx.terms` as passes are by `gfx.passes`.
"""

from gfx.train.terms.adversarial_terms import FeatureMatching, Gan, LabelNames
from gfx.train.terms.cycle_terms import Cycle, Identity
from gfx.train.terms.feature_terms import (
    AttentionTransfer,
    ChannelMeans,
    Content,
    Flows,
    KernelAlignment,
    Taps,
    Texture,
)
from gfx.train.terms.image_terms import L1, Mimic, Recon, Ssim, TotalVariation
from gfx.train.terms.perceptual_term import Perceptual
from gfx.train.terms.relative_terms import SelfSupervised
from gfx.train.terms.term import Objective, StepValues, Term, TermSetting
from gfx.train.terms.term_registry import read_terms, terms

TERMS = (
    Gan,
    FeatureMatching,
    LabelNames,
    L1,
    Recon,
    Perceptual,
    Cycle,
    Identity,
    Mimic,
    Ssim,
    TotalVariation,
    Taps,
    Content,
    Texture,
    AttentionTransfer,
    ChannelMeans,
    Flows,
    KernelAlignment,
    SelfSupervised,
)

__all__ = ["TERMS", "Objective", "StepValues", "Term", "TermSetting", "read_terms", "terms"]
