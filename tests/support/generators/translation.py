"""Image translation: residual and U-shaped generators, a local enhancer, labels as maps, CAM."""

import functools

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn import init

from support.generators.register import generator


class ResidualBlock(nn.Module):
    def __init__(self, dim, padding_type, norm_layer, use_dropout, use_bias):
        super().__init__()
        conv_block, p = [], 0
        if padding_type == "reflect":
            conv_block += [nn.ReflectionPad2d(1)]
        elif padding_type == "zero":
            p = 1
        conv_block += [nn.Conv2d(dim, dim, kernel_size=3, padding=p, bias=use_bias)]
        conv_block += [norm_layer(dim), nn.ReLU(True)]
        if use_dropout:
            conv_block += [nn.Dropout(0.5)]
        conv_block += [nn.ReflectionPad2d(1), nn.Conv2d(dim, dim, 3, bias=use_bias)]
        self.conv_block = nn.Sequential(*conv_block, norm_layer(dim))

    def forward(self, x):
        return x + self.conv_block(x)


@generator((2, 3, 16, 16), sizes=True)
class CycleResnet(nn.Module):
    def __init__(self, input_nc=3, output_nc=3, ngf=4, use_dropout=True, n_blocks=2):
        super().__init__()
        norm_layer = functools.partial(nn.InstanceNorm2d, affine=False, track_running_stats=False)
        use_bias = norm_layer.func is nn.InstanceNorm2d
        model = [nn.ReflectionPad2d(3), nn.Conv2d(input_nc, ngf, 7, bias=use_bias)]
        model += [norm_layer(ngf), nn.ReLU(True)]
        for i in range(2):
            mult = 2**i
            model += [nn.Conv2d(ngf * mult, ngf * mult * 2, 3, stride=2, padding=1, bias=use_bias)]
            model += [norm_layer(ngf * mult * 2), nn.ReLU(True)]
        for _ in range(n_blocks):
            model += [ResidualBlock(ngf * 4, "reflect", norm_layer, use_dropout, use_bias)]
        for i in range(2):
            mult = 2 ** (2 - i)
            up = nn.ConvTranspose2d(
                ngf * mult, ngf * mult // 2, 3, stride=2, padding=1, output_padding=1, bias=use_bias
            )
            model += [up, norm_layer(int(ngf * mult / 2)), nn.ReLU(True)]
        model += [nn.ReflectionPad2d(3), nn.Conv2d(ngf, output_nc, 7), nn.Tanh()]
        self.model = nn.Sequential(*model)
        self.apply(self._init)

    @staticmethod
    def _init(m):
        if hasattr(m, "weight") and m.__class__.__name__.find("Conv") != -1:
            init.normal_(m.weight.data, 0.0, 0.2)

    def forward(self, input, layers=(), encode_only=False):
        if len(layers) > 0:
            feat, feats = input, []
            for layer_id, layer in enumerate(self.model):
                feat = layer(feat)
                if layer_id in layers:
                    feats.append(feat)
                if layer_id == layers[-1] and encode_only:
                    return feats
            return feat, feats
        return self.model(input)


class SkipBlock(nn.Module):
    """One level of a U-Net around the levels below it."""

    def __init__(self, outer_nc, inner_nc, input_nc=None, submodule=None, outermost=False):
        super().__init__()
        self.outermost = outermost
        innermost = submodule is None
        downconv = nn.Conv2d(input_nc or outer_nc, inner_nc, 4, 2, 1, bias=False)
        downrelu, uprelu = nn.LeakyReLU(0.2, True), nn.ReLU(True)
        width = inner_nc if innermost else inner_nc * 2
        upconv = nn.ConvTranspose2d(width, outer_nc, 4, 2, 1, bias=outermost)
        if outermost:
            model = [downconv, submodule, uprelu, upconv, nn.Tanh()]
        elif innermost:
            model = [downrelu, downconv, uprelu, upconv, nn.BatchNorm2d(outer_nc)]
        else:
            down = [downrelu, downconv, nn.BatchNorm2d(inner_nc)]
            model = [*down, submodule, uprelu, upconv, nn.BatchNorm2d(outer_nc), nn.Dropout(0.5)]
        self.model = nn.Sequential(*model)

    def forward(self, x):
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


@generator((2, 3, 16, 16))
class PixUnet(nn.Module):
    def __init__(self, ngf=4):
        super().__init__()
        block = SkipBlock(ngf * 4, ngf * 4)
        block = SkipBlock(ngf * 2, ngf * 4, submodule=block)
        block = SkipBlock(ngf, ngf * 2, submodule=block)
        self.model = SkipBlock(3, ngf, input_nc=3, submodule=block, outermost=True)

    def forward(self, input):
        return self.model(input)


class GlobalGenerator(nn.Module):
    def __init__(self, input_nc, ngf, n_downsampling=2, n_blocks=1, norm=nn.BatchNorm2d):
        super().__init__()
        activation = nn.ReLU(True)
        model = [nn.ReflectionPad2d(3), nn.Conv2d(input_nc, ngf, 7), norm(ngf), activation]
        for i in range(n_downsampling):
            m = 2**i
            conv = nn.Conv2d(ngf * m, ngf * m * 2, kernel_size=3, stride=2, padding=1)
            model += [conv, norm(ngf * m * 2), activation]
        for _ in range(n_blocks):
            model += [ResidualBlock(ngf * 2**n_downsampling, "reflect", norm, False, True)]
        for i in range(n_downsampling):
            m = 2 ** (n_downsampling - i)
            up = nn.ConvTranspose2d(ngf * m, ngf * m // 2, 3, stride=2, padding=1, output_padding=1)
            model += [up, norm(ngf * m // 2), activation]
        self.model = nn.Sequential(*model, nn.ReflectionPad2d(3), nn.Conv2d(ngf, 3, 7), nn.Tanh())

    def forward(self, input):
        return self.model(input)


@generator((2, 4, 16, 16), sizes=True)
class LocalEnhancer(nn.Module):
    """Modules are set by `setattr` under numbered names and found again by `getattr`."""

    def __init__(self, input_nc=4, ngf=4, n_local_enhancers=1, norm=nn.BatchNorm2d):
        super().__init__()
        self.n_local_enhancers = n_local_enhancers
        model_global = GlobalGenerator(input_nc, ngf * 2).model
        model_global = [model_global[i] for i in range(len(model_global) - 3)]
        self.model = nn.Sequential(*model_global)
        for n in range(1, n_local_enhancers + 1):
            down = [nn.ReflectionPad2d(3), nn.Conv2d(input_nc, ngf, 7), norm(ngf), nn.ReLU(True)]
            down += [nn.Conv2d(ngf, ngf * 2, 3, stride=2, padding=1), norm(ngf * 2), nn.ReLU(True)]
            up = [ResidualBlock(ngf * 2, "reflect", norm, False, True)]
            up += [nn.ConvTranspose2d(ngf * 2, ngf, 3, 2, 1, 1), norm(ngf), nn.ReLU(True)]
            up += [nn.ReflectionPad2d(3), nn.Conv2d(ngf, 3, kernel_size=7, padding=0), nn.Tanh()]
            setattr(self, "model" + str(n) + "_1", nn.Sequential(*down))
            setattr(self, "model" + str(n) + "_2", nn.Sequential(*up))
        self.downsample = nn.AvgPool2d(3, stride=2, padding=[1, 1], count_include_pad=False)

    def forward(self, input):
        input_downsampled = [input]
        for _ in range(self.n_local_enhancers):
            input_downsampled.append(self.downsample(input_downsampled[-1]))
        output_prev = self.model(input_downsampled[-1])
        for n in range(1, self.n_local_enhancers + 1):
            model_downsample = getattr(self, "model" + str(n) + "_1")
            model_upsample = getattr(self, "model" + str(n) + "_2")
            input_i = input_downsampled[self.n_local_enhancers - n]
            output_prev = model_upsample(model_downsample(input_i) + output_prev)
        return output_prev


@generator((2, 3, 16, 16), (2, 5), sizes=True)
class StarTranslator(nn.Module):
    """Labels are expanded to maps and joined to the image."""

    def __init__(self, conv_dim=4, c_dim=5):
        super().__init__()
        norm = functools.partial(nn.InstanceNorm2d, affine=True, track_running_stats=True)
        layers = [nn.Conv2d(3 + c_dim, conv_dim, 7, padding=3, bias=False), norm(conv_dim)]
        layers.append(nn.ReLU(inplace=True))
        curr_dim = conv_dim
        for _ in range(2):
            layers.append(nn.Conv2d(curr_dim, curr_dim * 2, 4, stride=2, padding=1, bias=False))
            layers += [norm(curr_dim * 2), nn.ReLU(inplace=True)]
            curr_dim = curr_dim * 2
        layers.append(ResidualBlock(curr_dim, "zero", norm, False, False))
        for _ in range(2):
            layers.append(nn.ConvTranspose2d(curr_dim, curr_dim // 2, 4, 2, 1, bias=False))
            layers += [norm(curr_dim // 2), nn.ReLU(inplace=True)]
            curr_dim = curr_dim // 2
        layers += [nn.Conv2d(curr_dim, 3, 7, 1, 3, bias=False), nn.Tanh()]
        self.main = nn.Sequential(*layers)

    def forward(self, x, c):
        c = c.view(c.size(0), c.size(1), 1, 1)
        c = c.repeat(1, 1, x.size(2), x.size(3))
        x = torch.cat([x, c], dim=1)
        return self.main(x)


def standardised(x, dims, eps):
    mean, var = torch.mean(x, dim=dims, keepdim=True), torch.var(x, dim=dims, keepdim=True)
    return (x - mean) / torch.sqrt(var + eps)


class adaILN(nn.Module):
    def __init__(self, num_features, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.rho = nn.Parameter(torch.Tensor(1, num_features, 1, 1))
        self.rho.data.fill_(0.9)

    def forward(self, input, gamma, beta):
        out_in, out_ln = (standardised(input, dims, self.eps) for dims in ([2, 3], [1, 2, 3]))
        rho = self.rho.expand(input.shape[0], -1, -1, -1)
        out = rho * out_in + (1 - rho) * out_ln
        return out * gamma.unsqueeze(2).unsqueeze(3) + beta.unsqueeze(2).unsqueeze(3)


class ILN(nn.Module):
    def __init__(self, num_features, eps=1e-5):
        super().__init__()
        self.eps = eps
        for name, start in (("rho", 0.0), ("gamma", 1.0), ("beta", 0.0)):
            setattr(self, name, nn.Parameter(torch.full((1, num_features, 1, 1), start)))

    def forward(self, input):
        out_in, out_ln = (standardised(input, dims, self.eps) for dims in ([2, 3], [1, 2, 3]))
        out = self.rho.expand(input.shape[0], -1, -1, -1) * out_in
        out = out + (1 - self.rho.expand(input.shape[0], -1, -1, -1)) * out_ln
        return out * self.gamma.expand(input.shape[0], -1, -1, -1) + self.beta


class ResnetAdaILNBlock(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.pad1, self.conv1 = nn.ReflectionPad2d(1), nn.Conv2d(dim, dim, 3, bias=False)
        self.norm1, self.relu1 = adaILN(dim), nn.ReLU(True)
        self.pad2, self.conv2 = nn.ReflectionPad2d(1), nn.Conv2d(dim, dim, 3, bias=False)
        self.norm2 = adaILN(dim)

    def forward(self, x, gamma, beta):
        out = self.relu1(self.norm1(self.conv1(self.pad1(x)), gamma, beta))
        return self.norm2(self.conv2(self.pad2(out)), gamma, beta) + x


@generator((2, 3, 16, 16), pinned=("the var over", "mean_var"))
class Ugatit(nn.Module):
    def __init__(self, ngf=4, n_blocks=2, light=False):
        super().__init__()
        self.n_blocks, self.light = n_blocks, light
        down = [nn.ReflectionPad2d(3), nn.Conv2d(3, ngf, 7, bias=False), nn.InstanceNorm2d(ngf)]
        down += [nn.ReLU(True), nn.ReflectionPad2d(1), nn.Conv2d(ngf, ngf * 2, 3, 2, bias=False)]
        down += [nn.InstanceNorm2d(ngf * 2), nn.ReLU(True)]
        mult = 2
        self.gap_fc = nn.Linear(ngf * mult, 1, bias=False)
        self.gmp_fc = nn.Linear(ngf * mult, 1, bias=False)
        self.conv1x1 = nn.Conv2d(ngf * mult * 2, ngf * mult, kernel_size=1, stride=1, bias=True)
        self.relu = nn.ReLU(True)
        fc = [nn.Linear(8 * 8 * ngf * mult, ngf * mult, bias=False), nn.ReLU(True)]
        self.FC = nn.Sequential(*fc, nn.Linear(ngf * mult, ngf * mult, bias=False), nn.ReLU(True))
        self.gamma = nn.Linear(ngf * mult, ngf * mult, bias=False)
        self.beta = nn.Linear(ngf * mult, ngf * mult, bias=False)
        for i in range(n_blocks):
            setattr(self, "UpBlock1_" + str(i + 1), ResnetAdaILNBlock(ngf * mult))
        up = [nn.Upsample(scale_factor=2, mode="nearest"), nn.ReflectionPad2d(1)]
        up += [nn.Conv2d(ngf * 2, ngf, 3, bias=False), ILN(ngf), nn.ReLU(True)]
        up += [nn.ReflectionPad2d(3), nn.Conv2d(ngf, 3, 7, bias=False), nn.Tanh()]
        self.DownBlock, self.UpBlock2 = nn.Sequential(*down), nn.Sequential(*up)

    def forward(self, input):
        x = self.DownBlock(input)
        gap = torch.nn.functional.adaptive_avg_pool2d(x, 1)
        gap_logit = self.gap_fc(gap.view(x.shape[0], -1))
        gap_weight = list(self.gap_fc.parameters())[0]  # noqa: RUF015
        gap = x * gap_weight.unsqueeze(2).unsqueeze(3)
        gmp = torch.nn.functional.adaptive_max_pool2d(x, 1)
        gmp_logit = self.gmp_fc(gmp.view(x.shape[0], -1))
        gmp_weight = list(self.gmp_fc.parameters())[0]  # noqa: RUF015
        gmp = x * gmp_weight.unsqueeze(2).unsqueeze(3)
        cam_logit = torch.cat([gap_logit, gmp_logit], 1)
        x = torch.cat([gap, gmp], 1)
        x = self.relu(self.conv1x1(x))
        heatmap = torch.sum(x, dim=1, keepdim=True)
        x_ = self.FC(x.view(x.shape[0], -1))
        gamma, beta = self.gamma(x_), self.beta(x_)
        for i in range(self.n_blocks):
            x = getattr(self, "UpBlock1_" + str(i + 1))(x, gamma, beta)
        return self.UpBlock2(x), cam_logit, heatmap


class FRN(nn.Module):
    """Filter response normalisation with a learned threshold."""

    def __init__(self, num_features, eps=1e-6):
        super().__init__()
        self.tau = nn.Parameter(torch.zeros(1, num_features, 1, 1))
        self.gamma = nn.Parameter(torch.ones(1, num_features, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, num_features, 1, 1))
        self.eps = eps

    def forward(self, x):
        x = x * torch.rsqrt(torch.mean(x**2, dim=[2, 3], keepdim=True) + self.eps)
        return torch.max(self.gamma * x + self.beta, self.tau)


class AdaIN(nn.Module):
    def __init__(self, style_dim, num_features):
        super().__init__()
        self.norm = nn.InstanceNorm2d(num_features, affine=False)
        self.fc = nn.Linear(style_dim, num_features * 2)

    def forward(self, x, s):
        h = self.fc(s)
        h = h.view(h.size(0), h.size(1), 1, 1)
        gamma, beta = torch.chunk(h, chunks=2, dim=1)
        return (1 + gamma) * self.norm(x) + beta


class ResBlk(nn.Module):
    def __init__(self, dim_in, dim_out, normalize=False, downsample=False):
        super().__init__()
        self.actv, self.normalize, self.downsample = nn.LeakyReLU(0.2), normalize, downsample
        self.learned_sc = dim_in != dim_out
        self.conv1 = nn.Conv2d(dim_in, dim_in, 3, 1, 1)
        self.conv2 = nn.Conv2d(dim_in, dim_out, 3, 1, 1)
        if self.normalize:
            self.norm1, self.norm2 = FRN(dim_in), nn.InstanceNorm2d(dim_in, affine=True)
        if self.learned_sc:
            self.conv1x1 = nn.Conv2d(dim_in, dim_out, 1, 1, 0, bias=False)

    def _shortcut(self, x):
        if self.learned_sc:
            x = self.conv1x1(x)
        return F.avg_pool2d(x, 2) if self.downsample else x

    def _residual(self, x):
        if self.normalize:
            x = self.norm1(x)
        x = self.conv1(self.actv(x))
        if self.downsample:
            x = F.avg_pool2d(x, 2)
        if self.normalize:
            x = self.norm2(x)
        return self.conv2(self.actv(x))

    def forward(self, x):
        x = self._shortcut(x) + self._residual(x)
        return x / 2**0.5


class AdainResBlk(nn.Module):
    def __init__(self, dim_in, dim_out, style_dim, w_hpf=0, upsample=False):
        super().__init__()
        self.w_hpf, self.upsample, self.actv = w_hpf, upsample, nn.LeakyReLU(0.2)
        self.learned_sc = dim_in != dim_out
        self.conv1 = nn.Conv2d(dim_in, dim_out, 3, 1, 1)
        self.conv2 = nn.Conv2d(dim_out, dim_out, 3, 1, 1)
        self.norm1, self.norm2 = AdaIN(style_dim, dim_in), AdaIN(style_dim, dim_out)
        if self.learned_sc:
            self.conv1x1 = nn.Conv2d(dim_in, dim_out, 1, 1, 0, bias=False)

    def _shortcut(self, x):
        if self.upsample:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        return self.conv1x1(x) if self.learned_sc else x

    def _residual(self, x, s):
        x = self.actv(self.norm1(x, s))
        if self.upsample:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        x = self.conv1(x)
        return self.conv2(self.actv(self.norm2(x, s)))

    def forward(self, x, s):
        out = self._residual(x, s)
        if self.w_hpf == 0:
            out = (out + self._shortcut(x)) / 2**0.5
        return out


class HighPass(nn.Module):
    def __init__(self, w_hpf):
        super().__init__()
        self.register_buffer(
            "filter", torch.tensor([[-1, -1, -1], [-1, 8.0, -1], [-1, -1, -1]]) / w_hpf
        )

    def forward(self, x):
        filter = self.filter.unsqueeze(0).unsqueeze(1).repeat(x.size(1), 1, 1, 1)
        return F.conv2d(x, filter, padding=1, groups=x.size(1))


class MappingNetwork(nn.Module):
    def __init__(self, latent_dim=4, style_dim=6, num_domains=3, hidden=8):
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(latent_dim, hidden), nn.ReLU())
        self.unshared = nn.ModuleList()
        for _ in range(num_domains):
            self.unshared += [
                nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, style_dim))
            ]

    def forward(self, z, y):
        h = self.shared(z)
        out = []
        for layer in self.unshared:
            out += [layer(h)]
        out = torch.stack(out, dim=1)
        idx = torch.LongTensor(range(y.size(0))).to(y.device)
        return out[idx, y]


@generator((2, 3, 16, 16), (2, 4), (2,), batches=False, pinned=("by number",))
class StarStyle(nn.Module):
    """Encoder-decoder with style codes of a mapping network, and skips through a high pass."""

    def __init__(self, dim_in=4, style_dim=6, w_hpf=1):
        super().__init__()
        self.from_rgb = nn.Conv2d(3, dim_in, 3, 1, 1)
        self.encode, self.decode = nn.ModuleList(), nn.ModuleList()
        self.to_rgb = nn.Sequential(
            nn.InstanceNorm2d(dim_in, affine=True), nn.LeakyReLU(0.2), nn.Conv2d(dim_in, 3, 1, 1, 0)
        )
        for dim_out in (8, 8):
            self.encode.append(ResBlk(dim_in, dim_out, normalize=True, downsample=True))
            self.decode.insert(0, AdainResBlk(dim_out, dim_in, style_dim, w_hpf, upsample=True))
            dim_in = dim_out
        self.encode.append(ResBlk(dim_in, dim_in, normalize=True))
        self.decode.insert(0, AdainResBlk(dim_in, dim_in, style_dim, w_hpf))
        self.hpf = HighPass(w_hpf)
        self.mapping = MappingNetwork()

    def forward(self, x, z, y, masks=None):
        s = self.mapping(z, y)
        x = self.from_rgb(x)
        cache = {}
        for block in self.encode:
            if x.size(2) in [8, 16, 32, 64]:
                cache[x.size(2)] = x
            x = block(x)
        for block in self.decode:
            x = block(x, s)
            if x.size(2) in [8, 16, 32, 64]:
                x = x + self.hpf(cache[x.size(2)])
        return self.to_rgb(x)
