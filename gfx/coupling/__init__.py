"""Finds coupled channel groups: the slices of tensors that must be removed together."""

from gfx.coupling.analysis import analyse, analyse_like
from gfx.coupling.flow import Attention, GroupNorms
from gfx.coupling.groups import Channel, Group, Groups, Member

__all__ = [
    "Attention",
    "Channel",
    "Group",
    "GroupNorms",
    "Groups",
    "Member",
    "analyse",
    "analyse_like",
]
