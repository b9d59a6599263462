"""How much data layers need: as many positions of a layer's output as it has unknowns, or more.

A squeeze-excitation, a style, or the innermost layers of a U-Net have thousands of unknowns and a
position or a few in an image. They do little of the work, and must not ask for thousands of images
that nothing else needs.
"""

from collections.abc import Sequence

from gfx.compression.refit.fit_units import Target

__all__ = ["Supply"]

_BULK = 0.9  # share of the work that is done by layers which must have enough data
_MUCH = 0.25  # of the work: where data is too little for more than that, it is too little
_FEWEST, _MOST = 32, 4096  # examples that are read
_WORK = 2e13  # MACs of the program over all examples: of a large program fewer are read


class Supply:
    """Counts what some layers ask of the data, from the shapes on their nodes."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._needs: list[tuple[float, float]] = []  # examples for one position each, work
        for target in targets:
            layer = target.layer
            examples, work = 0.0, 0.0
            outs = [tuple(layer.outputs_of(g.call.meta["val"]).shape[:-1]) for g in target.goals]
            for block in layer.blocks:
                each = sum(layer.positions(block, out) for out in outs) / max(outs[0][0], 1)
                examples = max(examples, (layer.unknowns(block) + 1) / max(each, 1e-9))
                work += each * layer.unknowns(block) * layer.outputs
            self._needs.append((examples, work))

    def examples(self, positions: float) -> int:
        """Counts the examples that give the bulk of the work so many positions for each unknown."""
        total = sum(work for _, work in self._needs)
        done = 0.0
        for examples, work in sorted(self._needs):
            done += work
            if done >= _BULK * total:
                return int(-(-positions * examples // 1))
        return 1

    def examples_to_read(self, positions: float, held_out: float, macs: float) -> int:
        """Chooses how many examples to read, by what the layers need and what running them costs.

        Args:
            positions: of a layer's output that are wanted for each of its unknowns.
            held_out: share of the examples that nothing is fitted on.
            macs: of the program for its example inputs.
        """
        wanted, least = (int(self.examples(count) / (1 - held_out)) + 1 for count in (positions, 1))
        most = min(max(int(_WORK / max(macs, 1)), _FEWEST), _MOST)
        return max(_FEWEST, min(wanted, most), least)

    def too_small(self, fitted: int) -> bool:
        """Whether so many examples are too few for much of the work."""
        short = sum(work for examples, work in self._needs if examples > fitted)
        return short > _MUCH * sum(work for _, work in self._needs)
