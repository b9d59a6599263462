"""Measures narrowed copies of a program, whole and node by node."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfx.coupling import Groups
from gfx.coupling.removal import narrowed
from gfx.deploy.latency.disk_store import Store
from gfx.deploy.latency.measure import Measurer
from gfx.ir.program import Program
from gfx.progress import each

__all__ = ["Samples", "configurations"]

_GRID = 8  # every other configuration has widths that are multiples of it


def configurations(full: Sequence[int], count: int, seed: int = 0) -> NDArray[np.int64]:
    """Lists widths: the unchanged program, then some in which every group is wide and narrow.

    Each group's widths are drawn from as many equal shares of its size as there are
    configurations, in a random order (a Latin hypercube).

    Shapes: returns (count, groups).

    Source: McKay, Beckman & Conover 1979, doi:10.1080/00401706.1979.10489755.

    Example:
        >>> configurations([64, 8], 3).tolist()
        [[64, 8], [9, 1], [32, 8]]
    """
    rng = np.random.default_rng(seed)
    sizes = np.array(full, dtype=np.int64)
    strata = np.array([rng.permutation(count - 1) for _ in full]).reshape(-1, count - 1).T
    shares = (strata + rng.random(strata.shape)) / max(count - 1, 1)
    rows = np.ceil(shares * sizes).astype(np.int64)
    even = np.maximum(rows // _GRID, 1) * _GRID
    rows[1::2] = np.where(sizes >= _GRID, even, rows)[1::2]
    return np.concatenate([sizes[None], rows.clip(1, sizes)])


class Samples:
    """Measures one program at some widths, or looks the times up."""

    def __init__(
        self, groups: Groups, rows: NDArray[np.int64], measurer: Measurer, threads: int
    ) -> None:
        self.rows = rows
        self._groups, self._measurer, self._threads = groups, measurer, threads

    def programs(self, store: Store, backend: str) -> NDArray[np.float64]:
        """Returns the milliseconds of the whole programs. Shapes: (rows,)."""
        names = [" ".join(map(str, row)) for row in self.rows.tolist()]
        known = store.read(f"programs {self._about}")
        if not all(name in known for name in names):
            times = self._measurer.programs(self._narrowed, backend, self._threads)
            known = dict(zip(names, times, strict=True))
            store.write(f"programs {self._about}", known)
        return np.array([known[name] for name in names])

    def nodes(self, store: Store) -> list[dict[str, float]]:
        """Returns the milliseconds of the nodes of each program, run one by one in torch."""
        found = []
        what = "measuring the nodes of narrowed programs"
        for i, row in each(list(enumerate(self.rows.tolist())), what):
            about = f"nodes {self._about} at {row}"
            known = store.read(about)
            if not known:
                known = self._measurer.nodes([self._narrowed[i]], self._threads)[0]
                store.write(about, known)
            found.append(known)
        return found

    @cached_property
    def _narrowed(self) -> list[Program]:
        names = [group.name for group in self._groups.free]
        rows = [dict(zip(names, row, strict=True)) for row in self.rows.tolist()]
        return [narrowed(self._groups, widths) for widths in rows]

    @cached_property
    def _about(self) -> str:
        """The same text for the same program: its graph, settings, and shapes."""
        program = self._groups.program
        settings = [f"{path} {module!r}" for path, module in program.module.named_modules() if path]
        state: list[Any] = [program.text(), settings, [tuple(g.roots) for g in self._groups.free]]
        state += [(n, tuple(t.shape), t.dtype) for n, t in program.module.state_dict().items()]
        return hashlib.sha256(repr(state).encode()).hexdigest()
