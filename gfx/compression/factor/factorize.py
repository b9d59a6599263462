"""Factorizes one convolution: computes its parts from its weights, from data or at random."""

from collections.abc import Iterable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from gfx.compression.factor.fit import MARGIN, FactorStep, best, from_weights, needed, steps
from gfx.compression.factor.forms import Convolution, Form, refusal
from gfx.compression.factor.inner_norm import for_white_inputs, from_data, mixed_after
from gfx.compression.factor.kernels import put, put_bias
from gfx.compression.factor.layer_data import LayerData
from gfx.compression.factor.parts import layout, skeleton
from gfx.errors import InputError, PreconditionError
from gfx.ir.random_state import keep_random_state

__all__ = ["factor", "fits"]

_ROUNDS = 3


@torch.no_grad()
def factor(
    module: Convolution,
    form: Form,
    *,
    inputs: Iterable[Tensor] | None = None,
    targets: Iterable[Tensor] | None = None,
    seed: int = 0,
    rounds: int = _ROUNDS,
    name: str = "the layer",
) -> nn.Sequential:
    """Writes a convolution as several cheaper ones; the one given is left unchanged.

    Names of the parts: depthwise, norm, pointwise · vertical, horizontal · reduce, core, expand ·
    basis, mix. Dtype, device, training mode and requires_grad are the layer's. A layer on the meta
    device gives parts there.

    `inputs`, for init="data", are batches of the layer's inputs, and `targets` the outputs to fit;
    without them, the layer's own outputs. Both are read several times. The fit is never worse than
    init="svd" on the quarter of the examples that is held out. `name` is for messages.

    Shapes: as a whole, those of the layer; inputs (N, C, H, W).
    Raises: PreconditionError if the layer cannot be written so; InputError if weights or inputs
    are not finite, or the inputs are missing or too few.

    Example:
        >>> parts = factor(nn.Conv2d(8, 16, 3, padding=1), Form(rank=2))
        >>> [(n, tuple(m.weight.shape)) for n, m in parts.named_children()]
        [('depthwise', (16, 1, 3, 3)), ('pointwise', (16, 16, 1, 1))]
    """
    why = refusal(module, form)
    if why:
        raise PreconditionError(f"{name} cannot be written as {form.kind}: {why}")
    if form.init == "random":
        return _like(module, _random(module, form, seed))
    if module.weight.is_meta:
        return _like(module, skeleton(module, form))
    _check(module, name)
    if form.init == "svd":
        return _built(module, form, from_weights(module, form))
    size = needed(module, form)
    data = LayerData(module, inputs, targets, needed=size, seed=seed, name=name)
    if form.norm == "instance":
        return _after_instance_norm(module, form, data, rounds)
    return _built(module, form, best(steps(module, form, data, rounds), data), data)


@torch.no_grad()
def fits(
    module: Convolution,
    form: Form,
    *,
    inputs: Iterable[Tensor],
    targets: Iterable[Tensor] | None = None,
    seed: int = 0,
    rounds: int = _ROUNDS,
) -> Iterator[tuple[str, nn.Sequential]]:
    """Yields the parts after each step of a fit to data, from svd to the last round.

    The names of the steps are svd, whitened, mixed, round 1, round 2 …; without a norm.

    Example:
        >>> layer, x = nn.Conv2d(4, 4, 3), torch.rand(8, 4, 9, 9)
        >>> [name for name, _ in fits(layer, Form(), inputs=[x], rounds=1)]
        ['svd', 'whitened', 'mixed', 'round 1']
    """
    size = needed(module, form)
    data = LayerData(module, inputs, targets, needed=size, seed=seed, name="the layer")
    for step in steps(module, form, data, rounds):
        yield step.name, _built(module, form, step, data)


def _built(
    module: Convolution, form: Form, step: FactorStep, data: LayerData | None = None
) -> nn.Sequential:
    """Builds the parts of a step."""
    parts = _like(module, skeleton(module, form)).to_empty(device=module.weight.device)
    for part, kernel in zip(layout(module, form), step.kernels, strict=True):
        convolution = cast(Convolution, parts.get_submodule(part.name))
        put(convolution, kernel)
        if convolution.bias is not None:
            put_bias(convolution, torch.zeros(part.outputs))
    if step.bias is not None:
        put_bias(cast(Convolution, parts[-1]), step.bias)
    if form.norm == "batch" and data is not None:
        from_data(parts, data)
    elif form.norm != "none":
        for_white_inputs(parts)
    return parts


def _after_instance_norm(
    module: Convolution, form: Form, data: LayerData, rounds: int
) -> nn.Sequential:
    """Returns the best of: svd, its filters with another mixing, filters fitted without the norm.

    A norm is not linear in the filters, so the filters are not fitted through it.
    """
    first = from_weights(module, form)
    chosen, least = _built(module, form, first), float("inf")
    for step in (first, best(steps(module, form, data, rounds), data)):
        parts = _built(module, form, step)
        before, after = mixed_after(parts, data)
        least = before * MARGIN if step is first else least
        if after < least:
            chosen, least = parts, after
    return chosen


def _like(module: Convolution, parts: nn.Sequential) -> nn.Sequential:
    """Gives parts the training mode and requires_grad of a layer."""
    for part in parts.modules():
        for kind, parameter in part.named_parameters(recurse=False):
            own = getattr(module, kind)
            parameter.requires_grad_((module.weight if own is None else own).requires_grad)
    return parts.train(module.training)


def _check(module: Convolution, name: str) -> None:
    for kind, tensor in module.named_parameters():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(
                f"{name}: its {kind} holds values that are not finite, so nothing approximates it; "
                "repair the model's weights"
            )


def _random(module: Convolution, form: Form, seed: int) -> nn.Sequential:
    """Draws the weights as torch does, from a random state of its own."""
    device = module.weight.device
    if device.type == "meta":
        return skeleton(module, form)
    with keep_random_state():
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach other devices
        return skeleton(module, form, "cpu").to(device)
