"""Compares closed-form prices with counts of really pruned programs."""

import numpy as np

import gfx
from gfx.costs import Cost, cost_of
from gfx.costs.symbolic import Pricing
from gfx.coupling import analyse
from gfx.coupling.removal import remove

MEASURES = ("exact", "output", "output_norm", "params", "param_bytes", "peak_activation_bytes")


def pruned(program: gfx.Program, widths: list[int], rng: np.random.Generator) -> Cost:
    """Counts the program after random channels are really removed."""
    small = program.copy()
    groups = analyse(small)
    removed = groups.none_removed()
    for group, width in zip(groups.free, widths, strict=True):
        removed[rng.permutation(group.roots)[width:]] = True
    remove(small, groups, removed)
    return cost_of(small)


def check(program: gfx.Program, configurations: int, *, peak: bool = True) -> None:
    """Compares both prices on random configurations in which some groups stay whole.

    Without `peak` that of memory may be less than the real one: the statistics of weights that a
    removal lets learn on have values on the way, which no price knows.
    """
    pricing = Pricing(analyse(program), cost_of(program))
    rng = np.random.default_rng(0)
    for _ in range(configurations):
        whole = rng.random(len(pricing.groups)) < 0.2
        widths = [
            group.size if stays else int(rng.integers(1, group.size + 1))
            for group, stays in zip(pricing.groups, whole, strict=True)
        ]
        cost, price = pruned(program, widths, rng), pricing.price([widths])
        real = (cost.macs.exact, cost.macs.output, cost.macs.output_norm)
        real += (cost.params, cost.param_bytes, cost.peak_activation_bytes)
        priced = tuple(price[name].item() for name in MEASURES)
        assert priced[:-1] == real[:-1], (widths, priced, real)
        assert priced[-1] == real[-1] or (not peak and priced[-1] < real[-1]), (
            widths,
            priced,
            real,
        )
