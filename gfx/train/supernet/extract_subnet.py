"""Cuts a subnet out of a supernet as a program of its own."""

from collections.abc import Sequence

from torch import fx

from gfx.compression.selection.width_choices import SUPERNET
from gfx.coupling.analysis import analyse, analyse_like
from gfx.coupling.channel_owners import ChannelOwners
from gfx.coupling.removal import remove
from gfx.ir.choice_nodes import take
from gfx.ir.program import Program
from gfx.train.supernet.pooled_moments import Moments
from gfx.train.supernet.subnet_plan import SubnetPlan

__all__ = ["extracted", "kept_channels"]


def extracted(
    program: Program, plan: SubnetPlan, units: Sequence[int], moments: Moments
) -> fx.GraphModule:
    """Returns a subnet with copies of its tensors.

    It is what `channel_prune` makes that keeps the first channels, of what `take` makes.

    Args:
        program: of the supernet; it stays as it is.
        plan: of the program.
        units: channels that go together of each elastic group, then the options of choices.
        moments: of the subnet's BatchNorms, where they have some of their own.
    """
    small = program.copy()
    own = analyse_like(plan.groups, small)
    removed = own.none_removed()
    for group, count in zip(plan.elastic, units, strict=False):
        removed[own[group.name].roots[count:]] = True
    if removed.any():
        remove(small, own, removed)
    if plan.choices:
        take(small, units[len(plan.elastic) :])
    for path, found in moments.items():
        layer = small.module.get_submodule(path)
        for name, value in zip(("running_mean", "running_var"), found, strict=True):
            layer.get_buffer(name).copy_(value)
    small.module.meta.pop(SUPERNET, None)  # its widths are others
    return small.module


def kept_channels(
    program: Program, plan: SubnetPlan, units: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    """Returns the channels that stay of the groups of a program, as `channel_prune` takes them.

    Args:
        program: a subnet of the largest widths: forms may give its groups other names.
        plan: of the supernet.
        units: of the subnet that is made of it.
    """
    groups = analyse(program)
    owners = ChannelOwners(groups, groups.free)
    found: dict[str, tuple[int, ...]] = {}
    for path, dims in plan.intervals.items():
        for dim, each in enumerate(dims):
            axis = groups.axes[path][dim] if each is not None and path in groups.axes else None
            if each is None or axis is None:
                continue
            for run in each.runs:
                mine = int(owners.group[axis.ids[run.start]])
                if run.group < 0 or mine < 0 or units[run.group] == plan.elastic[run.group].size:
                    continue
                group = groups.free[mine]
                found[group.name] = tuple(range(units[run.group] * group.takes[0]))
    return found
