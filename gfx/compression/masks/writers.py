"""Which layers write a group's channels, and which norms scale them."""

from collections import Counter
from dataclasses import replace

from torch import fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from gfx.compression.masks.place import MaskPlace, Placement
from gfx.coupling import Group, Groups

__all__ = ["CONVS", "LAYERS", "calls_of", "norms_of", "outputs", "writers_of"]

LAYERS = (_ConvNd, nn.Linear)
CONVS = (_ConvNd,)


def calls_of(groups: Groups, path: str) -> list[fx.Node]:
    """Lists the nodes that call the module at a path."""
    nodes = groups.program.graph.nodes
    return [n for n in nodes if n.op == "call_module" and str(n.target) == path]


def writers_of(
    groups: Groups, group: Group, kinds: tuple[type[nn.Module], ...] = LAYERS
) -> tuple[str, ...]:
    """Lists the layers that are called and write a group's channels.

    Example:
        >>> import gfx
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 3, 3))
        >>> groups = gfx.channels(gfx.trace(model))
        >>> writers_of(groups, groups["0"]), norms_of(groups, groups["0"])
        (('0',), ('1',))
    """
    module = groups.program.module
    called = {str(n.target) for n in module.graph.nodes if n.op == "call_module"}
    mine = [path for path in group.producers if path in called]
    return tuple(path for path in mine if isinstance(module.get_submodule(path), kinds))


def norms_of(groups: Groups, group: Group) -> tuple[str, ...]:
    """Lists the BatchNorms and InstanceNorms whose scales multiply a group's channels."""
    program = groups.program
    mine = {member.tensor for member in group.members}
    found = []
    for node in program.graph.nodes:
        module = program.submodule(node) if node.op == "call_module" else None
        scale = module.weight if isinstance(module, _NormBase) else None
        if scale is not None and groups.path_of(scale) in mine:
            found.append(str(node.target))
    return tuple(dict.fromkeys(found))


def outputs(placement: Placement, group: Group, path: str) -> list[MaskPlace]:
    """Lists what a layer writes of a group: its outputs, after the norm that follows if any.

    A norm that serves other places too is left out: what comes before it is then the output.
    """
    places = []
    for node in calls_of(placement.groups, path):
        place = placement.along(node, group)
        if place is not None:
            places.append(replace(place, node=_normed(placement, node)))
    return places


def _normed(placement: Placement, node: fx.Node) -> fx.Node:
    """Returns the norm that alone reads a layer, if it serves nothing else; else the layer."""
    users = list(node.users)
    norm = users[0]
    if len(users) > 1 or norm.op != "call_module" or norm.all_input_nodes != [node]:
        return node
    calls = Counter(str(n.target) for n in norm.graph.nodes if n.op == "call_module")
    plain = isinstance(placement.program.submodule(norm), _NormBase)
    return norm if plain and calls[str(norm.target)] == 1 else node
