"""What a survey finds among the subnets of a trained supernet, against five times the evolution.

    python benchmarks/subnet_search_bench.py --seeds 5
    python benchmarks/subnet_search_bench.py --supernet net.gfx --size 64 --budget 0.3

A ResNet generator is trained as a supernet that colours the outlines of OpenMoji (largest, smallest
and a random subnet in each step), or read from a file. Survey and random search judge 100 nets by
L1 on held-out pairs, evolution 500 (GAN Compression's population of 100). The nets that each finds
to be on its front are judged again on other pairs. What counts is the hypervolume of these: the
share of the area between the smallest net and the budget, and between the loss of the smallest net
and the least that any search found. Beside it: how many subnets a second are priced and proposed.
"""

import argparse
import statistics
import time
from collections.abc import Sequence

import numpy as np
import torch
from cache import progress
from openmoji import pairs
from torch import Tensor
from trained import once

import gfx
from gfx.costs import parse_budget
from gfx.train.search.judge_protocol import Judgement, Widths
from gfx.train.search.ledger import MemoryLedger
from gfx.train.search.run_search import run_search
from gfx.train.search.search_fields import Search
from gfx.train.search.search_space import Row, SearchSpace
from gfx.train.search.trial import Trial

RATE = 1e-3
BATCH = 16
ROWS = 2_000_000  # that are priced
CONTESTANTS = (("survey", 100), ("evolution", 500), ("random", 100), ("survey", 500))


class L1Judge:
    """Judges subnets by their L1 from the truths, each once."""

    score, higher_is_better = "l1", False

    def __init__(self, net: gfx.Supernet, inputs: Tensor, truths: Tensor) -> None:
        self.net, self.inputs, self.truths = net, inputs, truths
        self.known: dict[tuple[tuple[str, int], ...], Judgement] = {}

    @property
    def examples(self) -> int:
        """How many pairs there are."""
        return len(self.inputs)

    def judge(self, nets: Sequence[Widths], examples: int | None = None) -> list[Judgement]:
        """Judges nets on the first pairs."""
        count = self.examples if examples is None else examples
        return [self._judged(widths, count) for widths in nets]

    @torch.no_grad()
    def _judged(self, widths: Widths, count: int) -> Judgement:
        key = (*sorted(widths.items()), ("examples", count))
        if key not in self.known:
            self.net.set(widths)
            made = [self.net(part) for part in self.inputs[:count].split(64)]
            each = (torch.cat(made) - self.truths[:count]).abs().mean((1, 2, 3))
            error = float(each.std() / count**0.5)
            self.known[key] = Judgement(float(each.mean()), error, count)
        return self.known[key]


def trained(args: argparse.Namespace) -> tuple[gfx.Supernet, Tensor, Tensor]:
    """Returns a supernet that was trained, and pairs that it was not trained on."""
    data = pairs(args.size)
    inputs = torch.zeros(1, 3, args.size, args.size)
    if args.supernet:
        net = gfx.supernet(gfx.load(args.supernet), inputs)
        return net, data.held_outlines, data.held_colours
    settings = {"ngf": args.ngf, "n_blocks": args.blocks, "image_size": args.size}
    torch.manual_seed(0)
    model = gfx.zoo.build("resnet_9blocks", **settings)
    net = gfx.supernet(model, inputs, widths={"step": args.step}, order=None, verify=False)

    def train() -> None:
        optimizer = torch.optim.Adam(net.parameters(), RATE, (0.5, 0.999))
        net.train()
        net.attach(optimizer)
        rng = np.random.default_rng(0)
        for step in progress(range(args.steps), f"training a supernet ({args.steps} steps)"):
            optimizer.param_groups[0]["lr"] = RATE * (1 - step / args.steps)
            chosen = torch.from_numpy(rng.integers(0, len(data.outlines), BATCH))
            optimizer.zero_grad()
            for widths in (net.largest(), net.smallest(), net.sample(0, step)):
                net.set(widths)
                (net(data.outlines[chosen]) - data.colours[chosen]).abs().mean().backward()
            optimizer.step()

    facts = {"what": "supernet on openmoji", "steps": args.steps, "step": args.step, **settings}
    once(facts, net, train)
    return net, data.held_outlines, data.held_colours


def front(trials: Sequence[Trial]) -> list[Trial]:
    """Returns the nets than which no cheaper one was found to be as good."""
    found: list[Trial] = []
    for trial in sorted(
        (t for t in trials if t.allowed), key=lambda t: (t.prices["exact"], t.loss)
    ):
        if not found or trial.loss < found[-1].loss:
            found.append(trial)
    return found


def area(points: Sequence[tuple[float, float]], least: float, most: float, worst: float) -> float:
    """Returns the area that points of cost and loss hold, up to a cost and a loss."""
    best, held = worst, 0.0
    ordered = sorted(points)
    for i, (cost, loss) in enumerate(ordered):
        best = min(best, loss)
        after = ordered[i + 1][0] if i + 1 < len(ordered) else most
        held += (after - max(cost, least)) * (worst - best)
    return held


def speeds(space: SearchSpace) -> None:
    """Prints how many rows are priced and drawn in a second."""
    rows = np.random.default_rng(0).integers(0, space.counts, (ROWS, len(space.counts)))
    for name, call in (
        ("allowed by the budget", lambda: space.allowed(rows)),
        ("priced in all measures", lambda: space.price(rows)),
    ):
        took = []
        for _ in range(3):
            start = time.process_time()
            call()
            took.append(time.process_time() - start)
        print(f"{name}: {ROWS / min(took) / 1e6:.2f} M subnets a CPU second")


def main() -> None:
    """Reads the command line, searches and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--supernet", help="a file; by default one is trained")
    parser.add_argument("--ngf", type=int, default=16)
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--size", type=int, default=32, help="pixels")
    parser.add_argument("--step", type=int, default=4, help="channels between widths")
    parser.add_argument("--steps", type=int, default=1000, help="of training")
    parser.add_argument("--examples", type=int, default=64, help="pairs that are searched on")
    parser.add_argument("--budget", type=float, default=0.4, help="share of the MACs")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    net, inputs, truths = trained(args)
    net.eval()
    space = SearchSpace(net, parse_budget({"macs": args.budget}, net.cost()))
    print(f"{len(space.counts)} choices, {space.size:.1e} subnets, {args.budget:g} of the MACs")
    speeds(space)
    seen = slice(args.examples), slice(args.examples, None)
    judge, again = (L1Judge(net, inputs[part], truths[part]) for part in seen)
    fronts: dict[tuple[str, int], list[list[tuple[float, float]]]] = {}
    for by, count in CONTESTANTS:
        start = time.process_time()
        for seed in range(args.seeds):
            asked = Search(by=by, evaluations=count, budget={"macs": args.budget})
            trials = run_search(space, judge, asked, MemoryLedger(count), seed=seed)
            kept = front(trials)
            values = again.judge([trial.widths for trial in kept])
            points = [
                (float(t.prices["exact"]), v.value) for t, v in zip(kept, values, strict=True)
            ]
            fronts.setdefault((by, count), []).append(points)
        print(f"{by} {count}: {time.process_time() - start:.0f} CPU s for {args.seeds} seeds")
    smallest: Row = space.smallest
    floor = float(space.price([smallest])["exact"][0])
    (worst,) = again.judge([space.widths(smallest)])
    limit = space.budgets[0].limit
    best = min(loss for runs in fronts.values() for points in runs for _, loss in points)
    box = (limit - floor) * (worst.value - best)
    shares = {
        key: [area(points, floor, limit, worst.value) / box for points in runs]
        for key, runs in fronts.items()
    }
    print(f"loss again: smallest {worst.value:.4f}, least {best:.4f}")
    for (by, count), values in shares.items():
        told = " ".join(f"{value:.3f}" for value in values)
        print(f"{by:>9} {count:>4}: hypervolume {statistics.mean(values):.3f} ({told})")
    pairs_of = zip(shares["survey", 100], shares["evolution", 500], strict=True)
    ratios = [one / other for one, other in pairs_of]
    print(f"survey 100 to evolution 500: {' '.join(f'{r:.3f}' for r in ratios)}")


if __name__ == "__main__":
    main()
