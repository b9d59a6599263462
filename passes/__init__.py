"""The passes that ship with gfx, offered through the entry point group `gfx.passes`."""

from passes.channel_prune import ChannelPrune
from passes.channels_last import ChannelsLast
from passes.decompose import Decompose
from passes.distill_taps import DistillTaps
from passes.fast_instance_norm import FastInstanceNorm
from passes.fold_constants import FoldConstants
from passes.fold_masks import FoldMasks
from passes.fold_parametrizations import FoldParametrizations
from passes.fuse_batch_norm import FuseBatchNorm
from passes.mask import Mask
from passes.refit import Refit
from passes.reinitialise import Reinitialise
from passes.remove_zeros import RemoveZeros
from passes.sort_channels import SortChannels
from passes.strip_taps import StripTaps
from passes.widths import Widths
from passes.write_in_place import WriteInPlace

__all__ = ["PASSES"]

PASSES = (
    ChannelPrune,
    ChannelsLast,
    Decompose,
    DistillTaps,
    FastInstanceNorm,
    FoldConstants,
    FoldMasks,
    FoldParametrizations,
    FuseBatchNorm,
    Mask,
    Refit,
    Reinitialise,
    RemoveZeros,
    SortChannels,
    StripTaps,
    Widths,
    WriteInPlace,
)
