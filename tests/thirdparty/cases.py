"""The form in which third-party generators are listed, and how one is built.

The packages come from `make thirdparty`, or

    pip install -c constraints.txt '.[thirdparty]'
    pip install --no-deps spandrel==0.4.2 super-image==0.2.0 timm==1.0.31 \\
        segmentation-models-pytorch==0.6.0 gan-face-generate==1.1.1

The second line is for those whose own requirements name torchvision, which they need for
pretrained models and data sets alone. A package that is missing skips its tests with that reason.
"""

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from thirdparty.stand_in import stand_in_for_torchvision

__all__ = ["Absent", "Case", "build", "double", "image", "shaken"]

Inputs = Callable[[], tuple[Any, ...]]


class Absent(Exception):
    """Says that a package which a generator comes from is not installed."""


@dataclass(frozen=True)
class Case:
    """One generator: where its class is, how it is made, what it is run on."""

    name: str  # package/model
    module: str  # what to import
    kind: str  # the class in it, or a function that makes the model
    inputs: Inputs
    arguments: dict[str, Any] = field(default_factory=dict)
    part: str = ""  # the submodule that is the generator, where the class holds more
    prepare: Callable[[Any, dict[str, Any]], nn.Module] | None = None  # (kind, arguments) -> model

    @property
    def package(self) -> str:
        """The package as one imports it."""
        return self.module.partition(".")[0]


def image(*shape: int) -> Inputs:
    """Makes inputs of one image, with values from 0 to 1."""
    return lambda: (torch.rand(1, *shape),)


def build(case: Case) -> tuple[nn.Module, tuple[Any, ...]]:
    """Makes a generator in float64 and eval mode, and its inputs.

    Raises: Absent if its package is not installed.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no package shall ask for weights
    with stand_in_for_torchvision():
        try:
            kind = getattr(importlib.import_module(case.module), case.kind)
        except ImportError as error:
            raise Absent(f"{case.package} cannot be imported: {error}") from error
        torch.manual_seed(0)
        model = case.prepare(kind, case.arguments) if case.prepare else kind(**case.arguments)
    model = model.get_submodule(case.part)
    shaken(model)
    return model.double().eval(), tuple(double(x) for x in case.inputs())


def double(value: Any) -> Any:
    """Turns a floating-point tensor to float64."""
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def shaken(model: nn.Module) -> None:
    """Gives norms statistics of their own, and parameters that start at zero some content."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point() and not parameter.any():
                parameter.normal_(std=0.1)
