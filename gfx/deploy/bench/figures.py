"""Holds the figures of one model: latency, throughput, memory, cost."""

from dataclasses import dataclass
from typing import Any

from gfx.costs import Cost
from gfx.deploy.bench.memory import MemoryPeak
from gfx.deploy.timing import TimingSample

__all__ = ["Figures"]


@dataclass(frozen=True)
class Figures:
    """Holds the figures of one model.

    Units: seconds, bytes, images a second.
    """

    name: str
    latency: TimingSample  # of one run
    batch: int  # images that one run makes
    memory: MemoryPeak  # of a run, beyond the model
    model_bytes: int  # of parameters and buffers
    cost: Cost | str  # or why it is not counted

    @property
    def throughput(self) -> float:
        """Images a second, at the median."""
        return self.batch / self.latency.median if self.latency.median > 0 else float("inf")

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures as plain data.

        Units: milliseconds, images a second, bytes, multiply-accumulates.
        """
        counted = isinstance(self.cost, Cost)
        figures = self.cost.to_dict() if isinstance(self.cost, Cost) else {}
        return {
            "name": self.name,
            "latency_ms": self.latency.to_dict(),
            "batch": self.batch,
            "images_per_second": self.throughput,
            "peak_memory": self.memory.to_dict(),
            "model_bytes": self.model_bytes,
            "macs": figures.get("macs"),
            "params": figures.get("params"),
            "not_counted": None if counted else self.cost,
        }
