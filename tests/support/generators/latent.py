"""From a latent vector: ProGAN, StyleGAN 1 to 3, FastGAN, SinGAN."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from support.generators.register import generator


class PixelNorm(nn.Module):
    def __init__(self, epsilon=1e-8):
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x):
        return x / torch.sqrt(torch.mean(x**2, dim=1, keepdim=True) + self.epsilon)


class WSConv2d(nn.Module):
    """Equalised learning rate; the bias is kept apart and added by hand."""

    def __init__(self, in_channels, out_channels, kernel_size=3, stride=1, padding=1, gain=2):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding)
        self.scale = (gain / (in_channels * (kernel_size**2))) ** 0.5
        self.bias = self.conv.bias
        self.conv.bias = None

    def forward(self, x):
        return self.conv(x * self.scale) + self.bias.view(1, self.bias.shape[0], 1, 1)


class ConvBlock(nn.Module):
    def __init__(self, in_channels, out_channels, use_pixelnorm=True):
        super().__init__()
        self.use_pn = use_pixelnorm
        self.conv1, self.conv2 = (
            WSConv2d(in_channels, out_channels),
            WSConv2d(out_channels, out_channels),
        )
        self.leaky, self.pn = nn.LeakyReLU(0.2), PixelNorm()

    def forward(self, x):
        x = self.leaky(self.conv1(x))
        x = self.pn(x) if self.use_pn else x
        x = self.leaky(self.conv2(x))
        return self.pn(x) if self.use_pn else x


@generator((2, 6, 1, 1))
class Progressive(nn.Module):
    """Two resolutions blended by alpha."""

    def __init__(self, z_dim=6, in_channels=8, img_channels=3):
        super().__init__()
        factors = [1, 1, 1 / 2]
        self.initial = nn.Sequential(
            PixelNorm(), nn.ConvTranspose2d(z_dim, in_channels, 4, 1, 0), nn.LeakyReLU(0.2),
            WSConv2d(in_channels, in_channels), nn.LeakyReLU(0.2), PixelNorm(),
        )  # fmt: skip
        self.initial_rgb = WSConv2d(in_channels, img_channels, kernel_size=1, padding=0)
        self.prog_blocks, self.rgb_layers = nn.ModuleList(), nn.ModuleList([self.initial_rgb])
        for i in range(len(factors) - 1):
            conv_in_c, conv_out_c = int(in_channels * factors[i]), int(in_channels * factors[i + 1])
            self.prog_blocks.append(ConvBlock(conv_in_c, conv_out_c))
            self.rgb_layers.append(WSConv2d(conv_out_c, img_channels, kernel_size=1, padding=0))

    def fade_in(self, alpha, upscaled, generated):
        return torch.tanh(alpha * generated + (1 - alpha) * upscaled)

    def forward(self, x, alpha=0.3, steps=2):
        out = self.initial(x)
        if steps == 0:
            return self.initial_rgb(out)
        for step in range(steps):
            upscaled = F.interpolate(out, scale_factor=2, mode="nearest")
            out = self.prog_blocks[step](upscaled)
        final_upscaled = self.rgb_layers[steps - 1](upscaled)
        final_out = self.rgb_layers[steps](out)
        return self.fade_in(alpha, final_upscaled, final_out)


class EqualLinear(nn.Module):
    def __init__(self, in_dim, out_dim, bias=True, bias_init=0, lr_mul=1, activation=None):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_dim, in_dim).div_(lr_mul))
        self.bias = nn.Parameter(torch.zeros(out_dim).fill_(bias_init)) if bias else None
        self.activation = activation
        self.scale, self.lr_mul = (1 / math.sqrt(in_dim)) * lr_mul, lr_mul

    def forward(self, input):
        if self.activation:
            out = F.linear(input, self.weight * self.scale)
            return fused_leaky_relu(out, self.bias * self.lr_mul)
        return F.linear(input, self.weight * self.scale, bias=self.bias * self.lr_mul)


def fused_leaky_relu(input, bias=None, negative_slope=0.2, scale=2**0.5):
    if bias is not None:
        rest_dim = [1] * (input.ndim - bias.ndim - 1)
        return F.leaky_relu(input + bias.view(1, bias.shape[0], *rest_dim), negative_slope) * scale
    return F.leaky_relu(input, negative_slope=negative_slope) * scale


def make_kernel(k):
    k = torch.tensor(k, dtype=torch.float32)
    if k.ndim == 1:
        k = k[None, :] * k[:, None]
    return k / k.sum()


def upfirdn2d(input, kernel, up=1, down=1, pad=(0, 0)):
    """Upsamples with zeros, filters, downsamples; by reshapes and paddings alone."""
    _, channel, in_h, in_w = input.shape
    input = input.reshape(-1, in_h, in_w, 1)
    _, in_h, in_w, minor = input.shape
    kernel_h, kernel_w = kernel.shape
    out = input.view(-1, in_h, 1, in_w, 1, minor)
    out = F.pad(out, [0, 0, 0, up - 1, 0, 0, 0, up - 1])
    out = out.view(-1, in_h * up, in_w * up, minor)
    out = F.pad(out, [0, 0, max(pad[0], 0), max(pad[1], 0), max(pad[0], 0), max(pad[1], 0)])
    out = out[
        :,
        max(-pad[0], 0) : out.shape[1] - max(-pad[1], 0),
        max(-pad[0], 0) : out.shape[2] - max(-pad[1], 0),
        :,
    ]
    out = out.permute(0, 3, 1, 2)
    out = out.reshape([-1, 1, in_h * up + pad[0] + pad[1], in_w * up + pad[0] + pad[1]])
    w = torch.flip(kernel, [0, 1]).view(1, 1, kernel_h, kernel_w)
    out = F.conv2d(out, w)
    out = out.reshape(
        -1,
        minor,
        in_h * up + pad[0] + pad[1] - kernel_h + 1,
        in_w * up + pad[0] + pad[1] - kernel_w + 1,
    )
    out = out.permute(0, 2, 3, 1)
    out = out[:, ::down, ::down, :]
    out_h = (in_h * up + pad[0] + pad[1] - kernel_h) // down + 1
    out_w = (in_w * up + pad[0] + pad[1] - kernel_w) // down + 1
    return out.view(-1, channel, out_h, out_w)


class Upsample(nn.Module):
    def __init__(self, kernel, factor=2):
        super().__init__()
        self.factor = factor
        kernel = make_kernel(kernel) * (factor**2)
        self.register_buffer("kernel", kernel)
        p = kernel.shape[0] - factor
        self.pad = ((p + 1) // 2 + factor - 1, p // 2)

    def forward(self, input):
        return upfirdn2d(input, self.kernel, up=self.factor, down=1, pad=self.pad)


class Blur(nn.Module):
    def __init__(self, kernel, pad, upsample_factor=1):
        super().__init__()
        kernel = make_kernel(kernel)
        if upsample_factor > 1:
            kernel = kernel * (upsample_factor**2)
        self.register_buffer("kernel", kernel)
        self.pad = pad

    def forward(self, input):
        return upfirdn2d(input, self.kernel, pad=self.pad)


class ModulatedConv2d(nn.Module):
    def __init__(
        self,
        in_channel,
        out_channel,
        kernel_size,
        style_dim,
        demodulate=True,
        upsample=False,
        fused=True,
    ):
        super().__init__()
        self.eps, self.kernel_size = 1e-8, kernel_size
        self.in_channel, self.out_channel = in_channel, out_channel
        self.upsample, self.fused = upsample, fused
        if upsample:
            p = (4 - 2) - (kernel_size - 1)
            self.blur = Blur([1, 3, 3, 1], pad=((p + 1) // 2 + 1, p // 2 + 1), upsample_factor=2)
        self.scale, self.padding = 1 / math.sqrt(in_channel * kernel_size**2), kernel_size // 2
        self.weight = nn.Parameter(
            torch.randn(1, out_channel, in_channel, kernel_size, kernel_size)
        )
        self.modulation = EqualLinear(style_dim, in_channel, bias_init=1)
        self.demodulate = demodulate

    def forward(self, input, style):
        batch, in_channel, height, width = input.shape
        if not self.fused:
            weight = self.scale * self.weight.squeeze(0)
            style = self.modulation(style)
            if self.demodulate:
                w = weight.unsqueeze(0) * style.view(batch, 1, in_channel, 1, 1)
                dcoefs = (w.square().sum((2, 3, 4)) + 1e-8).rsqrt()
            input = input * style.reshape(batch, in_channel, 1, 1)
            if self.upsample:
                weight = weight.transpose(0, 1)
                out = F.conv_transpose2d(input, weight, padding=0, stride=2)
                out = self.blur(out)
            else:
                out = F.conv2d(input, weight, padding=self.padding)
            if self.demodulate:
                out = out * dcoefs.view(batch, -1, 1, 1)
            return out
        style = self.modulation(style).view(batch, 1, in_channel, 1, 1)
        weight = self.scale * self.weight * style
        if self.demodulate:
            demod = torch.rsqrt(weight.pow(2).sum([2, 3, 4]) + 1e-8)
            weight = weight * demod.view(batch, self.out_channel, 1, 1, 1)
        weight = weight.view(
            batch * self.out_channel, in_channel, self.kernel_size, self.kernel_size
        )
        if self.upsample:
            input = input.view(1, batch * in_channel, height, width)
            weight = weight.view(
                batch, self.out_channel, in_channel, self.kernel_size, self.kernel_size
            )
            weight = weight.transpose(1, 2).reshape(
                batch * in_channel, self.out_channel, self.kernel_size, self.kernel_size
            )
            out = F.conv_transpose2d(input, weight, padding=0, stride=2, groups=batch)
            _, _, height, width = out.shape
            return self.blur(out.view(batch, self.out_channel, height, width))
        input = input.view(1, batch * in_channel, height, width)
        out = F.conv2d(input, weight, padding=self.padding, groups=batch)
        _, _, height, width = out.shape
        return out.view(batch, self.out_channel, height, width)


class NoiseInjection(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, image, noise=None):
        if noise is None:
            batch, _, height, width = image.shape
            noise = image.new_empty(batch, 1, height, width).normal_()
        return image + self.weight * noise


class FusedLeakyReLU(nn.Module):
    def __init__(self, channel):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channel))

    def forward(self, input):
        return fused_leaky_relu(input, self.bias)


class StyledConv(nn.Module):
    def __init__(self, i, o, kernel_size, style_dim, upsample=False, fused=True):
        super().__init__()
        self.conv = ModulatedConv2d(i, o, kernel_size, style_dim, upsample=upsample, fused=fused)
        self.noise, self.activate = NoiseInjection(), FusedLeakyReLU(o)

    def forward(self, input, style, noise=None):
        return self.activate(self.noise(self.conv(input, style), noise=noise))


class ToRGB(nn.Module):
    def __init__(self, in_channel, style_dim, upsample=True):
        super().__init__()
        if upsample:
            self.upsample = Upsample([1, 3, 3, 1])
        self.conv = ModulatedConv2d(in_channel, 3, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, input, style, skip=None):
        out = self.conv(input, style) + self.bias
        if skip is not None:
            out = out + self.upsample(skip)
        return out


class ConstantInput(nn.Module):
    def __init__(self, channel, size=4):
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channel, size, size))

    def forward(self, input):
        return self.input.repeat(input.shape[0], 1, 1, 1)


class Style2(nn.Module):
    def __init__(self, size=8, style_dim=6, n_mlp=2, fused=True):
        super().__init__()
        self.size, self.style_dim = size, style_dim
        layers = [PixelNorm()]
        for _ in range(n_mlp):
            layers.append(EqualLinear(style_dim, style_dim, lr_mul=0.01, activation="fused_lrelu"))
        self.style = nn.Sequential(*layers)
        self.channels = {4: 8, 8: 6, 16: 4}
        self.input = ConstantInput(self.channels[4])
        self.conv1 = StyledConv(self.channels[4], self.channels[4], 3, style_dim, fused=fused)
        self.to_rgb1 = ToRGB(self.channels[4], style_dim, upsample=False)
        self.log_size = int(math.log(size, 2))
        self.num_layers = (self.log_size - 2) * 2 + 1
        self.convs, self.to_rgbs, self.noises = nn.ModuleList(), nn.ModuleList(), nn.Module()
        for layer_idx in range(self.num_layers):
            res = (layer_idx + 5) // 2
            self.noises.register_buffer(f"noise_{layer_idx}", torch.randn(1, 1, 2**res, 2**res))
        in_channel = self.channels[4]
        for i in range(3, self.log_size + 1):
            o = self.channels[2**i]
            self.convs.append(StyledConv(in_channel, o, 3, style_dim, upsample=True, fused=fused))
            self.convs.append(StyledConv(o, o, 3, style_dim, fused=fused))
            self.to_rgbs.append(ToRGB(o, style_dim))
            in_channel = o
        self.n_latent = self.log_size * 2 - 2

    def forward(
        self, styles, return_latents=False, inject_index=None, truncation=1, truncation_latent=None,
        input_is_latent=False, noise=None, randomize_noise=False,
    ):  # fmt: skip
        styles = [styles] if isinstance(styles, torch.Tensor) else styles
        if not input_is_latent:
            styles = [self.style(s) for s in styles]
        if noise is None:
            noise = [getattr(self.noises, f"noise_{i}") for i in range(self.num_layers)]
        if truncation < 1:
            styles = [truncation_latent + truncation * (s - truncation_latent) for s in styles]
        if len(styles) < 2:
            inject_index = self.n_latent
            latent = styles[0].unsqueeze(1).repeat(1, inject_index, 1)
        else:
            inject_index = inject_index or 1
            latent = styles[0].unsqueeze(1).repeat(1, inject_index, 1)
            latent2 = styles[1].unsqueeze(1).repeat(1, self.n_latent - inject_index, 1)
            latent = torch.cat([latent, latent2], 1)
        out = self.input(latent)
        out = self.conv1(out, latent[:, 0], noise=noise[0])
        skip = self.to_rgb1(out, latent[:, 1])
        i = 1
        for conv1, conv2, noise1, noise2, to_rgb in zip(
            self.convs[::2], self.convs[1::2], noise[1::2], noise[2::2], self.to_rgbs
        ):
            out = conv1(out, latent[:, i], noise=noise1)
            out = conv2(out, latent[:, i + 1], noise=noise2)
            skip = to_rgb(out, latent[:, i + 2], skip)
            i += 2
        return (skip, latent) if return_latents else (skip, None)


@generator((2, 6))
class StyleFused(Style2):
    """The batch folded into the groups of one convolution."""


@generator((2, 6))
class StyleUnfused(Style2):
    """Features scaled before and after an ordinary convolution."""

    def __init__(self):
        super().__init__(fused=False)


class SynthesisInput(nn.Module):
    """StyleGAN3: Fourier features whose frequencies are turned and shifted by the style."""

    def __init__(self, w_dim, channels, size, sampling_rate=8, bandwidth=2):
        super().__init__()
        self.channels, self.size = channels, np.broadcast_to(np.asarray(size), [2])
        self.sampling_rate, self.bandwidth = sampling_rate, bandwidth
        freqs = torch.randn([channels, 2])
        radii = freqs.square().sum(dim=1, keepdim=True).sqrt()
        freqs /= radii * radii.square().exp().pow(0.25)
        self.weight = nn.Parameter(torch.randn([channels, channels]))
        self.affine = nn.Linear(w_dim, 4)
        self.register_buffer("transform", torch.eye(3, 3))
        self.register_buffer("freqs", freqs * bandwidth)
        self.register_buffer("phases", torch.rand([channels]) - 0.5)

    def forward(self, w):
        transforms = self.transform.unsqueeze(0)
        freqs, phases = self.freqs.unsqueeze(0), self.phases.unsqueeze(0)
        t = self.affine(w)
        t = t / t[:, :2].norm(dim=1, keepdim=True)
        m_r = torch.eye(3, device=w.device, dtype=w.dtype).unsqueeze(0).repeat([w.shape[0], 1, 1])
        m_r[:, 0, 0], m_r[:, 0, 1] = t[:, 0], -t[:, 1]
        m_r[:, 1, 0], m_r[:, 1, 1] = t[:, 1], t[:, 0]
        m_t = torch.eye(3, device=w.device, dtype=w.dtype).unsqueeze(0).repeat([w.shape[0], 1, 1])
        m_t[:, 0, 2], m_t[:, 1, 2] = -t[:, 2], -t[:, 3]
        transforms = m_r @ m_t @ transforms
        phases = phases + (freqs @ transforms[:, :2, 2:]).squeeze(2)
        freqs = freqs @ transforms[:, :2, :2]
        amplitudes = (1 - (freqs.norm(dim=2) - self.bandwidth) / (self.sampling_rate / 2)).clamp(
            0, 1
        )
        theta = torch.eye(2, 3, device=w.device, dtype=w.dtype)
        theta[0, 0] = 0.5 * self.size[0] / self.sampling_rate
        theta[1, 1] = 0.5 * self.size[1] / self.sampling_rate
        grids = F.affine_grid(
            theta.unsqueeze(0), [1, 1, int(self.size[1]), int(self.size[0])], align_corners=False
        )
        x = (grids.unsqueeze(3) @ freqs.permute(0, 2, 1).unsqueeze(1).unsqueeze(2)).squeeze(3)
        x = x + phases.unsqueeze(1).unsqueeze(2)
        x = torch.sin(x * (np.pi * 2))
        x = x * amplitudes.unsqueeze(1).unsqueeze(2)
        weight = self.weight / np.sqrt(self.channels)
        x = x @ weight.t()
        return x.permute(0, 3, 1, 2).contiguous()


@generator((2, 6), pinned=("made by position",))
class Style3(nn.Module):
    def __init__(self, w_dim=6, ch=8):
        super().__init__()
        self.input = SynthesisInput(w_dim, ch, 8)
        self.conv = ModulatedConv2d(ch, 6, 3, w_dim)
        self.register_buffer("magnitude_ema", torch.ones([]))
        self.to_rgb = ModulatedConv2d(6, 3, 1, w_dim, demodulate=False)

    def forward(self, w):
        w = w * (w.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        x = self.input(w)
        x = self.conv(x * self.magnitude_ema.rsqrt(), w)
        return self.to_rgb(F.leaky_relu(x, 0.2).clamp(-256, 256), w) * 0.25


class Swish(nn.Module):
    def forward(self, feat):
        return feat * torch.sigmoid(feat)


class SEBlock(nn.Module):
    """Skip-layer excitation: a small map gates a large one."""

    def __init__(self, ch_in, ch_out):
        super().__init__()
        self.main = nn.Sequential(
            nn.AdaptiveAvgPool2d(4), nn.Conv2d(ch_in, ch_out, 4, 1, 0, bias=False), Swish(),
            nn.Conv2d(ch_out, ch_out, 1, 1, 0, bias=False), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, feat_small, feat_big):
        return feat_big * self.main(feat_small)


class ImageNoise(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1), requires_grad=True)

    def forward(self, feat, noise=None):
        if noise is None:
            noise = torch.zeros(feat.shape[0], 1, *feat.shape[2:]).to(feat.device)
        return feat + self.weight * noise


def UpBlockComp(i, o):
    def conv(*args, **kwargs):
        return nn.utils.parametrizations.spectral_norm(nn.Conv2d(*args, **kwargs))

    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"), conv(i, o * 2, 3, 1, 1, bias=False),
        ImageNoise(), nn.BatchNorm2d(o * 2), nn.GLU(dim=1), conv(o, o * 2, 3, 1, 1, bias=False),
        ImageNoise(), nn.BatchNorm2d(o * 2), nn.GLU(dim=1),
    )  # fmt: skip


@generator((2, 6))
class Fast(nn.Module):
    def __init__(self, nz=6):
        super().__init__()
        self.init = nn.Sequential(
            nn.ConvTranspose2d(nz, 16, 4, 1, 0, bias=False), nn.BatchNorm2d(16), nn.GLU(dim=1)
        )
        self.feat_8, self.feat_16 = UpBlockComp(8, 8), UpBlockComp(8, 4)
        self.se_16 = SEBlock(8, 4)
        self.to_128, self.to_big = nn.Conv2d(4, 3, 1, 1, 0, bias=False), nn.Conv2d(4, 3, 3, 1, 1)

    def forward(self, input):
        feat_4 = self.init(input.view(input.shape[0], -1, 1, 1))
        feat_8 = self.feat_8(feat_4)
        feat_16 = self.se_16(feat_4, self.feat_16(feat_8))
        return [torch.tanh(self.to_big(feat_16)), torch.tanh(self.to_128(feat_16))]


@generator((2, 3, 12, 12), (2, 3, 8, 8), batches=True)
class SinglePyramid(nn.Module):
    """The image so far, cropped to what valid convolutions leave, is added to the output."""

    def __init__(self, nfc=8, min_nfc=4, num_layer=4):
        super().__init__()
        N = nfc
        self.head = self.block(3, N)
        self.body = nn.Sequential()
        for i in range(num_layer - 3):
            N = int(nfc / pow(2, (i + 1)))
            self.body.add_module(f"block{i + 1}", self.block(max(2 * N, min_nfc), max(N, min_nfc)))
        self.tail = nn.Sequential(nn.Conv2d(max(N, min_nfc), 3, 3, 1, 0), nn.Tanh())

    def block(self, i, o):
        return nn.Sequential(nn.Conv2d(i, o, 3), nn.BatchNorm2d(o), nn.LeakyReLU(0.2, inplace=True))

    def forward(self, x, y):
        x = self.head(x)
        x = self.body(x)
        x = self.tail(x)
        ind = int((y.shape[2] - x.shape[2]) / 2)
        y = y[:, :, ind : (y.shape[2] - ind), ind : (y.shape[3] - ind)]
        return x + y
