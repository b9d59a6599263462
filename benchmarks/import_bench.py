"""Times `import gfx` beyond `import torch`, each in fresh processes.

python benchmarks/import_bench.py

gfx imports its modules when they are first used, so what `gfx.apply` then brings in is shown too.
"""

import argparse
import subprocess
import sys
from statistics import median

CODE = """
import time
import torch
start = time.perf_counter()
import gfx
print(time.perf_counter() - start)
gfx.apply
print(time.perf_counter() - start)
"""
TARGET = 0.3  # seconds


def import_time() -> tuple[float, float]:
    """Measures once: seconds from torch imported to gfx imported, and to gfx.apply at hand."""
    done = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True)
    imported, at_hand = map(float, done.stdout.split())
    return imported, at_hand


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Time `import gfx` beyond `import torch`.")
    parser.add_argument("--rounds", type=int, default=7, help="processes (the median counts)")
    rounds = parser.parse_args().rounds
    import_time()  # compiles the bytecode
    times = [import_time() for _ in range(rounds)]
    imported, at_hand = (median(column) for column in zip(*times, strict=True))
    print(f"import gfx beyond import torch: {imported:.3f} s (target: under {TARGET})")
    print(f"and until gfx.apply is at hand: {at_hand:.3f} s")
    print(f"share of the target: {imported / TARGET:.2f}, {at_hand / TARGET:.2f}")


if __name__ == "__main__":
    main()
