"""The pairs of outline and colour of examples/drawings.py, kept beside the benchmarks' other data.

It reads them from, or renders them into, the folder of `cache.py`.
"""

import sys
from pathlib import Path

from cache import folder

sys.path.append(str(Path(__file__).parents[1] / "examples"))  # a folder of scripts, no package
import drawings
from drawings import Pairs

__all__ = ["Pairs", "pairs"]


def pairs(size: int = 64, most: int | None = None) -> Pairs:
    """Renders the pairs, or reads what was rendered before (see `drawings.pairs`)."""
    return drawings.pairs(folder(), size, most)
