"""Plans how one graph runs at any widths: which numbers follow, and which part of a tensor.

1. A group is elastic unless a statistic of weights would have to be stored, or a number of the
   graph follows its width in no way that is known. It then stays whole, with the reason.
2. Removals at a few widths give the numbers. Groups that no node has in common are moved in one
   removal; the others in one each.
3. The functions are held to removals at the smallest widths, nearly the largest and others that
   are drawn, and at the largest to the program itself. The place of a channel that stays among
   those that go is concave in their number: where it is not affine, one of these tells. Where one
   fails, groups that meet there are moved far, each alone: those that are followed stay elastic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isclose
from typing import Any

import networkx
import numpy as np
from torch import fx, nn

from gfx.coupling import Group, Groups
from gfx.coupling.channel_owners import ChannelOwners
from gfx.coupling.removal import narrowed
from gfx.errors import EditError
from gfx.ir.choice_nodes import choices_of
from gfx.ir.program import Program
from gfx.progress import step
from gfx.train.supernet.affine_values import (
    Differs,
    Number,
    Place,
    WidthFunction,
    fit_number,
    not_followed,
    number_at,
    places,
)
from gfx.train.supernet.kept_intervals import Intervals

__all__ = ["Numbers", "SubnetPlan", "plan_subnets"]

_DRAWN = 2  # removals at widths that are drawn, which only check
Numbers = dict[Place, WidthFunction]
_STORED = "a statistic of its weights would be stored, and not learn"


@dataclass(frozen=True)
class SubnetPlan:
    """Holds what a program needs to run at any widths of its elastic groups.

    It holds no content: copies of a program share it.
    """

    groups: Groups  # of the program without content
    elastic: tuple[Group, ...]
    kept_whole: Mapping[str, str]  # group: why it is not elastic
    pattern: Program  # without content: the graph of a removal, whose numbers are replaced
    paths: Mapping[str, str]  # of every tensor of the program: the path in `intervals`
    arguments: Mapping[str, Numbers]  # by node of the pattern: where its arguments follow
    attributes: Mapping[tuple[str, str], Numbers]  # by module and attribute
    intervals: Mapping[str, tuple[Intervals | None, ...]]  # by tensor: what stays of each dimension

    @cached_property
    def choices(self) -> dict[str, tuple[str, ...]]:
        """The options of every choice, in the order of the graph."""
        found = choices_of(self.groups.program.module).values()
        return {choice.name: choice.options for choice in found}


def plan_subnets(
    groups: Groups, least: Mapping[str, int], kept_whole: Mapping[str, str]
) -> SubnetPlan:
    """Plans how a program runs at other widths.

    Args:
        groups: of the program.
        least: the fewest channels (those that go together are one) of each group that has a choice.
        kept_whole: why the other groups have none.
    """
    whole = dict(kept_whole)
    among = [group for group in groups.free if group.name in least]
    owners = ChannelOwners(groups, among)
    constants = groups.constants
    stored = owners.of_statistics(constants.weight_statistics | constants.weights)
    whole |= {among[i].name: _STORED for i in stored}
    among = [group for i, group in enumerate(among) if i not in stored]
    far = False
    while among:
        try:
            return _planned(groups, among, least, whole, far=far)
        except _Inelastic as found:
            if len(found.why) > 1 and not far:
                far = True
                continue
            whole |= {among[i].name: why for i, why in found.why.items()}
            among = [group for i, group in enumerate(among) if i not in found.why]
    return SubnetPlan(groups, (), whole, groups.program.copy(), _paths(groups), {}, {}, {})


class _Inelastic(Exception):
    """Names groups whose widths something does not follow, with the reason of each."""

    def __init__(self, why: dict[int, str]) -> None:
        super().__init__(str(why))
        self.why = why


def _planned(
    groups: Groups,
    among: Sequence[Group],
    least: Mapping[str, int],
    whole: dict[str, str],
    *,
    far: bool,
) -> SubnetPlan:
    owners = ChannelOwners(groups, among)
    met = _Meetings(groups, owners)
    widths = _probes(among, [least[group.name] for group in among], met, far=far)
    names = [group.name for group in among]
    results = []
    with step("finding what follows the widths", len(widths)) as counted:
        for row in widths:
            wanted = dict(zip(names, row, strict=True))
            try:
                results.append(narrowed(groups, wanted, content=False, general=True))
            except EditError as error:
                accused = met.by_node.get(error.node) or met.all
                said = f"at some widths {str(error).partition(';')[0]}"
                raise _Inelastic(dict.fromkeys(accused, said)) from error
            counted.advance()
    why: dict[int, str] = {}
    largest = [group.size for group in among]
    given = {node.name: (node.args, node.kwargs) for node in groups.program.graph.nodes}
    fit = _NumberFit(widths, largest, why)
    arguments = _arguments(results, met, fit, given)
    attributes = _attributes(results, met, fit, groups.program.module)
    if why:
        raise _Inelastic(why)
    intervals: dict[str, tuple[Intervals | None, ...]] = {}
    for path, axes in groups.axes.items():
        dims = [None if axis is None else Intervals(owners, axis.ids) for axis in axes]
        if not all(dim is None or dim.fixed for dim in dims):
            intervals[path] = tuple(None if dim is None or dim.fixed else dim for dim in dims)
    paths = _paths(groups)
    return SubnetPlan(
        groups, tuple(among), whole, results[0], paths, arguments, attributes, intervals
    )


def _paths(groups: Groups) -> dict[str, str]:
    """Maps the path of every tensor to the first path that holds the same."""
    module = groups.program.module
    held: dict[str, Any] = dict(module.named_parameters(remove_duplicate=False))
    held |= dict(module.named_buffers(remove_duplicate=False))
    return {path: groups.path_of(value) or path for path, value in held.items()}


class _Meetings:
    """Finds which groups a node, or a module, may follow."""

    def __init__(self, groups: Groups, owners: ChannelOwners) -> None:
        self.by_node: dict[str, frozenset[int]] = {}
        self.by_module: dict[str, frozenset[int]] = {}
        self.all = frozenset(range(len(owners.sizes)))
        for node in groups.program.nodes():
            found = owners.of_node(node)
            if not found and node.op != "placeholder":
                found = frozenset().union(*(self.by_node[n.name] for n in node.all_input_nodes))
            self.by_node[node.name] = found
        for node in groups.program.nodes():
            if node.op == "call_module":
                module = groups.program.submodule(node)
                held = [*module.named_parameters(), *module.named_buffers()]
                found = self.of(node).union(
                    *(owners.of_tensor(f"{node.target}.{name}") for name, _ in held)
                )
                for path, _ in module.named_modules():
                    whole = f"{node.target}.{path}" if path else str(node.target)
                    self.by_module[whole] = self.by_module.get(whole, frozenset()) | found
        self.together = {self.of(node) for node in groups.program.nodes()}
        self.together |= {*self.by_module.values()}

    def of(self, node: fx.Node) -> frozenset[int]:
        """Returns the groups of a node and of what it reads.

        Of a node that a removal inserted, those of what it is made for as well.
        """
        if node.name in self.by_node:
            above = [self.by_node.get(n.name, frozenset[int]()) for n in node.all_input_nodes]
            return self.by_node[node.name].union(*above)
        found, seen, todo = frozenset[int](), {node}, [node]
        while todo:
            at = todo.pop()
            for other in (*at.all_input_nodes, *at.users):
                found |= self.by_node.get(other.name, frozenset())
                if other.name not in self.by_node and other not in seen:
                    seen.add(other)
                    todo.append(other)
        return found

    def of_module(self, path: str) -> frozenset[int]:
        """Returns the groups that a module meets."""
        return self.by_module.get(path, self.all)

    def apart(self) -> list[list[int]]:
        """Lists the groups in sets of which no node has two."""
        graph: Any = networkx.Graph()
        graph.add_nodes_from(sorted(self.all))
        for found in self.together:
            listed = sorted(found)
            graph.add_edges_from((a, b) for i, a in enumerate(listed) for b in listed[i + 1 :])
        colours = networkx.greedy_color(graph, strategy="largest_first")
        sets: dict[int, list[int]] = {}
        for number, colour in sorted(colours.items()):
            sets.setdefault(colour, []).append(number)
        return [sets[colour] for colour in sorted(sets)]


def _probes(
    among: Sequence[Group], least: Sequence[int], met: _Meetings, *, far: bool
) -> list[tuple[int, ...]]:
    """Lists the widths of the removals: a base, one for each set that is apart, and checks.

    `far` adds two for each set, at its smallest and largest widths (rule 3).
    """
    sizes = np.array([group.size for group in among])
    base = np.maximum(sizes // 2, 1)
    other = np.where(base + 1 < sizes, base + 1, np.where(base > 1, base - 1, sizes))
    most = np.maximum(sizes - 1, 1)
    smallest = np.minimum(np.array(least), most)
    rows = [base]
    for moved in (other, smallest, most) if far else (other,):
        for apart in met.apart():
            row = base.copy()
            row[apart] = moved[apart]
            rows.append(row)
    rows += [smallest, most]
    rng = np.random.default_rng(0)
    rows += [rng.integers(1, np.maximum(sizes, 2)) for _ in range(_DRAWN)]
    return [tuple(int(n) for n in row) for row in rows]


@dataclass(frozen=True)
class _NumberFit:
    """Fits numbers to widths, and says why where it cannot."""

    widths: Sequence[Sequence[int]]
    largest: Sequence[int]
    why: dict[int, str]

    def of(self, where: str, values: Sequence[Any], among: frozenset[int], given: Any) -> Numbers:
        """Returns the functions of the numbers in values, one of each removal.

        `given` is what the program itself has there; other things are not compared.
        """
        found: Numbers = {}
        try:
            for place, numbers in places(values):
                function, known = fit_number(numbers, self.widths, among), number_at(given, place)
                if function is not None and self._is_whole(function, known):
                    found[place] = function
                    continue
                accused = not_followed(numbers, self.widths, among)
                said = f"a number of {where} follows its width in no known way"
                self.why.update(dict.fromkeys(accused, said))
        except Differs as error:
            self.why.update(dict.fromkeys(among, f"{where}: {error}"))
        return found

    def _is_whole(self, function: WidthFunction, known: Number | None) -> bool:
        """Whether a function gives what the program itself has (rule 3)."""
        return known is None or isclose(known, function.at(self.largest), rel_tol=1e-9)


def _arguments(
    results: Sequence[Program], met: _Meetings, fit: _NumberFit, given: Mapping[str, Any]
) -> dict[str, Numbers]:
    """Fits the numbers in the arguments of the nodes."""
    nodes = [list(result.graph.nodes) for result in results]
    if any(len(listed) != len(nodes[0]) for listed in nodes):
        _same_nodes(nodes, met)
    found: dict[str, Numbers] = {}
    for row in zip(*nodes, strict=True):
        first = row[0]
        among = met.of(first) or met.all
        kinds = {(node.op, node.name, str(node.target)) for node in row}
        if len(kinds) > 1:
            fit.why.update(
                dict.fromkeys(among, f"{first.name} is another operation at some widths")
            )
            continue
        values = [(node.args, node.kwargs) for node in row]
        numbers = fit.of(first.name, values, among, given.get(first.name))
        if numbers:
            found[first.name] = numbers
    return found


def _same_nodes(nodes: Sequence[Sequence[fx.Node]], met: _Meetings) -> None:
    """Names the groups of the nodes that some results have and others have not."""
    names = [{node.name for node in listed} for listed in nodes]
    common = set.intersection(*names)
    extra = [node for listed in nodes for node in listed if node.name not in common]
    among = frozenset().union(*(met.of(node) for node in extra))
    said = f"{extra[0].name} is there at some widths and not at others"
    raise _Inelastic(dict.fromkeys(among or met.all, said))


def _attributes(
    results: Sequence[Program], met: _Meetings, fit: _NumberFit, given: nn.Module
) -> dict[tuple[str, str], Numbers]:
    """Fits the numbers in the attributes of the modules."""
    modules = [dict(result.module.named_modules()) for result in results]
    own = dict(given.named_modules())
    found: dict[tuple[str, str], Numbers] = {}
    for path, module in modules[0].items():
        if not path or any(path not in others for others in modules):
            continue
        same = [others[path] for others in modules]
        for name in _plain(module):
            values = [getattr(one, name, None) for one in same]
            known = getattr(own.get(path), name, None)
            numbers = fit.of(f"{path}.{name}", values, met.of_module(path), known)
            if numbers:
                found[path, name] = numbers
    return found


def _plain(module: nn.Module) -> list[str]:
    """Lists the attributes that are numbers, or tuples and lists of some."""
    hidden = ("_parameters", "_buffers", "_modules", "training")
    return [
        name
        for name, value in vars(module).items()
        if name not in hidden
        and isinstance(value, int | float | tuple | list)
        and not isinstance(value, bool)
    ]
