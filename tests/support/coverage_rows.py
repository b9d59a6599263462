"""What gfx and torch-pruning each do with one generator: a row of docs/coverage.md.

gfx: half of the channels of every free group go, chosen at random.

1. Those of exact groups alone: the outputs must equal the oracle's (tests/support/oracle.py).
2. Those of all free groups: the outputs must equal the pass's own reference.

A supernet with every width is made of it; its smallest subnet and a drawn one must equal what is
extracted at the same widths.

Equal is to 1e-9 of the largest output; to 1e-6 where the model itself turns to float32.

torch-pruning: half of the channels go by their L1 norm; the layers that write the model's outputs
are ignored, as gfx found them. Its outcome is

- handled: it runs, its outputs keep their shapes, and all layers that gfx narrowed are narrower;
- partly: as above, for a share of these layers;
- nothing: no layer is narrower, and nothing was said;
- wrong shape: the outputs have another shape;
- crash: it raises, or what it leaves does not run;
- no end: it was stopped after a minute.

Whether its numbers are right is not looked at.
"""

import contextlib
import copy
import io
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

import gfx
from gfx.coupling import Group, Groups, analyse
from gfx.coupling.removal import remove
from gfx.ir.program import Program
from passes.channel_prune import ChannelPrune
from passes.fold_parametrizations import FoldParametrizations
from support.oracle import deviation, flat, zeroed

__all__ = ["CONTRACT", "Row", "measure", "narrowed", "peer_outcome"]

TOLERANCE, COARSE = 1e-9, 1e-6  # the second where a model itself turns to float32
CONTRACT = ("model's input", "model's output")  # pins that are part of what a model promises


@dataclass
class Row:
    """One generator and what became of it."""

    name: str
    frontend: str = "-"
    groups: int = 0
    free: int = 0  # channels
    approximate: int = 0  # of these
    inner: int = 0  # channels that layers write or read, but for the model's inputs and outputs
    parameters: float = 0.0  # share that has a free channel on some dimension
    pinned: Sequence[tuple[str, int]] = ()  # reason, channels
    marks: Sequence[str] = ()  # why groups are approximate
    judged: str = "-"  # oracle, or own reference
    outcome: str = "-"
    supernet: str = "-"
    peer: str = "-"

    @property
    def share(self) -> float:
        """The prunable share of the inner channels."""
        return self.free / self.inner if self.inner else 0.0


def measure(
    name: str, model: nn.Module, inputs: tuple[Any, ...], *, peer: bool = True, oracle: bool = True
) -> Row:
    """Runs both tools on a model in float64 and eval mode; the model is left unchanged."""
    row = Row(name)
    narrow: set[str] = set()
    outputs: list[str] = []
    try:
        program = gfx.trace(model, inputs)
        narrow, outputs = _judge(row, model, inputs, program, oracle)
    except gfx.GfxError as error:
        row.outcome = f"refused: {error}"
    if peer:
        row.peer = peer_outcome(model, inputs, narrow, outputs)
    return row


def _judge(
    row: Row, model: nn.Module, given: tuple[Any, ...], program: Program, oracle: bool
) -> tuple[set[str], list[str]]:
    """Fills a row; returns the modules that gfx narrowed and those that write the outputs."""
    row.frontend = program.provenance.frontend
    if program.provenance.opaque:
        row.frontend += f", {len(program.provenance.opaque)} opaque"
    if not _equal(_run(model, given), _run(program.module, program.example_inputs)):
        row.outcome = "WRONG: the traced program differs"
        return set(), []
    inputs = program.example_inputs
    FoldParametrizations().apply(program, gfx.Context())
    _still(program)
    groups = analyse(program)
    _describe(row, groups)
    outputs = [p for g in groups if "model's output" in str(g.pinned) for p in g.producers]
    row.outcome = "exact"
    row.judged = "oracle" if oracle and _by_oracle(row, program) else "own reference"
    pruned, pass_ = (
        program.copy(),
        ChannelPrune(ratio=0.5, min_channels=1, importance="random", seed=3),
    )
    pass_.apply(pruned, gfx.Context())
    reference = pass_.reference(program)
    assert reference is not None
    expected, got = _run(reference.module, inputs), _run(pruned.module, inputs)
    row.supernet = _supernet(program, len(groups.free))
    if not _equal(expected, got, _tolerance(program)):
        row.outcome = "WRONG: it differs from its own reference"
    elif row.approximate:
        row.outcome = "exact, and approximate in part"
    return narrowed(program.module, pruned.module), outputs


def _supernet(program: Program, free: int) -> str:
    """Makes a supernet; its smallest subnet and a drawn one must be what is extracted."""
    widths = {"step": 1, "at_least": 0.0, "min_channels": 1}
    inputs = program.example_inputs
    try:
        net = gfx.supernet(program.module, inputs, widths=widths, order=None, verify=False).eval()
    except gfx.PreconditionError:
        return "none"
    for chosen in (net.smallest(), net.sample(3, 0)):
        net.set(chosen)
        if not _equal(_run(net.extract(), inputs), _run(net, inputs), _tolerance(program)):
            return "WRONG"
    return "all" if len(net.widths) == free else f"{len(net.widths)} of {free}"


def _still(program: Program) -> None:
    """Replaces noise of an activation's shape by a constant: narrower noise has other values."""
    for node in program.graph.nodes:
        if node.op == "call_function" and node.target is torch.randn_like:
            node.target, node.args, node.kwargs = torch.full_like, (node.args[0], 0.3), {}
    program.recompile()


def _by_oracle(row: Row, program: Program) -> bool:
    """Removes half of the exact channels and asks the oracle; False if it cannot tell."""
    pruned = program.copy()
    groups = analyse(pruned)
    rng, removed = np.random.default_rng(3), groups.none_removed()
    for group in groups.free:
        if group.exact:
            removed[rng.permutation(group.roots)[: group.size // 2]] = True
    if not removed.any():
        return False
    kept = _kept(groups, removed)
    remove(pruned, groups, removed)
    inputs = program.example_inputs
    try:
        expected = _seeded(lambda: zeroed(program.module, inputs, kept))
    except NotImplementedError:
        return False
    if not _equal(expected, _run(pruned.module, inputs), _tolerance(program)):
        row.outcome = "WRONG: it differs from the oracle"
    return True


def _kept(groups: Groups, removed: Any) -> dict[str, dict[int, list[int]]]:
    """Lists what stays of each tensor dimension that loses something."""
    stays, found = groups.kept(removed), {}
    for path, axes in groups.axes.items():
        lost = {a.dim: stays[a.ids] for a in axes if a is not None and not stays[a.ids].all()}
        if lost:
            found[path] = {dim: np.flatnonzero(mask).tolist() for dim, mask in lost.items()}
    return found


def _describe(row: Row, groups: Groups) -> None:
    """Counts groups and channels, and the reasons of what is pinned."""
    inner = [g for g in groups if _is_inner(g)]
    row.groups = len(groups)
    row.free = sum(g.size for g in groups.free)
    row.approximate = sum(g.size for g in groups.free if not g.exact)
    row.inner = sum(g.size for g in inner)
    row.parameters = _parameter_share(groups)
    reasons: Counter[str] = Counter()
    for group in inner:
        if not group.free:
            reasons[group.pinned or "it has a single channel"] += group.size
    row.pinned = reasons.most_common()
    row.marks = tuple(dict.fromkeys(g.approximate for g in groups.free if g.approximate))


def _is_inner(group: Group) -> bool:
    """Whether a group is of channels that layers exchange, not of rows of a table or the like."""
    if any(text in str(group.pinned) for text in CONTRACT):
        return False
    return group.free or bool(group.producers or group.consumers)


def _parameter_share(groups: Groups) -> float:
    free = np.zeros(len(groups.roots), dtype=bool)
    for group in groups.free:
        free[group.roots] = True
    total, stuck = 0, 0
    for path, parameter in groups.program.module.named_parameters():
        axes = groups.axes.get(path, (None,) * parameter.dim())
        total += parameter.numel()
        sizes = [
            n if a is None else int((~free[groups.roots[a.ids]]).sum())
            for n, a in zip(parameter.shape, axes, strict=True)
        ]
        stuck += int(np.prod(sizes))
    return 1 - stuck / total if total else 0.0


def narrowed(before: nn.Module, after: nn.Module) -> set[str]:
    """Names the modules of which a parameter has another shape."""
    shapes = {path: p.shape for path, p in after.named_parameters(remove_duplicate=False)}
    changed = (
        path
        for path, p in before.named_parameters(remove_duplicate=False)
        if path in shapes and shapes[path] != p.shape
    )
    return {path.rpartition(".")[0] for path in changed}


def peer_outcome(
    model: nn.Module, inputs: tuple[Any, ...], wanted: set[str], outputs: Sequence[str]
) -> str:
    """Prunes a copy with torch-pruning and says what came out."""
    import torch_pruning

    model = copy.deepcopy(model)
    before, original = _run(model, inputs), copy.deepcopy(model)
    heads = [m for path, m in model.named_modules() if path in outputs]
    try:
        with _at_most(60), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch_pruning.pruner.MagnitudePruner(
                model,
                _copied(inputs),
                importance=torch_pruning.importance.MagnitudeImportance(p=1),
                pruning_ratio=0.5,
                ignored_layers=heads,
            ).step()
            after = _run(model, inputs)
    except TimeoutError:
        return "no end"
    except Exception as error:  # whatever its index arithmetic runs into
        return f"crash ({type(error).__name__})"
    done = narrowed(original, model)
    if _shapes(before) != _shapes(after):
        return "wrong shape"
    if not done:
        return "nothing"
    share = len(done & wanted) / len(wanted) if wanted else 1.0
    return "handled" if share == 1 else f"partly ({share:.0%})"


@contextlib.contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _run(module: nn.Module, inputs: tuple[Any, ...]) -> Any:
    with torch.no_grad():
        return _seeded(lambda: module(*_copied(inputs)))


def _copied(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copies inputs: some generators write into theirs."""
    return tuple(x.clone() if isinstance(x, torch.Tensor) else x for x in inputs)


def _seeded(action: Callable[[], Any]) -> Any:
    """Runs something with the same random numbers each time: some generators draw noise."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return action()


def _equal(expected: Any, got: Any, tolerance: float = TOLERANCE) -> bool:
    return bool(flat(expected).isfinite().all()) and deviation(expected, got) <= tolerance


def _tolerance(program: Program) -> float:
    """Tells how exact a program of known shapes can be."""
    values = [node.meta.get("val") for node in program.graph.nodes]
    kinds = {value.dtype for value in values if isinstance(value, torch.Tensor)}
    return COARSE if kinds & {torch.float32, torch.complex64} else TOLERANCE


def _shapes(outputs: Any) -> list[Any]:
    leaves = torch.utils._pytree.tree_leaves(outputs)
    return [tuple(t.shape) for t in leaves if isinstance(t, torch.Tensor)]
