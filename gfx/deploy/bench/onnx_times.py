"""Times each node of a program in onnxruntime, by its own profiler.

1. The exporter names the nodes of the file by the layers that they come from; all nodes of one
   layer count together.
2. onnxruntime fuses nodes and may name the result by the last of them: the fused convolution takes
   the place of the original one, with the activation that it includes.
3. Nodes that onnxruntime adds, such as those that bring data into another layout, count together,
   those of one operation.
"""

import json
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from gfx.costs import Cost
from gfx.deploy.bench.profile import NodeTime, Profile, marked
from gfx.deploy.export.onnx import needed
from gfx.deploy.timing import Runner
from gfx.deploy.timing.onnxruntime_session import feeds, session

__all__ = ["Made", "Origins", "profile_onnx", "read_events"]

_TIME = "_kernel_time"
_ADDED = re.compile(r"^fused |_nchwc$|_token_\d+$")  # what onnxruntime adds to names
_FUSED = 8  # nodes that may be fused in a row
_OWN = "added by onnxruntime"

Event = Mapping[str, Any]


@dataclass(frozen=True)
class Made:
    """A node of an ONNX file."""

    origin: str  # the layer or node of the program that it comes from
    op: str
    reads: str = ""  # its first input


@dataclass(frozen=True)
class Origins:
    """Finds the layers that the nodes of onnxruntime come from.

    Example:
        >>> made = {"c": Made("stem", "Conv", "image"), "t": Made("act", "Tanh", "c")}
        >>> origins = Origins(made, {"stem": NodeTime("conv", "stem", "Conv2d", None, 0.0, 5)})
        >>> origins.of("c", "Conv").kind, origins.of("t_nchwc", "Conv").kind
        ('Conv2d', 'Conv2d')
    """

    made: Mapping[str, Made]  # by the name of a node of the file, or of its output
    known: Mapping[str, NodeTime]  # row of each origin in the program; no times

    def of(self, name: str, op: str) -> NodeTime:
        """Returns the row that a node belongs to."""
        last = self.made.get(name, self.made.get(_ADDED.sub("", name)))
        if last is None:
            return NodeTime(op, op, _OWN, None, 0.0, None)  # rule 3
        origin = self._first(last, op.removeprefix("Fused")).origin
        return self.known.get(origin, NodeTime(origin, origin, op, None, 0.0, None))

    def _first(self, last: Made, op: str) -> Made:
        """Follows fused nodes back from the last to the origin of the operation (rule 2)."""
        made: Made | None = last
        for _ in range(_FUSED):
            if made is None or made.op == op:
                return made or last
            made = self.made.get(made.reads)
        return last


def profile_onnx(
    runner: Runner,
    inputs: tuple[Any, ...],
    cost: Cost | None,
    *,
    runs: int,
    notes: tuple[str, ...] = (),
) -> Profile:
    """Times each layer of a runner of onnxruntime; medians, after one run to warm up.

    Example: `profile_onnx(prepare(module, inputs, "onnxruntime"), inputs, None, runs=10)`.
    """
    assert runner.written is not None  # set for every runner of onnxruntime
    with tempfile.TemporaryDirectory(prefix="gfx-") as folder:
        prefix = str(Path(folder) / "times")
        made = session(runner.written, runner.threads, runner.device, profile=prefix)
        given = feeds([item.name for item in made.get_inputs()], inputs)
        for _ in range(runs + 1):
            made.run(None, given)
        events = json.loads(Path(made.end_profiling()).read_text("utf-8"))
    origins = Origins(_made(runner.written), _known(cost))
    return marked("onnxruntime", runs, read_events(events, origins, runs), notes)


def read_events(events: Iterable[Event], origins: Origins, runs: int) -> list[NodeTime]:
    """Sums the events of a profile by origin, in the order they run: medians over the last runs.

    Units: seconds.

    Example:
        >>> event = {"cat": "Node", "name": "a_kernel_time", "dur": 9, "args": {"op_name": "Add"}}
        >>> origins = Origins({"a": Made("add_1", "Add")}, {})
        >>> (row,) = read_events([event, {"name": "model_run"}], origins, 1)
        >>> row.layer, row.kind, row.seconds
        ('add_1', 'Add', 9e-06)
    """
    last = _by_run(events)[-runs:]
    rows: dict[str, NodeTime] = {}
    taken: dict[str, list[float]] = {}
    for index, run in enumerate(last):
        for event in run:
            row = origins.of(event["name"].removesuffix(_TIME), event["args"].get("op_name", "?"))
            rows.setdefault(row.node, row)
            taken.setdefault(row.node, [0.0] * len(last))[index] += event["dur"] / 1e6
    return [replace(row, seconds=median(taken[name])) for name, row in rows.items()]


def _by_run(events: Iterable[Event]) -> list[list[Event]]:
    """Splits the events of nodes by run: onnxruntime records a run when it ends."""
    runs: list[list[Event]] = []
    run: list[Event] = []
    for event in events:
        if event["name"] == "model_run":
            runs.append(run)
            run = []
        elif event.get("cat") == "Node" and event["name"].endswith(_TIME):
            run.append(event)
    return runs


def _made(written: bytes) -> dict[str, Made]:
    """Reads where each node of an ONNX file comes from: `stem.conv/Conv` from stem.conv."""
    found: dict[str, Made] = {}
    for node in needed("onnx").load_from_string(written).graph.node:
        origin = node.name.rpartition("/")[0] or node.name
        made = Made(origin, node.op_type, next(iter(node.input), ""))
        found |= dict.fromkeys((node.name, *node.output), made)
    return found


def _known(cost: Cost | None) -> dict[str, NodeTime]:
    """Lists the nodes of a program by the name that the exporter gives them.

    A layer that is called twice has one name, and the MACs of both calls.
    """
    found: dict[str, NodeTime] = {}
    for node in cost.nodes if cost is not None else ():
        name = node.node if node.kind.startswith("call_") else node.target
        before = found.get(name)
        macs = node.macs.exact + (before.macs or 0 if before else 0)
        found[name] = NodeTime(node.node, node.target, node.kind, node.shape, 0.0, macs)
    return found
