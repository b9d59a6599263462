"""Averages the weights of a network over its training: what ships is calmer than the last step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["WeightAverage"]

_BEGIN = 10  # steps over which the average still follows quickly


class WeightAverage:
    """The exponential moving average of the parameters; buffers are copied.

    θ' ← d θ' + (1 - d) θ,  d = min(decay, n / (n + 10)) at the n-th update

    Buffers, as masks, moments and counters are, hold no weights: an average of them would be
    neither one value nor the other.

    Example:
        >>> net = nn.Linear(1, 1, bias=False)
        >>> _ = net.weight.data.fill_(1.0)
        >>> average = WeightAverage(net, decay=0.5)
        >>> _ = net.weight.data.fill_(3.0)
        >>> average.update()
        >>> with average.applied():
        ...     net.weight.item()
        2.8181819915771484
        >>> net.weight.item()
        3.0
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net, self.decay, self.updates = net, decay, 0
        self._kept = {name: p.detach().clone() for name, p in self._weights()}

    @torch.no_grad()
    def update(self) -> None:
        """Takes the weights of now into the average."""
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + _BEGIN))
        for name, parameter in self._weights():
            self._kept[name].lerp_(parameter.detach(), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Gives the network the average for a while."""
        own = {name: p.detach().clone() for name, p in self._weights()}
        self._write(self._kept)
        try:
            yield
        finally:
            self._write(own)

    def state_dict(self) -> dict[str, Any]:
        """Returns the average and the number of updates: plain data and tensors."""
        return {"updates": self.updates, "weights": dict(self._kept)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a state."""
        self.updates = state["updates"]
        for name, value in self._kept.items():
            value.copy_(state["weights"][name])

    def _weights(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, p) for name, p in self.net.named_parameters() if p.is_floating_point())

    @torch.no_grad()
    def _write(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self._weights():
            parameter.copy_(values[name])
