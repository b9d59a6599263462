"""What was measured: of one model, and of two against each other."""

from dataclasses import dataclass
from typing import Any

from gfx.costs import Cost
from gfx.deploy.bench.memory import MemoryPeak
from gfx.deploy.bench.profile import Profile
from gfx.deploy.timing import Interval, Machine, TimingSample

__all__ = ["Bench", "Figures"]

_ALIKE = 0.02  # two copies of one model differ as much, by where they lie in memory


@dataclass(frozen=True)
class Figures:
    """What one model takes.

    Units: seconds, bytes, images a second.
    """

    name: str
    latency: TimingSample  # of one run
    batch: int  # images that one run makes
    memory: MemoryPeak  # of a run at its peak, beyond the model
    model_bytes: int  # of parameters and buffers
    cost: Cost | str  # or why it was not counted

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


@dataclass(frozen=True)
class Bench:
    """What was measured of a model, and of the one that it was compared with.

    Example: `print(gfx.bench(small, against=large))`; `to_dict()` is the same as data.
    """

    model: Figures
    against: Figures | None
    speedup: Interval | None  # of the model against the other; above 1: the model is faster
    profile: Profile | str  # of the model; or why there is none
    machine: Machine
    backend: str
    threads: int
    device: str
    inputs: tuple[tuple[tuple[int, ...], str], ...]  # shape and dtype of each tensor
    rounds: int
    warmups: int
    protocol: str | None = None
    notes: tuple[str, ...] = ()  # sentences: what was assumed

    @property
    def margin(self) -> float:
        """The share by which two must differ to be told apart, by how steady the times were."""
        samples = [f.latency for f in (self.model, self.against) if f is not None]
        return max([_ALIKE, *(s.error for s in samples if s.noisy)])

    @property
    def decided(self) -> bool:
        """Whether it is certain which of two is faster."""
        return self.speedup is not None and self.speedup.decided(self.margin)

    @property
    def verdict(self) -> str:
        """Says which is faster and by how much, or that this machine cannot tell and why."""
        if self.speedup is None or self.against is None:
            return self._steadiness(self.model)
        found = f"{self.speedup}, 95 % interval over {self.rounds} rounds"
        if self.decided:
            faster = "faster" if self.speedup.value > 1 else "slower"
            return f"{self.model.name} is {faster} than {self.against.name}: {found}"
        return f"cannot tell on this machine: {found}; {self._doubt(self.speedup)}"

    def _doubt(self, interval: Interval) -> str:
        noisy = [f for f in (self.model, self.against) if f is not None and f.latency.noisy]
        if noisy:
            return (
                f"the times of {noisy[0].name} jump ({noisy[0].latency.noise()}); "
                "stop what else runs, or take more rounds"
            )
        if interval.decided():
            return f"less than {_ALIKE * 100:.0f} % may be where the models lie in memory"
        return "the interval holds 1; take more rounds, or the two are as fast"

    def _steadiness(self, figures: Figures) -> str:
        if not figures.latency.noisy:
            return ""
        return (
            f"this machine is too noisy to rely on the time of {figures.name} "
            f"({figures.latency.noise()}); stop what else runs, or take more rounds"
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns all of it as plain data.

        Units: milliseconds, images a second, bytes, multiply-accumulates.
        """
        speedup = self.speedup
        return {
            "machine": self.machine.to_dict(),
            "backend": self.backend,
            "threads": self.threads,
            "device": self.device,
            "inputs": [{"shape": list(shape), "dtype": dtype} for shape, dtype in self.inputs],
            "protocol": self.protocol,
            "warmups": self.warmups,
            "rounds": self.rounds,
            "model": self.model.to_dict(),
            "against": None if self.against is None else self.against.to_dict(),
            "speedup": None
            if speedup is None
            else {
                "value": speedup.value,
                "low": speedup.low,
                "high": speedup.high,
                "decided": self.decided,
            },
            "verdict": self.verdict,
            "profile": self.profile.to_dict() if isinstance(self.profile, Profile) else None,
            "not_profiled": self.profile if isinstance(self.profile, str) else None,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        from gfx.deploy.bench.bench_text import summary

        return summary(self)
