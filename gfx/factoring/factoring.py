"""Writes one convolution as several, from its weights or by chance."""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from gfx.errors import InputError, PreconditionError
from gfx.factoring.forms import Form, Layer, refusal
from gfx.factoring.kernels import kernel_of, put, put_bias
from gfx.factoring.layout import layout, ranks_of, skeleton
from gfx.factoring.weights import approximate

__all__ = ["factor"]


@torch.no_grad()
def factor(
    module: Layer,
    form: Form,
    *,
    inputs: Iterable[Tensor] | None = None,
    targets: Iterable[Tensor] | None = None,
    seed: int = 0,
    rounds: int = 3,
    name: str = "the layer",
) -> nn.Sequential:
    """Writes a convolution as several cheaper ones; the one given is left unchanged.

    Names of the parts: depthwise, norm, pointwise · vertical, horizontal · reduce, core, expand ·
    basis, mix. Dtype, device, training mode and requires_grad are the layer's. A layer on the meta
    device gives parts there.

    `inputs`, for init="data", are batches of the layer's inputs, and `targets` what it shall give
    for them, if not its own outputs. Both are read several times. `name` is for messages.

    Shapes: as a whole, those of the layer.
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
    by_chance = form.init == "random"
    parts = _random(module, form, seed) if by_chance else skeleton(module, form)
    for part in parts.modules():
        for kind, parameter in part.named_parameters(recurse=False):
            parameter.requires_grad_(_trains(module, kind))
    if not by_chance and not module.weight.is_meta:
        _check(module, name)
        parts.to_empty(device=module.weight.device)
        _fill(parts, module, form)
    return parts.train(module.training)


def _trains(module: Layer, kind: str) -> bool:
    parameter = getattr(module, kind)
    return bool((module.weight if parameter is None else parameter).requires_grad)


def _check(module: Layer, name: str) -> None:
    for kind, tensor in module.named_parameters():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(
                f"{name}: its {kind} holds values that are not finite, so nothing approximates it; "
                "repair the model's weights"
            )


def _random(module: Layer, form: Form, seed: int) -> nn.Sequential:
    """Draws the weights as torch does, from a random state of its own."""
    device = module.weight.device
    if device.type == "meta":
        return skeleton(module, form)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach other devices
        return skeleton(module, form, "cpu").to(device)


def _fill(parts: nn.Sequential, module: Layer, form: Form) -> None:
    """Gives the parts the best approximation of a layer's weights."""
    kernels = approximate(form.kind, kernel_of(module), list(ranks_of(module, form)))
    for part, kernel in zip(layout(module, form), kernels, strict=True):
        convolution = cast(Layer, parts.get_submodule(part.name))
        put(convolution, kernel)
        if convolution.bias is not None:
            put_bias(convolution, torch.zeros(part.outputs))
    if module.bias is not None:
        put_bias(cast(Layer, parts[-1]), module.bias.detach())
    if form.norm != "none":
        _pass_through(parts)


def _pass_through(parts: nn.Sequential) -> None:
    """Lets the parts compute with a norm between what they compute without, for white inputs.

    For independent inputs of mean 0 and variance 1, a filter's output has the variance ‖filter‖².
    A batch norm that has this as its running variance is undone exactly in eval mode; an instance
    norm is so in expectation.
    """
    depthwise, norm, pointwise = parts
    power = kernel_of(cast(Layer, depthwise)).square().sum(dim=(2, 3, 4)).flatten()
    undo = (power + cast(float, norm.eps)).sqrt()
    if isinstance(norm, nn.BatchNorm2d):
        norm.reset_parameters()
        assert norm.running_var is not None
        norm.running_var.copy_(power)
    kernel = kernel_of(cast(Layer, pointwise))
    put(cast(Layer, pointwise), kernel * undo.reshape(kernel.shape[0], 1, -1, 1, 1))
