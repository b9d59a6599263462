"""What a layer reads at positions of the user's batches, and what it shall give there.

1. Batches are read one after the other, twice: once for their shapes, once for the rows.
2. A quarter of the examples is held out, to judge a fit by what it has not seen.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gfx.data import replayable
from gfx.errors import InputError
from gfx.factoring.forms import Layer
from gfx.factoring.kernels import bias_of, kernel_of
from gfx.factoring.sampling import Place, Sampling, fit_share, output_size, patches_at, sampling

__all__ = ["Calibration", "Rows"]

Batches = Iterable[Tensor]


@dataclass(frozen=True)
class Rows:
    """What a layer reads at some positions, and what it shall give; float64.

    Shapes: patches (positions, input channels, kernel area), targets (positions, outputs).
    """

    patches: Tensor
    targets: Tensor

    def group(self, number: int, groups: int) -> tuple[Tensor, Tensor]:
        """Returns the patches and the targets of one group of the layer."""
        patches, targets = (t.chunk(groups, 1)[number] for t in (self.patches, self.targets))
        return patches, targets


class Calibration:
    """Reads the rows of a layer, to fit and to judge.

    `needed` is the number of unknowns of one output channel, hence of positions at least.

    Raises: InputError if the data are missing, too few, not finite or of the wrong shape.
    """

    def __init__(
        self,
        layer: Layer,
        inputs: Batches | None,
        targets: Batches | None,
        *,
        needed: int,
        seed: int,
        name: str,
    ) -> None:
        if inputs is None:
            raise InputError(
                f"{name}: init=data needs inputs to calibrate on; give data, or use init=svd"
            )
        self.layer, self.name = layer, name
        self.inputs = replayable(inputs)
        self.targets = None if targets is None else replayable(targets)
        shapes = [self._checked(number, *pair) for number, pair in enumerate(self.batches())]
        self.places = sampling(layer, shapes, seed, needed)
        self._check_size(shapes, needed)
        self.fit, self.held = self._rows(self.places)

    def batches(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Iterates over the inputs and, if they were given, the targets."""
        if self.targets is None:
            yield from ((x, None) for x in self.inputs)
            return
        targets = iter(self.targets)
        for number, x in enumerate(self.inputs):
            target = next(targets, None)
            if target is None:
                raise InputError(f"{self.name}: calibration batch {number} has no target")
            yield x, target

    def _checked(self, number: int, x: Tensor, target: Tensor | None) -> torch.Size:
        """Returns the shape of a batch that can be used."""
        layer, who = self.layer, f"{self.name}: calibration batch {number}"
        if x.ndim != 4 or x.shape[1] != layer.in_channels:
            raise InputError(
                f"{who} has shape {_spell(x.shape)}; expected (N, {layer.in_channels}, H, W)"
            )
        want = (x.shape[0], layer.out_channels, *output_size(layer, x.shape))
        if target is not None and target.shape != want:
            raise InputError(
                f"{who} has a target of shape {_spell(target.shape)}; expected {_spell(want)}"
            )
        for kind, tensor in (("inputs", x), ("targets", target)):
            if tensor is not None and not bool(torch.isfinite(tensor).all()):
                raise InputError(
                    f"{who} holds {kind} that are not finite; repair what comes before the layer, "
                    "or the data"
                )
        return x.shape

    def _check_size(self, shapes: list[torch.Size], needed: int) -> None:
        if self.places.positions >= needed:
            return
        if not self.places.examples:
            raise InputError(f"{self.name}: the calibration data hold no example; give some")
        height, width = output_size(self.layer, shapes[0])
        enough = 1
        while fit_share(enough, height) * width < needed:
            enough += 1
        raise InputError(
            f"{self.name}: the least squares has {needed} unknowns for each output channel and so "
            f"needs as many positions; {self.places.examples} examples with outputs of "
            f"{height}x{width} give {self.places.positions}, what is held out aside; give at least "
            f"{enough} examples, or use init=svd"
        )

    def _rows(self, places: Sampling) -> tuple[Rows, Rows]:
        """Reads the batches at the places."""
        found: tuple[list[Tensor], ...] = ([], [], [], [])
        for pair, fit, held in zip(self.batches(), places.fit, places.held, strict=True):
            for kind, place in enumerate((fit, held)):
                patches = patches_at(self.layer, pair[0], place)
                found[kind].append(patches)
                found[kind + 2].append(self._wanted(pair[1], patches, place))
        fit_x, held_x, fit_y, held_y = (torch.cat(f) for f in found)
        return Rows(fit_x, fit_y), Rows(held_x, held_y)

    def _wanted(self, target: Tensor | None, patches: Tensor, place: Place) -> Tensor:
        if target is not None:
            return place.of(target)
        groups = self.layer.groups
        kernel = kernel_of(self.layer).flatten(2)
        rows = patches.reshape(len(patches), groups, -1).transpose(0, 1) @ kernel.mT
        own = rows.transpose(0, 1).flatten(1)
        bias = bias_of(self.layer)
        return own if bias is None else own + bias


def _spell(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))
