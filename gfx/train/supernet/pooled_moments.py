"""Measures the moments of BatchNorms over several batches, as one batch of them all has them.

A subnet has activations of its own, so that the running statistics that all subnets share are right
for none. Moments are pooled: E[x] and E[x²] over all batches. The mean of the batches' variances,
which is often taken, lacks the variance of their means. Every layer is measured behind layers that
have been measured before it: all batches go through the graph together, node by node.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from gfx.errors import PreconditionError
from gfx.ir.interpreter import Interpreter, Values

__all__ = ["Moments", "measure", "pool_moments", "tracks"]

Moments = dict[str, tuple[Tensor, Tensor]]  # by path of a BatchNorm: mean, unbiased variance


def pool_moments(code: fx.GraphModule, batches: Sequence[tuple[Any, ...]]) -> Moments:
    """Measures the BatchNorms of a graph; those without running statistics need none.

    Args:
        code: in eval mode; while this runs, its BatchNorms get the moments that are found.
        batches: inputs of the graph.

    Raises: PreconditionError if a BatchNorm is called more than once, as each call has moments of
        its own.

    Example:
        >>> code = fx.symbolic_trace(nn.Sequential(nn.BatchNorm2d(1))).eval()
        >>> batches = [(torch.zeros(2, 1, 1, 1),), (torch.ones(2, 1, 1, 1),)]
        >>> mean, variance = pool_moments(code, batches)["0"]
        >>> mean.item(), round(variance.item(), 4)
        (0.5, 0.3333)
    """
    runner, runs = Interpreter(code), [Values() for _ in batches]
    places = [iter(code.graph.process_inputs(*batch)) for batch in batches]
    found: Moments = {}
    with torch.no_grad():
        for node in code.graph.nodes:
            layer = code.get_submodule(str(node.target)) if node.op == "call_module" else None
            if tracks(layer):
                assert layer is not None
                path = str(node.target)
                if path in found:
                    raise PreconditionError(
                        f"{path} is called more than once, and each call has moments of its own; "
                        "give every call a BatchNorm"
                    )
                operand = node.all_input_nodes[0]
                found[path] = measure(layer, [values[operand] for values in runs])
            for place, values in zip(places, runs, strict=True):
                runner.args_iter = place
                runner.step_through(values, [node])
    return found


def tracks(layer: Any) -> bool:
    """Whether a layer is a BatchNorm with running statistics."""
    norm = isinstance(layer, nn.modules.batchnorm._BatchNorm)
    return norm and bool(layer.track_running_stats) and layer.running_mean is not None


def measure(layer: nn.Module, values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Returns mean and unbiased variance of what a BatchNorm reads, of all batches together.

    The layer gets the biased variance, by which a batch in training mode is normalised.
    """
    mean, biased, count = _moments(values)
    vars(layer)["running_mean"], vars(layer)["running_var"] = mean, biased
    return mean, biased * (count / max(count - 1, 1))


def _moments(values: Sequence[Tensor]) -> tuple[Tensor, Tensor, int]:
    """Pools mean and biased variance of each channel, in float64 about the common mean."""
    flat = [value.double().movedim(1, 0).flatten(1) for value in values]
    count = sum(x.shape[1] for x in flat)
    mean = torch.stack([x.sum(1) for x in flat]).sum(0) / count
    squares = torch.stack([(x - mean[:, None]).square().sum(1) for x in flat]).sum(0)
    kind = values[0].dtype if values[0].dtype == torch.float64 else torch.float32
    return mean.to(kind), (squares / count).to(kind), count
