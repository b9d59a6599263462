"""Super-resolution and restoration: residual-in-residual, distillation, cascades, transposed attention."""

import numbers
from collections import OrderedDict

import torch
import torch.nn as nn
import torch.nn.functional as F

from support.generators.register import generator


def make_layer(basic_block, num_basic_block, **kwarg):
    return nn.Sequential(*[basic_block(**kwarg) for _ in range(num_basic_block)])


class ResidualDenseBlock(nn.Module):
    def __init__(self, num_feat=8, num_grow_ch=4):
        super().__init__()
        self.conv1 = nn.Conv2d(num_feat, num_grow_ch, 3, 1, 1)
        self.conv2 = nn.Conv2d(num_feat + num_grow_ch, num_grow_ch, 3, 1, 1)
        self.conv3 = nn.Conv2d(num_feat + 2 * num_grow_ch, num_feat, 3, 1, 1)
        self.lrelu = nn.LeakyReLU(negative_slope=0.2, inplace=True)

    def forward(self, x):
        x1 = self.lrelu(self.conv1(x))
        x2 = self.lrelu(self.conv2(torch.cat((x, x1), 1)))
        x3 = self.conv3(torch.cat((x, x1, x2), 1))
        return x3 * 0.2 + x


class RRDB(nn.Module):
    def __init__(self, num_feat, num_grow_ch=4):
        super().__init__()
        self.rdb1 = ResidualDenseBlock(num_feat, num_grow_ch)
        self.rdb2 = ResidualDenseBlock(num_feat, num_grow_ch)

    def forward(self, x):
        return self.rdb2(self.rdb1(x)) * 0.2 + x


def pixel_unshuffle(x, scale):
    b, c, hh, hw = x.size()
    out_channel = c * (scale**2)
    assert hh % scale == 0 and hw % scale == 0
    h = hh // scale
    w = hw // scale
    x_view = x.view(b, c, h, scale, w, scale)
    return x_view.permute(0, 1, 3, 5, 2, 4).reshape(b, out_channel, h, w)


@generator((2, 3, 8, 8), sizes=True)
class Rrdb(nn.Module):
    def __init__(self, num_feat=8, scale=2):
        super().__init__()
        self.scale = scale
        self.conv_first = nn.Conv2d(3 * 4, num_feat, 3, 1, 1)
        self.body = make_layer(RRDB, 2, num_feat=num_feat, num_grow_ch=4)
        self.conv_body = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.conv_up1 = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.conv_hr, self.conv_last = (
            nn.Conv2d(num_feat, num_feat, 3, 1, 1),
            nn.Conv2d(num_feat, 3, 3, 1, 1),
        )
        self.lrelu = nn.LeakyReLU(negative_slope=0.2, inplace=True)

    def forward(self, x):
        feat = pixel_unshuffle(x, scale=2) if self.scale == 2 else x
        feat = self.conv_first(feat)
        body_feat = self.conv_body(self.body(feat))
        feat = feat + body_feat
        feat = self.lrelu(self.conv_up1(F.interpolate(feat, scale_factor=2, mode="nearest")))
        return self.conv_last(self.lrelu(self.conv_hr(feat)))


class MeanShift(nn.Conv2d):
    def __init__(self, rgb_range=1.0, sign=-1):
        super().__init__(3, 3, kernel_size=1)
        std = torch.Tensor((1.0, 0.9, 1.1))
        self.weight.data = torch.eye(3).view(3, 3, 1, 1) / std.view(3, 1, 1, 1)
        self.bias.data = sign * rgb_range * torch.Tensor((0.4488, 0.4371, 0.4040)) / std
        for p in self.parameters():
            p.requires_grad = False


class CALayer(nn.Module):
    def __init__(self, channel, reduction=4):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.conv_du = nn.Sequential(
            nn.Conv2d(channel, channel // reduction, 1, padding=0, bias=True), nn.ReLU(inplace=True),
            nn.Conv2d(channel // reduction, channel, 1, padding=0, bias=True), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x):
        return x * self.conv_du(self.avg_pool(x))


class RCAB(nn.Module):
    def __init__(self, n_feat):
        super().__init__()
        body = []
        for i in range(2):
            body.append(nn.Conv2d(n_feat, n_feat, 3, padding=1))
            if i == 0:
                body.append(nn.ReLU(True))
        body.append(CALayer(n_feat))
        self.body, self.res_scale = nn.Sequential(*body), 0.1

    def forward(self, x):
        res = self.body(x).mul(self.res_scale)
        res += x
        return res


@generator((2, 3, 8, 8), sizes=True)
class Rcan(nn.Module):
    def __init__(self, n_feats=8):
        super().__init__()
        self.sub_mean, self.add_mean = MeanShift(), MeanShift(sign=1)
        self.head = nn.Sequential(nn.Conv2d(3, n_feats, 3, padding=1))
        self.body = nn.Sequential(
            RCAB(n_feats), RCAB(n_feats), nn.Conv2d(n_feats, n_feats, 3, 1, 1)
        )
        up = [nn.Conv2d(n_feats, 4 * n_feats, 3, padding=1), nn.PixelShuffle(2)]
        self.tail = nn.Sequential(*up, nn.Conv2d(n_feats, 3, 3, padding=1))

    def forward(self, x):
        x = self.sub_mean(x)
        x = self.head(x)
        res = self.body(x)
        res += x
        return self.add_mean(self.tail(res))


def mean_channels(F):
    assert F.dim() == 4
    spatial_sum = F.sum(3, keepdim=True).sum(2, keepdim=True)
    return spatial_sum / (F.size(2) * F.size(3))


def stdv_channels(F):
    assert F.dim() == 4
    F_mean = mean_channels(F)
    F_variance = (F - F_mean).pow(2).sum(3, keepdim=True).sum(2, keepdim=True)
    F_variance = F_variance / (F.size(2) * F.size(3))
    return F_variance.pow(0.5)


class CCALayer(nn.Module):
    def __init__(self, channel, reduction=4):
        super().__init__()
        self.contrast, self.avg_pool = stdv_channels, nn.AdaptiveAvgPool2d(1)
        self.conv_du = nn.Sequential(
            nn.Conv2d(channel, channel // reduction, 1), nn.ReLU(inplace=True),
            nn.Conv2d(channel // reduction, channel, 1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x):
        return x * self.conv_du(self.contrast(x) + self.avg_pool(x))


class IMDModule(nn.Module):
    """Part of the channels is kept at each step, the rest goes on."""

    def __init__(self, in_channels, distillation_rate=0.25):
        super().__init__()
        self.distilled = int(in_channels * distillation_rate)
        self.remaining = int(in_channels - self.distilled)
        self.c1 = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.c2 = nn.Conv2d(self.remaining, in_channels, 3, padding=1)
        self.c3 = nn.Conv2d(self.remaining, in_channels, 3, padding=1)
        self.c4 = nn.Conv2d(self.remaining, self.distilled, 3, padding=1)
        self.act = nn.LeakyReLU(0.05, inplace=True)
        self.c5 = nn.Conv2d(in_channels, in_channels, 1)
        self.cca = CCALayer(self.distilled * 4)

    def forward(self, input):
        out_c1 = self.act(self.c1(input))
        d1, r1 = torch.split(out_c1, (self.distilled, self.remaining), dim=1)
        out_c2 = self.act(self.c2(r1))
        d2, r2 = torch.split(out_c2, (self.distilled, self.remaining), dim=1)
        out_c3 = self.act(self.c3(r2))
        d3, r3 = torch.split(out_c3, (self.distilled, self.remaining), dim=1)
        out = torch.cat([d1, d2, d3, self.c4(r3)], dim=1)
        return self.c5(self.cca(out)) + input


@generator((2, 3, 8, 8), sizes=True)
class Imdn(nn.Module):
    def __init__(self, nf=8):
        super().__init__()
        self.fea_conv = nn.Conv2d(3, nf, 3, padding=1)
        self.IMDB1, self.IMDB2 = IMDModule(in_channels=nf), IMDModule(in_channels=nf)
        self.c = nn.Sequential(nn.Conv2d(nf * 2, nf, 1), nn.LeakyReLU(0.05, inplace=True))
        self.LR_conv = nn.Conv2d(nf, nf, 3, padding=1)
        self.upsampler = nn.Sequential(nn.Conv2d(nf, 3 * 4, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, input):
        out_fea = self.fea_conv(input)
        out_B1 = self.IMDB1(out_fea)
        out_B2 = self.IMDB2(out_B1)
        out_B = self.c(torch.cat([out_B1, out_B2], dim=1))
        out_lr = self.LR_conv(out_B) + out_fea
        return self.upsampler(out_lr)


class EResidualBlock(nn.Module):
    def __init__(self, i, o, group=1):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(i, o, 3, 1, 1, groups=group), nn.ReLU(inplace=True),
            nn.Conv2d(o, o, 3, 1, 1, groups=group), nn.ReLU(inplace=True), nn.Conv2d(o, o, 1, 1, 0),
        )  # fmt: skip

    def forward(self, x):
        return F.relu(self.body(x) + x)


class CascadeBlock(nn.Module):
    def __init__(self, n, group):
        super().__init__()
        self.b1, self.b2 = EResidualBlock(n, n, group), EResidualBlock(n, n, group)
        self.c1, self.c2 = nn.Conv2d(n * 2, n, 1), nn.Conv2d(n * 3, n, 1)

    def forward(self, x):
        c0 = o0 = x
        b1 = self.b1(o0)
        c1 = torch.cat([c0, b1], dim=1)
        o1 = self.c1(c1)
        b2 = self.b2(o1)
        c2 = torch.cat([c1, b2], dim=1)
        return self.c2(c2)


@generator((2, 3, 8, 8), sizes=True)
class Carn(nn.Module):
    """The scale is an argument, and chooses a branch."""

    def __init__(self, n=8, group=2):
        super().__init__()
        self.entry = nn.Conv2d(3, n, 3, 1, 1)
        self.b1, self.b2 = CascadeBlock(n, group), CascadeBlock(n, group)
        self.c1, self.c2 = nn.Conv2d(n * 2, n, 1), nn.Conv2d(n * 3, n, 1)
        self.up2 = nn.Sequential(
            nn.Conv2d(n, 4 * n, 3, 1, 1, groups=group), nn.ReLU(), nn.PixelShuffle(2)
        )
        self.up3 = nn.Sequential(
            nn.Conv2d(n, 9 * n, 3, 1, 1, groups=group), nn.ReLU(), nn.PixelShuffle(3)
        )
        self.exit = nn.Conv2d(n, 3, 3, 1, 1)

    def forward(self, x, scale=3):
        x = self.entry(x)
        c0 = o0 = x
        c1 = torch.cat([c0, self.b1(o0)], dim=1)
        o1 = self.c1(c1)
        c2 = torch.cat([c1, self.b2(o1)], dim=1)
        o2 = self.c2(c2)
        out = self.up2(o2) if scale == 2 else self.up3(o2)
        return self.exit(out)


def to_3d(x):
    b, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).reshape(b, h * w, c)


def to_4d(x, h, w):
    b, _, c = x.shape
    return x.reshape(b, h, w, c).permute(0, 3, 1, 2)


class BiasFreeNorm(nn.Module):
    def __init__(self, normalized_shape):
        super().__init__()
        if isinstance(normalized_shape, numbers.Integral):
            normalized_shape = (normalized_shape,)
        normalized_shape = torch.Size(normalized_shape)
        assert len(normalized_shape) == 1
        self.weight = nn.Parameter(torch.ones(normalized_shape))
        self.normalized_shape = normalized_shape

    def forward(self, x):
        sigma = x.var(-1, keepdim=True, unbiased=False)
        return x / torch.sqrt(sigma + 1e-5) * self.weight


class WithBiasNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x):
        mu = x.mean(-1, keepdim=True)
        sigma = x.var(-1, keepdim=True, unbiased=False)
        return (x - mu) / torch.sqrt(sigma + 1e-5) * self.weight + self.bias


class RestormerNorm(nn.Module):
    def __init__(self, dim, kind):
        super().__init__()
        self.body = BiasFreeNorm(dim) if kind == "BiasFree" else WithBiasNorm(dim)

    def forward(self, x):
        h, w = x.shape[-2:]
        return to_4d(self.body(to_3d(x)), h, w)


class GatedFeedForward(nn.Module):
    def __init__(self, dim, ffn_expansion_factor, bias):
        super().__init__()
        hidden_features = int(dim * ffn_expansion_factor)
        self.project_in = nn.Conv2d(dim, hidden_features * 2, kernel_size=1, bias=bias)
        self.dwconv = nn.Conv2d(
            hidden_features * 2, hidden_features * 2, 3, 1, 1, groups=hidden_features * 2, bias=bias
        )
        self.project_out = nn.Conv2d(hidden_features, dim, kernel_size=1, bias=bias)

    def forward(self, x):
        x1, x2 = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(F.gelu(x1) * x2)


class TransposedAttention(nn.Module):
    """Attention between the channels of each head, with a learned temperature."""

    def __init__(self, dim, num_heads, bias):
        super().__init__()
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkv = nn.Conv2d(dim, dim * 3, kernel_size=1, bias=bias)
        self.qkv_dwconv = nn.Conv2d(dim * 3, dim * 3, 3, padding=1, groups=dim * 3, bias=bias)
        self.project_out = nn.Conv2d(dim, dim, kernel_size=1, bias=bias)

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = self.qkv_dwconv(self.qkv(x)).chunk(3, dim=1)
        q, k, v = (t.reshape(b, self.num_heads, c // self.num_heads, h * w) for t in (q, k, v))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        attn = (q @ k.transpose(-2, -1)) * self.temperature
        out = attn.softmax(dim=-1) @ v
        return self.project_out(out.reshape(b, -1, h, w))


class RestormerBlock(nn.Module):
    def __init__(self, dim, num_heads, kind):
        super().__init__()
        self.norm1, self.norm2 = RestormerNorm(dim, kind), RestormerNorm(dim, kind)
        self.attn = TransposedAttention(dim, num_heads, False)
        self.ffn = GatedFeedForward(dim, 1.5, False)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


@generator((2, 3, 8, 8), sizes=True, pinned=("the var over", "softmax", "it meets a fixed size"))
class Restormer(nn.Module):
    def __init__(self, dim=4):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, 3, padding=1, bias=False)
        self.enc1, self.latent = (
            RestormerBlock(dim, 1, "WithBias"),
            RestormerBlock(dim * 2, 2, "BiasFree"),
        )
        self.down1 = nn.Sequential(
            nn.Conv2d(dim, dim // 2, 3, 1, 1, bias=False), nn.PixelUnshuffle(2)
        )
        self.up1 = nn.Sequential(
            nn.Conv2d(dim * 2, dim * 4, 3, 1, 1, bias=False), nn.PixelShuffle(2)
        )
        self.reduce, self.output = nn.Conv2d(dim * 2, dim, 1), nn.Conv2d(dim, 3, 3, padding=1)

    def forward(self, inp_img):
        out1 = self.enc1(self.patch_embed(inp_img))
        latent = self.latent(self.down1(out1))
        dec = self.reduce(torch.cat([self.up1(latent), out1], 1))
        return self.output(dec) + inp_img


class HinBlock(nn.Module):
    """Half of the channels are instance-normalised."""

    def __init__(self, in_size, out_size, use_HIN=True):
        super().__init__()
        self.identity, self.use_HIN = nn.Conv2d(in_size, out_size, 1, 1, 0), use_HIN
        self.conv_1, self.relu_1 = nn.Conv2d(in_size, out_size, 3, padding=1), nn.LeakyReLU(0.2)
        self.conv_2, self.relu_2 = nn.Conv2d(out_size, out_size, 3, padding=1), nn.LeakyReLU(0.2)
        if use_HIN:
            self.norm = nn.InstanceNorm2d(out_size // 2, affine=True)

    def forward(self, x):
        out = self.conv_1(x)
        if self.use_HIN:
            out_1, out_2 = torch.chunk(out, 2, dim=1)
            out = torch.cat([self.norm(out_1), out_2], dim=1)
        out = self.relu_1(out)
        out = self.relu_2(self.conv_2(out))
        out += self.identity(x)
        return out


class SAM(nn.Module):
    def __init__(self, n_feat):
        super().__init__()
        self.conv1 = nn.Conv2d(n_feat, n_feat, 3, padding=1)
        self.conv2, self.conv3 = (
            nn.Conv2d(n_feat, 3, 3, padding=1),
            nn.Conv2d(3, n_feat, 3, padding=1),
        )

    def forward(self, x, x_img):
        x1 = self.conv1(x)
        img = self.conv2(x) + x_img
        x2 = torch.sigmoid(self.conv3(img))
        return x1 * x2 + x, img


@generator((2, 3, 8, 8), sizes=True)
class HalfInstance(nn.Module):
    def __init__(self, wf=4):
        super().__init__()
        self.conv_01, self.conv_02 = nn.Conv2d(3, wf, 3, 1, 1), nn.Conv2d(3, wf, 3, 1, 1)
        self.down, self.bottom = (
            nn.ModuleList([HinBlock(wf, wf * 2)]),
            HinBlock(wf * 2, wf * 2, False),
        )
        self.sam12, self.cat12 = SAM(wf * 2), nn.Conv2d(wf * 3, wf, 1, 1, 0)
        self.down2, self.last = HinBlock(wf, wf), nn.Conv2d(wf, 3, 3, padding=1)

    def forward(self, x):
        image = x
        x1 = self.conv_01(image)
        for down in self.down:
            x1 = down(x1)
        sam_feature, out_1 = self.sam12(self.bottom(x1), image)
        x2 = self.conv_02(image)
        x2 = self.cat12(torch.cat([x2, sam_feature], dim=1))
        return [out_1, self.last(self.down2(x2)) + image]


class LayerNormFunction(nn.Module):
    def __init__(self, channels, eps=1e-6):
        super().__init__()
        self.register_parameter("weight", nn.Parameter(torch.ones(channels)))
        self.register_parameter("bias", nn.Parameter(torch.zeros(channels)))
        self.eps = eps

    def forward(self, x):
        N, C, H, W = x.size()
        mu = x.mean(1, keepdim=True)
        var = (x - mu).pow(2).mean(1, keepdim=True)
        y = (x - mu) / (var + self.eps).sqrt()
        return self.weight.view(1, C, 1, 1) * y + self.bias.view(1, C, 1, 1)


class SimpleGate(nn.Module):
    def forward(self, x):
        x1, x2 = x.chunk(2, dim=1)
        return x1 * x2


class NAFBlock(nn.Module):
    def __init__(self, c, DW_Expand=2, norm=None):
        super().__init__()
        dw_channel = c * DW_Expand
        self.conv1, self.conv3 = nn.Conv2d(c, dw_channel, 1), nn.Conv2d(dw_channel // 2, c, 1)
        self.conv2 = nn.Conv2d(dw_channel, dw_channel, 3, padding=1, groups=dw_channel)
        self.sca = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(dw_channel // 2, dw_channel // 2, 1)
        )
        self.sg, self.conv4, self.conv5 = SimpleGate(), nn.Conv2d(c, 2 * c, 1), nn.Conv2d(c, c, 1)
        self.norm1, self.norm2 = norm(c), norm(c)
        self.beta = nn.Parameter(torch.zeros((1, c, 1, 1)), requires_grad=True)
        self.gamma = nn.Parameter(torch.zeros((1, c, 1, 1)), requires_grad=True)

    def forward(self, inp):
        x = self.sg(self.conv2(self.conv1(self.norm1(inp))))
        x = x * self.sca(x)
        y = inp + self.conv3(x) * self.beta
        x = self.conv5(self.sg(self.conv4(self.norm2(y))))
        return y + x * self.gamma


class Naf(nn.Module):
    def __init__(self, width=4, norm=nn.BatchNorm2d):
        super().__init__()
        self.intro, self.ending = nn.Conv2d(3, width, 3, 1, 1), nn.Conv2d(width, 3, 3, 1, 1)
        self.encoders, self.decoders = nn.ModuleList(), nn.ModuleList()
        self.ups, self.downs = nn.ModuleList(), nn.ModuleList()
        chan = width
        for num in (1, 1):
            self.encoders.append(nn.Sequential(*[NAFBlock(chan, norm=norm) for _ in range(num)]))
            self.downs.append(nn.Conv2d(chan, 2 * chan, 2, 2))
            chan = chan * 2
        self.middle_blks = nn.Sequential(NAFBlock(chan, norm=norm))
        for num in (1, 1):
            self.ups.append(
                nn.Sequential(nn.Conv2d(chan, chan * 2, 1, bias=False), nn.PixelShuffle(2))
            )
            chan = chan // 2
            self.decoders.append(nn.Sequential(*[NAFBlock(chan, norm=norm) for _ in range(num)]))
        self.padder_size = 2 ** len(self.encoders)

    def forward(self, inp):
        B, C, H, W = inp.shape
        inp = self.check_image_size(inp)
        x = self.intro(inp)
        encs = []
        for encoder, down in zip(self.encoders, self.downs):
            x = encoder(x)
            encs.append(x)
            x = down(x)
        x = self.middle_blks(x)
        for decoder, up, enc_skip in zip(self.decoders, self.ups, encs[::-1]):
            x = up(x)
            x = x + enc_skip
            x = decoder(x)
        x = self.ending(x)
        x = x + inp
        return x[:, :, :H, :W]

    def check_image_size(self, x):
        _, _, h, w = x.size()
        mod_pad_h = (self.padder_size - h % self.padder_size) % self.padder_size
        mod_pad_w = (self.padder_size - w % self.padder_size) % self.padder_size
        return F.pad(x, (0, mod_pad_w, 0, mod_pad_h))


@generator((2, 3, 8, 8), sizes=True)
class NafBatch(Naf):
    """Its image is padded to a multiple of the stride and cropped again."""


@generator((2, 3, 8, 8), sizes=True)
class NafLayer(Naf):
    """LayerNorm over the channels, spelled out with means."""

    def __init__(self):
        super().__init__(norm=LayerNormFunction)


def ordered(*pairs):
    return nn.Sequential(OrderedDict(pairs))


class RFDB(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.dc = n // 2
        self.c1_d, self.c1_r = nn.Conv2d(n, self.dc, 1), nn.Conv2d(n, n, 3, padding=1)
        self.c2_d, self.c2_r = nn.Conv2d(n, self.dc, 1), nn.Conv2d(n, n, 3, padding=1)
        self.c4, self.act = nn.Conv2d(n, self.dc, 3, padding=1), nn.LeakyReLU(0.05)
        self.c5, self.esa = nn.Conv2d(self.dc * 3, n, 1), ESA(n)

    def forward(self, input):
        distilled_c1 = self.act(self.c1_d(input))
        r_c1 = self.act(self.c1_r(input) + input)
        distilled_c2 = self.act(self.c2_d(r_c1))
        r_c2 = self.act(self.c2_r(r_c1) + r_c1)
        out = torch.cat([distilled_c1, distilled_c2, self.act(self.c4(r_c2))], dim=1)
        return self.esa(self.c5(out))


class ESA(nn.Module):
    def __init__(self, n_feats):
        super().__init__()
        f = n_feats // 4
        self.conv1, self.conv_f = nn.Conv2d(n_feats, f, 1), nn.Conv2d(f, f, 1)
        self.conv2 = nn.Conv2d(f, f, 3, stride=2, padding=0)
        self.conv_max, self.conv4 = nn.Conv2d(f, f, 3, padding=1), nn.Conv2d(f, n_feats, 1)

    def forward(self, x):
        c1_ = self.conv1(x)
        v_max = F.max_pool2d(self.conv2(c1_), kernel_size=3, stride=2)
        c3 = self.conv_max(F.relu(v_max))
        c3 = F.interpolate(c3, (x.size(2), x.size(3)), mode="bilinear", align_corners=False)
        return x * torch.sigmoid(self.conv4(c3 + self.conv_f(c1_)))


@generator((2, 3, 12, 12), sizes=True)
class Rfdn(nn.Module):
    def __init__(self, nf=8):
        super().__init__()
        self.model = ordered(
            ("fea", nn.Conv2d(3, nf, 3, padding=1)), ("b1", RFDB(nf)), ("b2", RFDB(nf)),
            ("up", nn.Conv2d(nf, 12, 3, padding=1)), ("shuffle", nn.PixelShuffle(2)),
        )  # fmt: skip

    def forward(self, x):
        return self.model(x) + F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)
