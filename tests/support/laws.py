"""What laws share: how hard they try, who judges, both front ends, partitions, new names."""

import itertools
import os
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import pytest
import torch
from hypothesis import HealthCheck, reject, settings
from torch import fx, nn

from gfx.contract import Context, Outcome
from gfx.coupling import Groups, analyse
from gfx.coupling import flow as flows
from gfx.errors import PreconditionError
from gfx.frontend.front_end_search import FrontEndSearch
from gfx.frontend.inputs.bind import bind
from gfx.frontend.inputs.infer import Inferred
from gfx.frontend.private_copy import private_copy
from gfx.ir.program import Program
from passes.channel_prune import ChannelPrune
from support.blocks import Spec
from support.law_timer import MINUTES, timed
from support.oracle import Kept, assert_equal_outputs, zeroed

__all__ = [
    "Partition",
    "judge",
    "law",
    "long_changes",
    "moved",
    "partition",
    "prune_as_told",
    "pruned",
    "renamed",
    "restricted",
    "same",
    "staying",
    "through",
    "union",
    "wrongly_pinned",
]

# (tensor path, dimension, index): what goes together, and whether it may go
Partition = dict[frozenset[tuple[str, int, int]], bool]

EFFORT = float(os.environ.get("GFX_LAWS", "1"))  # how many times as many examples
Law = TypeVar("Law", bound=Callable[..., None])


def law(examples: int, swept: int | None = None, **more: Any) -> Callable[[Law], Law]:
    """Sets how many examples a law tries; the profile says whether they are the same each time.

    `swept` is how many a longer run starts from, where other laws look at much the same. A run of
    `make laws` tries each law for its share of the time, in proportion to this.
    """
    count = examples if EFFORT == 1 or swept is None else swept
    effort = settings(
        max_examples=10**6 if MINUTES else max(1, round(count * EFFORT)),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        **more,
    )

    def decorated(test: Law) -> Law:
        if MINUTES:
            test.hypothesis.inner_test = timed(test.hypothesis.inner_test)
        stated = effort(test)
        stated.share = swept or examples
        return stated

    return decorated


def pruned(program: Program, **fields: Any) -> tuple[Program, Outcome]:
    """Prunes a copy at random; a program with nothing to remove is no example."""
    after = program.copy()
    try:
        outcome = ChannelPrune(**{"importance": "random", "min_channels": 1, **fields}).apply(
            after, Context()
        )
    except PreconditionError:
        reject()
    return after, outcome


def staying(outcome: Outcome) -> Kept:
    """Reads which indices of which tensors stay."""
    tensors = outcome.details.get("tensors", {}).items()
    return {path: {int(d): stay for d, stay in dims.items()} for path, dims in tensors}


def prune_as_told(program: Program, *inputs: torch.Tensor, **fields: Any) -> Outcome:
    """Prunes a program in place and holds the pass to its own reference."""
    pass_ = ChannelPrune(**fields)
    reference = pass_.reference(program)
    outcome = pass_.apply(program, Context())
    with torch.no_grad():
        assert_equal_outputs(reference.module(*inputs), program.module(*inputs))
    return outcome


def judge(spec: Spec, before: Program, **fields: Any) -> None:
    """Prunes and compares, on other batches and image sizes too.

    Where all that goes is exact the oracle judges, else the pass's own reference: what an
    approximate removal must equal is for the pass to say.
    """
    after, outcome = pruned(before, **fields)
    ways = {name: fields[name] for name in ("attention", "group_norm") if name in fields}
    groups = analyse(before.copy(), **ways)
    exact = all(groups[row["group"]].exact for row in outcome.details.get("groups", ()))
    if not exact:
        pass_ = ChannelPrune(**{"importance": "random", "min_channels": 1, **fields})
        reference = pass_.reference(before)
    for batch, size in ((spec.batch, 8), (3, 8), (2, 12)):
        inputs = spec.inputs(batch, size)
        if size != 8 and not _fits(before, inputs):
            continue
        if exact:
            wanted = zeroed(before.module, inputs, staying(outcome))
        else:
            wanted = reference.module(*inputs)
        assert_equal_outputs(wanted, after.module(*inputs))


def _fits(program: Program, inputs: tuple[torch.Tensor, ...]) -> bool:
    """Whether the original takes images of this size; a map of noise has its own."""
    try:
        fx.Interpreter(program.module).run(*inputs)
    except RuntimeError:
        return False
    return True


def through(frontend: Literal["symbolic", "export"], model: nn.Module, inputs: tuple) -> Program:
    """Traces by one front end only.

    Raises: Refusal if it does not take the model.
    """
    twin = private_copy(model)
    search = FrontEndSearch(twin, Inferred(bind(twin, inputs)), True)
    search.quick.look()
    return search.symbolic({}) if frontend == "symbolic" else search.exported({})


def partition(groups: Groups) -> Partition:
    """Lists every channel of the groups as what it consists of."""
    return {c.members: group.pinned is None for group in groups for c in group.channels}


# right reasons why channels that a layer makes may not go
REASONS = (
    "the model's input",
    "the model's output",
    "reads a fixed number of channels",
    "picks it out by its position",
    "resampled",
)


def wrongly_pinned(groups: Groups) -> list[str]:
    """Lists the pins of channels that layers make whose reason is none of those that are known."""
    return [
        f"{group.name}: {group.pinned}"
        for group in groups
        if group.pinned and group.producers and not any(why in group.pinned for why in REASONS)
    ]


def long_changes(program: Program) -> list[tuple[Any, ...]]:
    """Lists the groups of layers that change where every dimension is called long."""
    usual = _of_layers(analyse(program))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flows, "LONGEST", 1)
        long = _of_layers(analyse(program))
    pairs = itertools.zip_longest(usual, long)
    return [pair for pair in pairs if pair[0] != pair[1]]


def _of_layers(groups: Groups) -> list[tuple[Any, ...]]:
    """Lists the groups that layers write or read, with all that is said of them."""
    return [
        (g.name, g.size, g.approximate, g.takes, g.producers, g.consumers)
        for g in groups.free
        if g.producers or g.consumers
    ]


def restricted(groups: Partition, kept: Kept, sizes: dict[str, torch.Size]) -> Partition:
    """Keeps of every channel what is left of it, in the new numbers."""
    number = {
        (path, dim): {old: new for new, old in enumerate(stay)}
        for path, dims in kept.items()
        for dim, stay in dims.items()
    }
    left: Partition = {}
    for members, free in groups.items():
        stays = frozenset(
            (path, dim, number[path, dim][i] if (path, dim) in number else i)
            for path, dim, i in members
            if path in sizes and i in number.get((path, dim), (i,))
        )
        if stays:
            left[stays] = free
    return left


def renamed(program: Program) -> tuple[Program, dict[str, str]]:
    """Moves every module and tensor of a program to another path, in another order.

    Returns the program, and the new path of each module and of each tensor that has none.
    """
    nodes = [n for n in program.graph.nodes if n.op in ("call_module", "get_attr")]
    called = {str(n.target) for n in nodes if n.op == "call_module"}
    paths: dict[str, str] = {}
    for n in nodes:
        owner, _, leaf = str(n.target).rpartition(".")
        if str(n.target) in paths or owner in called:
            continue
        paths[str(n.target)] = f"z{len(paths) % 3}.part.y{len(nodes) - len(paths)}"
    root = nn.Module()
    for old, new in sorted(paths.items(), reverse=True):
        *outer, leaf = new.split(".")
        owner = root
        for name in outer:
            if not hasattr(owner, name):
                owner.add_module(name, nn.Module())
            owner = getattr(owner, name)
        _move(owner, leaf, program.module, old)
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in program.graph.nodes:
        copy = graph.node_copy(node, copies.__getitem__)
        if node in nodes:
            copy.target = moved(str(node.target), paths)
        copies[node] = copy
    return Program(fx.GraphModule(root, graph), program.example_inputs), paths


def _move(owner: nn.Module, leaf: str, module: nn.Module, old: str) -> None:
    where, _, name = old.rpartition(".")
    value = getattr(module.get_submodule(where), name)
    if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter):
        owner.register_buffer(leaf, value)
    else:
        setattr(owner, leaf, value)


def moved(path: str, paths: dict[str, str]) -> str:
    """Tells where a module, or a tensor of one, is now."""
    if path in paths:
        return paths[path]
    owner, _, leaf = path.rpartition(".")
    return f"{paths[owner]}.{leaf}"


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two states hold the same bytes under the same names."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def union(first: dict, second: dict) -> dict[str, tuple[int, ...]]:
    """Says in the first numbers what stays when the second removal follows the first."""
    kept = {name: tuple(stay) for name, stay in first.items()}
    for name, stay in second.items():
        own = kept.get(name)
        kept[name] = tuple(stay) if own is None else tuple(own[i] for i in stay)
    return kept
