"""Lists the layers of a program with their groups, costs and possible changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import fx, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from gfx.compression.factor import Form, price, refusal
from gfx.compression.selection import Bounds, weakest
from gfx.costs import cost_of
from gfx.costs.symbolic import Pricing
from gfx.coupling import Group, Groups, analyse
from gfx.coupling.labels import Mask
from gfx.errors import InputError, did_you_mean
from gfx.ir.globs import matches
from gfx.ir.layers import Layer, layers_of, obstacle
from gfx.ir.ops import op_name
from gfx.ir.program import Program
from gfx.ir.stages import STAGES, layer_path, layers, stages

__all__ = ["InspectedLayer", "InspectedProgram"]


@dataclass(frozen=True)
class InspectedLayer:
    """One layer of a program, with all its calls."""

    path: str
    stage: str
    kind: str
    calls: tuple[fx.Node, ...]
    layer: Layer | None  # None: a call of a function, not a module

    @property
    def node(self) -> fx.Node:
        """The first call."""
        return self.calls[0]


class InspectedProgram:
    """Holds a program with its layers, stages, groups and prices."""

    def __init__(self, program: Program, form: Form) -> None:
        self.program = program
        self.form = form
        self.cost = cost_of(program)
        self.groups: Groups = analyse(program)
        self.places = _places(program)
        if not self.places:
            raise InputError(
                f"{program.provenance.source} has no convolution and no linear layer, so there is "
                "nothing to inspect"
            )
        self._macs = {row.node: row.macs.exact for row in self.cost.nodes}
        self._masks: dict[tuple[str, float], Mask] = {}

    @cached_property
    def pricing(self) -> Pricing:
        """Prices of the program at other widths."""
        return Pricing(self.groups, self.cost)

    @cached_property
    def _written(self) -> dict[str, list[Group]]:
        """The groups that each layer writes, by the tensor's path and its owners'."""
        found: dict[str, list[Group]] = {}
        for group in self.groups:
            for m in group.members:
                if self.groups.role(m.tensor, m.dim) != "out":
                    continue
                names = m.tensor.split(".")
                for end in range(1, len(names) + 1):
                    of = found.setdefault(".".join(names[:end]), [])
                    if group not in of:
                        of.append(group)
        return found

    def macs(self, place: InspectedLayer) -> int:
        """Counts a layer over all its calls."""
        return sum(self._macs[node.name] for node in place.calls)

    def params(self, place: InspectedLayer) -> int:
        """Counts the parameters of a layer."""
        if place.layer is not None:
            return sum(p.numel() for p in place.layer.module.parameters())
        read = {a for node in place.calls for a in node.all_input_nodes[1:] if a.op == "get_attr"}
        tensors = {id(t): t for t in (self.program.tensor(str(a.target)) for a in read)}
        return sum(t.numel() for t in tensors.values() if isinstance(t, nn.Parameter))

    def group(self, place: InspectedLayer) -> Group | None:
        """Finds the group of a layer's outputs: of several, the largest that is free."""
        found = self._written.get(place.path, [])
        return max(found, key=lambda g: (g.free, g.width), default=None)

    def unfit(self, place: InspectedLayer) -> str:
        """Says why a layer cannot be decomposed; "" if it can be."""
        if place.layer is None:
            return f"a call of {place.kind} on tensors, not a torch.nn layer"
        return obstacle(self.program, place.layer) or refusal(place.layer.module, self.form)

    def decomposed(self, place: InspectedLayer) -> int:
        """Returns the MACs that decomposing a layer saves."""
        assert place.layer is not None
        return price(place.layer).macs.exact - price(place.layer, self.form).macs.exact

    def mask(self, group: Group, share: float) -> Mask:
        """Marks the channels to remove when a group is narrowed."""
        key = (group.name, share)
        if key not in self._masks:
            self._masks[key] = weakest(self.groups, group, share)
        return self._masks[key]

    def width(self, group: Group, share: float) -> int:
        """Counts the channels that a layer has left of a narrowed group."""
        return (group.size - int(self.mask(group, share)[group.roots].sum())) * group.takes[0]

    def fixed(self, group: Group) -> str:
        """Says why a group cannot be narrowed; "" if it can be."""
        if not group.free:
            return group.pinned or "a single channel"
        return Bounds().of([group]).whole(group)

    def saved(self, group: Group, share: float) -> int:
        """Returns the MACs that narrowing a group saves, in all layers that write or read it."""
        mask = self.mask(group, share)
        full = np.array([g.size for g in self.pricing.groups])
        left = np.array([g.size - int(mask[g.roots].sum()) for g in self.pricing.groups])
        before, after = self.pricing.price([full, left])["exact"].tolist()
        return int(before - after)

    def chosen(self, wanted: str | Sequence[str]) -> list[InspectedLayer]:
        """Lists the layers that globs over module paths, or names of stages, select.

        Raises: InputError if one selects no layer.
        """
        globs = [wanted] if isinstance(wanted, str) else list(wanted)
        found: list[InspectedLayer] = []
        for glob in globs:
            of_stage = [p for p in self.places if p.stage == glob] if glob in STAGES else []
            chosen = of_stage or [p for p in self.places if matches(p.path, glob)]
            if not chosen:
                raise InputError(f"layers: {self._hint(glob)}")
            found += [p for p in chosen if p not in found]
        if not found:
            raise InputError("layers is empty; give globs over module paths, such as 'blocks.*'")
        return [p for p in self.places if p in found]

    def _hint(self, glob: str) -> str:
        paths = [p.path for p in self.places]
        inside = [path for path in paths if path.startswith(f"{glob.rstrip('.*')}.")]
        text = f"no convolution or linear layer is named {glob!r}"
        if inside:
            return f"{text}; {glob.rstrip('.*')}.* names the {len(inside)} inside it"
        return f"{text}{did_you_mean(glob, [*paths, *STAGES], '', cutoff=0.3)}"


def _places(program: Program) -> tuple[InspectedLayer, ...]:
    """Lists the layers in the order of their first calls."""
    of_node = stages(program)
    modules = {node: layer for layer in layers_of(program) for node in layer.calls}
    by_path: dict[str, list[Any]] = {}
    for node in layers(program):
        layer = modules.get(node)
        by_path.setdefault(layer.path if layer else layer_path(node), []).append((node, layer))
    found = []
    for path, calls in by_path.items():
        node, layer = calls[0]
        kind = type_before_parametrizations(layer.module).__name__ if layer else op_name(node)
        found.append(
            InspectedLayer(path, of_node[node.name], kind, tuple(n for n, _ in calls), layer)
        )
    return tuple(found)
