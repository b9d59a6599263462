"""Sound: MelGAN, HiFi-GAN, BigVGAN with its snakes and filters, WaveNet, WaveGlow."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn import Conv1d, ConvTranspose1d, Parameter
from torch.nn.utils import weight_norm as old_weight_norm
from torch.nn.utils.parametrizations import weight_norm

from support.generators.register import generator

LRELU_SLOPE = 0.1


def get_padding(kernel_size, dilation=1):
    return int((kernel_size * dilation - dilation) / 2)


class HifiBlock(torch.nn.Module):
    def __init__(self, channels, kernel_size=3, dilation=(1, 3)):
        super().__init__()
        self.convs1 = nn.ModuleList(
            [
                weight_norm(
                    Conv1d(
                        channels,
                        channels,
                        kernel_size,
                        1,
                        dilation=d,
                        padding=get_padding(kernel_size, d),
                    )
                )
                for d in dilation
            ]
        )
        self.convs2 = nn.ModuleList(
            [
                weight_norm(
                    Conv1d(channels, channels, kernel_size, 1, padding=get_padding(kernel_size))
                )
                for _ in dilation
            ]
        )

    def forward(self, x):
        for c1, c2 in zip(self.convs1, self.convs2):
            xt = F.leaky_relu(x, LRELU_SLOPE)
            xt = c1(xt)
            xt = F.leaky_relu(xt, LRELU_SLOPE)
            xt = c2(xt)
            x = xt + x
        return x


@generator((2, 6, 5), sizes=True)
class Hifi(torch.nn.Module):
    """Several residual blocks of other kernel sizes are averaged at each resolution."""

    def __init__(self, rates=(2, 2), kernels=(4, 4), res_kernels=(3, 5), ch=8):
        super().__init__()
        self.num_kernels, self.num_upsamples = len(res_kernels), len(rates)
        self.conv_pre = weight_norm(Conv1d(6, ch, 7, 1, padding=3))
        self.ups = nn.ModuleList()
        for i, (u, k) in enumerate(zip(rates, kernels)):
            up = ConvTranspose1d(ch // (2**i), ch // (2 ** (i + 1)), k, u, padding=(k - u) // 2)
            self.ups.append(weight_norm(up))
        self.resblocks = nn.ModuleList()
        for i in range(len(self.ups)):
            for k in res_kernels:
                self.resblocks.append(HifiBlock(ch // (2 ** (i + 1)), k))
        self.conv_post = weight_norm(Conv1d(ch // 4, 1, 7, 1, padding=3))

    def forward(self, x):
        x = self.conv_pre(x)
        for i in range(self.num_upsamples):
            x = F.leaky_relu(x, LRELU_SLOPE)
            x = self.ups[i](x)
            xs = None
            for j in range(self.num_kernels):
                if xs is None:
                    xs = self.resblocks[i * self.num_kernels + j](x)
                else:
                    xs += self.resblocks[i * self.num_kernels + j](x)
            x = xs / self.num_kernels
        x = F.leaky_relu(x)
        return torch.tanh(self.conv_post(x))


class MelResnetBlock(nn.Module):
    def __init__(self, dim, dilation=1):
        super().__init__()
        self.block = nn.Sequential(
            nn.LeakyReLU(0.2), nn.ReflectionPad1d(dilation),
            old_weight_norm(nn.Conv1d(dim, dim, kernel_size=3, dilation=dilation)),
            nn.LeakyReLU(0.2), old_weight_norm(nn.Conv1d(dim, dim, kernel_size=1)),
        )  # fmt: skip
        self.shortcut = old_weight_norm(nn.Conv1d(dim, dim, kernel_size=1))

    def forward(self, x):
        return self.shortcut(x) + self.block(x)


@generator((2, 6, 8), sizes=True)
class Mel(nn.Module):
    """Old-style weight norm on every layer."""

    def __init__(self, input_size=6, ngf=4):
        super().__init__()
        mult = 2
        model = [nn.ReflectionPad1d(3), old_weight_norm(nn.Conv1d(input_size, mult * ngf, 7))]
        for r in (2,):
            model += [
                nn.LeakyReLU(0.2),
                old_weight_norm(
                    nn.ConvTranspose1d(
                        mult * ngf,
                        mult * ngf // 2,
                        r * 2,
                        stride=r,
                        padding=r // 2 + r % 2,
                        output_padding=r % 2,
                    )
                ),
            ]
            model += [MelResnetBlock(mult * ngf // 2, dilation=3**j) for j in range(2)]
            mult //= 2
        model += [
            nn.LeakyReLU(0.2),
            nn.ReflectionPad1d(3),
            old_weight_norm(nn.Conv1d(ngf, 1, 7)),
            nn.Tanh(),
        ]
        self.model = nn.Sequential(*model)

    def forward(self, x):
        return self.model(x)


class SnakeBeta(nn.Module):
    def __init__(self, in_features, alpha_logscale=True):
        super().__init__()
        self.in_features, self.alpha_logscale = in_features, alpha_logscale
        self.alpha = Parameter(torch.zeros(in_features))
        self.beta = Parameter(torch.zeros(in_features))
        self.no_div_by_zero = 0.000000001

    def forward(self, x):
        alpha = self.alpha.unsqueeze(0).unsqueeze(-1)
        beta = self.beta.unsqueeze(0).unsqueeze(-1)
        if self.alpha_logscale:
            alpha, beta = torch.exp(alpha), torch.exp(beta)
        return x + (1.0 / (beta + self.no_div_by_zero)) * torch.pow(torch.sin(x * alpha), 2)


class UpSample1d(nn.Module):
    def __init__(self, ratio=2, kernel_size=6):
        super().__init__()
        self.ratio, self.stride, self.kernel_size = ratio, ratio, kernel_size
        self.pad = self.kernel_size // ratio - 1
        self.pad_left = self.pad * self.stride + (self.kernel_size - self.stride) // 2
        self.pad_right = self.pad * self.stride + (self.kernel_size - self.stride + 1) // 2
        self.register_buffer("filter", torch.rand(1, 1, kernel_size))

    def forward(self, x):
        _, C, _ = x.shape
        x = F.pad(x, (self.pad, self.pad), mode="replicate")
        x = self.ratio * F.conv_transpose1d(
            x, self.filter.expand(C, -1, -1), stride=self.stride, groups=C
        )
        return x[..., self.pad_left : -self.pad_right]


class DownSample1d(nn.Module):
    def __init__(self, ratio=2, kernel_size=6):
        super().__init__()
        self.pad_left, self.pad_right = kernel_size // 2 - 1, kernel_size // 2
        self.stride = ratio
        self.register_buffer("filter", torch.rand(1, 1, kernel_size))

    def forward(self, x):
        _, C, _ = x.shape
        x = F.pad(x, (self.pad_left, self.pad_right), mode="replicate")
        return F.conv1d(x, self.filter.expand(C, -1, -1), stride=self.stride, groups=C)


class Activation1d(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.act, self.upsample, self.downsample = activation, UpSample1d(), DownSample1d()

    def forward(self, x):
        return self.downsample(self.act(self.upsample(x)))


class AmpBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.convs1 = nn.ModuleList([Conv1d(channels, channels, 3, 1, d, d) for d in (1, 3)])
        self.convs2 = nn.ModuleList([Conv1d(channels, channels, 3, 1, 1) for _ in (1, 3)])
        self.num_layers = len(self.convs1) + len(self.convs2)
        self.activations = nn.ModuleList(
            [Activation1d(activation=SnakeBeta(channels)) for _ in range(self.num_layers)]
        )

    def forward(self, x):
        acts1, acts2 = self.activations[::2], self.activations[1::2]
        for c1, c2, a1, a2 in zip(self.convs1, self.convs2, acts1, acts2):
            xt = a1(x)
            xt = c1(xt)
            xt = c2(a2(xt))
            x = xt + x
        return x


@generator((2, 6, 8), sizes=True)
class BigVocoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_pre, self.block = Conv1d(6, 8, 7, 1, 3), AmpBlock(4)
        self.ups = nn.ModuleList([nn.ModuleList([ConvTranspose1d(8, 4, 4, 2, 1)])])
        self.activation_post, self.conv_post = (
            Activation1d(SnakeBeta(4)),
            Conv1d(4, 1, 7, 1, 3, bias=False),
        )

    def forward(self, x):
        x = self.conv_pre(x)
        for i in range(len(self.ups)):
            for i_up in range(len(self.ups[i])):
                x = self.ups[i][i_up](x)
        x = self.activation_post(self.block(x))
        return torch.clamp(self.conv_post(x), min=-1.0, max=1.0)


class WaveBlock(nn.Module):
    def __init__(self, residual, gate, skip, cond, dilation):
        super().__init__()
        self.conv = nn.Conv1d(residual, gate, 3, padding=(3 - 1) * dilation, dilation=dilation)
        self.conv1x1c = nn.Conv1d(cond, gate, 1, bias=False)
        self.out, self.skip = nn.Conv1d(gate // 2, residual, 1), nn.Conv1d(gate // 2, skip, 1)

    def forward(self, x, c):
        residual = x
        x = self.conv(x)
        x = x[:, :, : residual.size(-1)]  # causal
        splitdim = 1
        a, b = x.split(x.size(splitdim) // 2, dim=splitdim)
        c = self.conv1x1c(c)
        ca, cb = c.split(c.size(splitdim) // 2, dim=splitdim)
        a, b = a + ca, b + cb
        x = torch.tanh(a) * torch.sigmoid(b)
        s = self.skip(x)
        x = self.out(x)
        x = (x + residual) * math.sqrt(0.5)
        return x, s


@generator((2, 1, 12), (2, 5, 12), sizes=True)
class Wave(nn.Module):
    def __init__(self, layers=3):
        super().__init__()
        self.first_conv = nn.Conv1d(1, 8, 1)
        self.conv_layers = nn.ModuleList(
            [WaveBlock(8, 12, 6, 5, 2 ** (layer % 3)) for layer in range(layers)]
        )
        self.last_conv_layers = nn.ModuleList(
            [nn.ReLU(inplace=True), nn.Conv1d(6, 6, 1), nn.ReLU(inplace=True), nn.Conv1d(6, 2, 1)]
        )

    def forward(self, x, c):
        x = self.first_conv(x)
        skips = 0
        for f in self.conv_layers:
            x, h = f(x, c)
            skips += h
        skips *= math.sqrt(1.0 / len(self.conv_layers))
        x = skips
        for f in self.last_conv_layers:
            x = f(x)
        return x


class GlowWN(nn.Module):
    """Residual and skip halves come from one convolution; the last layer has no residual half."""

    def __init__(self, n_in_channels, n_mel_channels, n_layers=2, n_channels=6):
        super().__init__()
        self.n_layers, self.n_channels = n_layers, n_channels
        self.in_layers, self.res_skip_layers = nn.ModuleList(), nn.ModuleList()
        self.start = nn.Conv1d(n_in_channels, n_channels, 1)
        self.end = nn.Conv1d(n_channels, 2 * n_in_channels, 1)
        self.cond_layer = nn.Conv1d(n_mel_channels, 2 * n_channels * n_layers, 1)
        for i in range(n_layers):
            d = 2**i
            self.in_layers.append(nn.Conv1d(n_channels, 2 * n_channels, 3, dilation=d, padding=d))
            res_skip_channels = 2 * n_channels if i < n_layers - 1 else n_channels
            self.res_skip_layers.append(nn.Conv1d(n_channels, res_skip_channels, 1))

    def gate(self, input_a, input_b, n_channels):
        in_act = input_a + input_b
        t_act = torch.tanh(in_act[:, :n_channels, :])
        return t_act * torch.sigmoid(in_act[:, n_channels:, :])

    def forward(self, forward_input):
        audio, spect = forward_input
        audio = self.start(audio)
        output = torch.zeros_like(audio)
        spect = self.cond_layer(spect)
        for i in range(self.n_layers):
            offset = i * 2 * self.n_channels
            acts = self.gate(
                self.in_layers[i](audio),
                spect[:, offset : offset + 2 * self.n_channels, :],
                self.n_channels,
            )
            res_skip_acts = self.res_skip_layers[i](acts)
            if i < self.n_layers - 1:
                audio = audio + res_skip_acts[:, : self.n_channels, :]
                output = output + res_skip_acts[:, self.n_channels :, :]
            else:
                output = output + res_skip_acts
        return self.end(output)


@generator((2, 4, 8), (2, 5, 8), sizes=True, pinned=("inverse",))
class WaveFlow(nn.Module):
    """Affine couplings between convolutions by square matrices, then their inverses."""

    def __init__(self, n_group=4, n_flows=2):
        super().__init__()
        self.WN, self.convinv = nn.ModuleList(), nn.ModuleList()
        for _ in range(n_flows):
            self.convinv.append(nn.Conv1d(n_group, n_group, 1, bias=False))
            self.WN.append(GlowWN(n_group // 2, 5))

    def forward(self, audio, spect):
        for k in reversed(range(len(self.WN))):
            n_half = int(audio.size(1) / 2)
            audio_0, audio_1 = audio[:, :n_half, :], audio[:, n_half:, :]
            output = self.WN[k]((audio_0, spect))
            s, b = output[:, n_half:, :], output[:, :n_half, :]
            audio_1 = (audio_1 - b) / torch.exp(s * 0.1)
            audio = torch.cat([audio_0, audio_1], 1)
            W = self.convinv[k].weight.squeeze()
            W_inverse = W.inverse()
            audio = F.conv1d(audio, W_inverse[..., None], bias=None, stride=1, padding=0)
        return audio
