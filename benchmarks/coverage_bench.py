"""Writes docs/coverage.md: what gfx and torch-pruning each do with every generator of the tests.

    python benchmarks/coverage_bench.py                     all sections: about fifteen minutes
    python benchmarks/coverage_bench.py patterns zoo        these; the others stay as they are

The published generators need the packages that tests/thirdparty/cases.py names.
"""

import argparse
import sys
import warnings
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # the generators and the oracle live there

from support.coverage_models import BEYOND_THE_ORACLE, generators  # noqa: E402 - after the path is set
from support.coverage_rows import measure  # noqa: E402
from support.coverage_text import SECTIONS, line, render, split  # noqa: E402

TARGET = ROOT / "docs" / "coverage.md"


def main() -> None:
    """Reads the command line and writes the file."""
    parser = argparse.ArgumentParser(description="Write docs/coverage.md.")
    parser.add_argument("sections", nargs="*", metavar="section", help=", ".join(SECTIONS))
    chosen = parser.parse_args().sections or list(SECTIONS)
    unknown = sorted(set(chosen) - set(SECTIONS))
    if unknown:
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of other people's packages
    known = split(TARGET.read_text("utf-8")) if TARGET.exists() else {}
    for section in chosen:
        known[section] = []
        for name, model, inputs in generators(section):
            oracle = name not in BEYOND_THE_ORACLE
            known[section].append(line(measure(name, model, inputs, oracle=oracle)))
            print(known[section][-1], flush=True)
        TARGET.write_text(render(known), "utf-8")


if __name__ == "__main__":
    main()
