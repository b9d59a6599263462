"""Estimates damage from one forward and one backward, by the gradient of the program's own output.

Let f be the program, Δ the change of the values that a probe touches, and J the Jacobian of the
output by these. To first order the output moves by JΔ, and the damage is ‖JΔ‖ / ‖f‖. For a
vector v of independent signs E[(vᵀJΔ)²] = ‖JΔ‖² (Hutchinson 1990), and vᵀJ is one backward pass
for all values at once. As far as different places of a map reach different places of the output,
this holds for each place of its own, so the squares are summed over a grid of cells: one draw of v
then gives as many samples as there are cells and examples.

- Narrowing reads channels as zero: Δ = -x where they are read, so that the product of each read
  with its gradient, once summed over each cell, prices every width.
- Decomposing a layer: Δ is what the parts compute on the layer's input, less the layer's output.

Source   Molchanov et al. 2019, arXiv:1906.10771 (a gate's gradient); Theis et al. 2018,
         arXiv:1801.05787 (Fisher information of the output).
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from gfx.compression.factor import Inputs
from gfx.coupling.call import Read
from gfx.errors import GfxError, InputError, PreconditionError
from gfx.io.guards import running
from gfx.ir.execute import copied, floating, parts, require_values, tensors, unrunnable
from gfx.ir.interpreter import Get, Interpreter, overlaid
from gfx.ir.preserve import evaluating
from gfx.sensitivity.inspected_layers import InspectedProgram
from gfx.sensitivity.probes import Batches, Probe, ProbeResult, decomposed
from gfx.sensitivity.rows import Key

__all__ = ["estimate"]

_GRID = 8  # cells along height and width


def estimate(
    subject: InspectedProgram, batches: Batches, probes: Sequence[Probe], seed: int
) -> dict[tuple[str, Key], ProbeResult]:
    """Estimates the relative L2 damage of each probe, averaged over the batches.

    Raises: InputError if an output or a gradient is not finite, or the program does not run on a
    batch; PreconditionError if no gradient flows through it.
    """
    found: dict[tuple[str, Key], ProbeResult] = {}
    modules: dict[tuple[str, Key], nn.Module] = {}
    for probe in probes:
        if probe.place is None or probe.place.layer is None:
            continue
        read = Inputs(subject.program, probe.place.layer, batches, seed)
        try:
            modules[probe.name] = decomposed(subject, probe.place, read, seed).eval()
        except GfxError as error:
            found[probe.name] = ProbeResult(why=str(error))
    good = [p for p in probes if p.name not in found]
    if not good:
        return found
    totals = torch.zeros(len(good), dtype=torch.float64)
    twin = subject.program.copy()
    twin.module.requires_grad_(False)
    require_values(twin, "inspect")
    with torch.inference_mode(False), evaluating(twin, gradients=True):
        pieces = [piece for batch in batches for piece in _fitting(subject, twin, batch)]
        for number, inputs in enumerate(pieces):
            firsts = {len(x) for x in tensors(inputs) if x.ndim}
            examples = firsts.pop() if len(firsts) == 1 else 1
            look = _Look(subject, twin.module, good, modules, examples)
            totals += _squares(look, inputs, seed + number).sqrt() / len(pieces)
    for probe, damage in zip(good, totals.tolist(), strict=True):
        found[probe.name] = ProbeResult(damage, damage)
    return found


def _squares(look: "_Look", inputs: tuple[Any, ...], seed: int) -> Tensor:
    """Returns the estimate of each squared damage on one batch."""
    torch.manual_seed(seed)
    output = look.runner.run(*copied(inputs), see=look.value)
    outputs = floating(output)
    moving = [f for f in outputs if f.requires_grad]
    if not moving:
        raise PreconditionError(
            "inspect --fast: no gradient flows from the model's output to its layers: it holds no "
            "floating numbers, or something cuts it off, as .detach() does; leave fast out"
        )
    size = sum(float(f.detach().double().square().sum()) for f in outputs) ** 0.5
    if not size < float("inf"):
        raise InputError(
            "the model's output holds values that are not finite; repair its weights or the data"
        )
    generator = torch.Generator().manual_seed(seed)
    signs = [torch.randint(0, 2, f.shape, generator=generator) * 2 - 1 for f in moving]
    directions = [s.to(f.device, f.dtype) for s, f in zip(signs, moving, strict=True)]
    with running("the backward pass of the model"):
        torch.autograd.grad(moving, [look.one], directions, allow_unused=True)
    found = torch.stack([cells.square().sum() for cells in look.moved])
    if not bool(torch.isfinite(found).all()):
        raise InputError(
            "the gradient of the model's output is not finite; use a wider dtype than the model's, "
            "or leave fast out"
        )
    return found / (size or 1.0) ** 2


class _Look:
    """Runs a graph so that a backward pass estimates how far each probe moves the output."""

    def __init__(
        self,
        subject: InspectedProgram,
        module: fx.GraphModule,
        probes: Sequence[Probe],
        modules: dict[tuple[str, Key], nn.Module],
        examples: int,
    ) -> None:
        self.runner = Interpreter(module)
        self.one = torch.ones(()).requires_grad_()
        cells = torch.zeros(examples, _GRID * _GRID, dtype=torch.float64)
        self.moved = [cells for _ in probes]
        self.reads: dict[str, list[tuple[Read, list[tuple[int, Tensor]]]]] = {}
        self.layers: dict[str, tuple[int, nn.Module]] = {}
        for number, probe in enumerate(probes):
            for node in probe.place.calls if probe.place else ():
                self.layers[node.name] = (number, modules[probe.name])
        masks = [
            (i, subject.groups.kept(subject.mask(p.group, float(p.key))))
            for i, p in enumerate(probes)
            if p.group is not None
        ]
        for read in subject.groups.reads:
            gone = [(i, torch.from_numpy(~kept[read.channels])) for i, kept in masks]
            gone = [(i, mask) for i, mask in gone if bool(mask.any())]
            if gone:
                self.reads.setdefault(read.node.name, []).append((read, gone))

    def value(self, node: fx.Node, get: Get) -> Any:
        """Runs a node on its operands, and attaches the probes to its value."""
        by_name = {o.name: o for o in node.all_input_nodes}
        gated: dict[fx.Node, Any] = {}
        for read, gone in self.reads.get(node.name, ()):
            operand = by_name[read.operand.name]
            gated[operand] = self._gated(overlaid(get, gated)(operand), read, gone)
        value = self.runner.value(node, overlaid(get, gated))
        return self._compared(node, value, get) if node.name in self.layers else value

    def _gated(self, value: Any, read: Read, gone: list[tuple[int, Tensor]]) -> Any:
        """Estimates from a gradient the effect of reading zeros."""
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        seen = value * self.one.to(value.dtype)
        known, dim = seen.detach(), read.dim % value.ndim

        def hear(slope: Tensor) -> None:
            cells = _cells(read.apart((slope * known).to(_wide(slope))), dim)
            for number, mask in gone:
                self._add(number, -cells[:, mask.to(cells.device)].sum(1))

        seen.register_hook(hear)  # type: ignore[no-untyped-call]
        return seen

    def _compared(self, node: fx.Node, value: Tensor, get: Get) -> Any:
        """Estimates from a gradient the effect of replacing a layer by its parts."""
        number, parts_of = self.layers[node.name]
        args, kwargs = self.runner.arguments(node, get)
        with torch.no_grad():
            gap = parts_of(*args, **kwargs) - value
        seen = value * self.one.to(value.dtype)

        def hear(slope: Tensor) -> None:
            cells = _cells((slope * gap).to(_wide(slope)), 1)
            self._add(number, cells.sum(1))

        seen.register_hook(hear)  # type: ignore[no-untyped-call]
        return seen

    def _add(self, number: int, cells: Tensor) -> None:
        """Sums the effects of several places: by example, or all in the first row."""
        total, cells = self.moved[number], cells.double().cpu()
        if len(cells) % len(total):
            cells = F.pad(cells.sum(0, keepdim=True), (0, 0, 0, len(total) - 1))
        self.moved[number] = total + cells.view(len(total), -1, cells.shape[1]).sum(1)


def _cells(product: Tensor, dim: int) -> Tensor:
    """Sums a product over the cells of a grid. Returns (examples, channels, cells).

    Values without positions, or without examples as first dimension, are in the first cell.
    """
    rest = product.movedim(dim, 0)  # (channels, …)
    if dim == 0 or product.ndim < 3:
        flat = rest.reshape(len(rest), -1)
        per = flat.T if dim else flat.sum(1, keepdim=True).T
        return F.pad(per[..., None], (0, _GRID * _GRID - 1))
    places = rest.movedim(1, 0)  # (examples, channels, places …)
    if places.ndim == 4:
        size = places.shape[2] * places.shape[3]
        return F.adaptive_avg_pool2d(places, _GRID).flatten(2) * (size / _GRID**2)
    flat = places.flatten(2)
    return F.adaptive_avg_pool1d(flat, _GRID**2) * (flat.shape[2] / _GRID**2)


def _fitting(
    subject: InspectedProgram, twin: Any, inputs: tuple[Any, ...]
) -> list[tuple[Any, ...]]:
    """Splits a batch on which the graph does not run into batches of the example inputs' size."""
    examples = [x.shape[:1] for x in tensors(subject.program.example_inputs)]
    if [x.shape[:1] for x in tensors(inputs)] == examples:
        return [inputs]
    try:
        with torch.no_grad():
            Interpreter(twin.module).run(*inputs)
    except Exception as error:
        pieces = parts(subject.program, inputs)
        if len(pieces) < 2:
            raise unrunnable(subject.program, inputs, 0, error) from error
        return pieces
    return [inputs]


def _wide(value: Tensor) -> torch.dtype:
    return torch.float64 if value.dtype == torch.float64 else torch.float32
