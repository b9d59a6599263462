"""Runs composite layers of torch.nn without the control flow that a graph cannot hold.

The forwards of nn.Transformer and its parts ask for flags, modes and nested tensors, to choose
between a fused kernel and the plain sum of their parts. While a front end looks at a model they
are the plain sum, whatever the mode.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any

from torch import nn

__all__ = ["is_composite", "plain_forwards"]


def is_composite(module: nn.Module) -> bool:
    """Whether a layer of torch.nn is made of other layers that a graph should show.

    Example:
        >>> is_composite(nn.TransformerEncoderLayer(8, 2)), is_composite(nn.Linear(8, 2))
        (True, False)
    """
    return type(module) in _FORWARDS


@contextmanager
def plain_forwards(model: nn.Module) -> Iterator[None]:
    """Makes the composite layers of a model compute as the sum of their parts.

    The values are those of the fused kernels up to rounding, except in places that a key padding
    mask hides: there the fused kernel of a whole encoder returns zeros.
    """
    changed = [m for m in model.modules() if is_composite(m) and "forward" not in vars(m)]
    for module in changed:
        vars(module)["forward"] = partial(_FORWARDS[type(module)], module)
    try:
        yield
    finally:
        for module in changed:
            vars(module).pop("forward", None)


def _encoder_layer(
    layer: Any,
    src: Any,
    src_mask: Any = None,
    src_key_padding_mask: Any = None,
    is_causal: bool = False,
) -> Any:
    def attend(x: Any) -> Any:
        return layer._sa_block(x, src_mask, src_key_padding_mask, is_causal=is_causal)

    if layer.norm_first:
        src = src + attend(layer.norm1(src))
        return src + layer._ff_block(layer.norm2(src))
    src = layer.norm1(src + attend(src))
    return layer.norm2(src + layer._ff_block(src))


def _encoder(
    encoder: Any,
    src: Any,
    mask: Any = None,
    src_key_padding_mask: Any = None,
    is_causal: bool | None = None,
) -> Any:
    for layer in encoder.layers:
        src = layer(
            src,
            src_mask=mask,
            is_causal=is_causal is True,
            src_key_padding_mask=src_key_padding_mask,
        )
    return src if encoder.norm is None else encoder.norm(src)


def _decoder(
    decoder: Any,
    tgt: Any,
    memory: Any,
    tgt_mask: Any = None,
    memory_mask: Any = None,
    tgt_key_padding_mask: Any = None,
    memory_key_padding_mask: Any = None,
    tgt_is_causal: bool | None = None,
    memory_is_causal: bool = False,
) -> Any:
    for layer in decoder.layers:
        tgt = layer(
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=tgt_is_causal is True,
            memory_is_causal=memory_is_causal,
        )
    return tgt if decoder.norm is None else decoder.norm(tgt)


def _transformer(
    whole: Any,
    src: Any,
    tgt: Any,
    src_mask: Any = None,
    tgt_mask: Any = None,
    memory_mask: Any = None,
    src_key_padding_mask: Any = None,
    tgt_key_padding_mask: Any = None,
    memory_key_padding_mask: Any = None,
    src_is_causal: bool | None = None,
    tgt_is_causal: bool | None = None,
    memory_is_causal: bool = False,
) -> Any:
    memory = whole.encoder(
        src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal
    )
    return whole.decoder(
        tgt,
        memory,
        tgt_mask=tgt_mask,
        memory_mask=memory_mask,
        tgt_key_padding_mask=tgt_key_padding_mask,
        memory_key_padding_mask=memory_key_padding_mask,
        tgt_is_causal=tgt_is_causal,
        memory_is_causal=memory_is_causal,
    )


def _decoder_layer(layer: Any, *args: Any, **kwargs: Any) -> Any:
    return type(layer).forward(layer, *args, **kwargs)  # asks for nothing


_FORWARDS: Mapping[type[nn.Module], Callable[..., Any]] = MappingProxyType(
    {
        nn.TransformerEncoderLayer: _encoder_layer,
        nn.TransformerEncoder: _encoder,
        nn.TransformerDecoderLayer: _decoder_layer,
        nn.TransformerDecoder: _decoder,
        nn.Transformer: _transformer,
    }
)
