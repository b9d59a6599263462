"""Styles set from outside: MUNIT and FUNIT, DRIT; semantic maps: SPADE, OASIS, CLADE, SEAN."""

import re

import torch
import torch.nn.functional as F
from torch import nn

from support.generators.register import generator


class AdaptiveInstanceNorm2d(nn.Module):
    """Its weight and bias are assigned before each call."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight, self.bias = None, None
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x):
        assert self.weight is not None, "Please assign weight and bias before calling AdaIN!"
        b, c = x.size(0), x.size(1)
        running_mean = self.running_mean.repeat(b)
        running_var = self.running_var.repeat(b)
        x_reshaped = x.contiguous().view(1, b * c, *x.size()[2:])
        out = F.batch_norm(
            x_reshaped, running_mean, running_var, self.weight, self.bias, True, self.momentum,
            self.eps,
        )  # fmt: skip
        return out.view(b, c, *x.size()[2:])

    def __repr__(self):
        return self.__class__.__name__ + "(" + str(self.num_features) + ")"


class ChannelLayerNorm(nn.Module):
    def __init__(self, num_features, eps=1e-5, affine=True):
        super().__init__()
        self.num_features, self.affine, self.eps = num_features, affine, eps
        self.gamma = nn.Parameter(torch.Tensor(num_features).uniform_())
        self.beta = nn.Parameter(torch.zeros(num_features))

    def forward(self, x):
        shape = [-1] + [1] * (x.dim() - 1)
        if x.size(0) == 1:
            mean, std = x.view(-1).mean().view(*shape), x.view(-1).std().view(*shape)
        else:
            mean = x.view(x.size(0), -1).mean(1).view(*shape)
            std = x.view(x.size(0), -1).std(1).view(*shape)
        x = (x - mean) / (std + self.eps)
        if self.affine:
            shape = [1, -1] + [1] * (x.dim() - 2)
            x = x * self.gamma.view(*shape) + self.beta.view(*shape)
        return x


class Conv2dBlock(nn.Module):
    def __init__(self, i, o, kernel_size, stride, padding=0, norm="none", activation="relu"):
        super().__init__()
        self.pad = nn.ReflectionPad2d(padding)
        if norm == "bn":
            self.norm = nn.BatchNorm2d(o)
        elif norm == "in":
            self.norm = nn.InstanceNorm2d(o)
        elif norm == "ln":
            self.norm = ChannelLayerNorm(o)
        elif norm == "adain":
            self.norm = AdaptiveInstanceNorm2d(o)
        else:
            self.norm = None
        self.activation = {"relu": nn.ReLU(inplace=True), "tanh": nn.Tanh()}.get(activation)
        self.conv = nn.Conv2d(i, o, kernel_size, stride, bias=True)

    def forward(self, x):
        x = self.conv(self.pad(x))
        if self.norm:
            x = self.norm(x)
        if self.activation:
            x = self.activation(x)
        return x


class ResBlock(nn.Module):
    def __init__(self, dim, norm):
        super().__init__()
        self.model = nn.Sequential(
            Conv2dBlock(dim, dim, 3, 1, 1, norm),
            Conv2dBlock(dim, dim, 3, 1, 1, norm, activation="none"),
        )

    def forward(self, x):
        residual = x
        out = self.model(x)
        out += residual
        return out


class LinearBlock(nn.Module):
    def __init__(self, i, o, activation=True):
        super().__init__()
        self.fc, self.activation = nn.Linear(i, o), nn.ReLU(inplace=True) if activation else None

    def forward(self, x):
        out = self.fc(x)
        return self.activation(out) if self.activation else out


@generator((2, 3, 16, 16), (2, 6, 1, 1), pinned=("the std over",))
class Munit(nn.Module):
    """A style MLP writes the parameters of the decoder's norms, cut out of one long vector."""

    def __init__(self, dim=4, style_dim=6, mlp_dim=8, n_res=1):
        super().__init__()
        enc = [Conv2dBlock(3, dim, 7, 1, 3, "in"), Conv2dBlock(dim, 2 * dim, 4, 2, 1, "in")]
        self.enc_content = nn.Sequential(*enc, *[ResBlock(2 * dim, "in") for _ in range(n_res)])
        dec = [ResBlock(2 * dim, "adain") for _ in range(n_res)]
        dec += [nn.Upsample(scale_factor=2), Conv2dBlock(2 * dim, dim, 5, 1, 2, "ln")]
        self.dec = nn.Sequential(*dec, Conv2dBlock(dim, 3, 7, 1, 3, activation="tanh"))
        n = self.get_num_adain_params(self.dec)
        self.mlp = nn.Sequential(LinearBlock(style_dim, mlp_dim), LinearBlock(mlp_dim, n, False))

    def forward(self, images, style):
        content = self.enc_content(images)
        adain_params = self.mlp(style.view(style.size(0), -1))
        self.assign_adain_params(adain_params, self.dec)
        return self.dec(content)

    def assign_adain_params(self, adain_params, model):
        for m in model.modules():
            if m.__class__.__name__ == "AdaptiveInstanceNorm2d":
                mean = adain_params[:, : m.num_features]
                std = adain_params[:, m.num_features : 2 * m.num_features]
                m.bias = mean.contiguous().view(-1)
                m.weight = std.contiguous().view(-1)
                if adain_params.size(1) > 2 * m.num_features:
                    adain_params = adain_params[:, 2 * m.num_features :]

    def get_num_adain_params(self, model):
        return sum(
            2 * m.num_features for m in model.modules() if isinstance(m, AdaptiveInstanceNorm2d)
        )


class MisINSResBlock(nn.Module):
    """The style, expanded to a map, is joined to the features between 1x1 convolutions."""

    def __init__(self, dim, dim_extra):
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(dim, dim, 3), nn.InstanceNorm2d(dim)
        )
        self.conv2 = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(dim, dim, 3), nn.InstanceNorm2d(dim)
        )
        self.blk1, self.blk2 = self.mix(dim, dim_extra), self.mix(dim, dim_extra)

    def mix(self, dim, dim_extra):
        total = dim + dim_extra
        layers = [nn.Conv2d(total, total, 1), nn.ReLU(inplace=False)]
        return nn.Sequential(*layers, nn.Conv2d(total, dim, 1), nn.ReLU(inplace=False))

    def forward(self, x, z):
        residual = x
        z_expand = z.view(z.size(0), z.size(1), 1, 1).expand(-1, -1, x.size(2), x.size(3))
        o2 = self.blk1(torch.cat([self.conv1(x), z_expand], dim=1))
        out = self.blk2(torch.cat([self.conv2(o2), z_expand], dim=1))
        out += residual
        return out


@generator((2, 3, 16, 16), (2, 4), sizes=True)
class Drit(nn.Module):
    def __init__(self, dim=8, nz=4, add=6):
        super().__init__()
        self.add = add
        self.enc = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(3, dim, 7), nn.LeakyReLU())
        self.mlp = nn.Sequential(nn.Linear(nz, 12), nn.ReLU(inplace=True), nn.Linear(12, add * 2))
        self.dec1, self.dec2 = MisINSResBlock(dim, add), MisINSResBlock(dim, add)
        self.dec4 = nn.Sequential(nn.Conv2d(dim, dim // 2, 3, padding=1), nn.ReLU(True))
        self.dec5 = nn.ConvTranspose2d(dim // 2, 3, kernel_size=1, stride=1, padding=0)

    def forward(self, x, z):
        z1, z2 = torch.split(self.mlp(z), self.add, dim=1)
        z1, z2 = z1.contiguous(), z2.contiguous()
        out = self.dec2(self.dec1(self.enc(x), z1), z2)
        return torch.tanh(self.dec5(self.dec4(out)))


class SPADE(nn.Module):
    def __init__(self, config_text, norm_nc, label_nc, nhidden=6):
        super().__init__()
        parsed = re.search(r"spade(\D+)(\d)x\d", config_text)
        kind, ks = str(parsed.group(1)), int(parsed.group(2))
        norms = {"instance": nn.InstanceNorm2d, "batch": nn.BatchNorm2d}
        self.param_free_norm = norms[kind](norm_nc, affine=False)
        pw = ks // 2
        self.mlp_shared = nn.Sequential(nn.Conv2d(label_nc, nhidden, ks, padding=pw), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(nhidden, norm_nc, kernel_size=ks, padding=pw)
        self.mlp_beta = nn.Conv2d(nhidden, norm_nc, kernel_size=ks, padding=pw)

    def forward(self, x, segmap):
        normalized = self.param_free_norm(x)
        segmap = F.interpolate(segmap, size=x.size()[2:], mode="nearest")
        actv = self.mlp_shared(segmap)
        return normalized * (1 + self.mlp_gamma(actv)) + self.mlp_beta(actv)


class SPADEResnetBlock(nn.Module):
    def __init__(self, fin, fout, label_nc=4, config="spadebatch3x3"):
        super().__init__()
        self.learned_shortcut = fin != fout
        fmiddle = min(fin, fout)
        self.conv_0 = nn.Conv2d(fin, fmiddle, kernel_size=3, padding=1)
        self.conv_1 = nn.Conv2d(fmiddle, fout, kernel_size=3, padding=1)
        if self.learned_shortcut:
            self.conv_s = nn.Conv2d(fin, fout, kernel_size=1, bias=False)
            self.norm_s = SPADE(config, fin, label_nc)
        self.norm_0, self.norm_1 = SPADE(config, fin, label_nc), SPADE(config, fmiddle, label_nc)

    def forward(self, x, seg):
        x_s = self.shortcut(x, seg)
        dx = self.conv_0(self.actvn(self.norm_0(x, seg)))
        dx = self.conv_1(self.actvn(self.norm_1(dx, seg)))
        return x_s + dx

    def shortcut(self, x, seg):
        return self.conv_s(self.norm_s(x, seg)) if self.learned_shortcut else x

    def actvn(self, x):
        return F.leaky_relu(x, 2e-1)


@generator((2, 4, 16, 16), (2, 5))
class Gaugan(nn.Module):
    def __init__(self, nf=4, use_vae=True):
        super().__init__()
        self.sw = self.sh = 4
        self.nf = nf
        self.fc = nn.Linear(5, 2 * nf * self.sw * self.sh) if use_vae else None
        self.head_0 = SPADEResnetBlock(2 * nf, 2 * nf)
        self.up_0 = SPADEResnetBlock(2 * nf, nf, config="spadeinstance3x3")
        self.conv_img, self.up = nn.Conv2d(nf, 3, 3, padding=1), nn.Upsample(scale_factor=2)

    def forward(self, input, z=None):
        seg = input
        x = self.fc(z)
        x = x.view(-1, 2 * self.nf, self.sh, self.sw)
        x = self.head_0(x, seg)
        x = self.up(x)
        x = self.up_0(x, seg)
        x = self.up(x)
        return torch.tanh(self.conv_img(F.leaky_relu(x, 2e-1)))


@generator((2, 16, 16), batches=False, pinned=("scatter",))
class OasisLabels(nn.Module):
    """Class maps become one-hot maps; 3D noise is joined to them at every block."""

    def __init__(self, nc=4, z=2, ch=8):
        super().__init__()
        self.nc, self.z = nc, z
        self.fc = nn.Conv2d(nc + z, ch, 3, padding=1)
        self.body = nn.ModuleList([SPADEResnetBlock(ch, 6, nc + z), SPADEResnetBlock(6, 4, nc + z)])
        self.register_buffer("noise", torch.randn(1, z, 1, 1))
        self.conv_img = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, label):
        label = (label.abs() * 2).long().clamp(max=self.nc - 1).unsqueeze(1)
        bs, _, h, w = label.size()
        seg = torch.zeros(bs, self.nc, h, w, dtype=torch.float64).scatter_(1, label, 1.0)
        z = self.noise.expand(bs, self.z, h, w).to(seg)
        seg = torch.cat((z, seg), dim=1)
        x = F.interpolate(seg, size=(4, 4))
        x = self.fc(x)
        for i in range(len(self.body)):
            x = self.body[i](x, seg)
            if i < len(self.body) - 1:
                x = F.interpolate(x, scale_factor=2)
        return torch.tanh(self.conv_img(F.leaky_relu(x, 2e-1)))


class ClassAffine(nn.Module):
    def __init__(self, label_nc, affine_nc):
        super().__init__()
        self.affine_nc, self.label_nc = affine_nc, label_nc
        self.weight = nn.Parameter(torch.rand(label_nc, affine_nc))
        self.bias = nn.Parameter(torch.rand(label_nc, affine_nc))

    def affine_embed(self, mask):
        class_weight = F.embedding(mask, self.weight).permute(0, 3, 1, 2)
        class_bias = F.embedding(mask, self.bias).permute(0, 3, 1, 2)
        return class_weight, class_bias

    def forward(self, input, mask):
        class_weight, class_bias = self.affine_embed(torch.argmax(mask, 1))
        return input * class_weight + class_bias


@generator((2, 4, 8, 8), sizes=True, pinned=("looks its rows up by number",))
class Clade(nn.Module):
    def __init__(self, nc=4, ch=8):
        super().__init__()
        self.stem = nn.Conv2d(nc, ch, 3, padding=1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(ch, affine=False) for _ in range(2)])
        self.affines = nn.ModuleList([ClassAffine(nc, ch) for _ in range(2)])
        self.convs = nn.ModuleList([nn.Conv2d(ch, ch, 3, padding=1) for _ in range(2)])
        self.to_rgb = nn.Conv2d(ch, 3, 1)

    def forward(self, seg):
        x = self.stem(seg)
        for norm, affine, conv in zip(self.norms, self.affines, self.convs):
            x = x + conv(F.relu(affine(norm(x), seg)))
        return self.to_rgb(x)


@generator((2, 4, 8, 8), (2, 3, 8, 8), batches=False)
class Sean(nn.Module):
    """Style vectors, one for each region, are pooled from an image and painted back by a mask."""

    def __init__(self, nc=4, ch=8, style=6):
        super().__init__()
        self.style_length = style
        self.encode = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, style, 1)
        )
        for i in range(nc):
            setattr(self, "fc_mu" + str(i), nn.Linear(style, style))
        self.conv_gamma = nn.Conv2d(style, ch, 3, padding=1)
        self.conv_beta = nn.Conv2d(style, ch, 3, padding=1)
        self.blending_gamma = nn.Parameter(torch.zeros(1), requires_grad=True)
        self.spade, self.stem = SPADE("spadeinstance3x3", ch, nc), nn.Conv2d(nc, ch, 1)
        self.to_rgb = nn.Conv2d(ch, 3, 1)

    def forward(self, segmap, rgb):
        codes = self.encode(rgb)
        b, f, h, w = codes.shape
        regions = torch.einsum("bchw,bshw->bcs", segmap, codes) / (h * w)
        middle = torch.zeros(b, self.style_length, h, w, dtype=codes.dtype)
        for j in range(segmap.shape[1]):
            mu = F.relu(self.__getattr__("fc_mu" + str(j))(regions[:, j]))
            component = mu.reshape(b, self.style_length, 1, 1).expand(b, self.style_length, h, w)
            middle = middle + component * segmap[:, j : j + 1]
        gamma_avg, beta_avg = self.conv_gamma(middle), self.conv_beta(middle)
        x = self.stem(segmap)
        alpha = F.sigmoid(self.blending_gamma)
        x = alpha * (x * (1 + gamma_avg) + beta_avg) + (1 - alpha) * self.spade(x, segmap)
        return self.to_rgb(F.leaky_relu(x, 0.2))
