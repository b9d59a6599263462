"""Emits the operations of nn.MultiheadAttention into a graph.

Tensors are proxies here: calling a function on one adds a node. Shapes are read off the nodes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

__all__ = ["AttentionLayer", "Call", "attended", "masked"]

Call = dict[str, Any]  # the arguments of one call by name


def masked(call: Call) -> bool:
    """Whether a call has a mask."""
    return call["attn_mask"] is not None or call["key_padding_mask"] is not None


@dataclass(frozen=True)
class AttentionLayer:
    """Holds what does not depend on the arguments of a call; tensors are proxies in the graph."""

    heads: int
    weights: tuple[Any, ...]  # one for query, key and value together, or three
    bias: Any
    bias_k: Any
    bias_v: Any
    zero: bool  # one more key and value of zeros
    batch_first: bool
    drop: Callable[[Any], Any] | None
    project: Callable[[Any], Any]

    @property
    def extra(self) -> int:
        """How many keys there are beyond those given."""
        return int(self.bias_k is not None) + int(self.zero)


def attended(layer: AttentionLayer, call: Call, explicit: bool) -> tuple[Any, Any]:
    """Emits the attention; returns its result and its weights, if these are explicit."""
    batched = call["query"].node.meta["val"].dim() == 3
    seq = 1 if batched and layer.batch_first else 0
    q, k, v = _projected(layer, call)
    if layer.bias_k is not None:
        k, v = (_lengthened(x, b, seq, batched) for x, b in ((k, layer.bias_k), (v, layer.bias_v)))
    apart = (0, 2, 1, 3) if seq else (1, 2, 0, 3)
    q, k, v = (x.unflatten(-1, (layer.heads, -1)) for x in (q, k, v))
    q, k, v = (x.permute(*apart) if batched else x.transpose(0, 1) for x in (q, k, v))
    if layer.zero:
        k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
    mask, causal = _mask(layer, call, explicit or layer.drop is not None)
    if explicit or layer.drop is not None:
        head = call["query"].node.meta["val"].shape[-1] // layer.heads
        weights = _weights(q * (1 / math.sqrt(head)), k, mask, safe=not explicit)
        weights = layer.drop(weights) if layer.drop is not None else weights
        x = torch.matmul(weights, v)
    else:
        weights, x = None, _fused(q, k, v, mask, causal)
    together = (0, 2, 1, 3) if seq else (2, 0, 1, 3)
    x = x.permute(*together) if batched else x.transpose(0, 1)
    return layer.project(x.flatten(-2)), weights if explicit else None


def _projected(layer: AttentionLayer, call: Call) -> tuple[Any, Any, Any]:
    """Projects query, key and value; at once where they are one tensor."""
    x = [call[name] for name in ("query", "key", "value")]
    weights, biases = layer.weights, (None, None, None)
    if len(weights) == 1 and x[0].node is x[1].node is x[2].node:
        parts = F.linear(x[0], weights[0], layer.bias).chunk(3, -1)
        return parts[0], parts[1], parts[2]
    if len(weights) == 1:
        weights = _thirds(weights[0])
    if layer.bias is not None:
        biases = _thirds(layer.bias)
    q, k, v = (F.linear(*each) for each in zip(x, weights, biases, strict=True))
    return q, k, v


def _thirds(packed: Any) -> tuple[Any, Any, Any]:
    parts = packed.chunk(3)
    return parts[0], parts[1], parts[2]


def _lengthened(x: Any, bias: Any, seq: int, batched: bool) -> Any:
    """Appends bias_k or bias_v, of shape (1, 1, E), along the sequence."""
    if not batched:
        return torch.cat([x, bias.squeeze(0)], 0)
    wide = bias.expand(x.size(0), -1, -1) if seq else bias.expand(-1, x.size(1), -1)
    return torch.cat([x, wide], seq)


@dataclass(frozen=True)
class _Mask:
    """Holds what is added to the scores or, if it is boolean, where they are masked."""

    value: Any
    hides: bool

    def joined(self, other: "_Mask") -> "_Mask":
        """Combines two masks that broadcast."""
        if self.hides and other.hides:
            return _Mask(torch.logical_or(self.value, other.value), hides=True)
        if not (self.hides or other.hides):
            return _Mask(self.value + other.value, hides=False)
        hidden, added = (self, other) if self.hides else (other, self)
        return _Mask(torch.where(hidden.value, -math.inf, added.value), hides=False)


def _mask(layer: AttentionLayer, call: Call, explicit: bool) -> tuple[_Mask | None, bool]:
    """Joins the masks of a call; the second result asks for the fused causal one."""
    given, padding = call["attn_mask"], call["key_padding_mask"]
    batched = call["query"].node.meta["val"].dim() == 3
    fused = call["is_causal"] and padding is None and not call["need_weights"]
    if fused and not explicit:
        return None, True
    masks = []
    if given is not None:
        value = _padded(layer, given)
        if batched and given.node.meta["val"].dim() == 3:
            value = value.unflatten(0, (-1, layer.heads))
        masks.append(_Mask(value, given.node.meta["val"].dtype == torch.bool))
    if padding is not None:
        value = _padded(layer, padding)
        value = value.unsqueeze(1).unsqueeze(1) if batched else value
        masks.append(_Mask(value, padding.node.meta["val"].dtype == torch.bool))
    if len(masks) == 2:
        return masks[0].joined(masks[1]), False
    return masks[0] if masks else None, False


def _padded(layer: AttentionLayer, mask: Any) -> Any:
    """Extends a mask by the keys that the layer appends, which stay visible."""
    return F.pad(mask, (0, layer.extra)) if layer.extra else mask


def _fused(q: Any, k: Any, v: Any, mask: _Mask | None, causal: bool) -> Any:
    if causal:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    if mask is None:
        return F.scaled_dot_product_attention(q, k, v)
    seen = mask.value.logical_not() if mask.hides else mask.value
    return F.scaled_dot_product_attention(q, k, v, seen)


def _weights(q: Any, k: Any, mask: _Mask | None, safe: bool) -> Any:
    """Emits the softmax; a row that is all masked is zero if it is safe, else NaN."""
    scores = torch.matmul(q, k.transpose(-2, -1))
    if mask is None:
        return scores.softmax(-1)
    hides = mask.hides
    scores = scores.masked_fill(mask.value, -math.inf) if hides else scores + mask.value
    return torch.ops.aten._safe_softmax.default(scores, -1) if safe else scores.softmax(-1)
