"""A machine made of formulas, for tests of what measures: nothing looks at the clock."""

from math import prod

from torch import nn

from gfx.compression.factor.parts import whole
from gfx.costs import cost_of
from gfx.ir.shapes.propagate import propagate


class Machine:
    """Takes so much for each product of a convolution, for each element moved, and for a run."""

    def __init__(self, start=0.5, block=1, factor=1.0, product=1e-6, element=1e-6):
        self.product, self.element, self.start, self.factor = product, element, start, factor
        self.block = block  # channels that count as one block, whole or not
        self.asked = 0

    def points(self, points, backend, threads):
        self.asked += len(points)
        return [self._point(part, shape) for part, shape, _ in points]

    def nodes(self, programs, threads):
        self.asked += len(programs)
        return [self._nodes(program) for program in programs]

    def programs(self, programs, backend, threads):
        self.asked += len(programs)
        return [self.factor * sum(self._nodes(p).values()) + self.start for p in programs]

    def _point(self, part, shape):
        sides = shape[2:] if part.transposed else part.out(shape)[2:]
        size = shape[0] * prod(part.kernel) * prod(sides)
        channels = self._blocks(part.inputs // part.groups) * self._blocks(part.outputs)
        return self.product * size * channels

    def _blocks(self, channels):
        return channels if channels < self.block else -(-channels // self.block) * self.block

    def _nodes(self, program):
        propagate(program)
        rows = {row.node: row for row in cost_of(program).nodes}
        found = {}
        for node in program.nodes():
            if node.op in ("placeholder", "get_attr", "output"):
                continue
            tensors = [n.meta["val"] for n in (node, *node.all_input_nodes)]
            moved = sum(t.numel() for t in tensors if hasattr(t, "numel"))
            module = program.submodule(node) if node.op == "call_module" else None
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                shape = node.all_input_nodes[0].meta["val"].shape
                found[node.name] = self._point(whole(module), tuple(shape))
            else:
                macs = rows[node.name].macs.exact
                found[node.name] = self.product * macs + self.element * moved
        return found
