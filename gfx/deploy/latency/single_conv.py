"""Builds single convolutions to time: a layer's settings and input size, at any channels."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gfx.compression.factor.parts import Part, whole
from gfx.deploy.export.onnx import needed
from gfx.deploy.timing.onnxruntime_session import session
from gfx.ir.random_state import keep_random_state

__all__ = ["ConvSite", "Point", "piece", "site_of"]

Point = tuple[Part, tuple[int, ...], str]  # a convolution, the shape of its input, its dtype


@dataclass(frozen=True)
class ConvSite:
    """A 2-D convolution on an input of some size, with any channels.

    A depthwise one has `multiple` output channels for each input channel; any other is dense.

    Example:
        >>> site = site_of(nn.Conv2d(8, 16, 3, padding=1), (1, 8, 32, 32))
        >>> part, shape, dtype = site.at(4, 6)
        >>> part.weight, shape, dtype
        ((6, 4, 3, 3), (1, 4, 32, 32), 'float32')
    """

    part: Part  # without name, channels and bias
    batch: int
    size: tuple[int, int]
    dtype: str
    multiple: int = 0  # 0: dense

    def at(self, inputs: int, outputs: int) -> Point:
        """Returns the convolution at some channels."""
        if self.multiple:
            outputs = inputs * self.multiple
        groups = inputs if self.multiple else 1
        part = replace(self.part, inputs=inputs, outputs=outputs, groups=groups)
        return part, (self.batch, inputs, *self.size), self.dtype

    @property
    def key(self) -> str:
        """The same text for the same site, in this program or another."""
        said = {k: v for k, v in asdict(self.part).items() if k not in _OPEN}
        words = [f"{k}={v}" for k, v in said.items()]
        return " ".join([*words, f"{self.batch}x{self.size}", self.dtype, f"x{self.multiple}"])


_OPEN = ("name", "inputs", "outputs", "groups", "bias")


def site_of(module: nn.Module | Part, shape: tuple[int, ...], dtype: str = "") -> ConvSite | None:
    """Returns the site of a convolution; None if it is neither dense nor depthwise, or not 2-D.

    Shapes: that of its input, (..., C, H, W).
    """
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and len(shape) in (3, 4):
        part, dtype = whole(module), str(module.weight.dtype).removeprefix("torch.")
    elif isinstance(module, Part):
        part = module
    else:
        return None
    dense = part.groups == 1
    if not dense and (part.groups != part.inputs or part.outputs % part.inputs):
        return None
    # a depthwise convolution of one channel is dense as well, and both are the same
    multiple = 0 if dense else part.outputs // part.inputs
    bare = replace(part, name="", inputs=0, outputs=0, groups=1, bias=True)
    batch = 1 if len(shape) == 3 else shape[0]
    return ConvSite(bare, batch, (shape[-2], shape[-1]), dtype, multiple)


_OPSET, _FORMAT = 17, 8  # old enough for any onnxruntime in use


def piece(point: Point, backend: str, threads: int) -> Callable[[], object]:
    """Builds a convolution with its own weights, and returns a call of it on an input.

    torch.compile calls the same kernels as torch.

    Example:
        >>> part = Part("", False, 2, 4, 1, True, kernel=(3, 3))
        >>> piece((part, (1, 2, 8, 8), "float32"), "eager", 1)().shape
        torch.Size([1, 4, 6, 6])
    """
    part, shape, name = point
    dtype = getattr(torch, name)
    with keep_random_state():
        module = part.build(dtype=dtype).eval().requires_grad_(False)
        x = torch.rand(shape).to(dtype)
    if backend == "onnxruntime":
        return _session(part, module.weight, x, threads)
    return lambda: module(x)


def _session(part: Part, weight: Tensor, x: Tensor, threads: int) -> Callable[[], object]:
    """Creates an onnxruntime session of a single convolution."""
    made, feeds = session(_written(part, weight, x), threads), {"x": x.numpy()}
    return lambda: made.run(None, feeds)


def _written(part: Part, weight: Tensor, x: Tensor) -> bytes:
    """Writes an ONNX model of one convolution."""
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
