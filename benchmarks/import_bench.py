"""Times `import gfx` beyond `import torch`, each in fresh processes.

python benchmarks/import_bench.py
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
"""
TARGET = 0.3  # seconds


def import_time() -> float:
    """Measures once: the seconds between torch imported and gfx imported."""
    done = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Time `import gfx` beyond `import torch`.")
    parser.add_argument("--rounds", type=int, default=7, help="processes (the median counts)")
    rounds = parser.parse_args().rounds
    import_time()  # compiles the bytecode
    times = [import_time() for _ in range(rounds)]
    print(f"import gfx beyond import torch: {median(times):.3f} s (target: under {TARGET})")
    print(f"share of the target: {median(times) / TARGET:.2f}")


if __name__ == "__main__":
    main()
