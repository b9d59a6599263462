"""Convolutions to factorize, and how far two outputs are apart."""

import hypothesis.strategies as st
import torch
from torch import nn

KINDS = ("depthwise_separable", "spatial", "tucker", "low_rank")


@st.composite
def layers(draw: st.DrawFn, plain: bool = False) -> nn.Module:
    """Draws a float64 convolution; everything shrinks to a plain 3x3 one."""
    groups = draw(st.sampled_from((1, 2)))
    inputs, outputs = (groups * draw(st.sampled_from((3, 2, 5))) for _ in range(2))
    kernel = tuple(draw(st.sampled_from((3, 2, 4))) for _ in range(2))
    stride = tuple(draw(st.sampled_from((1, 2, 3))) for _ in range(2))
    more = {
        "dilation": tuple(draw(st.sampled_from((1, 2))) for _ in range(2)),
        "bias": draw(st.booleans()),
        "groups": groups,
        "dtype": torch.float64,
    }
    padding = tuple(draw(st.sampled_from((0, 1, 2))) for _ in range(2))
    torch.manual_seed(draw(st.integers(0, 99)))
    if draw(st.booleans()):
        reach = [max(s, d) for s, d in zip(stride, more["dilation"], strict=True)]
        extra = tuple(draw(st.integers(0, r - 1)) for r in reach)
        return nn.ConvTranspose2d(
            inputs, outputs, kernel, stride, padding, output_padding=extra, **more
        )
    word = draw(st.sampled_from(("", "same", "valid")))
    stride = (1, 1) if word == "same" else stride
    mode = draw(st.sampled_from(("zeros", "reflect", "replicate", "circular")))
    return nn.Conv2d(inputs, outputs, kernel, stride, word or padding, padding_mode=mode, **more)


def gap(want: torch.Tensor, got: torch.Tensor) -> float:
    return float((want - got).detach().abs().max() / want.detach().abs().max())
