"""The passes that ship with gfx, offered through the entry point group `gfx.passes`."""

from passes.channel_prune import ChannelPrune
from passes.decompose import Decompose
from passes.fold_parametrizations import FoldParametrizations
from passes.fuse_batch_norm import FuseBatchNorm
from passes.mask import Mask
from passes.refit import Refit

__all__ = ["PASSES"]

PASSES = (ChannelPrune, Decompose, FoldParametrizations, FuseBatchNorm, Mask, Refit)
