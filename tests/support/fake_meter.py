"""Machines made of formulas, to plan for: no clock is asked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from gfx.compression.factor import macs, price
from gfx.costs import Reading, cost_of
from gfx.costs.symbolic import Pricing
from gfx.coupling import Groups
from gfx.deploy.latency import FormTimes
from gfx.ir.layers import layers_of
from gfx.ir.program import Program

ROUNDS = 9


@dataclass
class Formula:
    """Takes a constant, and so much for each MAC of a dense or a separable convolution.

    What it predicts is wrong by a factor; what it reads is right, but for the noise.
    """

    dense: float = 1e-6  # ms
    separable: float = 1e-6  # depthwise and pointwise
    constant: float = 0.0
    wrong: float = 1.0  # predicted latency / true latency
    noise: float = 0.0  # how far every third time, in turns, lies below and above
    slower: float = 1.0  # how much slower the machine gets from one reading to the next
    read_so_far: list[tuple[str, int | None, int]] = field(default_factory=list)

    def ms(self, program: Program) -> float:
        """What a program takes."""
        total = self.constant
        for layer in layers_of(program):
            total += price(layer).macs.exact * self.rate(layer.module)
        return total

    def rate(self, module: nn.Module) -> float:
        parted = isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and (
            module.groups > 1 or module.kernel_size == (1, 1)
        )
        return self.separable if parted else self.dense

    def read(
        self, programs: Sequence[Program], backend: str, threads: int | None, effort: int = 1
    ) -> list[Reading]:
        drift = self.slower ** len(self.read_so_far)
        self.read_so_far.append((backend, threads, len(programs)))
        swings = [(-self.noise, 0.0, self.noise)[n % 3] for n in range(ROUNDS)]
        times = [self.ms(program) * drift for program in programs]
        return [Reading(tuple(ms * (1 + swing) for swing in swings)) for ms in times]

    def predictor(self, groups: Groups, backend: str, threads: int | None) -> "FormulaPredictor":
        return FormulaPredictor(self, groups)

    def machine(self) -> str:
        return "a machine of formulas"


class FormulaPredictor:
    """Predicts by a Formula the latency of one program, which is written in dense layers."""

    def __init__(self, machine: Formula, groups: Groups) -> None:
        self.machine = machine
        self.pricing = Pricing(groups, cost_of(groups.program))

    def predict(self, widths: Any) -> np.ndarray:
        exact = self.pricing.price(widths)["exact"]
        return self.machine.wrong * (self.machine.constant + self.machine.dense * exact)

    def of_forms(self, layer: Any, forms: Sequence[Any]) -> FormTimes:
        return FormTimes(layer, forms, self._time)

    def _time(self, module: Any, form: Any, shape: tuple[int, ...]) -> float:
        if form is not None:
            return self.machine.wrong * self.machine.separable * macs(module, form, shape).exact
        kernel = module.weight.shape[1] * module.weight[0, 0].numel()
        if module.transposed:
            count = shape[0] * shape[1] * shape[2] * shape[3] * kernel
        else:
            out = _like_output(module, shape)
            count = out * kernel
        return self.machine.wrong * self.machine.dense * count


def _like_output(module: Any, shape: tuple[int, ...]) -> int:
    import torch

    return module(torch.empty(shape, device="meta")).numel()
