"""Times each node of a program in place, over several runs."""

import time
from statistics import median
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from gfx.costs import cost_of
from gfx.deploy.bench.profile import NodeTime, Profile, marked
from gfx.deploy.timing.backends import using_threads
from gfx.deploy.timing.interleave import Clock, gc_frozen
from gfx.ir.execute import copied
from gfx.ir.interpreter import Interpreter
from gfx.ir.program import Program
from gfx.ir.random_state import keep_random_state
from gfx.progress import each

__all__ = ["profile_eager"]

_SKIPPED = ("placeholder", "output", "get_attr")


class _CallTimer(Interpreter):
    """Runs a graph and times each call; operands are freed as in a real run."""

    def __init__(self, module: fx.GraphModule, clock: Clock, device: str) -> None:
        super().__init__(module)
        self.clock = clock
        self.device = device
        self.times: dict[str, float] = {}

    def call(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if node.op in _SKIPPED:
            return super().call(node, args, kwargs)
        start = self.clock()
        result = super().call(node, args, kwargs)
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)
        self.times[node.name] = self.clock() - start
        return result


def profile_eager(
    program: Program,
    *,
    runs: int,
    threads: int,
    device: str = "cpu",
    notes: tuple[str, ...] = (),
    clock: Clock = time.perf_counter,
) -> Profile:
    """Times each node of a program in eval mode; medians over the runs, after one to warm up.

    The program is left unchanged.

    Example:
        >>> import gfx
        >>> from torch import nn
        >>> program = gfx.trace(nn.Sequential(nn.Conv2d(3, 8, 3)), torch.ones(1, 3, 8, 8))
        >>> profile = profile_eager(program, runs=5, threads=1)
        >>> [(node.kind, node.macs) for node in profile.nodes]
        [('Conv2d', 7776)]
    """
    module = program.copy().module.eval().to(device)
    given = pytree.tree_map_only(
        torch.Tensor, lambda x: x.detach().to(device), program.example_inputs
    )
    taken: dict[str, list[float]] = {}
    with (
        keep_random_state(),
        using_threads(threads),
        torch.inference_mode(),
        gc_frozen(),
    ):
        for run in each(range(runs + 1), "timing node by node"):
            timer = _CallTimer(module, clock, device)
            timer.run(*copied(given))
            for name, taking in timer.times.items() if run else ():
                taken.setdefault(name, []).append(taking)
    rows = [
        NodeTime(n.node, n.target, n.kind, n.shape, median(taken[n.node]), n.macs.exact)
        for n in cost_of(program).nodes
        if n.node in taken
    ]
    return marked("eager", runs, rows, notes)
