"""Says what of foreign plain data nobody can read or print: endless numbers, endless nesting.

JSON and YAML hold integers of any length and lists in lists without end. What reads them, counts
with them and prints them has limits: Python's stack, the largest float, the longest integer that
is written out.
"""

from collections.abc import Mapping
from typing import Any

__all__ = ["beyond_limits"]

_BITS = 256  # of an integer: far more than anything counts, far less than the largest float
_DEPTH = 40  # of lists in lists: what gfx writes has some ten


def beyond_limits(value: Any) -> str:
    """Says what is beyond the limits in plain data; nothing if all is within.

    Example:
        >>> beyond_limits({"macs": [3, 0.5]}), beyond_limits({"macs": 2**300})
        ('', 'an integer of 301 bits')
    """
    waiting: list[tuple[Any, int]] = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, int) and item.bit_length() > _BITS:
            return f"an integer of {item.bit_length()} bits"
        if isinstance(item, Mapping):
            waiting += [(part, depth + 1) for pair in item.items() for part in pair]
        elif isinstance(item, list | tuple):
            waiting += [(part, depth + 1) for part in item]
        if depth > _DEPTH:
            return f"lists and mappings in each other, more than {_DEPTH} deep"
    return ""
