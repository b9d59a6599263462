"""Holds the cost of a program as plain data.

Three ways of counting multiply-accumulates (MACs) are in use; papers mix them:

- exact: those really needed; a transposed convolution is counted on its input size.
- output: every convolution on its output size, as most papers print it. A transposed convolution
  of stride 2 is counted four times too high.
- output+norm: output, plus one per element of every InstanceNorm.
"""

from dataclasses import asdict, dataclass
from typing import Any

from gfx.ir.ambient_modes import shielded

__all__ = ["CONVENTIONS", "Cost", "Macs", "NodeCost", "human"]

CONVENTIONS = {"exact": "exact", "output": "output", "output+norm": "output_norm"}


@dataclass(frozen=True)
class Macs:
    """Counts multiply-accumulates in the three conventions.

    Example:
        >>> Macs(1, 2, 3) + Macs(1, 1, 1)
        Macs(exact=2, output=3, output_norm=4)
    """

    exact: int = 0
    output: int = 0
    output_norm: int = 0

    def __add__(self, other: "Macs") -> "Macs":
        return Macs(
            self.exact + other.exact,
            self.output + other.output,
            self.output_norm + other.output_norm,
        )

    @staticmethod
    def same(count: int) -> "Macs":
        """Makes a count on which the conventions agree.

        Example:
            >>> Macs.same(5)
            Macs(exact=5, output=5, output_norm=5)
        """
        return Macs(count, count, count)


@dataclass(frozen=True)
class NodeCost:
    """Holds what one node of the graph costs.

    Units: multiply-accumulates, parameter elements, bytes.
    """

    node: str  # name of the node
    target: str  # module path, attribute path or operation
    kind: str  # class of the module, or the node's kind in the graph
    shape: tuple[int, ...] | None  # of its output; None if that is no single tensor
    macs: Macs
    params: int  # parameter elements that no node before it has
    param_bytes: int
    activation_bytes: int  # new memory its outputs take; 0 for views and in-place operations
    peak_activation_bytes: int  # activations alive while it runs


@shielded
@dataclass(frozen=True)
class Cost:
    """Holds what a program costs at the batch and size of its example inputs.

    Units: multiply-accumulates, parameter elements, bytes. Buffers are no parameters.
    """

    macs: Macs
    params: int  # elements of all distinct nn.Parameters
    param_bytes: int
    peak_activation_bytes: int  # most memory that live activations take at one time
    nodes: tuple[NodeCost, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures as dictionaries, lists and numbers.

        Example:
            >>> Cost(Macs.same(8), 2, 8, 64).to_dict()["macs"]
            {'exact': 8, 'output': 8, 'output_norm': 8}
        """
        data = asdict(self)
        for row in data["nodes"]:
            row["shape"] = None if row["shape"] is None else list(row["shape"])
        data["nodes"] = list(data["nodes"])
        return data

    def __str__(self) -> str:
        rows = [(f"MACs {name}", human(getattr(self.macs, at))) for name, at in CONVENTIONS.items()]
        rows += [
            ("parameters", human(self.params)),
            ("parameter memory", human(self.param_bytes, "B")),
            ("peak activations", human(self.peak_activation_bytes, "B")),
        ]
        return "\n".join(f"{name:<18}{value:>12}" for name, value in rows)


def human(number: float, unit: str = "") -> str:
    """Writes a number with two decimals and a decimal suffix: K, M, G or T; of ms, four digits.

    Example:
        >>> human(56_799_264_768), human(356_867), human(64), human(4_096, "B")
        ('56.80 G', '356.87 K', '64', '4.10 KB')
        >>> human(1240.25, "ms"), human(0.12345, "ms")
        ('1240 ms', '0.1235 ms')
    """
    if unit == "ms":
        return f"{number:.0f} ms" if abs(number) >= 1000 else f"{number:.4g} ms"
    if abs(number) < 1000:
        return f"{number:g} {unit}".rstrip()
    size = float(number)
    for suffix in "KMG":
        size /= 1000
        if abs(size) < 999.995:  # what rounds to 1000.00 goes to the next suffix
            return f"{size:.2f} {suffix}{unit}"
    return f"{size / 1000:.2f} T{unit}"
