"""Blocks that people put into generators: attention of all kinds, splits, mixtures of kernels."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from support.generators.register import generator


class Body(nn.Module):
    """A first and a last convolution around blocks."""

    def __init__(self, *blocks, ch=8, out=None):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, ch, 3, padding=1), nn.BatchNorm2d(ch), nn.ReLU())
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Conv2d(out or ch, 3, 3, padding=1)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x).tanh()


class ChannelGate(nn.Module):
    def __init__(self, gate_channels, reduction_ratio=2, pool_types=("avg", "max")):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Flatten(),
            nn.Linear(gate_channels, gate_channels // reduction_ratio),
            nn.ReLU(),
            nn.Linear(gate_channels // reduction_ratio, gate_channels),
        )
        self.pool_types = pool_types

    def forward(self, x):
        channel_att_sum = None
        for pool_type in self.pool_types:
            size = (x.size(2), x.size(3))
            pool = F.avg_pool2d if pool_type == "avg" else F.max_pool2d
            raw = self.mlp(pool(x, size, stride=size))
            channel_att_sum = raw if channel_att_sum is None else channel_att_sum + raw
        return x * F.sigmoid(channel_att_sum).unsqueeze(2).unsqueeze(3).expand_as(x)


class SpatialGate(nn.Module):
    def __init__(self):
        super().__init__()
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x):
        pooled = torch.cat((torch.max(x, 1)[0].unsqueeze(1), torch.mean(x, 1).unsqueeze(1)), dim=1)
        return x * F.sigmoid(self.spatial(pooled))


@generator((2, 3, 8, 8), sizes=True, pinned=("fixed number",))
class Cbam(Body):
    """Gates from pooled maps, then from the largest and the mean over the channels."""

    def __init__(self):
        super().__init__(ChannelGate(8), SpatialGate())


class EcaLayer(nn.Module):
    def __init__(self, k_size=3):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.conv = nn.Conv1d(1, 1, kernel_size=k_size, padding=(k_size - 1) // 2, bias=False)

    def forward(self, x):
        y = self.avg_pool(x)
        y = self.conv(y.squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        return x * y.sigmoid().expand_as(x)


@generator((2, 3, 8, 8), sizes=True, pinned=("slides over it",))
class Eca(Body):
    """A convolution that slides over the channels: their neighbours count."""

    def __init__(self):
        super().__init__(nn.Conv2d(8, 6, 3, padding=1), EcaLayer(), nn.Conv2d(6, 8, 1))


class CoordAtt(nn.Module):
    def __init__(self, inp, oup, mip=4):
        super().__init__()
        self.pool_h, self.pool_w = nn.AdaptiveAvgPool2d((None, 1)), nn.AdaptiveAvgPool2d((1, None))
        self.conv1, self.bn1, self.act = nn.Conv2d(inp, mip, 1), nn.BatchNorm2d(mip), nn.Hardswish()
        self.conv_h, self.conv_w = nn.Conv2d(mip, oup, 1), nn.Conv2d(mip, oup, 1)

    def forward(self, x):
        identity = x
        n, c, h, w = x.size()
        x_h = self.pool_h(x)
        x_w = self.pool_w(x).permute(0, 1, 3, 2)
        y = self.act(self.bn1(self.conv1(torch.cat([x_h, x_w], dim=2))))
        x_h, x_w = torch.split(y, [h, w], dim=2)
        x_w = x_w.permute(0, 1, 3, 2)
        return identity * self.conv_w(x_w).sigmoid() * self.conv_h(x_h).sigmoid()


@generator((2, 3, 8, 8), sizes=True)
class CoordinateAttention(Body):
    def __init__(self):
        super().__init__(CoordAtt(8, 8))


class SKConv(nn.Module):
    def __init__(self, features, M=2, d=4):
        super().__init__()
        self.M, self.features = M, features
        self.convs = nn.ModuleList([])
        for i in range(M):
            self.convs.append(
                nn.Sequential(
                    nn.Conv2d(features, features, 3, padding=1 + i, dilation=1 + i, groups=2),
                    nn.BatchNorm2d(features), nn.ReLU(inplace=False),
                )
            )  # fmt: skip
        self.fc = nn.Sequential(nn.Conv2d(features, d, 1, bias=False), nn.BatchNorm2d(d), nn.ReLU())
        self.fcs = nn.ModuleList([nn.Conv2d(d, features, 1) for _ in range(M)])
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x):
        batch_size = x.shape[0]
        feats = [conv(x) for conv in self.convs]
        feats = torch.cat(feats, dim=1)
        feats = feats.view(batch_size, self.M, self.features, feats.shape[2], feats.shape[3])
        feats_U = torch.sum(feats, dim=1)
        feats_Z = self.fc(F.adaptive_avg_pool2d(feats_U, 1))
        vectors = torch.cat([fc(feats_Z) for fc in self.fcs], dim=1)
        vectors = vectors.view(batch_size, self.M, self.features, 1, 1)
        return torch.sum(feats * self.softmax(vectors), dim=1)


@generator((2, 3, 8, 8), sizes=True)
class SelectiveKernels(Body):
    def __init__(self):
        super().__init__(SKConv(8))


class Bottle2neck(nn.Module):
    def __init__(self, inplanes=8, width=3, scale=4):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inplanes, width * scale, 1), nn.BatchNorm2d(width * scale)
        self.nums, self.width = scale - 1, width
        self.convs = nn.ModuleList(
            [nn.Conv2d(width, width, 3, padding=1) for _ in range(self.nums)]
        )
        self.bns = nn.ModuleList([nn.BatchNorm2d(width) for _ in range(self.nums)])
        self.conv3, self.relu = nn.Conv2d(width * scale, inplanes, 1), nn.ReLU(inplace=True)

    def forward(self, x):
        residual = x
        out = self.relu(self.bn1(self.conv1(x)))
        spx = torch.split(out, self.width, 1)
        for i in range(self.nums):
            sp = spx[i] if i == 0 else sp + spx[i]  # noqa: F821
            sp = self.convs[i](sp)
            sp = self.relu(self.bns[i](sp))
            out = sp if i == 0 else torch.cat((out, sp), 1)
        out = torch.cat((out, spx[self.nums]), 1)
        out = self.conv3(out)
        out += residual
        return self.relu(out)


@generator((2, 3, 8, 8), sizes=True)
class Res2(Body):
    """Splits that are processed one after the other."""

    def __init__(self):
        super().__init__(Bottle2neck(), Bottle2neck())


class GhostModule(nn.Module):
    def __init__(self, inp, oup, ratio=2, relu=True):
        super().__init__()
        self.oup = oup
        init_channels = math.ceil(oup / ratio)
        new_channels = init_channels * (ratio - 1)
        act = nn.ReLU(inplace=True) if relu else nn.Sequential()
        self.primary_conv = nn.Sequential(
            nn.Conv2d(inp, init_channels, 1, bias=False), nn.BatchNorm2d(init_channels), act
        )
        self.cheap_operation = nn.Sequential(
            nn.Conv2d(init_channels, new_channels, 3, 1, 1, groups=init_channels, bias=False),
            nn.BatchNorm2d(new_channels), act,
        )  # fmt: skip

    def forward(self, x):
        x1 = self.primary_conv(x)
        x2 = self.cheap_operation(x1)
        out = torch.cat([x1, x2], dim=1)
        return out[:, : self.oup, :, :]


class InvertedResidual(nn.Module):
    def __init__(self, i, o, stride=1, expand=2):
        super().__init__()
        hidden = int(round(i * expand))
        self.use_res_connect = stride == 1 and i == o
        self.conv = nn.Sequential(
            nn.Conv2d(i, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True), nn.Conv2d(hidden, o, 1, bias=False),
        )  # fmt: skip

    def forward(self, x):
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class ShuffleUnit(nn.Module):
    def __init__(self, c):
        super().__init__()
        b = c // 2
        self.branch2 = nn.Sequential(
            nn.Conv2d(b, b, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True),
            nn.Conv2d(b, b, 3, 1, 1, bias=False, groups=b), nn.BatchNorm2d(b), nn.Conv2d(b, b, 1),
        )  # fmt: skip

    def forward(self, x):
        x1, x2 = x.chunk(2, dim=1)
        out = torch.cat((x1, self.branch2(x2)), dim=1)
        batchsize, num_channels, height, width = out.size()
        out = out.view(batchsize, 2, num_channels // 2, height, width)
        return torch.transpose(out, 1, 2).contiguous().view(batchsize, -1, height, width)


@generator((2, 3, 8, 8), sizes=True)
class Mobile(Body):
    def __init__(self):
        super().__init__(
            GhostModule(8, 7), InvertedResidual(7, 8), InvertedResidual(8, 8), ShuffleUnit(8)
        )


class DynamicConv(nn.Module):
    """Attention over several kernels, mixed for each image; the batch folded into groups."""

    def __init__(self, i, o, K=3, temperature=30):
        super().__init__()
        self.i, self.o, self.K, self.temperature = i, o, K, temperature
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(i, 4, 1), nn.ReLU(), nn.Conv2d(4, K, 1), nn.Flatten()
        )
        self.weight = nn.Parameter(torch.randn(K, o, i, 3, 3), requires_grad=True)
        self.bias = nn.Parameter(torch.randn(K, o))

    def forward(self, x):
        softmax_attention = F.softmax(self.attention(x) / self.temperature, 1)
        batch_size, in_planes, height, width = x.size()
        x = x.view(1, -1, height, width)
        weight = self.weight.view(self.K, -1)
        aggregate_weight = torch.mm(softmax_attention, weight).view(-1, self.i, 3, 3)
        aggregate_bias = torch.mm(softmax_attention, self.bias).view(-1)
        output = F.conv2d(
            x, weight=aggregate_weight, bias=aggregate_bias, stride=1, padding=1, groups=batch_size
        )
        return output.view(batch_size, self.o, output.size(-2), output.size(-1))


@generator((2, 3, 8, 8))
class MixedKernels(Body):
    def __init__(self):
        super().__init__(DynamicConv(8, 6), nn.ReLU(), DynamicConv(6, 8))


class Involution(nn.Module):
    def __init__(self, channels, kernel_size=3, group_channels=4):
        super().__init__()
        self.kernel_size, self.group_channels = kernel_size, group_channels
        self.groups = channels // group_channels
        self.conv1 = nn.Sequential(nn.Conv2d(channels, channels // 2, 1), nn.ReLU())
        self.conv2 = nn.Conv2d(channels // 2, kernel_size**2 * self.groups, 1)
        self.unfold = nn.Unfold(kernel_size, 1, (kernel_size - 1) // 2, 1)

    def forward(self, x):
        weight = self.conv2(self.conv1(x))
        b, c, h, w = weight.shape
        weight = weight.view(b, self.groups, self.kernel_size**2, h, w).unsqueeze(2)
        out = self.unfold(x).view(b, self.groups, self.group_channels, self.kernel_size**2, h, w)
        return (weight * out).sum(dim=3).view(b, -1, h, w)


@generator((2, 3, 8, 8), sizes=True)
class Involved(Body):
    def __init__(self):
        super().__init__(Involution(8))


class HyperConv(nn.Module):
    """A linear layer writes the kernel of a convolution."""

    def __init__(self, i, o, z=5):
        super().__init__()
        self.i, self.o = i, o
        self.code = nn.Parameter(torch.randn(z))
        self.hyper = nn.Sequential(nn.Linear(z, 7), nn.ReLU(), nn.Linear(7, o * i * 9))

    def forward(self, x):
        kernel = self.hyper(self.code).view(self.o, self.i, 3, 3)
        return F.conv2d(x, kernel, padding=1)


class LowRank(nn.Module):
    """A kernel that is a product of two thin matrices, with gains as in weight norm."""

    def __init__(self, i, o, r=3):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(o, r)), nn.Parameter(torch.randn(r, i * 9))
        self.g = nn.Parameter(torch.rand(o, 1, 1, 1))
        self.size = (o, i, 3, 3)

    def forward(self, x):
        w = (self.a @ self.b).reshape(self.size)
        w = self.g * w / (w.pow(2).sum(dim=(1, 2, 3), keepdim=True) + 1e-3).sqrt()
        return F.conv2d(x, w, None, 1, 1)


@generator((2, 3, 8, 8), sizes=True, pinned=("fixed number",))
class WrittenKernels(Body):
    def __init__(self):
        super().__init__(HyperConv(8, 6), nn.ELU(), LowRank(6, 8))


class OctaveConv(nn.Module):
    def __init__(self, i, o, alpha=0.25):
        super().__init__()
        self.h2h = nn.Conv2d(i - int(alpha * i), o - int(alpha * o), 3, 1, 1)
        self.h2l = nn.Conv2d(i - int(alpha * i), int(alpha * o), 3, 1, 1)
        self.l2h = nn.Conv2d(int(alpha * i), o - int(alpha * o), 3, 1, 1)
        self.l2l = nn.Conv2d(int(alpha * i), int(alpha * o), 3, 1, 1)
        self.pool, self.up = nn.AvgPool2d(2, 2), nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x):
        X_h, X_l = x
        return self.h2h(X_h) + self.up(self.l2h(X_l)), self.l2l(X_l) + self.h2l(self.pool(X_h))


class FourierUnit(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.conv = nn.Conv2d(i * 2, o * 2, 1, bias=False)
        self.bn, self.relu = nn.BatchNorm2d(o * 2), nn.ReLU(inplace=True)

    def forward(self, x):
        batch = x.shape[0]
        ffted = torch.fft.rfftn(x, dim=(-2, -1), norm="ortho")
        ffted = torch.stack((ffted.real, ffted.imag), dim=-1).permute(0, 1, 4, 2, 3).contiguous()
        ffted = ffted.view((batch, -1, *ffted.size()[3:]))
        ffted = self.relu(self.bn(self.conv(ffted)))
        ffted = ffted.view((batch, -1, 2, *ffted.size()[2:])).permute(0, 1, 3, 4, 2).contiguous()
        ffted = torch.complex(ffted[..., 0], ffted[..., 1])
        return torch.fft.irfftn(ffted, s=x.shape[-2:], dim=(-2, -1), norm="ortho")


class SpectralTransform(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(i, o // 2, 1), nn.BatchNorm2d(o // 2), nn.ReLU(True))
        self.fu, self.lfu = FourierUnit(o // 2, o // 2), FourierUnit(o // 2, o // 2)
        self.conv2 = nn.Conv2d(o // 2, o, 1, bias=False)

    def forward(self, x):
        x = self.conv1(x)
        output = self.fu(x)
        n, c, h, w = x.shape
        split_no = 2
        split_s = h // split_no
        xs = torch.cat(torch.split(x[:, : c // 4 * 2], split_s, dim=-2), dim=1).contiguous()
        xs = torch.cat(torch.split(xs, split_s, dim=-1), dim=1).contiguous()
        xs = self.lfu(xs[:, :c])
        xs = xs.repeat(1, 1, split_no, split_no).contiguous()
        return self.conv2(x + output + xs)


class FFC(nn.Module):
    def __init__(self, i, o, ratio=0.5):
        super().__init__()
        ig, og = int(i * ratio), int(o * ratio)
        self.convl2l = nn.Conv2d(i - ig, o - og, 3, padding=1, padding_mode="reflect")
        self.convl2g = nn.Conv2d(i - ig, og, 3, padding=1, padding_mode="reflect")
        self.convg2l = nn.Conv2d(ig, o - og, 3, padding=1, padding_mode="reflect")
        self.convg2g = SpectralTransform(ig, og)
        self.bn_l, self.bn_g = nn.BatchNorm2d(o - og), nn.BatchNorm2d(og)

    def forward(self, x):
        x_l, x_g = x if type(x) is tuple else (x, 0)
        out_xl = self.convl2l(x_l) + self.convg2l(x_g)
        out_xg = self.convl2g(x_l) + self.convg2g(x_g)
        return F.relu(self.bn_l(out_xl)), F.relu(self.bn_g(out_xg))


@generator((2, 3, 8, 8))
class Inpainter(nn.Module):
    """Local and global features travel as a pair; the global ones through Fourier space."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(4, 16, 3, padding=1)
        self.body = nn.ModuleList([FFC(16, 16)])
        self.octave, self.up = OctaveConv(16, 8), nn.Conv2d(16, 4, 1)
        self.last = nn.Conv2d(8, 3, 7, padding=3, padding_mode="reflect")

    def forward(self, img):
        mask = (img[:, :1] > 0).to(img.dtype)
        x = self.down(torch.cat([img * (1 - mask), mask], 1))
        pair = x.split(8, 1)
        pair = (pair[0], pair[1])
        for block in self.body:
            id_l, id_g = pair
            x_l, x_g = block(pair)
            pair = (id_l + x_l, id_g + x_g)
        x = torch.cat(pair, dim=1)
        high, low = self.octave((x[:, :12], F.avg_pool2d(x[:, 12:], 2)))
        x = torch.cat((high, F.interpolate(low, scale_factor=2)), 1)
        return img * (1 - mask) + mask * self.last(x).sigmoid()


class FuseBranches(nn.Module):
    """Two resolutions exchange what they know."""

    def __init__(self, channels=(4, 8)):
        super().__init__()
        self.num_branches = len(channels)
        fuse_layers = []
        for i in range(self.num_branches):
            fuse_layer = []
            for j in range(self.num_branches):
                if j > i:
                    fuse_layer.append(nn.Conv2d(channels[j], channels[i], 1))
                elif j == i:
                    fuse_layer.append(None)
                else:
                    fuse_layer.append(nn.Conv2d(channels[j], channels[i], 3, 2, 1))
            fuse_layers.append(nn.ModuleList(fuse_layer))
        self.fuse_layers = nn.ModuleList(fuse_layers)
        self.branches = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for c in channels)

    def forward(self, x):
        for i in range(self.num_branches):
            x[i] = self.branches[i](x[i])
        x_fuse = []
        for i in range(len(self.fuse_layers)):
            y = x[0] if i == 0 else self.fuse_layers[i][0](x[0])
            for j in range(1, self.num_branches):
                if i == j:
                    y = y + x[j]
                elif j > i:
                    y = y + F.interpolate(
                        self.fuse_layers[i][j](x[j]), size=[x[i].shape[2], x[i].shape[3]]
                    )
                else:
                    y = y + self.fuse_layers[i][j](x[j])
            x_fuse.append(F.relu(y))
        return x_fuse


@generator((2, 3, 8, 8), sizes=True)
class HighResolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.transition = nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 8, 3, 2, 1)
        self.stages = nn.ModuleList([FuseBranches(), FuseBranches()])
        self.last = nn.Conv2d(12, 3, 1)

    def forward(self, x):
        x = F.relu(self.stem(x))
        xs = [x, self.transition(x)]
        for stage in self.stages:
            xs = stage(xs)
        up = F.interpolate(xs[1], size=xs[0].shape[2:], mode="bilinear", align_corners=False)
        return self.last(torch.cat([xs[0], up], 1))


class GatedConv(nn.Conv2d):
    """Half of the channels gate the other half."""

    def __init__(self, cin, cout, ksize, stride=1, rate=1, activation=nn.ELU()):
        p = int(rate * (ksize - 1) / 2)
        super().__init__(cin, cout, ksize, stride, padding=p, dilation=rate, groups=1, bias=True)
        self.activation = activation

    def forward(self, x):
        x = super().forward(x)
        if self.out_channels == 3 or self.activation is None:
            return x
        x, y = torch.split(x, int(self.out_channels / 2), dim=1)
        return self.activation(x) * torch.sigmoid(y)


class PartialConv(nn.Conv2d):
    def forward(self, input, mask):
        with torch.no_grad():
            ones = torch.ones(1, 1, *self.kernel_size, dtype=input.dtype)
            update = F.conv2d(mask, ones, padding=self.padding, stride=self.stride)
            ratio = 9.0 / (update + 1e-8)
            update = torch.clamp(update, 0, 1)
            ratio = torch.mul(ratio, update)
        raw = super().forward(torch.mul(input, mask))
        bias_view = self.bias.view(1, self.out_channels, 1, 1)
        output = torch.mul(raw - bias_view, ratio) + bias_view
        return torch.mul(output, update), update


@generator((2, 3, 8, 8), (2, 1, 8, 8), sizes=True)
class HoleFilling(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = GatedConv(5, 12, 5), GatedConv(6, 16, 3, rate=2)
        self.p1, self.p2 = PartialConv(8, 6, 3, padding=1), PartialConv(6, 6, 3, padding=1)
        self.last = GatedConv(6, 3, 3)

    def forward(self, x, mask):
        mask = (mask > 0).type(torch.float64)
        ones = torch.ones_like(x)[:, 0:1, :, :]
        h = self.conv2(self.conv1(torch.cat([x, ones, ones * mask], dim=1)))
        h, m = self.p1(h, 1 - mask)
        h, m = self.p2(F.relu(h), m)
        return torch.tanh(self.last(h))


class SqueezeNonlocal(nn.Module):
    """GCNet: one attention map pools the context of all positions."""

    def __init__(self, inplanes=8, ratio=0.5):
        super().__init__()
        self.planes = int(inplanes * ratio)
        self.conv_mask, self.softmax = nn.Conv2d(inplanes, 1, kernel_size=1), nn.Softmax(dim=2)
        self.channel_add_conv = nn.Sequential(
            nn.Conv2d(inplanes, self.planes, 1), nn.InstanceNorm1d(0) if False else nn.Identity(),
            nn.ReLU(inplace=True), nn.Conv2d(self.planes, inplanes, 1),
        )  # fmt: skip

    def spatial_pool(self, x):
        batch, channel, height, width = x.size()
        input_x = x.view(batch, channel, height * width).unsqueeze(1)
        context_mask = self.conv_mask(x).view(batch, 1, height * width)
        context_mask = self.softmax(context_mask).unsqueeze(-1)
        return torch.matmul(input_x, context_mask).view(batch, channel, 1, 1)

    def forward(self, x):
        return x + self.channel_add_conv(self.spatial_pool(x))


class CrissCross(nn.Module):
    def __init__(self, in_dim=8):
        super().__init__()
        self.query_conv = nn.Conv2d(in_dim, in_dim // 2, 1)
        self.key_conv = nn.Conv2d(in_dim, in_dim // 2, 1)
        self.value_conv, self.gamma = nn.Conv2d(in_dim, in_dim, 1), nn.Parameter(torch.zeros(1))

    def forward(self, x):
        m, _, height, width = x.size()
        q, k, v = self.query_conv(x), self.key_conv(x), self.value_conv(x)
        q_H = q.permute(0, 3, 1, 2).contiguous().view(m * width, -1, height).permute(0, 2, 1)
        q_W = q.permute(0, 2, 1, 3).contiguous().view(m * height, -1, width).permute(0, 2, 1)
        k_H = k.permute(0, 3, 1, 2).contiguous().view(m * width, -1, height)
        k_W = k.permute(0, 2, 1, 3).contiguous().view(m * height, -1, width)
        v_H = v.permute(0, 3, 1, 2).contiguous().view(m * width, -1, height)
        v_W = v.permute(0, 2, 1, 3).contiguous().view(m * height, -1, width)
        e_H = torch.bmm(q_H, k_H).view(m, width, height, height).permute(0, 2, 1, 3)
        e_W = torch.bmm(q_W, k_W).view(m, height, width, width)
        concate = F.softmax(torch.cat([e_H, e_W], 3), dim=3)
        att_H = concate[:, :, :, 0:height].permute(0, 2, 1, 3).contiguous()
        att_H = att_H.view(m * width, height, height)
        att_W = concate[:, :, :, height:].contiguous().view(m * height, width, width)
        out_H = torch.bmm(v_H, att_H.permute(0, 2, 1)).view(m, width, -1, height)
        out_W = torch.bmm(v_W, att_W.permute(0, 2, 1)).view(m, height, -1, width)
        return self.gamma * (out_H.permute(0, 2, 3, 1) + out_W.permute(0, 2, 1, 3)) + x


@generator((2, 3, 8, 8), sizes=True)
class GlobalContext(Body):
    def __init__(self):
        super().__init__(SqueezeNonlocal(), CrissCross())


class RepBlock(nn.Module):
    """Three branches that a deployed network would merge."""

    def __init__(self, i, o):
        super().__init__()
        self.deploy, self.se = False, nn.Identity()
        self.rbr_identity = nn.BatchNorm2d(num_features=i) if o == i else None
        self.rbr_dense = nn.Sequential()
        self.rbr_dense.add_module("conv", nn.Conv2d(i, o, 3, 1, 1, bias=False))
        self.rbr_dense.add_module("bn", nn.BatchNorm2d(num_features=o))
        self.rbr_1x1 = nn.Sequential(nn.Conv2d(i, o, 1, bias=False), nn.BatchNorm2d(o))

    def forward(self, inputs):
        if hasattr(self, "rbr_reparam"):
            return F.relu(self.se(self.rbr_reparam(inputs)))
        id_out = 0 if self.rbr_identity is None else self.rbr_identity(inputs)
        return F.relu(self.se(self.rbr_dense(inputs) + self.rbr_1x1(inputs) + id_out))


class ConvNextBlock(nn.Module):
    def __init__(self, dim, layer_scale_init_value=0.5):
        super().__init__()
        self.dwconv, self.norm = nn.Conv2d(dim, dim, 7, padding=3, groups=dim), nn.LayerNorm(dim)
        self.pwconv1, self.act, self.pwconv2 = (
            nn.Linear(dim, 4 * dim),
            nn.GELU(),
            nn.Linear(4 * dim, dim),
        )
        self.gamma = nn.Parameter(layer_scale_init_value * torch.ones(dim), requires_grad=True)

    def forward(self, x):
        input = x
        x = self.dwconv(x)
        x = x.permute(0, 2, 3, 1)
        x = self.pwconv2(self.act(self.pwconv1(self.norm(x))))
        if self.gamma is not None:
            x = self.gamma * x
        return input + x.permute(0, 3, 1, 2)


@generator((2, 3, 8, 8), sizes=True)
class Modern(Body):
    def __init__(self):
        super().__init__(RepBlock(8, 6), RepBlock(6, 6), ConvNextBlock(6), out=6)
