"""Predicted against measured milliseconds, at random widths that the model has not seen.

    python benchmarks/latency_bench.py --model resnet_9blocks --backend eager

Half of the configurations have widths that are multiples of 8, half have any. What is measured is
kept (GFX_CACHE, else the user's cache): a run that was stopped goes on where it was.
"""

import argparse
import os
import time

import numpy as np
import torch

import gfx
from gfx.coupling.removal import narrowed
from gfx.deploy.latency import MachineMeasurer, latency_model
from gfx.deploy.latency.disk_store import Store
from gfx.deploy.timing import BACKENDS, machine
from gfx.errors import TimingError
from gfx.io.cache_folder import cache_folder

SEED = 20  # of the configurations; the model draws its own with another
AT_ONCE = 5  # programs that take turns


def held_out(full: np.ndarray, count: int) -> np.ndarray:
    """Draws widths: any, and multiples of 8, in turns."""
    rng = np.random.default_rng(SEED)
    rows = rng.integers(1, full + 1, (count, len(full)))
    rows[1::2] = np.maximum(8, rows[1::2] // 8 * 8)
    return rows.clip(1, full)


def measured(groups: gfx.Groups, rows: np.ndarray, args: argparse.Namespace) -> np.ndarray:
    """Measures configurations, or looks up what was measured before."""
    store = Store(cache_folder("latency"), machine().key(args.backend, args.threads))
    about = f"held out {args.model} {args.size}"
    names = [" ".join(map(str, row)) for row in rows.tolist()]
    known = store.read(about)
    missing = [i for i, name in enumerate(names) if name not in known]
    for start in range(0, len(missing), AT_ONCE):
        part = missing[start : start + AT_ONCE]
        free = [group.name for group in groups.free]
        widths = [dict(zip(free, rows[i].tolist(), strict=True)) for i in part]
        programs = [narrowed(groups, row) for row in widths]
        times = MachineMeasurer().programs(programs, args.backend, args.threads)
        known |= {names[i]: t for i, t in zip(part, times, strict=True)}
        store.write(about, known)
        print(f"measured {start + len(part)} of {len(missing)}", flush=True)
    return np.array([known[name] for name in names])


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the rank correlation."""
    ranks = [np.argsort(np.argsort(x)) for x in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def main() -> None:
    """Prints one row for each configuration, and how far the predictions are off."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet_9blocks", choices=gfx.zoo.names())
    parser.add_argument("--backend", default="eager", choices=BACKENDS)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", type=int, default=30, help="configurations")
    args = parser.parse_args()
    torch.manual_seed(0)
    inputs = gfx.zoo.example_inputs(args.model)
    args.size = "x".join(map(str, inputs[0].shape))
    groups = gfx.channels(gfx.trace(gfx.zoo.build(args.model).eval(), inputs))
    start = time.perf_counter()
    try:
        model = latency_model(groups, backend=args.backend, threads=args.threads)
        print(f"model in {time.perf_counter() - start:.0f} s; {model.full:.1f} ms as it is")
        rows = held_out(np.array([group.size for group in groups.free]), args.only)
        times = measured(groups, rows, args)
    except TimingError as error:
        raise SystemExit(f"noisy: {error}") from error
    predicted = model.predict(rows)
    errors = predicted / times - 1
    print(f"{args.model} {args.size}, {args.backend}, {args.threads} threads, {machine()}")
    print(" predicted  measured  error")
    for p, t, e in zip(predicted, times, errors, strict=True):
        print(f"{p:7.1f} ms {t:6.1f} ms {100 * e:+5.1f} %")
    worst, middle = np.abs(errors).max(), np.median(np.abs(errors))
    within = int((np.abs(errors) <= 0.15).sum())
    print(f"worst {100 * worst:.1f} %, median {100 * middle:.1f} %", end=", ")
    print(f"{within} of {len(rows)} within 15 %")
    print(f"rank correlation {spearman(predicted, times):.3f}")
    print("factors " + ", ".join(f"{k} {v:.3g}" for k, v in model.factors.items()))


if __name__ == "__main__":
    main()
