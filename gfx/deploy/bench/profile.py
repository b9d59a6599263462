"""Holds the time of each node of a model, and marks slow nodes."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from gfx.costs import human
from gfx.ir.ambient_modes import shielded

__all__ = ["NodeTime", "Profile", "marked"]

_SLOW = 0.25  # of the best MACs/s; a node below it wastes time
_WORTH = 0.01  # share of the time below which a node is neither the best nor marked


@dataclass(frozen=True)
class NodeTime:
    """Holds the time and cost of one node.

    Units: seconds, multiply-accumulates (exact).
    """

    node: str  # name of the node
    layer: str  # module path, or operation
    kind: str  # class of the module, or the node's kind in the graph
    shape: tuple[int, ...] | None  # of its output; None if that is no single tensor
    seconds: float  # median over the runs
    macs: int | None  # None: unknown
    share: float = 0.0  # of the time of all nodes
    slow: bool = False  # its MACs/s are far below the best of the program

    @property
    def rate(self) -> float | None:
        """Multiply-accumulates a second; None if it has none."""
        return self.macs / self.seconds if self.macs and self.seconds > 0 else None


@shielded
@dataclass(frozen=True)
class Profile:
    """Holds the time of each node of a program, in the order they run.

    Example:
        >>> nodes = (NodeTime("a", "a", "Conv2d", None, 0.003, 300, 0.75),)
        >>> Profile("eager", 5, nodes).seconds
        0.003
    """

    backend: str
    runs: int
    nodes: tuple[NodeTime, ...]
    notes: tuple[str, ...] = ()  # sentences: what to know when reading it

    @property
    def seconds(self) -> float:
        """The time of all nodes together."""
        return sum(node.seconds for node in self.nodes)

    @property
    def best(self) -> float | None:
        """The highest rate of multiply-accumulates a second among nodes of notable time."""
        rates = [n.rate for n in self.nodes if n.rate is not None and n.share >= _WORTH]
        return max(rates, default=None)

    def kinds(self) -> dict[str, float]:
        """Returns the share of the time that each kind of node takes, the largest first."""
        shares: dict[str, float] = {}
        for node in self.nodes:
            kind = node.layer if node.kind.startswith("call_") else node.kind
            shares[kind] = shares.get(kind, 0.0) + node.share
        return dict(sorted(shares.items(), key=lambda item: -item[1]))

    def __str__(self) -> str:
        shares = [f"{kind} {share:.0%}" for kind, share in self.kinds().items() if share >= _WORTH]
        lines = [f"time goes to {', '.join(shares)}"] if shares else []
        slow = [node for node in self.nodes if node.slow]
        if slow and self.best is not None:
            share = sum(node.share for node in slow)
            lines.append(
                f"{len(slow)} {'layers' if len(slow) > 1 else 'layer'} with {share:.0%} of the "
                f"time below a quarter of the best {human(self.best)} MACs/s"
            )
        return "\n".join([*lines, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Returns the profile as plain data.

        Units: milliseconds, multiply-accumulates a second.
        """
        return {
            "backend": self.backend,
            "runs": self.runs,
            "total_ms": 1e3 * self.seconds,
            "best_macs_per_second": self.best,
            "notes": list(self.notes),
            "nodes": [_row(node) for node in self.nodes],
        }


def marked(backend: str, runs: int, nodes: Iterable[NodeTime], notes: Iterable[str]) -> Profile:
    """Builds a profile: computes each node's share, and marks slow nodes.

    Example:
        >>> fast = NodeTime("a", "a", "Conv2d", None, 0.001, 1000)
        >>> slow = NodeTime("b", "b", "Conv2d", None, 0.001, 100)
        >>> [node.slow for node in marked("eager", 5, [fast, slow], []).nodes]
        [False, True]
    """
    found = list(nodes)
    total = sum(node.seconds for node in found) or 1.0
    shared = tuple(replace(node, share=node.seconds / total) for node in found)
    best = Profile(backend, runs, shared).best
    return Profile(
        backend, runs, tuple(replace(n, slow=_slow(n, best)) for n in shared), tuple(notes)
    )


def _slow(node: NodeTime, best: float | None) -> bool:
    if best is None or node.rate is None or node.share < _WORTH:
        return False
    return node.rate < _SLOW * best


def _row(node: NodeTime) -> dict[str, Any]:
    data = asdict(node)
    data["ms"] = 1e3 * data.pop("seconds")
    data["shape"] = None if node.shape is None else list(node.shape)
    return {**data, "macs_per_second": node.rate}
