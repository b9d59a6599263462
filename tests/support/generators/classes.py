"""Generators of a class: CGAN, ACGAN, InfoGAN, BigGAN and BigGAN-deep, text: DF-GAN, AttnGAN."""

import functools

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn import Parameter as P
from torch.nn.utils import spectral_norm

from support.generators.register import generator


@generator((2, 6), (2,), pinned=("by number",))
class ConditionalMLP(nn.Module):
    """Linear layers only, with a label embedding in front and an image at the end."""

    def __init__(self, img_shape=(1, 6, 6), latent_dim=6, n_classes=3):
        super().__init__()
        self.img_shape = img_shape
        self.label_emb = nn.Embedding(n_classes, n_classes)

        def block(in_feat, out_feat, normalize=True):
            layers = [nn.Linear(in_feat, out_feat)]
            if normalize:
                layers.append(nn.BatchNorm1d(out_feat, 0.8))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            return layers

        self.model = nn.Sequential(
            *block(latent_dim + n_classes, 8, normalize=False), *block(8, 12), *block(12, 16),
            nn.Linear(16, int(np.prod(img_shape))), nn.Tanh(),
        )  # fmt: skip

    def forward(self, noise, labels):
        gen_input = torch.cat((self.label_emb(labels), noise), -1)
        img = self.model(gen_input)
        img = img.view(img.size(0), *self.img_shape)
        return img


@generator((2, 8), (2,), pinned=("by number",))
class AuxiliaryClassifier(nn.Module):
    """The label embedding multiplies the latent vector."""

    def __init__(self, latent_dim=8, n_classes=3, img_size=16):
        super().__init__()
        self.label_emb = nn.Embedding(n_classes, latent_dim)
        self.init_size = img_size // 4
        self.l1 = nn.Sequential(nn.Linear(latent_dim, 8 * self.init_size**2))
        self.conv_blocks = nn.Sequential(
            nn.BatchNorm2d(8), nn.Upsample(scale_factor=2), nn.Conv2d(8, 8, 3, stride=1, padding=1),
            nn.BatchNorm2d(8, 0.8), nn.LeakyReLU(0.2, inplace=True), nn.Upsample(scale_factor=2),
            nn.Conv2d(8, 4, 3, stride=1, padding=1), nn.BatchNorm2d(4, 0.8),
            nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(4, 3, 3, stride=1, padding=1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, noise, labels):
        gen_input = torch.mul(self.label_emb(labels), noise)
        out = self.l1(gen_input)
        out = out.view(out.shape[0], 8, self.init_size, self.init_size)
        return self.conv_blocks(out)


class ccbn(nn.Module):
    """Class-conditional norm whose gain and bias come from a linear layer or an embedding."""

    def __init__(self, output_size, input_size, which_linear, eps=1e-5):
        super().__init__()
        self.gain, self.bias = (
            which_linear(input_size, output_size),
            which_linear(input_size, output_size),
        )
        self.eps = eps
        self.register_buffer("stored_mean", torch.zeros(output_size))
        self.register_buffer("stored_var", torch.ones(output_size))

    def forward(self, x, y):
        gain = (1 + self.gain(y)).view(y.size(0), -1, 1, 1)
        bias = self.bias(y).view(y.size(0), -1, 1, 1)
        out = F.batch_norm(
            x, self.stored_mean, self.stored_var, None, None, self.training, 0.1, self.eps
        )
        return out * gain + bias


class Attention(nn.Module):
    def __init__(self, ch, which_conv):
        super().__init__()
        self.ch = ch
        self.theta, self.phi = which_conv(ch, ch // 4), which_conv(ch, ch // 4)
        self.g, self.o = which_conv(ch, ch // 2), which_conv(ch // 2, ch)
        self.gamma = P(torch.tensor(0.7), requires_grad=True)

    def forward(self, x, y=None):
        theta = self.theta(x)
        phi = F.max_pool2d(self.phi(x), [2, 2])
        g = F.max_pool2d(self.g(x), [2, 2])
        theta = theta.view(-1, self.ch // 4, x.shape[2] * x.shape[3])
        phi = phi.view(-1, self.ch // 4, x.shape[2] * x.shape[3] // 4)
        g = g.view(-1, self.ch // 2, x.shape[2] * x.shape[3] // 4)
        beta = F.softmax(torch.bmm(theta.transpose(1, 2), phi), -1)
        o = torch.bmm(g, beta.transpose(1, 2)).view(-1, self.ch // 2, x.shape[2], x.shape[3])
        return self.gamma * self.o(o) + x


class GBlock(nn.Module):
    def __init__(self, in_channels, out_channels, which_conv, which_bn, upsample):
        super().__init__()
        self.activation, self.upsample = F.relu, upsample
        self.conv1 = which_conv(in_channels, out_channels, 3, padding=1)
        self.conv2 = which_conv(out_channels, out_channels, 3, padding=1)
        self.learnable_sc = in_channels != out_channels or upsample
        if self.learnable_sc:
            self.conv_sc = which_conv(in_channels, out_channels, kernel_size=1, padding=0)
        self.bn1, self.bn2 = which_bn(in_channels), which_bn(out_channels)

    def forward(self, x, y):
        h = self.activation(self.bn1(x, y))
        if self.upsample:
            h = self.upsample(h)
            x = self.upsample(x)
        h = self.conv1(h)
        h = self.conv2(self.activation(self.bn2(h, y)))
        if self.learnable_sc:
            x = self.conv_sc(x)
        return h + x


@generator((2, 12), (2,), pinned=("by number",))
class Big(nn.Module):
    """A shared class embedding joined to one chunk of the latent vector at each block."""

    def __init__(self, G_ch=4, dim_z=12, shared_dim=6, bottom_width=4, hier=True):
        super().__init__()
        self.hier, self.bottom_width = hier, bottom_width
        self.arch = {"in_channels": [2 * G_ch, 2 * G_ch], "out_channels": [2 * G_ch, G_ch]}
        self.num_slots = len(self.arch["in_channels"]) + 1
        self.z_chunk_size = dim_z // self.num_slots
        self.which_conv, self.which_linear = nn.Conv2d, nn.Linear
        bn_linear = functools.partial(self.which_linear, bias=False)
        self.which_bn = functools.partial(
            ccbn, which_linear=bn_linear, input_size=shared_dim + self.z_chunk_size
        )
        self.shared = nn.Embedding(3, shared_dim)
        self.linear = self.which_linear(
            dim_z // self.num_slots, self.arch["in_channels"][0] * (self.bottom_width**2)
        )
        self.blocks = []
        for index in range(len(self.arch["out_channels"])):
            self.blocks += [[
                GBlock(
                    self.arch["in_channels"][index], self.arch["out_channels"][index],
                    self.which_conv, self.which_bn,
                    functools.partial(F.interpolate, scale_factor=2),
                )
            ]]  # fmt: skip
            if index == 0:
                one = functools.partial(self.which_conv, kernel_size=1, padding=0, bias=False)
                self.blocks[-1] += [Attention(self.arch["out_channels"][index], one)]
        self.blocks = nn.ModuleList([nn.ModuleList(block) for block in self.blocks])
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(G_ch), nn.ReLU(inplace=False), nn.Conv2d(G_ch, 3, 3, padding=1)
        )

    def forward(self, z, y):
        y = self.shared(y)
        if self.hier:
            zs = torch.split(z, self.z_chunk_size, 1)
            z = zs[0]
            ys = [torch.cat([y, item], 1) for item in zs[1:]]
        else:
            ys = [y] * len(self.blocks)
        h = self.linear(z)
        h = h.view(h.size(0), -1, self.bottom_width, self.bottom_width)
        for index, blocklist in enumerate(self.blocks):
            for block in blocklist:
                h = block(h, ys[index])
        return torch.tanh(self.output_layer(h))


class DeepBlock(nn.Module):
    """Bottleneck block whose shortcut drops the channels that are too many."""

    def __init__(self, i, o, upsample=None, which_bn=None, ratio=2):
        super().__init__()
        self.in_channels, self.out_channels = i, o
        self.hidden_channels = self.in_channels // ratio
        h = self.hidden_channels
        self.conv1, self.conv2 = nn.Conv2d(i, h, 1), nn.Conv2d(h, h, 3, padding=1)
        self.conv3, self.conv4 = nn.Conv2d(h, h, 3, padding=1), nn.Conv2d(h, o, 1)
        self.bn1, self.bn2 = which_bn(i), which_bn(h)
        self.bn3, self.bn4 = which_bn(h), which_bn(h)
        self.activation, self.upsample = nn.ReLU(inplace=True), upsample

    def forward(self, x, y):
        h = self.conv1(self.activation(self.bn1(x, y)))
        h = self.activation(self.bn2(h, y))
        if self.in_channels != self.out_channels:
            x = x[:, : self.out_channels]
        if self.upsample:
            h, x = self.upsample(h), self.upsample(x)
        h = self.conv2(h)
        h = self.conv3(self.activation(self.bn3(h, y)))
        h = self.conv4(self.activation(self.bn4(h, y)))
        return h + x


@generator((2, 6), (2, 4))
class BigDeep(nn.Module):
    def __init__(self, ch=8):
        super().__init__()
        bn = functools.partial(ccbn, input_size=10, which_linear=self.sn_linear)
        up = nn.Upsample(scale_factor=2)
        self.linear = self.sn_linear(10, 16 * ch)
        self.blocks = nn.ModuleList(
            [DeepBlock(ch, ch, None, bn), DeepBlock(ch, ch // 2, up, bn), DeepBlock(4, 4, up, bn)]
        )
        self.to_rgb = nn.Conv2d(4, 3, 3, padding=1)

    def sn_linear(self, i, o):
        return nn.Linear(i, o, bias=False)

    def forward(self, z, embed):
        cond = torch.cat((z, embed), dim=1)
        h = self.linear(cond)
        h = h.view(-1, 4, 4, 8)  # (N, H, W, C)
        h = h.permute(0, 3, 1, 2).contiguous()
        for layer in self.blocks:
            h = layer(h, cond)
        h = self.to_rgb(F.relu(h))
        return torch.tanh(h[:, :3, ...])


class Affine(nn.Module):
    def __init__(self, cond_dim, num_features):
        super().__init__()
        from collections import OrderedDict

        def mlp():
            return nn.Sequential(
                OrderedDict(
                    [
                        ("linear1", nn.Linear(cond_dim, num_features)),
                        ("relu1", nn.ReLU(inplace=True)),
                        ("linear2", nn.Linear(num_features, num_features)),
                    ]
                )
            )

        self.fc_gamma, self.fc_beta = mlp(), mlp()

    def forward(self, x, y=None):
        weight, bias = self.fc_gamma(y), self.fc_beta(y)
        if weight.dim() == 1:
            weight = weight.unsqueeze(0)
        if bias.dim() == 1:
            bias = bias.unsqueeze(0)
        size = x.size()
        weight = weight.unsqueeze(-1).unsqueeze(-1).expand(size)
        bias = bias.unsqueeze(-1).unsqueeze(-1).expand(size)
        return weight * x + bias


class FusionBlock(nn.Module):
    def __init__(self, cond_dim, in_nc, out_nc, upsample):
        super().__init__()
        self.upsample, self.learnable_sc = upsample, in_nc != out_nc
        self.c1, self.c2 = nn.Conv2d(in_nc, out_nc, 3, 1, 1), nn.Conv2d(out_nc, out_nc, 3, 1, 1)
        self.affines = nn.ModuleList(Affine(cond_dim, n) for n in (in_nc, in_nc, out_nc, out_nc))
        self.gamma = nn.Parameter(torch.zeros(1))
        if self.learnable_sc:
            self.c_sc = nn.Conv2d(in_nc, out_nc, 1, stride=1, padding=0)

    def residual(self, h, y):
        act = nn.LeakyReLU(0.2, inplace=True)
        h = act(self.affines[0](h, y))
        h = act(self.affines[1](h, y))
        h = self.c1(h)
        h = act(self.affines[3](act(self.affines[2](h, y)), y))
        return self.c2(h)

    def forward(self, x, y):
        if self.upsample is True:
            x = F.interpolate(x, scale_factor=2)
        shortcut = self.c_sc(x) if self.learnable_sc else x
        return shortcut + self.gamma * self.residual(x, y)


@generator((2, 6), (2, 5))
class DeepFusion(nn.Module):
    def __init__(self, ngf=4, nz=6, cond_dim=5):
        super().__init__()
        self.ngf = ngf
        self.fc = nn.Linear(nz, ngf * 2 * 4 * 4)
        self.GBlocks = nn.ModuleList([])
        for i, o, up in ((2, 2, True), (2, 1, True)):
            self.GBlocks.append(FusionBlock(cond_dim + nz, ngf * i, ngf * o, up))
        self.to_rgb = nn.Sequential(
            nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(ngf, 3, 3, 1, 1), nn.Tanh()
        )

    def forward(self, noise, c):
        out = self.fc(noise)
        out = out.view(noise.size(0), 2 * self.ngf, 4, 4)
        cond = torch.cat((noise, c), dim=1)
        for GBlock in self.GBlocks:
            out = GBlock(out, cond)
        return self.to_rgb(out)


class GLU(nn.Module):
    def forward(self, x):
        nc = x.size(1)
        assert nc % 2 == 0, "channels dont divide 2!"
        nc = int(nc / 2)
        return x[:, :nc] * torch.sigmoid(x[:, nc:])


def upBlock(i, o):
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Conv2d(i, o * 2, 3, 1, 1, bias=False), nn.BatchNorm2d(o * 2), GLU(),
    )  # fmt: skip


class GluResBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(c, c * 2, 3, 1, 1, bias=False), nn.BatchNorm2d(c * 2), GLU(),
            nn.Conv2d(c, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c),
        )  # fmt: skip

    def forward(self, x):
        residual = x
        out = self.block(x)
        out += residual
        return out


class WordAttention(nn.Module):
    def __init__(self, idf, cdf):
        super().__init__()
        self.conv_context = nn.Conv2d(cdf, idf, kernel_size=1, stride=1, padding=0, bias=False)
        self.sm = nn.Softmax()
        self.mask = None

    def applyMask(self, mask):
        self.mask = mask

    def forward(self, input, context):
        ih, iw = input.size(2), input.size(3)
        queryL = ih * iw
        batch_size, sourceL = context.size(0), context.size(2)
        target = input.view(batch_size, -1, queryL)
        targetT = torch.transpose(target, 1, 2).contiguous()
        sourceT = context.unsqueeze(3)
        sourceT = self.conv_context(sourceT).squeeze(3)
        attn = torch.bmm(targetT, sourceT)
        attn = attn.view(batch_size * queryL, sourceL)
        if self.mask is not None:
            mask = self.mask.repeat(queryL, 1)
            attn.data.masked_fill_(mask.data, -float("inf"))
        attn = F.softmax(attn, dim=1)
        attn = attn.view(batch_size, queryL, sourceL)
        attn = torch.transpose(attn, 1, 2).contiguous()
        weightedContext = torch.bmm(sourceT, attn)
        weightedContext = weightedContext.view(batch_size, -1, ih, iw)
        return weightedContext, attn.view(batch_size, -1, ih, iw)


@generator((2, 5), (2, 6), (2, 7, 4))
class AttnText(nn.Module):
    """Conditioning by mean and spread of a text vector, words attended to by matrix products."""

    def __init__(self, ngf=4, ncf=3, nef=7, nz=5):
        super().__init__()
        self.gf_dim, self.c_dim = ngf * 2, ncf
        self.ca = nn.Linear(6, ncf * 4, bias=True)
        self.fc = nn.Sequential(
            nn.Linear(nz + ncf, ngf * 4 * 4 * 4 * 2, bias=False),
            nn.BatchNorm1d(ngf * 4 * 4 * 4 * 2),
            GLUFlat(),
        )
        self.upsample1, self.att = upBlock(ngf * 4, ngf), WordAttention(ngf, nef)
        self.residual = self._make_layer(GluResBlock, ngf * 2)
        self.upsample = upBlock(ngf * 2, ngf)
        self.img = nn.Sequential(nn.Conv2d(ngf, 3, 3, 1, 1, bias=False), nn.Tanh())

    def _make_layer(self, block, channel_num):
        return nn.Sequential(*[block(channel_num) for _ in range(2)])

    def forward(self, z_code, sent, word_embs):
        x = F.glu(self.ca(sent))
        mu, logvar = x[:, : self.c_dim], x[:, self.c_dim :]
        c_code = mu + logvar.mul(0.5).exp_() * 0.5
        c_z_code = torch.cat((c_code, z_code), 1)
        out_code = self.fc(c_z_code)
        out_code = out_code.view(-1, 16, 4, 4)
        h_code = self.upsample1(out_code)
        c_code, att = self.att(h_code, word_embs)
        h_c_code = torch.cat((h_code, c_code), 1)
        out_code = self.upsample(self.residual(h_c_code))
        return self.img(out_code), att


class GLUFlat(nn.Module):
    def forward(self, x):
        return F.glu(x, dim=1)


@generator((2, 6))
class SpectralAttention(nn.Module):
    """Old-style spectral norm on every layer, self-attention in the middle, two outputs."""

    def __init__(self, image_size=16, z_dim=6, conv_dim=4):
        super().__init__()
        layer1 = [spectral_norm(nn.ConvTranspose2d(z_dim, conv_dim * 2, 4))]
        layer1 += [nn.BatchNorm2d(conv_dim * 2), nn.ReLU()]
        layer2 = [spectral_norm(nn.ConvTranspose2d(conv_dim * 2, conv_dim * 2, 4, 2, 1))]
        layer2 += [nn.BatchNorm2d(conv_dim * 2), nn.ReLU()]
        self.l1, self.l2 = nn.Sequential(*layer1), nn.Sequential(*layer2)
        self.last = nn.Sequential(nn.ConvTranspose2d(conv_dim * 2, 3, 4, 2, 1), nn.Tanh())
        self.attn1 = SelfAttn(conv_dim * 2, "relu")

    def forward(self, z):
        z = z.view(z.size(0), z.size(1), 1, 1)
        out = self.l2(self.l1(z))
        out, p1 = self.attn1(out)
        return self.last(out), p1


class SelfAttn(nn.Module):
    def __init__(self, in_dim, activation):
        super().__init__()
        self.chanel_in, self.activation = in_dim, activation
        self.query_conv = nn.Conv2d(in_channels=in_dim, out_channels=in_dim // 2, kernel_size=1)
        self.key_conv = nn.Conv2d(in_channels=in_dim, out_channels=in_dim // 2, kernel_size=1)
        self.value_conv = nn.Conv2d(in_channels=in_dim, out_channels=in_dim, kernel_size=1)
        self.gamma, self.softmax = nn.Parameter(torch.zeros(1)), nn.Softmax(dim=-1)

    def forward(self, x):
        m_batchsize, C, width, height = x.size()
        proj_query = self.query_conv(x).view(m_batchsize, -1, width * height).permute(0, 2, 1)
        proj_key = self.key_conv(x).view(m_batchsize, -1, width * height)
        energy = torch.bmm(proj_query, proj_key)
        attention = self.softmax(energy)
        proj_value = self.value_conv(x).view(m_batchsize, -1, width * height)
        out = torch.bmm(proj_value, attention.permute(0, 2, 1))
        out = out.view(m_batchsize, C, width, height)
        return self.gamma * out + x, attention
