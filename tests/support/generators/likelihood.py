"""Autoencoders, flows and diffusion: VQ, VAE, Glow, ADM, EDM, DiT, U-ViT."""

import math
from abc import abstractmethod

import numpy as np
import torch
import torch as th
import torch.nn as nn
import torch.nn.functional as F

from support.generators.register import generator


class VectorQuantizer(nn.Module):
    def __init__(self, num_embeddings, embedding_dim):
        super().__init__()
        self._embedding_dim, self._num_embeddings = embedding_dim, num_embeddings
        self._embedding = nn.Embedding(self._num_embeddings, self._embedding_dim)
        self._embedding.weight.data.uniform_(-1, 1)

    def forward(self, inputs):
        inputs = inputs.permute(0, 2, 3, 1).contiguous()
        input_shape = inputs.shape
        flat_input = inputs.view(-1, self._embedding_dim)
        distances = (
            torch.sum(flat_input**2, dim=1, keepdim=True)
            + torch.sum(self._embedding.weight**2, dim=1)
            - 2 * torch.matmul(flat_input, self._embedding.weight.t())
        )
        encoding_indices = torch.argmin(distances, dim=1).unsqueeze(1)
        encodings = torch.zeros(
            encoding_indices.shape[0],
            self._num_embeddings,
            device=inputs.device,
            dtype=inputs.dtype,
        )
        encodings.scatter_(1, encoding_indices, 1)
        quantized = torch.matmul(encodings, self._embedding.weight).view(input_shape)
        e_latent_loss = F.mse_loss(quantized.detach(), inputs)
        quantized = inputs + (quantized - inputs).detach()
        return e_latent_loss, quantized.permute(0, 3, 1, 2).contiguous()


class Residual(nn.Module):
    def __init__(self, i, h, r):
        super().__init__()
        self._block = nn.Sequential(
            nn.ReLU(False),
            nn.Conv2d(i, r, 3, 1, 1, bias=False),
            nn.ReLU(False),
            nn.Conv2d(r, h, 1, bias=False),
        )

    def forward(self, x):
        return x + self._block(x)


@generator((2, 3, 8, 8), pinned=("argmin", "scatter", "mse_loss"), exact=False)
class Quantised(nn.Module):
    def __init__(self, h=8, d=4, k=5):
        super().__init__()
        self.enc = nn.Sequential(
            nn.Conv2d(3, h, 4, 2, 1), nn.ReLU(), nn.Conv2d(h, h, 3, 1, 1), Residual(h, h, 4)
        )
        self.pre, self.vq = nn.Conv2d(h, d, 1), VectorQuantizer(k, d)
        self.dec = nn.Sequential(
            nn.Conv2d(d, h, 3, 1, 1), Residual(h, h, 4), nn.ConvTranspose2d(h, 3, 4, 2, 1)
        )

    def forward(self, x):
        loss, quantized = self.vq(self.pre(self.enc(x)))
        return loss, self.dec(quantized)


class DiagonalGaussian:
    """Not a module: made anew in each forward."""

    def __init__(self, parameters, deterministic=False):
        self.parameters = parameters
        self.mean, self.logvar = torch.chunk(parameters, 2, dim=1)
        self.logvar = torch.clamp(self.logvar, -30.0, 20.0)
        self.deterministic = deterministic
        self.std = torch.exp(0.5 * self.logvar)

    def sample(self, eps):
        return self.mean + self.std * eps

    def kl(self):
        return 0.5 * torch.sum(self.mean**2 + self.std**2 - 1.0 - self.logvar, dim=[1, 2, 3])


def nonlinearity(x):
    return x * torch.sigmoid(x)


def Normalize(in_channels, num_groups=2):
    return torch.nn.GroupNorm(
        num_groups=num_groups, num_channels=in_channels, eps=1e-6, affine=True
    )


class VaeBlock(nn.Module):
    def __init__(self, *, in_channels, out_channels=None, conv_shortcut=False, temb_channels=0):
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        self.in_channels, self.out_channels, self.use_conv_shortcut = (
            in_channels,
            out_channels,
            conv_shortcut,
        )
        self.norm1, self.conv1 = (
            Normalize(in_channels),
            nn.Conv2d(in_channels, out_channels, 3, 1, 1),
        )
        if temb_channels > 0:
            self.temb_proj = nn.Linear(temb_channels, out_channels)
        self.norm2, self.dropout = Normalize(out_channels), nn.Dropout(0.1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1)
        if self.in_channels != self.out_channels:
            self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x, temb=None):
        h = self.conv1(nonlinearity(self.norm1(x)))
        if temb is not None:
            h = h + self.temb_proj(nonlinearity(temb))[:, :, None, None]
        h = self.conv2(self.dropout(nonlinearity(self.norm2(h))))
        if self.in_channels != self.out_channels:
            x = self.nin_shortcut(x)
        return x + h


class VaeAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm = Normalize(c)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(c, c, 1) for _ in range(4))

    def forward(self, x):
        h_ = self.norm(x)
        q, k, v = self.q(h_), self.k(h_), self.v(h_)
        b, c, h, w = q.shape
        q = q.reshape(b, c, h * w).permute(0, 2, 1)
        k = k.reshape(b, c, h * w)
        w_ = torch.bmm(q, k) * (int(c) ** (-0.5))
        w_ = torch.nn.functional.softmax(w_, dim=2)
        v, w_ = v.reshape(b, c, h * w), w_.permute(0, 2, 1)
        return x + self.proj_out(torch.bmm(v, w_).reshape(b, c, h, w))


@generator((2, 3, 8, 8), (2, 2, 4, 4))
class Variational(nn.Module):
    def __init__(self, ch=4, z=2):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, ch, 3, 1, 1), VaeBlock(in_channels=ch, out_channels=ch * 2),
            nn.Conv2d(ch * 2, ch * 2, 3, 2, 1), VaeAttention(ch * 2), nn.Conv2d(ch * 2, 2 * z, 3, 1, 1),
        )  # fmt: skip
        self.quant_conv, self.post_quant_conv = nn.Conv2d(2 * z, 2 * z, 1), nn.Conv2d(z, z, 1)
        self.decoder = nn.Module()
        self.decoder.conv_in, self.decoder.up = nn.Conv2d(z, ch * 2, 3, 1, 1), nn.ModuleList()
        for i, o in ((8, 4), (4, 4)):
            level = nn.Module()
            level.block = nn.ModuleList([VaeBlock(in_channels=i, out_channels=o)])
            level.upsample = nn.Upsample(scale_factor=2) if i != o else nn.Identity()
            self.decoder.up.insert(0, level)
        self.norm_out, self.conv_out = Normalize(ch), nn.Conv2d(ch, 3, 3, 1, 1)

    def forward(self, input, eps, sample_posterior=True):
        posterior = DiagonalGaussian(self.quant_conv(self.encoder(input)))
        h = self.decoder.conv_in(self.post_quant_conv(posterior.sample(eps)))
        for i_level in reversed(range(len(self.decoder.up))):
            for block in self.decoder.up[i_level].block:
                h = block(h)
            h = self.decoder.up[i_level].upsample(h)
        return self.conv_out(nonlinearity(self.norm_out(h))), posterior.kl()


class ActNorm(nn.Module):
    def __init__(self, in_channel):
        super().__init__()
        self.loc, self.scale = (
            nn.Parameter(torch.zeros(1, in_channel, 1, 1)),
            nn.Parameter(torch.ones(1, in_channel, 1, 1)),
        )
        self.register_buffer("initialized", torch.tensor(1, dtype=torch.uint8))

    def forward(self, input):
        if self.initialized.item() == 0:
            self.initialized.fill_(1)
        return self.scale * (input + self.loc)


class ZeroConv2d(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.conv, self.scale = nn.Conv2d(i, o, 3, padding=0), nn.Parameter(torch.zeros(1, o, 1, 1))

    def forward(self, input):
        out = F.pad(input, [1, 1, 1, 1], value=1)
        return self.conv(out) * torch.exp(self.scale * 3)


class Coupling(nn.Module):
    def __init__(self, in_channel, filter_size=6):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(in_channel // 2, filter_size, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(filter_size, filter_size, 1), nn.ReLU(inplace=True), ZeroConv2d(filter_size, in_channel),
        )  # fmt: skip

    def forward(self, input):
        in_a, in_b = input.chunk(2, 1)
        log_s, t = self.net(in_a).chunk(2, 1)
        out_b = (in_b + t) * torch.sigmoid(log_s + 2)
        return torch.cat([in_a, out_b], 1)


@generator((2, 2, 8, 8), sizes=True, pinned=("model's", "inverse", "reads a fixed number"))
class Flow(nn.Module):
    """Squeeze, normalise, mix by a square matrix, couple; only the nets inside can be narrowed."""

    def __init__(self, in_channel=2, n_flow=2):
        super().__init__()
        c = in_channel * 4
        self.norms = nn.ModuleList(ActNorm(c) for _ in range(n_flow))
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(c, c)) for _ in range(n_flow))
        self.couplings = nn.ModuleList(Coupling(c) for _ in range(n_flow))

    def forward(self, input):
        b_size, n_channel, height, width = input.shape
        squeezed = input.view(b_size, n_channel, height // 2, 2, width // 2, 2)
        squeezed = squeezed.permute(0, 1, 3, 5, 2, 4)
        out = squeezed.contiguous().view(b_size, n_channel * 4, height // 2, width // 2)
        for norm, weight, coupling in zip(self.norms, self.weights, self.couplings):
            out = coupling(F.conv2d(norm(out), weight.unsqueeze(2).unsqueeze(3)))
        unsqueezed = out.view(b_size, n_channel, 2, 2, height // 2, width // 2).permute(
            0, 1, 4, 2, 5, 3
        )
        return unsqueezed.contiguous().view(b_size, n_channel, height, width)


class GroupNorm32(nn.GroupNorm):
    def forward(self, x):
        return super().forward(x.double()).type(x.dtype)


def timestep_embedding(timesteps, dim, max_period=10000):
    half = dim // 2
    freqs = th.exp(-math.log(max_period) * th.arange(start=0, end=half, dtype=th.float32) / half)
    args = timesteps[:, None].double() * freqs[None].to(timesteps.device)
    embedding = th.cat([th.cos(args), th.sin(args)], dim=-1)
    if dim % 2:
        embedding = th.cat([embedding, th.zeros_like(embedding[:, :1])], dim=-1)
    return embedding


class TimestepBlock(nn.Module):
    @abstractmethod
    def forward(self, x, emb):
        """Takes the embedding too."""


class TimestepEmbedSequential(nn.Sequential, TimestepBlock):
    def forward(self, x, emb):
        for layer in self:
            x = layer(x, emb) if isinstance(layer, TimestepBlock) else layer(x)
        return x


class AdmUp(nn.Module):
    def __init__(self, channels, use_conv):
        super().__init__()
        self.channels, self.use_conv = channels, use_conv
        if use_conv:
            self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        assert x.shape[1] == self.channels
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        return self.conv(x) if self.use_conv else x


class AdmBlock(TimestepBlock):
    def __init__(
        self, channels, emb_channels, out_channels=None, use_scale_shift_norm=True, up=False
    ):
        super().__init__()
        self.out_channels, self.use_scale_shift_norm = (
            out_channels or channels,
            use_scale_shift_norm,
        )
        self.in_layers = nn.Sequential(
            GroupNorm32(2, channels),
            nn.SiLU(),
            nn.Conv2d(channels, self.out_channels, 3, padding=1),
        )
        self.updown = up
        self.h_upd = self.x_upd = AdmUp(channels, False) if up else nn.Identity()
        width = 2 * self.out_channels if use_scale_shift_norm else self.out_channels
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, width))
        self.out_layers = nn.Sequential(
            GroupNorm32(2, self.out_channels), nn.SiLU(), nn.Dropout(p=0.1),
            nn.Conv2d(self.out_channels, self.out_channels, 3, padding=1),
        )  # fmt: skip
        if self.out_channels == channels:
            self.skip_connection = nn.Identity()
        else:
            self.skip_connection = nn.Conv2d(channels, self.out_channels, 1)

    def forward(self, x, emb):
        if self.updown:
            in_rest, in_conv = self.in_layers[:-1], self.in_layers[-1]
            h = self.h_upd(in_rest(x))
            x = self.x_upd(x)
            h = in_conv(h)
        else:
            h = self.in_layers(x)
        emb_out = self.emb_layers(emb).type(h.dtype)
        while len(emb_out.shape) < len(h.shape):
            emb_out = emb_out[..., None]
        if self.use_scale_shift_norm:
            out_norm, out_rest = self.out_layers[0], self.out_layers[1:]
            scale, shift = th.chunk(emb_out, 2, dim=1)
            h = out_rest(out_norm(h) * (1 + scale) + shift)
        else:
            h = self.out_layers(h + emb_out)
        return self.skip_connection(x) + h


class AdmAttention(nn.Module):
    def __init__(self, channels, num_heads=2, legacy=True):
        super().__init__()
        self.norm, self.qkv = GroupNorm32(2, channels), nn.Conv1d(channels, channels * 3, 1)
        self.attention, self.n_heads = self.legacy if legacy else self.ordered, num_heads
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def legacy(self, qkv):
        bs, width, length = qkv.shape
        ch = width // (3 * self.n_heads)
        q, k, v = qkv.reshape(bs * self.n_heads, ch * 3, length).split(ch, dim=1)
        scale = 1 / math.sqrt(math.sqrt(ch))
        weight = th.einsum("bct,bcs->bts", q * scale, k * scale)
        weight = th.softmax(weight.float(), dim=-1).type(weight.dtype)
        return th.einsum("bts,bcs->bct", weight, v).reshape(bs, -1, length)

    def ordered(self, qkv):
        bs, width, length = qkv.shape
        ch = width // (3 * self.n_heads)
        q, k, v = qkv.chunk(3, dim=1)
        scale = 1 / math.sqrt(math.sqrt(ch))
        weight = th.einsum(
            "bct,bcs->bts",
            (q * scale).view(bs * self.n_heads, ch, length),
            (k * scale).view(bs * self.n_heads, ch, length),
        )
        a = th.einsum(
            "bts,bcs->bct", th.softmax(weight, dim=-1), v.reshape(bs * self.n_heads, ch, length)
        )
        return a.reshape(bs, -1, length)

    def forward(self, x):
        b, c, *spatial = x.shape
        x = x.reshape(b, c, -1)
        h = self.proj_out(self.attention(self.qkv(self.norm(x))))
        return (x + h).reshape(b, c, *spatial)


class Adm(nn.Module):
    def __init__(self, mc=4, scale_shift=True, legacy=True):
        super().__init__()
        self.model_channels, e = mc, mc * 4
        self.time_embed = nn.Sequential(nn.Linear(mc, e), nn.SiLU(), nn.Linear(e, e))
        self.label_emb = nn.Embedding(3, e)
        seq = TimestepEmbedSequential
        self.input_blocks = nn.ModuleList(
            [
                seq(nn.Conv2d(3, mc, 3, padding=1)),
                seq(AdmBlock(mc, e, mc * 2, scale_shift)),
                seq(nn.Conv2d(mc * 2, mc * 2, 3, stride=2, padding=1)),
            ]
        )
        self.middle_block = seq(
            AdmBlock(mc * 2, e, None, scale_shift),
            AdmAttention(mc * 2, legacy=legacy),
            AdmBlock(mc * 2, e),
        )
        self.output_blocks = nn.ModuleList(
            [
                seq(AdmBlock(mc * 4, e, mc * 2, scale_shift), AdmBlock(mc * 2, e, up=True)),
                seq(AdmBlock(mc * 4, e, mc, scale_shift)),
                seq(AdmBlock(mc * 2, e, mc, scale_shift)),
            ]
        )
        self.out = nn.Sequential(GroupNorm32(2, mc), nn.SiLU(), nn.Conv2d(mc, 6, 3, padding=1))

    def forward(self, x, timesteps, y=None):
        hs = []
        emb = self.time_embed(timestep_embedding(timesteps, self.model_channels))
        if y is not None:
            assert y.shape == (x.shape[0],)
            emb = emb + self.label_emb(y)
        h = x.type(torch.float64)
        for module in self.input_blocks:
            h = module(h, emb)
            hs.append(h)
        h = self.middle_block(h, emb)
        for module in self.output_blocks:
            h = th.cat([h, hs.pop()], dim=1)
            h = module(h, emb)
        h = h.type(x.dtype)
        return self.out(h)


@generator((2, 3, 8, 8), (2,), (2,), pinned=("by number", "fixed number"), exact=False)
class AdmLegacy(Adm):
    """Scale and shift from the time embedding; queries, keys and values lie head by head."""


class PositionalEmbedding(nn.Module):
    def __init__(self, num_channels, max_positions=10000, endpoint=False):
        super().__init__()
        self.num_channels, self.max_positions, self.endpoint = num_channels, max_positions, endpoint

    def forward(self, x):
        freqs = torch.arange(
            start=0, end=self.num_channels // 2, dtype=torch.float32, device=x.device
        )
        freqs = freqs / (self.num_channels // 2 - (1 if self.endpoint else 0))
        freqs = (1 / self.max_positions) ** freqs
        x = x.ger(freqs.to(x.dtype))
        return torch.cat([x.cos(), x.sin()], dim=1)


class EdmConv(nn.Module):
    """One convolution that also resamples, by a filter kept in a buffer."""

    def __init__(self, i, o, kernel, bias=True, up=False, down=False, resample_filter=(1, 1)):
        super().__init__()
        self.in_channels, self.out_channels, self.up, self.down = i, o, up, down
        self.weight = nn.Parameter(torch.randn(o, i, kernel, kernel) / i) if kernel else None
        self.bias = nn.Parameter(torch.zeros(o)) if kernel and bias else None
        f = torch.as_tensor(resample_filter, dtype=torch.float32)
        f = f.ger(f).unsqueeze(0).unsqueeze(1) / f.sum().square()
        self.register_buffer("resample_filter", f if up or down else None)

    def forward(self, x):
        w = self.weight.to(x.dtype) if self.weight is not None else None
        b = self.bias.to(x.dtype) if self.bias is not None else None
        f = self.resample_filter.to(x.dtype) if self.resample_filter is not None else None
        w_pad = w.shape[-1] // 2 if w is not None else 0
        f_pad = (f.shape[-1] - 1) // 2 if f is not None else 0
        if self.up:
            x = F.conv_transpose2d(
                x,
                f.mul(4).tile([self.in_channels, 1, 1, 1]),
                groups=self.in_channels,
                stride=2,
                padding=f_pad,
            )
        if self.down:
            x = F.conv2d(
                x,
                f.tile([self.in_channels, 1, 1, 1]),
                groups=self.in_channels,
                stride=2,
                padding=f_pad,
            )
        if w is not None:
            x = F.conv2d(x, w, padding=w_pad)
        if b is not None:
            x = x.add_(b.reshape(1, -1, 1, 1))
        return x


class EdmBlock(nn.Module):
    def __init__(self, i, o, emb, up=False, down=False, attention=False, skip_scale=np.sqrt(0.5)):
        super().__init__()
        self.num_heads, self.skip_scale = 2 if attention else 0, skip_scale
        self.norm0, self.conv0 = nn.GroupNorm(2, i), EdmConv(i, o, 3, up=up, down=down)
        self.affine, self.norm1 = nn.Linear(emb, o * 2), nn.GroupNorm(2, o)
        self.conv1, self.skip = EdmConv(o, o, 3), None
        if o != i or up or down:
            self.skip = EdmConv(i, o, 1 if o != i else 0, up=up, down=down)
        if self.num_heads:
            self.norm2, self.qkv, self.proj = (
                nn.GroupNorm(2, o),
                EdmConv(o, o * 3, 1),
                EdmConv(o, o, 1),
            )

    def forward(self, x, emb):
        orig = x
        x = self.conv0(F.silu(self.norm0(x)))
        params = self.affine(emb).unsqueeze(2).unsqueeze(3).to(x.dtype)
        scale, shift = params.chunk(chunks=2, dim=1)
        x = F.silu(torch.addcmul(shift, self.norm1(x), scale + 1))
        x = self.conv1(F.dropout(x, p=0.1, training=self.training))
        x = x.add_(self.skip(orig) if self.skip is not None else orig)
        x = x * self.skip_scale
        if self.num_heads:
            q, k, v = (
                self.qkv(self.norm2(x))
                .reshape(x.shape[0] * self.num_heads, x.shape[1] // self.num_heads, 3, -1)
                .unbind(2)
            )
            w = torch.einsum("ncq,nck->nqk", q, k / np.sqrt(k.shape[1])).softmax(dim=2)
            a = torch.einsum("nqk,nck->ncq", w, v)
            x = self.proj(a.reshape(*x.shape)).add_(x)
            x = x * self.skip_scale
        return x


@generator((2, 3, 8, 8), (2,), pinned=("fixed number",), exact=False)
class Edm(nn.Module):
    def __init__(self, ch=4, emb=6):
        super().__init__()
        self.map_noise, self.map_layer0 = PositionalEmbedding(num_channels=4), nn.Linear(4, emb)
        self.enc = nn.ModuleDict()
        self.enc["8x8_conv"] = EdmConv(3, ch, 3)
        self.enc["8x8_block0"] = EdmBlock(ch, ch, emb)
        self.enc["4x4_down"] = EdmBlock(ch, ch * 2, emb, down=True)
        self.enc["4x4_block0"] = EdmBlock(ch * 2, ch * 2, emb, attention=True)
        self.dec = nn.ModuleDict()
        self.dec["4x4_in0"] = EdmBlock(ch * 2, ch * 2, emb, attention=True)
        self.dec["4x4_block0"] = EdmBlock(ch * 4, ch * 2, emb)
        self.dec["8x8_up"] = EdmBlock(ch * 2, ch * 2, emb, up=True)
        self.dec["8x8_block0"] = EdmBlock(ch * 3, ch, emb)
        self.out_norm, self.out_conv = nn.GroupNorm(2, ch), EdmConv(ch, 3, 3)

    def forward(self, x, sigma):
        sigma = sigma.to(x.dtype).reshape(-1, 1, 1, 1) + 0.3
        c_skip, c_in = 1 / (sigma**2 + 1), 1 / (1 + sigma**2).sqrt()
        inner = self.inner(c_in * x, sigma.log().flatten() / 4)
        return c_skip * x + sigma * inner

    def inner(self, x, noise_labels):
        emb = F.silu(self.map_layer0(self.map_noise(noise_labels)))
        skips = []
        for name, block in self.enc.items():
            x = block(x, emb) if isinstance(block, EdmBlock) else block(x)
            skips.append(x)
        for name, block in self.dec.items():
            if "block" in name:
                skip = skips.pop() if "4x4" in name else skips[1]
                x = torch.cat([x, skip], dim=1)
            x = block(x, emb)
        return self.out_conv(F.silu(self.out_norm(x)))
