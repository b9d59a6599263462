"""Predicts the latency of a layer in another form, at any number of channels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from math import prod

import numpy as np
from numpy.typing import NDArray
from torch import nn

from gfx.compression.factor import Form, refusal
from gfx.compression.factor.forms import like
from gfx.compression.factor.parts import Part, layout, whole
from gfx.deploy.latency.single_conv import ConvSite, site_of
from gfx.deploy.latency.tables import Library, Most, Times
from gfx.ir.layers import Layer

__all__ = ["FormTimes", "Parts"]

_BASE = 1 << 16  # more than any layer has channels

Module = nn.Conv2d | nn.ConvTranspose2d
# the milliseconds of a layer, in a form or as it is, on an input shape
Time = Callable[[Module, Form | None, tuple[int, ...]], float]


class Parts:
    """Predicts single convolutions from their tables, corrected as in the fitted program."""

    def __init__(
        self,
        library: Library,
        slopes: Mapping[str, tuple[float, ...]],
        factors: Mapping[str, float],
        moved: float,
    ) -> None:
        self._library, self._slopes = library, slopes
        self._factors, self._moved = factors, moved
        self._usual = float(np.median([found[0] for found in slopes.values()] or [0.0]))
        self._made: dict[tuple[str, Most], Times] = {}

    def of(self, whole: Module) -> Time:
        """Returns the predictor for forms of a layer with at most the channels of this one."""
        most = cache(lambda form: [_most(part) for part in _parts(whole, form)])

        def time(module: Module, form: Form | None, shape: tuple[int, ...]) -> float:
            total, dtype = 0.0, str(whole.weight.dtype).removeprefix("torch.")
            for i, part in enumerate(_parts(module, form)):
                total += self._convolution(part, shape, dtype, most(form)[i])
                shape = part.out(shape)
                if i == 0 and form is not None and form.norm != "none":
                    total += self._norm(prod(shape))
            return total

        return time

    def _convolution(self, part: Part, shape: tuple[int, ...], dtype: str, most: Most) -> float:
        """Returns the milliseconds of a convolution; a grouped one counts as several dense ones."""
        site = site_of(part, shape, dtype) or site_of(replace(part, groups=1), shape, dtype)
        assert site is not None
        kind = "depthwise" if site.multiple else "transposed" if part.transposed else "convolution"
        factor = self._factors.get(kind, self._factors.get("convolution", 1.0))
        count = 1 if site.multiple else part.groups
        pair = (np.array([part.inputs // count]), np.array([part.outputs // count]))
        return factor * count * float(self._times(site, most)(*pair)[0])

    def _norm(self, elements: int) -> float:
        return self._factors.get("norm", 1.0) * self._moved * 2 * elements

    def _times(self, site: ConvSite, most: Most) -> Times:
        key = (site.key, most)
        if key not in self._made:
            found = self._slopes.get(site.key, (self._usual, 0.0, 0.0))
            table = self._library.table(site, most, fine=False)
            self._made[key] = Times(table, most[:2], found)
        return self._made[key]


def _parts(module: Module, form: Form | None) -> list[Part]:
    return [whole(module)] if form is None else layout(module, form)


def _most(part: Part) -> Most:
    """Returns the largest channels of a part's table."""
    count = 1 if part.groups == part.inputs else part.groups
    return part.inputs // count, part.outputs // count, True, True


class FormTimes:
    """Predicts how much slower each form of one layer is than the layer, in milliseconds."""

    def __init__(self, layer: Layer, forms: Sequence[Form | None], time: Time) -> None:
        self.layer, self.forms = layer, tuple(forms)
        self._time = time
        self._known: dict[tuple[int, ...], float] = {}
        self._whole: dict[tuple[int, ...], float] = {}  # the layer as it is, by its channels

    def differences(
        self, options: NDArray[np.int64], channels: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Returns how much slower each option is than the layer, both at the layer's channels.

        An option that does not fit the layer at these channels counts as the layer: 0.

        Args:
            options: (plans,), positions in `forms`; the value None is the layer unchanged.
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
        place = (inputs, outputs, fan)
        if place not in self._whole:
            self._whole[place] = self._summed(module, None, inputs)
        return self._summed(module, form, inputs) - self._whole[place]

    def _summed(self, module: Module, form: Form | None, inputs: int) -> float:
        """Sums the milliseconds of all calls of the layer, on so many input channels."""
        total = 0.0
        for call in self.layer.calls:
            read = call.all_input_nodes[0].meta["val"].shape
            total += self._time(module, form, (read[:-3].numel(), inputs, *read[-2:]))
        return total
