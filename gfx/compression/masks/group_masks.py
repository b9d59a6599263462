"""Masks of channel groups: which groups take one or a penalty, and how they get it.

Before   y = conv2(relu(norm(conv1(x))))
After    y = conv2(masks.conv1(relu(norm(conv1(x))), 1))
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gfx.compression.masks.place import MaskPlace, Placement, mount, refusal
from gfx.compression.masks.writers import CONVS, norms_of, outputs, writers_of
from gfx.compression.selection import Bounds
from gfx.coupling import Group, Groups
from gfx.coupling.channel_names import modules_of
from gfx.ir.modules import ChannelMask, LearnedMask, Penalty, Ramp
from gfx.ir.modules.channel_masks import Granularity, Kind, Scope

__all__ = ["GroupMasks", "MaskSettings"]

# paths of modules → why these are left as they are; "" if they are not
Excluded = Callable[[tuple[str, ...]], str]


@dataclass(frozen=True)
class MaskSettings:
    """Says which masks and penalties a program gets.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> MaskSettings("ppcd", strength=1.0).mask(groups["project.conv"]).m.numel()
        32
    """

    kind: Kind = "agp"
    granularity: Granularity = "channel"  # one mask for each group, or for each layer
    ramp: Ramp = Ramp()  # noqa: RUF009 - immutable
    scope: Scope = "local"
    strength: float = 0.0  # of the penalty
    proximal: bool = False
    bounds: Bounds = Bounds()  # noqa: RUF009 - immutable

    def mask(self, group: Group) -> ChannelMask:
        """Makes a mask for the channels of a group."""
        least = int(self.bounds.of([group]).least[0])
        if self.kind == "ppcd":
            return LearnedMask(group.size, self.ramp, self.strength, least)
        return ChannelMask(group.size, self.ramp, self.granularity, self.scope, self.kind, least)

    def penalty(self) -> Penalty | None:
        """Makes a penalty on the weights of one layer; None if the kind of mask has none."""
        if self.kind == "slimming" or self.kind == "l1":
            return Penalty(self.kind, self.strength, self.proximal)
        return None


class GroupMasks:
    """Puts masks and penalties onto the channel groups of a program, and lists what it did.

    1. A group is masked wherever its channels are read, unless it has so few that all stay.
    2. With granularity "filter", where several layers write a group, each gets a mask of its own on
       its output, after the norm that follows it.
    3. The scales of a group's norms (slimming), or the weights of the convolutions that write it
       (l1), are penalised; a group that has none is not masked.

    The code is not recompiled.

    Example:
        >>> import gfx
        >>> from torch import nn
        >>> program = gfx.trace(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 3)))
        >>> masks = GroupMasks(gfx.channels(program), MaskSettings())
        >>> masks.insert(excluded=lambda paths: "")
        >>> masks.changes
        [('0', 'channels masked by masks.0', 0, 8)]
        >>> masks.skips[-1]
        ('1', "its channels are the model's output")
    """

    def __init__(self, groups: Groups, settings: MaskSettings) -> None:
        self.groups, self.settings = groups, settings
        self.placement = Placement(groups)
        self.changes: list[tuple[str, str, float, float]] = []  # path, what, before, after
        self.skips: list[tuple[str, str]] = []  # path or name of a group, why

    def names(self) -> list[str]:
        """Lists the modules by which the groups may be named."""
        return [name for group in self.groups for name in self._names(group)]

    def insert(self, excluded: Excluded) -> None:
        """Masks every group that may be masked and is not excluded by the names of its modules."""
        self.skips += self.groups.refused.items()
        penalised: dict[str, None] = {}
        for group in self.groups:
            why = refusal(self.groups, group) or excluded(self._names(group))
            why = why or self.settings.bounds.of([group]).whole(group)
            layers = () if why else self._penalised(group)
            why = why or self._unpenalised(layers)
            if why:
                self.skips.append((group.name, why))
                continue
            penalised.update(dict.fromkeys(layers))
            if self.settings.granularity == "filter" and len(group.producers) > 1:
                self._mask_filters(group, excluded)
            else:
                self._mask(group, group.name, self.placement.reads(group))
        for path in penalised:
            self._penalise(path)

    def _names(self, group: Group) -> tuple[str, ...]:
        """Lists the modules that name a group: its layers, and the norms that are penalised."""
        mine = modules_of(group)
        if self.settings.kind != "slimming":
            return mine
        others = (member.tensor.rpartition(".")[0] for member in group.members)
        return (*mine, *(o for o in others if o and o not in (*mine, *group.consumers)))

    def _penalised(self, group: Group) -> tuple[str, ...]:
        """Lists the modules whose weights are penalised for a group (rule 3)."""
        if self.settings.kind == "slimming":
            return norms_of(self.groups, group)
        return writers_of(self.groups, group, CONVS) if self.settings.kind == "l1" else ()

    def _unpenalised(self, layers: Sequence[str]) -> str:
        """Says that a group has no layer to penalise; "" if it has one or needs none."""
        if layers:
            return ""
        none = {
            "slimming": "no BatchNorm or affine InstanceNorm scales it",
            "l1": "no convolution writes it",
        }
        return none.get(self.settings.kind, "")

    def _mask_filters(self, group: Group, excluded: Excluded) -> None:
        """Masks each of the layers that write a group on its own output (rule 2)."""
        layers = writers_of(self.groups, group)
        for path in group.producers:
            why = excluded((path,))
            if not why and path not in layers:
                why = "it is no convolution or linear layer that is called"
            if why:
                self.skips.append((path, why))
                continue
            self._mask(group, path, outputs(self.placement, group, path))

    def _mask(self, group: Group, name: str, places: Sequence[MaskPlace]) -> None:
        if not places:
            self.skips.append((name, "nothing reads its channels"))
            return
        path = self.placement.put(self.settings.mask(group), name, list(places))
        self.changes.append((name, f"channels masked by {path}", 0, group.width))

    def _penalise(self, path: str) -> None:
        """Puts a penalty of a module's weight behind the module."""
        penalty = self.settings.penalty()
        assert penalty is not None
        self.placement.mark(path, mount(self.placement.program, penalty, path, "penalties"))
        self.changes.append((path, f"{penalty.kind} penalty", 0, penalty.strength))
