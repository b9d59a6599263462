"""The table of generators."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

__all__ = ["GENERATORS", "Entry", "built", "generator"]

Shape = tuple[int, ...]
Make = Callable[[int, int], tuple[Any, ...]]


@dataclass(frozen=True)
class Entry:
    """One generator, and what is known of it."""

    kind: type[nn.Module]
    shapes: tuple[Shape, ...]  # of its inputs, batch first
    sizes: bool  # whether it takes images of any size
    batches: bool  # whether it takes any number of images
    pinned: tuple[str, ...]  # what may be said of a group that stays whole, besides in- and outputs
    labels: int  # inputs whose shape is (N,) are class numbers below this
    exact: bool  # whether the oracle can judge it


GENERATORS: dict[str, Entry] = {}


def generator(
    *shapes: Shape,
    sizes: bool = False,
    batches: bool = True,
    pinned: tuple[str, ...] = (),
    labels: int = 3,
    exact: bool = True,
) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Registers a generator under the name of its class."""

    def add(kind: type[nn.Module]) -> type[nn.Module]:
        assert kind.__name__ not in GENERATORS, kind
        GENERATORS[kind.__name__] = Entry(kind, shapes, sizes, batches, pinned, labels, exact)
        return kind

    return add


def built(name: str) -> nn.Module:
    """Builds a generator in float64, with norms and scalars that are not at their start values."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the old weight norm
        model = GENERATORS[name].kind().double().eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any() or (parameter == parameter.flatten()[0]).all():
                parameter.add_(torch.randn_like(parameter) * 0.5)
    return model


def inputs(name: str, batch: int | None = None, grow: int = 0) -> tuple[torch.Tensor, ...]:
    """Makes inputs; `grow` is added to the height and half of it to the width of images."""
    entry = GENERATORS[name]
    made = []
    for first, *rest in entry.shapes:
        count = batch or first
        if not rest:
            made.append(torch.randint(entry.labels, (count,)))
            continue
        if grow and len(rest) > 1:
            rest = [rest[0], *(n + grow // (1 + i) for i, n in enumerate(rest[1:]))]
        made.append(torch.randn(count, *rest, dtype=torch.float64))
    return tuple(made)
