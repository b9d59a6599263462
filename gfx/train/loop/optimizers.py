"""Steps the players of a generator: Adam, its rates, averaged and clipped gradients."""

from collections.abc import Sequence

import torch
from torch import nn

from gfx.errors import InputError
from gfx.train.loop.devices import Devices
from gfx.train.systems.fit_fields import Fit

__all__ = ["Optimizers"]


class Optimizers:
    """The optimizers of a generator and its discriminator, by player.

    `held` are torch's own. The fields of the fit say what they are.

    Example:
        >>> from gfx.train.terms import read_terms
        >>> fit = Fit(losses=tuple(read_terms({"l1": 1})))
        >>> made = Optimizers("student", fit, Devices("cpu"))
        >>> made.add("generator", list(nn.Linear(1, 1).parameters()), fit.lr)
        >>> made.begin(0.5)
        >>> made.held["generator"].param_groups[0]["lr"]
        0.0001
    """

    def __init__(self, name: str, fit: Fit, devices: Devices) -> None:
        self.name, self.fit, self.devices = name, fit, devices
        self.held: dict[str, torch.optim.Optimizer] = {}
        self._rates: dict[str, float] = {}
        self._parameters: dict[str, Sequence[nn.Parameter]] = {}

    def add(self, player: str, parameters: Sequence[nn.Parameter], rate: float) -> None:
        """Makes the optimizer of a player.

        Raises: InputError if it has no parameters.
        """
        if not parameters:
            raise InputError(f"{self.name} has no parameters that learn; nothing can be trained")
        fit = self.fit
        kind = torch.optim.AdamW if fit.weight_decay else torch.optim.Adam
        # one kernel for all parameters; it needs floating tensors on a device that has one
        fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
        self.held[player] = kind(
            parameters, lr=rate, betas=fit.betas, weight_decay=fit.weight_decay, fused=fused
        )
        self._rates[player], self._parameters[player] = rate, parameters

    def begin(self, factor: float) -> None:
        """Begins a step, at a factor of the learning rates."""
        for player, optimizer in self.held.items():
            for group in optimizer.param_groups:
                group["lr"] = self._rates[player] * factor
            optimizer.zero_grad()

    def step(self, player: str) -> None:
        """Changes the weights of a player."""
        parameters = self._parameters[player]
        self.devices.average(parameters)
        if self.fit.clip is not None:
            nn.utils.clip_grad_norm_(parameters, self.fit.clip)
        self.held[player].step()
