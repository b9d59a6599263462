"""Attention: SAGAN's, several heads by view and transpose, to another input, from one matrix."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from support.blocks.base import LABELS, TOKENS, Block, Layer, Site, spec


@spec
class Attention(Block):
    """Self-attention as in SAGAN: view, bmm, softmax, a learned gain, a skip."""

    inner: int = 2
    project: bool = False  # values in `inner` channels and a conv back, instead of C straight
    how: str = "bmm"  # bmm | matmul | einsum | literal (the views say how many channels)

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        return _Attention(site.channels, self), site


class _Attention(Layer):
    def __init__(self, channels: int, spec: Attention) -> None:
        super().__init__()
        values = spec.inner if spec.project else channels
        self.query = nn.Conv2d(channels, spec.inner, 1)
        self.key = nn.Conv2d(channels, spec.inner, 1)
        self.value = nn.Conv2d(channels, values, 1)
        self.back = nn.Conv2d(values, channels, 1) if spec.project else None
        self.gain = nn.Parameter(torch.empty(1))
        self.how, self.inner, self.values = spec.how, spec.inner, values

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        n, _, h, w = x.size()
        if self.how in ("literal", "einsum"):
            return x + self.gain * self.other(x)
        query = self.query(x).view(n, -1, h * w).permute(0, 2, 1)
        if self.how == "matmul":
            key = self.key(x).flatten(2)
            weight = F.softmax(query @ key * self.inner**-0.5, -1)
            out = (self.value(x).flatten(2) @ weight.transpose(-2, -1)).reshape(n, -1, h, w)
            return x + self.gain * (out if self.back is None else self.back(out))
        weight = torch.softmax(torch.bmm(query, self.key(x).view(n, -1, h * w)), dim=-1)
        value = self.value(x)
        out = torch.bmm(value.view(n, -1, h * w), weight.permute(0, 2, 1))
        out = out.view(value.size())
        return x + self.gain * (out if self.back is None else self.back(out))

    def other(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        if self.how == "einsum":
            query, key = self.query(x).flatten(2), self.key(x).flatten(2)
            weight = torch.einsum("bci,bcj->bij", query, key).softmax(-1)
            value = self.value(x)
            out = torch.einsum("bij,bcj->bci", weight, value.flatten(2)).view_as(value)
        else:
            query = self.query(x).view(-1, self.inner, h * w)
            key = self.key(x).view(-1, self.inner, h * w)
            weight = torch.softmax(torch.bmm(query.transpose(1, 2), key), dim=-1)
            value = self.value(x).view(-1, self.values, h * w)
            out = torch.bmm(value, weight.permute(0, 2, 1)).view(-1, self.values, h, w)
        return out if self.back is None else self.back(out)


@spec
class MultiHead(Block):
    """Attention of several heads over the positions, or from them to the second input."""

    width: int = 2  # of a head
    heads: int = 2
    how: str = "matmul"  # matmul | sdpa | einsum | whole (all heads as one batch)
    one: bool = False  # query, key and value from one linear
    cross: bool = False  # keys and values from the label or the tokens

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        return _MultiHead(site, self), site


class _MultiHead(Layer):
    def __init__(self, site: Site, spec: MultiHead) -> None:
        super().__init__()
        self.heads, self.width, self.how = spec.heads, spec.width, spec.how
        inner = spec.heads * spec.width
        other = {"label": LABELS, "tokens": TOKENS}.get(site.second, 0) if spec.cross else 0
        self.cross = site.second if other else ""
        self.one = nn.Linear(site.channels, 3 * inner) if spec.one and not other else None
        if self.one is None:
            self.query = nn.Linear(site.channels, inner)
            self.key = nn.Linear(other or site.channels, inner, bias=False)
            self.value = nn.Linear(other or site.channels, inner)
        self.back = nn.Linear(inner, site.channels)

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        n, _, h, w = x.shape
        y = x.flatten(2).transpose(1, 2)
        if self.one is not None:
            both = self.one(y).reshape(n, h * w, 3, self.heads, self.width).permute(2, 0, 3, 1, 4)
            q, k, v = both[0], both[1], both[2]
        else:
            z = y if not self.cross else second
            if self.cross == "label":
                z = second.unsqueeze(1)
            q, k, v = (self.split(t, n) for t in (self.query(y), self.key(z), self.value(z)))
        out = self.attend(q, k, v).transpose(1, 2).reshape(n, h * w, self.heads * self.width)
        return x + self.back(out).transpose(1, 2).reshape(n, -1, h, w)

    def split(self, x: Tensor, batch: int) -> Tensor:
        return x.view(batch, -1, self.heads, self.width).transpose(1, 2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.how == "sdpa":
            return F.scaled_dot_product_attention(q, k, v)
        if self.how == "einsum":
            scores = torch.einsum("bhqd,bhkd->bhqk", q, k) * self.width**-0.5
            return torch.einsum("bhqk,bhkd->bhqd", scores.softmax(-1), v)
        if self.how == "whole":
            n = q.shape[0]
            q, k, v = (t.reshape(-1, t.shape[2], self.width) for t in (q, k, v))
            out = torch.bmm(torch.bmm(q, k.transpose(1, 2)).softmax(-1), v)
            return out.view(n, self.heads, -1, self.width)
        return (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1) @ v
