"""A search space that is quick to make, and a judge that computes its values."""

import hashlib
import time

import numpy as np
import torch
from torch import nn

import gfx
from gfx.costs import Budget
from gfx.train.search.judge_protocol import Judgement
from gfx.train.search.ledger import MemoryLedger
from gfx.train.search.run_search import run_search
from gfx.train.search.search_fields import Search
from gfx.train.search.search_space import SearchSpace

__all__ = ["FormulaJudge", "Stops", "searched", "share_of_front", "small_net", "small_space"]


def small_net(depth: int = 6, width: int = 16) -> nn.Module:
    """Builds a chain of convolutions."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1)]
    for _ in range(depth - 1):
        layers += [nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(width, 3, 1)).eval()


def small_space(share: float | None = None, depth: int = 6, **widths: object) -> SearchSpace:
    """Makes the space of such a chain, within a share of its MACs."""
    model, x = small_net(depth), torch.zeros(1, 3, 8, 8)
    net = gfx.supernet(model, x, widths=widths or {"step": 2}, order=None, verify=False)
    budgets = [] if share is None else [Budget(limit=share * net.cost().macs.exact)]
    return SearchSpace(net, budgets)


class FormulaJudge:
    """Computes a damage that some groups have more of than others, with noise for each net.

    Two neighbours that are narrowed together damage more than each alone.
    """

    score, higher_is_better, examples = "l1", False, 64

    def __init__(self, space: SearchSpace, noise: float = 0.0, seed: int = 0, pause: float = 0.0):
        self.space, self.noise, self.pause = space, noise, pause
        self.weights = np.random.default_rng(seed).gamma(0.5, 1.0, len(space.counts))
        self.judged: list[tuple[int, ...]] = []

    def damage(self, row: tuple[int, ...]) -> float:
        """Returns the damage without noise."""
        share = 1 - np.array(row) / (np.array(self.space.counts) - 1)
        alone = self.weights * share**1.5
        return float(np.sqrt((alone**2).sum() + 0.3 * (alone[1:] * alone[:-1]).sum()))

    def judge(self, nets, examples=None):
        """Judges nets; the noise is the net's and falls with the examples."""
        found = []
        for widths in nets:
            row = self.space.row(widths)
            self.judged.append(row)
            seed = int.from_bytes(hashlib.sha256(repr(row).encode()).digest()[:4], "big")
            drawn = np.random.default_rng(seed).normal(size=self.examples)[: examples or 64]
            value = 0.1 + self.damage(row) + self.noise * float(drawn.mean())
            time.sleep(self.pause)
            found.append(Judgement(value, examples=examples or self.examples))
        return found


class Stops(FormulaJudge):
    """Is interrupted after some nets."""

    def judge(self, nets, examples=None):
        if len(self.judged) >= 13:
            raise KeyboardInterrupt
        return super().judge(nets, examples)


def searched(space, by="survey", count=40, seed=0, judge=None, ledger=None, **fields):
    """Searches by a formula, in memory."""
    judge = FormulaJudge(space) if judge is None else judge
    asked = Search(by=by, evaluations=count, **fields)
    ledger = MemoryLedger(count) if ledger is None else ledger
    return run_search(space, judge, asked, ledger, seed=seed)


def share_of_front(space: SearchSpace, judge: FormulaJudge, trials) -> float:
    """Returns the share of the area between floor and budget, and 0 and the worst, that is held."""
    points = sorted((t.prices["exact"], judge.damage(t.row)) for t in trials if t.allowed)
    worst = judge.damage(space.smallest)
    least = int(space.price([space.smallest])["exact"][0])
    most = space.budgets[0].limit if space.budgets else float(points[-1][0])
    best, area = worst, 0.0
    for i, (cost, value) in enumerate(points):
        best = min(best, value)
        after = points[i + 1][0] if i + 1 < len(points) else most
        area += (after - cost) * (worst - best)
    return area / ((most - least) * worst)
