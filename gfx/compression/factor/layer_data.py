"""Samples the inputs of a layer and its target outputs at positions of the user's batches.

1. Batches are read once, one after the other; a bounded number of their positions is held.
2. A quarter of the examples is held out, to judge a fit on unseen data; of a single example, the
   lower quarter of the output.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gfx.compression.factor.forms import Convolution
from gfx.compression.factor.kernels import bias_of, kernel_of
from gfx.compression.factor.patches import PatchSample, output_size
from gfx.errors import InputError
from gfx.io.data import replayable

__all__ = ["LayerData", "LayerRows"]

Batches = Iterable[Tensor]

_MOST = 2**14  # positions
_ELEMENTS = 2**24  # of all patches together, 128 MiB; twice that where many are needed
_EVERY = 4  # one example in so many is held out


@dataclass(frozen=True)
class LayerRows:
    """Holds the inputs and targets of a layer at some positions, in float64.

    Shapes: patches (positions, input channels, kernel area), targets (positions, outputs).
    """

    patches: Tensor
    targets: Tensor

    def group(self, number: int, groups: int) -> tuple[Tensor, Tensor]:
        """Returns the patches and the targets of one group of the layer."""
        patches, targets = (t.chunk(groups, 1)[number] for t in (self.patches, self.targets))
        return patches, targets


class LayerData:
    """Reads the rows of a layer, for fitting and for judging.

    `needed` is the number of unknowns of one output channel, and so the least number of positions;
    twice as many are held if the data have them and memory allows.

    Raises: InputError if the data are missing, too few, not finite or of the wrong shape.
    """

    def __init__(
        self,
        layer: Convolution,
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
        width = layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]
        fit = _ELEMENTS // width
        most = max(min(_MOST, fit), min(2 * needed, 2 * fit), 1)
        self.to_fit, self.to_judge = PatchSample(most), PatchSample(most // (_EVERY - 1))
        shapes = self._read(torch.Generator().manual_seed(seed))
        self._check_size(shapes, needed)
        if not self.to_judge.seen:
            self.to_judge = self.to_fit.split(_cut(output_size(layer, shapes[0])[0]))
        self.fit, self.held = self._rows(self.to_fit), self._rows(self.to_judge)

    def batches(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Iterates over the inputs and, if they were given, the targets, on the layer's device."""
        where = self.layer.weight.device
        targets = None if self.targets is None else iter(self.targets)
        for number, x in enumerate(self.inputs):
            target = None if targets is None else next(targets, None)
            if targets is not None and target is None:
                raise InputError(f"{self.name}: calibration batch {number} has no target")
            yield x.to(where), None if target is None else target.to(where)

    def _read(self, generator: torch.Generator) -> list[torch.Size]:
        """Offers every position of every batch to the samples; returns the shapes of batches."""
        shapes: list[torch.Size] = []
        count = 0
        for number, (x, target) in enumerate(self.batches()):
            shapes.append(self._checked(number, x, target))
            size = (len(x), *output_size(self.layer, x.shape))
            keys = torch.rand(size, generator=generator)
            judges = torch.tensor([_judges(count + i) for i in range(len(x))])[:, None, None]
            count += len(x)
            never = torch.inf
            self.to_fit.offer(self.layer, x, target, keys.where(~judges, never), number)
            self.to_judge.offer(self.layer, x, target, keys.where(judges, never), number)
        return shapes

    def _checked(self, number: int, x: Tensor, target: Tensor | None) -> torch.Size:
        """Returns the shape of a usable batch."""
        layer, who = self.layer, f"{self.name}: calibration batch {number}"
        if x.ndim != 4 or x.shape[1] != layer.in_channels or not len(x):
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

    def _check_size(self, shapes: Sequence[torch.Size], needed: int) -> None:
        if not shapes:
            raise InputError(f"{self.name}: the calibration data hold no example; give some")
        height, width = output_size(self.layer, shapes[0])
        there = self.to_fit.seen
        there = there if self.to_judge.seen else _cut(height) * width
        if there >= needed:
            return
        enough = 1
        while _fitted(enough, height) * width < needed:
            enough += 1
        raise InputError(
            f"{self.name}: the least squares has {needed} unknowns for each output channel and so "
            f"needs as many positions; {sum(s[0] for s in shapes)} examples with outputs of "
            f"{height}x{width} give {there}, what is held out aside; give at least {enough} "
            "examples, or use init=svd"
        )

    def _rows(self, sample: PatchSample) -> LayerRows:
        """Returns the rows of a sample; without targets, the layer's own outputs."""
        patches = sample.held[0]
        if self.targets is not None:
            return LayerRows(patches, sample.held[1])
        groups, bias = self.layer.groups, bias_of(self.layer)
        kernel = kernel_of(self.layer).flatten(2)
        own = patches.reshape(len(patches), groups, -1).transpose(0, 1) @ kernel.mT
        given = own.transpose(0, 1).flatten(1)
        return LayerRows(patches, given if bias is None else given + bias)


def _judges(number: int) -> bool:
    """Whether an example is held out: the second, and every fourth after it."""
    return number % _EVERY == 1


def _cut(height: int) -> int:
    """Returns the row from which on the output of a single example is held out."""
    return height - height // _EVERY


def _fitted(count: int, height: int) -> int:
    """Returns how many rows of outputs the fit sees in `count` examples."""
    return height * sum(not _judges(n) for n in range(count)) if count > 1 else _cut(height)


def _spell(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))
