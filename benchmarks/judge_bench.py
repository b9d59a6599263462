"""What judging many subnets costs with shared prefixes, against judging them one by one.

    python benchmarks/judge_bench.py
    python benchmarks/judge_bench.py --nets 200 --ngf 16 --size 64 --examples 16

A MobileNet-style ResNet generator. Three kinds of nets: generations of an evolution (GAN
Compression's: a quarter are parents, half of the children are mutants at a rate of 0.2, the others
cross two parents), changes of one group alone at three levels, as a survey makes them, and widths
that are drawn. The same nets are judged at once and one by one, and the values must be the same. Of
each kind some are run one by one, and the time of all is in proportion. CPU seconds in one process.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import gfx
from gfx.train import tasks
from gfx.train.search.judged_examples import JudgedExamples
from gfx.train.search.supernet_judge import SupernetJudge

Nets = list[dict[str, int]]


def evolved(net: gfx.Supernet, count: int) -> Nets:
    """Returns generations of an evolution whose fittest are those of the fewest MACs."""
    rng = np.random.default_rng(0)
    names, size = list(net.widths), min(100, count)
    population = [net.sample(0, step) for step in range(size)]
    found = list(population)
    while len(found) < count:
        cost = net.price(list(population))["exact"]
        parents = [population[i] for i in np.argsort(cost)[: max(size // 4, 2)]]
        children = []
        for number in range(size - len(parents)):
            one, other = (parents[i] for i in rng.integers(0, len(parents), 2))
            if number % 2:
                child = {n: one[n] if rng.random() < 0.5 else other[n] for n in names}
            else:
                drawn = {n: int(rng.choice(net.widths[n])) for n in names}
                child = {n: drawn[n] if rng.random() < 0.2 else one[n] for n in names}
            children.append(child)
        population = [*parents, *children]
        found += children
    return found[:count]


def surveyed(net: gfx.Supernet, count: int) -> Nets:
    """Returns nets that differ from the largest in one or two groups, at three levels."""
    rng = np.random.default_rng(1)
    names, found = list(net.widths), Nets()
    for changes in (1, 2):
        while len(found) < count * changes // 2:
            chosen = rng.choice(len(names), changes, replace=False)
            levels = {names[i]: int(rng.choice(net.widths[names[i]][:-1][:3])) for i in chosen}
            found.append({**net.largest(), **levels})
    return found


def drawn(net: gfx.Supernet, count: int) -> Nets:
    """Returns widths that are drawn."""
    return [net.sample(7, step) for step in range(count)]


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Returns the CPU seconds of a call, and its result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def main() -> None:
    """Reads the command line and prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nets", type=int, default=1000)
    parser.add_argument("--alone", type=int, default=50, help="of them, judged one by one")
    parser.add_argument("--ngf", type=int, default=16)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--examples", type=int, default=8)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = gfx.zoo.build("mobile_resnet_9blocks", ngf=args.ngf, image_size=args.size).eval()
    net = gfx.supernet(model, widths={"step": 8}, verify=False)
    images = torch.rand(args.examples, 3, args.size, args.size) * 2 - 1
    on = JudgedExamples.of(tasks.paired(images, images))
    print(f"{len(net.widths)} groups, {args.examples} images of {args.size} pixels")
    for kind in (evolved, surveyed, drawn):
        nets = kind(net, args.nets)
        distinct = list({tuple(each.items()): each for each in nets}.values())
        together = SupernetJudge(net, on)
        shared, values = seconds(lambda judge=together, each=distinct: judge.judge(each))
        alone = SupernetJudge(net, on, share=False)
        alone.judge([net.largest()])
        step = max(1, len(distinct) // args.alone)
        some = distinct[::step]

        def one_by_one(judge: SupernetJudge = alone, some: Nets = some) -> Any:
            return [judge.judge([each])[0] for each in some]

        apart, others = seconds(one_by_one)
        assert others == values[::step], "shared prefixes give other values"
        whole = apart * len(distinct) / len(some)
        print(
            f"{kind.__name__:9} {len(distinct):5} nets: together {shared:6.1f} s, one by one "
            f"{whole:6.1f} s (of {len(some)}): {whole / shared:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
