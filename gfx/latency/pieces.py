"""Single convolutions, ready to run by a backend."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gfx.exporting.onnx import needed
from gfx.factoring.layout import Part
from gfx.latency.sites import Point
from gfx.timing.runtime import session

__all__ = ["piece"]

_OPSET, _FORMAT = 17, 8  # old enough for any onnxruntime in use


def piece(point: Point, backend: str, threads: int) -> Callable[[], object]:
    """Makes a convolution with weights of its own, and what runs it on an input.

    torch.compile calls the very kernels that torch does.

    Example:
        >>> part = Part("", False, 2, 4, 1, True, kernel=(3, 3))
        >>> piece((part, (1, 2, 8, 8), "float32"), "eager", 1)().shape
        torch.Size([1, 4, 6, 6])
    """
    part, shape, name = point
    dtype = getattr(torch, name)
    with torch.random.fork_rng(devices=[]):
        module = part.build(dtype=dtype).eval().requires_grad_(False)
        x = torch.rand(shape).to(dtype)
    if backend == "onnxruntime":
        return _session(part, module.weight, x, threads)
    return lambda: module(x)


def _session(part: Part, weight: Tensor, x: Tensor, threads: int) -> Callable[[], object]:
    """Makes a session of onnxruntime with the convolution alone."""
    made, feeds = session(_written(part, weight, x), threads), {"x": x.numpy()}
    return lambda: made.run(None, feeds)


def _written(part: Part, weight: Tensor, x: Tensor) -> bytes:
    """Writes a model of one convolution."""
    needed("onnx")
    from onnx import helper, numpy_helper

    kind = helper.np_dtype_to_tensor_dtype(x.numpy().dtype)
    given: dict[str, Any] = {
        "kernel_shape": list(part.kernel),
        "strides": list(part.stride),
        "dilations": list(part.dilation),
        "pads": _pads(part),
        "group": part.groups,
    }
    if part.transposed:
        given["output_padding"] = list(part.output_padding)
    name = "ConvTranspose" if part.transposed else "Conv"
    bias = np.zeros(part.outputs, dtype=x.numpy().dtype)
    graph = helper.make_graph(
        [helper.make_node(name, ["x", "w", "b"], ["y"], **given)],
        "convolution",
        [helper.make_tensor_value_info("x", kind, list(x.shape))],
        [helper.make_tensor_value_info("y", kind, [None] * 4)],
        [numpy_helper.from_array(weight.numpy(), "w"), numpy_helper.from_array(bias, "b")],
    )
    opsets = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_FORMAT)
    data: bytes = model.SerializeToString()
    return data


def _pads(part: Part) -> list[int]:
    """Returns the zeros around an input: above, left, below, right."""
    if part.padding == "same":
        reach = [d * (k - 1) for d, k in zip(part.dilation, part.kernel, strict=True)]
        return [*(r // 2 for r in reach), *(r - r // 2 for r in reach)]
    return [0] * 4 if isinstance(part.padding, str) else [*part.padding, *part.padding]
