"""What a layer takes written in another form, at any number of channels."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gfx.factoring import Form, refusal
from gfx.planning.costs import like
from gfx.planning.layers import Layer

__all__ = ["FormTimes", "Layers"]

_BASE = 1 << 16  # more than any layer has channels

# (layer at other channels, its form or None for the layer itself, shape of its input) -> ms
Layers = Callable[..., float]


class FormTimes:
    """Gives what each form of one layer takes more than the layer, in milliseconds."""

    def __init__(self, layer: Layer, forms: Sequence[Form | None], time: Layers) -> None:
        self.layer, self.forms = layer, tuple(forms)
        self._time = time
        self._known: dict[tuple[int, ...], float] = {}

    def differences(
        self, options: NDArray[np.int64], channels: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Returns what each option takes more than the layer, both at the channels left to it.

        An option that the layer cannot be written in at these channels stays the layer: 0.

        Args:
            options: (plans,), places in `forms`; the value None is the layer as it is.
            channels: (3, plans): input channels, output channels, and weight.shape[1].

        Returns: (plans,), milliseconds; negative where the form is faster.
        """
        keys = np.asarray(options).astype(np.int64)
        for row in channels:
            keys = keys * _BASE + row  # one number for all four is sorted faster
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        places = zip(options[first].tolist(), *channels[:, first].tolist(), strict=True)
        values = np.array([self._difference(place) for place in places], dtype=np.float64)
        return values[inverse.reshape(-1)]

    def _difference(self, key: tuple[int, ...]) -> float:
        if key not in self._known:
            option, inputs, outputs, fan = key
            self._known[key] = self._priced(self.forms[option], inputs, outputs, fan)
        return self._known[key]

    def _priced(self, form: Form | None, inputs: int, outputs: int, fan: int) -> float:
        old = self.layer.convolution
        groups = (outputs if old.transposed else inputs) // fan
        module = like(old, inputs, outputs, groups)
        if form is None or refusal(module, form):
            return 0.0
        total = 0.0
        for call in self.layer.calls:
            read = call.all_input_nodes[0].meta["val"].shape
            shape = (read[:-3].numel(), inputs, *read[-2:])
            total += self._time(module, form, shape) - self._time(module, None, shape)
        return total
