"""Prices plans in closed form: groups at other widths, and layers in other forms.

The program at other widths is priced by its polynomials (gfx/costs/symbolic). A layer in another
form adds the difference between the form and the layer, both at the channels that the layer
keeps.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import fx

from gfx.compression.factor import Form, macs, parameters, refusal
from gfx.compression.factor.forms import like
from gfx.costs import Budget, LatencyPredictor, Macs
from gfx.costs.cost import CONVENTIONS
from gfx.costs.mac_formulas import conv
from gfx.costs.symbolic.polynomials import Terms
from gfx.costs.symbolic.sizes import Number, Symbols
from gfx.coupling import Groups
from gfx.coupling.labelled_tensor import Labeled
from gfx.ir.layers import Layer
from gfx.planning.choices import Choice
from gfx.planning.multiple_choice import Numbers, Plans
from gfx.planning.width_costs import WidthCosts

__all__ = ["PlanCosts"]

_BASE = 1 << 16  # more than any layer has channels


class PlanCosts:
    """Prices plans over layers and groups, in the unit of each budget.

    An option's value is a Form for a layer, a width for a group, and None for no change. Prices
    equal `gfx.cost` of the rewritten program. The peak of memory is the exception: it is that of
    the narrowed program, without the values between the parts. `times` predicts milliseconds for
    each budget on latency.

    Example:
        >>> import gfx
        >>> from gfx.ir.layers import layers_of
        >>> from gfx.planning import Option
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> layer = layers_of(program)[1]
        >>> choice = Choice(layer.path, (Option(None, 0.0), Option(Form(rank=1), 0.1)))
        >>> params = Budget(measure="params", limit=1)
        >>> costs = PlanCosts(gfx.channels(program), [layer], [choice], [params])
        >>> costs(np.array([[0], [1]])).tolist()
        [[62264.0], [55096.0]]
    """

    def __init__(
        self,
        groups: Groups,
        layers: Sequence[Layer],
        choices: Sequence[Choice],
        budgets: Sequence[Budget],
        times: Mapping[Budget, LatencyPredictor] | None = None,
    ) -> None:
        self.budgets = tuple(budgets)
        self._times = times or {}  # predictors, by budget on latency
        self.choices = tuple(choices)
        by_path = {layer.path: layer for layer in layers}
        wide, deep = ([i for i, c in enumerate(choices) if c.kind == k] for k in ("group", "layer"))
        self._whole = WidthCosts(groups, budgets, self._times)
        columns = {i: self._whole.columns[choices[i].name] for i in wide}
        self._narrowed = [
            (i, column, _widths(choices[i], int(self._whole.full[column])))
            for i, column in columns.items()
        ]
        self._rewritten = [
            (
                i,
                _Rewritten(
                    by_path[choices[i].name],
                    [o.value for o in choices[i].options],
                    budgets,
                    self._times,
                ),
            )
            for i in deep
        ]
        symbols = Symbols(groups)
        found = [n for _, layer in self._rewritten for n in _channels(symbols, layer.layer)]
        self._channels = Terms(symbols, found)

    def __call__(self, plans: Plans) -> Numbers:
        """Prices plans. Shapes: plans (plans, choices); returns (plans, budgets)."""
        widths = self.widths(plans)
        prices = self._whole(widths)
        if self._rewritten:
            channels = self._channels(widths).reshape(len(self._rewritten), 3, len(plans))
            for (place, layer), sizes in zip(self._rewritten, channels, strict=True):
                prices += layer.differences(plans[:, place], sizes)
        return prices

    def widths(self, plans: Plans) -> Plans:
        """Returns the width of every free group. Shapes: (plans, free groups)."""
        widths = np.tile(self._whole.full, (len(plans), 1))
        for place, column, options in self._narrowed:
            widths[:, column] = options[plans[:, place]]
        return widths


class _Rewritten:
    """Prices the forms of one layer against the layer, at any number of channels."""

    def __init__(
        self,
        layer: Layer,
        forms: Sequence[Form | None],
        budgets: Sequence[Budget],
        times: Mapping[Budget, LatencyPredictor],
    ) -> None:
        self.layer, self.forms, self.budgets = layer, forms, budgets
        self._times = {
            place: times[budget].of_forms(layer, forms)
            for place, budget in enumerate(budgets)
            if budget in times
        }
        self._known: dict[tuple[int, ...], list[float]] = {}

    def differences(self, options: Plans, channels: Plans) -> Numbers:
        """Returns the cost of each option less that of the layer.

        Shapes: options (plans,), channels (3, plans); returns (plans, budgets).
        """
        keys = options.astype(np.int64)
        for row in channels:
            keys = keys * _BASE + row  # one number for all four is sorted faster
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        places = zip(options[first].tolist(), *channels[:, first].tolist(), strict=True)
        rows = np.array([self._difference(place) for place in places], dtype=np.float64)
        for place, times in self._times.items():
            rows[:, place] = times.differences(options[first], channels[:, first])
        return np.asarray(rows[inverse.reshape(-1)])

    def _difference(self, key: tuple[int, ...]) -> list[float]:
        if key not in self._known:
            option, inputs, outputs, fan = key
            self._known[key] = self._priced(self.forms[option], inputs, outputs, fan)
        return self._known[key]

    def _priced(self, form: Form | None, inputs: int, outputs: int, fan: int) -> list[float]:
        old: Any = self.layer.module
        groups = (outputs if old.transposed else inputs) // fan
        module = like(old, inputs, outputs, groups)
        if form is None or refusal(module, form):
            return [0.0] * len(self.budgets)
        total = Macs()
        for call in self.layer.calls:
            read, given = call.all_input_nodes[0].meta["val"].shape, call.meta["val"].shape
            batch = read[:-3].numel()  # 1 where there is no such dimension
            shape, out = (batch, inputs, *read[-2:]), (batch, outputs, *given[-2:])
            whole = conv(shape, module.weight.shape, out, transposed=old.transposed)
            total = total + macs(module, form, shape) + _negative(whole)
        more = parameters(module, form) - sum(p.numel() for p in module.parameters())
        found: dict[str, float] = {
            "params": more,
            "param_bytes": more * old.weight.element_size(),
        }
        return [
            getattr(total, CONVENTIONS[b.convention])
            if b.measure == "macs"
            else found.get(b.measure, 0.0)
            for b in self.budgets
        ]


def _negative(value: Macs) -> Macs:
    return Macs(-value.exact, -value.output, -value.output_norm)


def _widths(choice: Choice, full: int) -> Plans:
    return np.array([full if o.value is None else o.value for o in choice.options], dtype=np.int64)


def _channels(symbols: Symbols, layer: Layer) -> tuple[Number, Number, Number]:
    """Returns a layer's input, output and per-group weight channels as formulas."""
    call = layer.calls[0]
    read, given = _along(symbols, call.all_input_nodes[0]), _along(symbols, call)
    return read, given, symbols.tensor(f"{layer.path}.weight")[1]


def _along(symbols: Symbols, node: fx.Node) -> Number:
    value = symbols.groups.value_of(node)
    channels = node.meta["val"].shape[-3]
    return symbols.shape(value)[-3] if isinstance(value, Labeled) else int(channels)
