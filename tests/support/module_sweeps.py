"""Every layer of torch.nn and every common function, each between two convolutions or linears.

A table row is a layout and what stands in the middle. Layouts: `map` (N, 8, 6, 6) between 2-D
convolutions, `line` and `cube` the same in 1-D and 3-D, `rows` (N, 5, 8) and `flat` (N, 8) between
linears. The second value that a body may use is another layer's output of the same shape.
"""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["FUNCTIONS", "LAYERS", "NOT_LAYERS", "Between", "built"]

C = 8
SHAPES = {
    "map": (2, 3, 6, 6),
    "line": (2, 3, 6),
    "cube": (2, 3, 4, 4, 4),
    "rows": (2, 5, 3),
    "flat": (2, 3),
}
CONVS = {"map": nn.Conv2d, "line": nn.Conv1d, "cube": nn.Conv3d}


class Between(nn.Module):
    """A body between a first layer, or two, and a last one that fits what comes out."""

    def __init__(self, layout, body, layer=None):
        super().__init__()
        self.layout, self.body, self.layer = layout, body, layer
        self.a, self.b = self.made(3, C), self.made(3, C)
        self.last = None
        with torch.no_grad():
            out = self.double().eval().middle(torch.randn(SHAPES[layout]).double())
        self.last = self.made(out.shape[1 if layout in CONVS else -1], 3)

    def made(self, into, out):
        kind = CONVS.get(self.layout)
        return nn.Linear(into, out) if kind is None else kind(into, out, 1)

    def middle(self, x):
        a = torch.relu(self.a(x)) + 0.1
        if self.layer is None:
            return self.body(a, lambda: self.b(x).sigmoid())
        return self.body(self.layer, a, lambda: self.b(x).sigmoid())

    def forward(self, x):
        return self.last(self.middle(x))


def one(layer, x, other):
    return layer(x)


def two(layer, x, other):
    return layer(x, other())


def gate(layer, x, other):
    """What has no channels any more scales the map."""
    return x * layer(x, other())


def first(layer, x, other):
    return layer(x)[0]


def recurrent(layer, x, other):
    return layer(x)[0]


def classes(x):
    return torch.zeros_like(x[..., 0] if x.dim() < 4 else x[:, 0]).long()


def row(layout, make, body=one):
    return layout, make, body


LAYERS = {
    "AdaptiveAvgPool1d": row("line", lambda: nn.AdaptiveAvgPool1d(3)),
    "AdaptiveAvgPool2d": row("map", lambda: nn.AdaptiveAvgPool2d(3)),
    "AdaptiveAvgPool3d": row("cube", lambda: nn.AdaptiveAvgPool3d(2)),
    "AdaptiveMaxPool1d": row("line", lambda: nn.AdaptiveMaxPool1d(3)),
    "AdaptiveMaxPool2d": row("map", lambda: nn.AdaptiveMaxPool2d(3)),
    "AdaptiveMaxPool3d": row("cube", lambda: nn.AdaptiveMaxPool3d(2)),
    "AdaptiveLogSoftmaxWithLoss": row(
        "flat", lambda: nn.AdaptiveLogSoftmaxWithLoss(C, 6, [2]), lambda m, x, o: m.log_prob(x)
    ),
    "AlphaDropout": row("flat", lambda: nn.AlphaDropout()),
    "AvgPool1d": row("line", lambda: nn.AvgPool1d(2)),
    "AvgPool2d": row("map", lambda: nn.AvgPool2d(2)),
    "AvgPool3d": row("cube", lambda: nn.AvgPool3d(2)),
    "BCELoss": row("map", lambda: nn.BCELoss(), lambda m, x, o: x * m(o(), o())),
    "BCEWithLogitsLoss": row("map", lambda: nn.BCEWithLogitsLoss(), gate),
    "BatchNorm1d": row("flat", lambda: nn.BatchNorm1d(C)),
    "BatchNorm2d": row("map", lambda: nn.BatchNorm2d(C)),
    "BatchNorm3d": row("cube", lambda: nn.BatchNorm3d(C)),
    "Bilinear": row("flat", lambda: nn.Bilinear(C, C, 6), two),
    "CELU": row("map", lambda: nn.CELU()),
    "CTCLoss": row(
        "flat",
        lambda: nn.CTCLoss(),
        lambda m, x, o: (
            x * m(x.log_softmax(1).expand(4, 2, 8), torch.ones(2, 2).long(), (4, 4), (2, 2))
        ),
    ),
    "ChannelShuffle": row("map", lambda: nn.ChannelShuffle(2)),
    "CircularPad1d": row("line", lambda: nn.CircularPad1d(1)),
    "CircularPad2d": row("map", lambda: nn.CircularPad2d(1)),
    "CircularPad3d": row("cube", lambda: nn.CircularPad3d(1)),
    "ConstantPad1d": row("line", lambda: nn.ConstantPad1d(1, 0.5)),
    "ConstantPad2d": row("map", lambda: nn.ConstantPad2d((1, 0, -1, 2), 0.5)),
    "ConstantPad3d": row("cube", lambda: nn.ConstantPad3d(1, 0.5)),
    "Conv1d": row("line", lambda: nn.Conv1d(C, 6, 3)),
    "Conv2d": row("map", lambda: nn.Conv2d(C, 6, 3)),
    "Conv3d": row("cube", lambda: nn.Conv3d(C, 6, 3)),
    "ConvTranspose1d": row("line", lambda: nn.ConvTranspose1d(C, 6, 3)),
    "ConvTranspose2d": row("map", lambda: nn.ConvTranspose2d(C, 6, 3)),
    "ConvTranspose3d": row("cube", lambda: nn.ConvTranspose3d(C, 6, 2)),
    "CosineEmbeddingLoss": row(
        "flat",
        lambda: nn.CosineEmbeddingLoss(),
        lambda m, x, o: x * m(x, o(), torch.ones_like(x[:, 0])),
    ),
    "CosineSimilarity": row(
        "map", lambda: nn.CosineSimilarity(), lambda m, x, o: x * m(x, o()).unsqueeze(1)
    ),
    "CrossEntropyLoss": row(
        "map", lambda: nn.CrossEntropyLoss(), lambda m, x, o: x * m(x, classes(x))
    ),
    "CrossMapLRN2d": row("map", lambda: nn.CrossMapLRN2d(3)),
    "Dropout": row("map", lambda: nn.Dropout()),
    "Dropout1d": row("line", lambda: nn.Dropout1d()),
    "Dropout2d": row("map", lambda: nn.Dropout2d()),
    "Dropout3d": row("cube", lambda: nn.Dropout3d()),
    "ELU": row("map", lambda: nn.ELU(inplace=True)),
    "Embedding": row(
        "rows", lambda: nn.Embedding(5, C, max_norm=1.0), lambda m, x, o: x + m(classes(x))[:, None]
    ),
    "EmbeddingBag": row(
        "flat", lambda: nn.EmbeddingBag(5, C), lambda m, x, o: x + m(classes(x)[:, None])
    ),
    "FeatureAlphaDropout": row("map", lambda: nn.FeatureAlphaDropout()),
    "Flatten": row("rows", lambda: nn.Flatten()),
    "Fold": row("line", lambda: nn.Fold((3, 4), 2), lambda m, x, o: m(x).flatten(2)),
    "FractionalMaxPool2d": row("map", lambda: nn.FractionalMaxPool2d(2, output_size=3)),
    "FractionalMaxPool3d": row("cube", lambda: nn.FractionalMaxPool3d(2, output_size=2)),
    "GELU": row("map", lambda: nn.GELU("tanh")),
    "GLU": row("map", lambda: nn.GLU(1)),
    "GRU": row("rows", lambda: nn.GRU(C, 6, batch_first=True), recurrent),
    "GRUCell": row("flat", lambda: nn.GRUCell(C, 6)),
    "GaussianNLLLoss": row("map", lambda: nn.GaussianNLLLoss(), lambda m, x, o: x * m(x, o(), o())),
    "GroupNorm": row("map", lambda: nn.GroupNorm(4, C)),
    "Hardshrink": row("map", lambda: nn.Hardshrink()),
    "Hardsigmoid": row("map", lambda: nn.Hardsigmoid()),
    "Hardswish": row("map", lambda: nn.Hardswish()),
    "Hardtanh": row("map", lambda: nn.Hardtanh()),
    "HingeEmbeddingLoss": row("map", lambda: nn.HingeEmbeddingLoss(), gate),
    "HuberLoss": row("map", lambda: nn.HuberLoss(), gate),
    "Identity": row("map", lambda: nn.Identity()),
    "InstanceNorm1d": row("line", lambda: nn.InstanceNorm1d(C, affine=True)),
    "InstanceNorm2d": row("map", lambda: nn.InstanceNorm2d(C)),
    "InstanceNorm3d": row("cube", lambda: nn.InstanceNorm3d(C, track_running_stats=True)),
    "KLDivLoss": row("map", lambda: nn.KLDivLoss(reduction="none"), two),
    "L1Loss": row("map", lambda: nn.L1Loss(), gate),
    "LPPool1d": row("line", lambda: nn.LPPool1d(2, 2)),
    "LPPool2d": row("map", lambda: nn.LPPool2d(2, 2)),
    "LPPool3d": row("cube", lambda: nn.LPPool3d(2, 2)),
    "LSTM": row("rows", lambda: nn.LSTM(C, 6, batch_first=True), recurrent),
    "LSTMCell": row("flat", lambda: nn.LSTMCell(C, 6), recurrent),
    "LayerNorm": row("rows", lambda: nn.LayerNorm(C)),
    "LeakyReLU": row("map", lambda: nn.LeakyReLU(0.2, inplace=True)),
    "Linear": row("rows", lambda: nn.Linear(C, 6)),
    "LocalResponseNorm": row("map", lambda: nn.LocalResponseNorm(3)),
    "LogSigmoid": row("map", lambda: nn.LogSigmoid()),
    "LogSoftmax": row("map", lambda: nn.LogSoftmax(1)),
    "MSELoss": row("map", lambda: nn.MSELoss(reduction="none"), two),
    "MarginRankingLoss": row(
        "map", lambda: nn.MarginRankingLoss(), lambda m, x, o: x * m(x, o(), torch.ones_like(x))
    ),
    "MaxPool1d": row("line", lambda: nn.MaxPool1d(2)),
    "MaxPool2d": row("map", lambda: nn.MaxPool2d(2)),
    "MaxPool3d": row("cube", lambda: nn.MaxPool3d(2)),
    "MaxUnpool1d": row(
        "line",
        lambda: nn.MaxUnpool1d(2),
        lambda m, x, o: m(*F.max_pool1d(x, 2, return_indices=True)),
    ),
    "MaxUnpool2d": row(
        "map",
        lambda: nn.MaxUnpool2d(2),
        lambda m, x, o: m(*F.max_pool2d(x, 2, return_indices=True)),
    ),
    "MaxUnpool3d": row(
        "cube",
        lambda: nn.MaxUnpool3d(2),
        lambda m, x, o: m(*F.max_pool3d(x, 2, return_indices=True)),
    ),
    "Mish": row("map", lambda: nn.Mish()),
    "MultiLabelMarginLoss": row(
        "flat",
        lambda: nn.MultiLabelMarginLoss(),
        lambda m, x, o: x * m(x, torch.zeros_like(x).long()),
    ),
    "MultiLabelSoftMarginLoss": row("flat", lambda: nn.MultiLabelSoftMarginLoss(), gate),
    "MultiMarginLoss": row(
        "flat", lambda: nn.MultiMarginLoss(), lambda m, x, o: x * m(x, classes(x))
    ),
    "MultiheadAttention": row(
        "rows",
        lambda: nn.MultiheadAttention(C, 2, batch_first=True),
        lambda m, x, o: m(x, o(), o())[0],
    ),
    "NLLLoss": row("map", lambda: nn.NLLLoss(), lambda m, x, o: x * m(x, classes(x))),
    "PReLU": row("map", lambda: nn.PReLU(C)),
    "PairwiseDistance": row(
        "flat", lambda: nn.PairwiseDistance(), lambda m, x, o: x * m(x, o()).unsqueeze(1)
    ),
    "PixelShuffle": row("map", lambda: nn.PixelShuffle(2)),
    "PixelUnshuffle": row("map", lambda: nn.PixelUnshuffle(2)),
    "PoissonNLLLoss": row("map", lambda: nn.PoissonNLLLoss(), gate),
    "RMSNorm": row("rows", lambda: nn.RMSNorm(C)),
    "RNN": row("rows", lambda: nn.RNN(C, 6, batch_first=True), recurrent),
    "RNNCell": row("flat", lambda: nn.RNNCell(C, 6)),
    "RReLU": row("map", lambda: nn.RReLU()),
    "ReLU": row("map", lambda: nn.ReLU(inplace=True)),
    "ReLU6": row("map", lambda: nn.ReLU6()),
    "ReflectionPad1d": row("line", lambda: nn.ReflectionPad1d(1)),
    "ReflectionPad2d": row("map", lambda: nn.ReflectionPad2d(1)),
    "ReflectionPad3d": row("cube", lambda: nn.ReflectionPad3d(1)),
    "ReplicationPad1d": row("line", lambda: nn.ReplicationPad1d(1)),
    "ReplicationPad2d": row("map", lambda: nn.ReplicationPad2d(1)),
    "ReplicationPad3d": row("cube", lambda: nn.ReplicationPad3d(1)),
    "SELU": row("map", lambda: nn.SELU()),
    "Sequential": row("map", lambda: nn.Sequential(nn.ReLU(), nn.Conv2d(C, 6, 1))),
    "SiLU": row("map", lambda: nn.SiLU()),
    "Sigmoid": row("map", lambda: nn.Sigmoid()),
    "SmoothL1Loss": row("map", lambda: nn.SmoothL1Loss(), gate),
    "SoftMarginLoss": row(
        "map", lambda: nn.SoftMarginLoss(), lambda m, x, o: x * m(o(), torch.ones_like(x))
    ),
    "Softmax": row("map", lambda: nn.Softmax(-1)),
    "Softmax2d": row("map", lambda: nn.Softmax2d()),
    "Softmin": row("map", lambda: nn.Softmin(1)),
    "Softplus": row("map", lambda: nn.Softplus()),
    "Softshrink": row("map", lambda: nn.Softshrink()),
    "Softsign": row("map", lambda: nn.Softsign()),
    "SyncBatchNorm": row("map", lambda: nn.SyncBatchNorm(C)),
    "Tanh": row("map", lambda: nn.Tanh()),
    "Tanhshrink": row("map", lambda: nn.Tanhshrink()),
    "Threshold": row("map", lambda: nn.Threshold(0.2, 0.1)),
    "Transformer": row("rows", lambda: nn.Transformer(C, 2, 1, 1, 12, batch_first=True), two),
    "TransformerDecoder": row(
        "rows",
        lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(C, 2, 12, batch_first=True), 1),
        two,
    ),
    "TransformerDecoderLayer": row(
        "rows", lambda: nn.TransformerDecoderLayer(C, 2, 12, batch_first=True), two
    ),
    "TransformerEncoder": row(
        "rows",
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(C, 2, 12, batch_first=True), 1),
    ),
    "TransformerEncoderLayer": row(
        "rows", lambda: nn.TransformerEncoderLayer(C, 2, 12, batch_first=True)
    ),
    "TripletMarginLoss": row(
        "flat", lambda: nn.TripletMarginLoss(), lambda m, x, o: x * m(x, o(), o())
    ),
    "TripletMarginWithDistanceLoss": row(
        "flat", lambda: nn.TripletMarginWithDistanceLoss(), lambda m, x, o: x * m(x, o(), o())
    ),
    "Unflatten": row("map", lambda: nn.Unflatten(1, (4, 2)), lambda m, x, o: m(x).sum(2)),
    "Unfold": row("map", lambda: nn.Unfold(2), lambda m, x, o: m(x).unflatten(2, (5, 5))),
    "Upsample": row("map", lambda: nn.Upsample(scale_factor=2)),
    "UpsamplingBilinear2d": row("map", lambda: nn.UpsamplingBilinear2d(scale_factor=2)),
    "UpsamplingNearest2d": row("map", lambda: nn.UpsamplingNearest2d(scale_factor=2)),
    "ZeroPad1d": row("line", lambda: nn.ZeroPad1d(1)),
    "ZeroPad2d": row("map", lambda: nn.ZeroPad2d(1)),
    "ZeroPad3d": row("cube", lambda: nn.ZeroPad3d(1)),
}
# containers, base classes, what is not initialised yet, and what is no layer
NOT_LAYERS = {
    "Container", "Module", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList",
    "RNNBase", "RNNCellBase", "NLLLoss2d", "LinearCrossEntropyLoss", "LinearCrossEntropyOptions",
}  # fmt: skip


def chosen(*numbers):
    return torch.tensor(numbers)


def along(x, *numbers):
    """Indices for gather along the channels, as wide as the map."""
    return torch.tensor(numbers).view(1, -1, 1, 1).expand(2, len(numbers), 6, 6)


# rows of `name: body(x, other)`, by layout; `other()` is a second value of the same shape
MAPS = {
    # reductions
    "sum_keep": lambda x, o: x * x.sum(1, keepdim=True),
    "sum_all": lambda x, o: x * x.sum(),
    "mean_space": lambda x, o: x * x.mean((2, 3), keepdim=True),
    "mean_channels": lambda x, o: x * x.mean(1, keepdim=True),
    "mean_all": lambda x, o: x * x.mean(),
    "mean_dtype": lambda x, o: x * torch.mean(x, dim=[1, 2, 3], keepdim=True),
    "amax": lambda x, o: x * x.amax(1, keepdim=True),
    "amax_space": lambda x, o: x * x.amax((2, 3), keepdim=True),
    "max_dim": lambda x, o: x * x.max(1, keepdim=True)[0],
    "max_values": lambda x, o: x * torch.max(x, 1, keepdim=True).values,
    "max_all": lambda x, o: x * x.max(),
    "max_two": lambda x, o: torch.max(x, o()),
    "min_space": lambda x, o: x * x.flatten(2).min(2)[0][..., None, None],
    "argmax": lambda x, o: x * x.argmax(1, keepdim=True),
    "var": lambda x, o: x * x.var(1, keepdim=True),
    "std_space": lambda x, o: x * x.std((2, 3), keepdim=True),
    "var_mean": lambda x, o: x * torch.var_mean(x, (2, 3), keepdim=True)[0],
    "std_mean": lambda x, o: x * torch.std_mean(x, 1, keepdim=True)[1],
    "prod": lambda x, o: x * x.prod(1, keepdim=True),
    "norm": lambda x, o: x * x.norm(dim=1, keepdim=True),
    "norm_one": lambda x, o: x * x.norm(p=1, dim=1, keepdim=True),
    "norm_three": lambda x, o: x * torch.linalg.vector_norm(x, 3, dim=1, keepdim=True),
    "norm_inf": lambda x, o: x * torch.linalg.vector_norm(x, float("inf"), dim=1, keepdim=True),
    "norm_zero": lambda x, o: x * torch.linalg.vector_norm(x, 0, dim=1, keepdim=True),
    "norm_space": lambda x, o: x / torch.linalg.norm(x, dim=(2, 3), keepdim=True),
    "norm_all": lambda x, o: x / x.norm(),
    "logsumexp": lambda x, o: x * x.logsumexp(1, keepdim=True),
    "median": lambda x, o: x * x.median(1, keepdim=True)[0],
    "quantile": lambda x, o: x * x.quantile(0.3, dim=1, keepdim=True),
    "nansum": lambda x, o: x * x.nansum(1, keepdim=True),
    "nanmean": lambda x, o: x * x.nanmean(1, keepdim=True),
    "any": lambda x, o: x * (x > 1).any(1, keepdim=True),
    "all_space": lambda x, o: x * (x > 0).all(2, keepdim=True),
    "count_nonzero": lambda x, o: x * x.count_nonzero(1)[:, None],
    "aminmax": lambda x, o: x * torch.aminmax(x, dim=1, keepdim=True)[1],
    "trace_like": lambda x, o: x * x.diagonal(0, 2, 3).sum(-1)[..., None, None],
    # splitting and joining
    "cat": lambda x, o: torch.cat([x, o()], 1),
    "cat_method": lambda x, o: torch.concat((x, x), dim=-3),
    "cat_space": lambda x, o: torch.cat([x, o()], 2),
    "cat_zeros": lambda x, o: torch.cat([x, torch.zeros_like(x[:, :2])], 1),
    "stack": lambda x, o: torch.stack([x, o()], 1).flatten(1, 2),
    "stack_last": lambda x, o: torch.stack([x, o()], -1).sum(-1),
    "stack_interleaved": lambda x, o: torch.stack([x, o()], 2).flatten(1, 2),
    "hstack": lambda x, o: torch.hstack([x, o()]),
    "dstack": lambda x, o: torch.dstack([x, o()]),
    "vstack": lambda x, o: torch.vstack([x, o()])[:2],
    "unbind": lambda x, o: sum(x.unbind(1)[:3]).unsqueeze(1),
    "unbind_space": lambda x, o: torch.stack(torch.unbind(x, 2)[::-1], 2),
    "unbind_split": lambda x, o: x.view(2, 2, 4, 6, 6).unbind(1)[1],
    "chunk": lambda x, o: x.chunk(2, 1)[0] * x.chunk(2, 1)[1],
    "chunk_three": lambda x, o: torch.cat(torch.chunk(x, 3, dim=1)[::-1], 1),
    "split": lambda x, o: torch.cat(x.split(3, 1)[::-1], 1),
    "split_sizes": lambda x, o: torch.split(x, [5, 3], dim=1)[0],
    "split_with_sizes": lambda x, o: x.split_with_sizes([2, 6], 1)[1],
    "tensor_split": lambda x, o: torch.cat(x.tensor_split(3, 1)[1:], 1),
    "tensor_split_at": lambda x, o: x.tensor_split((2, 5), 1)[1],
    "hsplit": lambda x, o: torch.hsplit(x, 2)[0],
    "dsplit": lambda x, o: x.dsplit(2)[0],
    "narrow": lambda x, o: x.narrow(1, 2, 4),
    "select": lambda x, o: x * x.select(1, 3).unsqueeze(1),
    "slice": lambda x, o: x[:, 2:7] + o()[:, 1:6],
    "slice_negative": lambda x, o: x[:, -5:-1],
    "slice_step": lambda x, o: x[:, ::2],
    "slice_ellipsis": lambda x, o: x[..., 1:, :-1],
    "index_int": lambda x, o: x * x[:, 3, None],
    "index_list": lambda x, o: x[:, [0, 2, 5]],
    "index_tensor": lambda x, o: x[:, chosen(7, 2, 2, 1)],
    "index_mask": lambda x, o: x[:, torch.tensor([True, False] * 4)],
    "index_select": lambda x, o: x.index_select(1, chosen(4, 1, 6)),
    "index_select_space": lambda x, o: torch.index_select(x, 3, chosen(4, 1)),
    "gather": lambda x, o: x.gather(1, along(x, 3, 1)),
    "take_along_dim": lambda x, o: x.take_along_dim(along(x, 3, 1), 1),
    "index_add": lambda x, o: x.index_add(1, chosen(0, 3), o()[:, :2]),
    "index_copy": lambda x, o: x.index_copy(1, chosen(0, 3), o()[:, :2]),
    "index_fill": lambda x, o: x.index_fill(1, chosen(0, 3), 0.5),
    "scatter": lambda x, o: x.scatter(1, along(x, 3, 1), o()),
    "scatter_add": lambda x, o: x.scatter_add(1, along(x, 3, 1), o()),
    "select_scatter": lambda x, o: x.select_scatter(o()[:, 0], 1, 2),
    "slice_scatter": lambda x, o: x.slice_scatter(o()[:, :3], 1, 2, 5),
    "diagonal_scatter": lambda x, o: x.diagonal_scatter(o()[..., 0], 0, 2, 3),
    "masked_scatter": lambda x, o: x.masked_scatter(x > 1, o()),
    # order
    "roll": lambda x, o: x.roll(3, 1),
    "roll_space": lambda x, o: torch.roll(x, (1, 2), (2, 3)),
    "roll_negative": lambda x, o: torch.roll(x, -2, dims=1),
    "roll_flat": lambda x, o: x.roll(5),
    "flip": lambda x, o: x.flip(1) + x.flip([2, 3]),
    "fliplr": lambda x, o: x.fliplr() + x,
    "rot90": lambda x, o: x.rot90(1, (2, 3)),
    "rot90_channels": lambda x, o: x[:, :6].rot90(1, (1, 2)),
    "channel_shuffle": lambda x, o: F.channel_shuffle(x, 4),
    "shuffle_by_view": lambda x, o: x.view(2, 2, 4, 6, 6).transpose(1, 2).reshape(2, 8, 6, 6),
    "sort": lambda x, o: x.sort(1)[0],
    "sort_space": lambda x, o: x.flatten(2).sort(2)[0].view_as(x),
    "argsort": lambda x, o: x * x.argsort(1),
    "topk": lambda x, o: x.topk(3, 1)[0],
    "topk_space": lambda x, o: x.flatten(2).topk(9, -1)[0].unflatten(2, (3, 3)),
    "kthvalue": lambda x, o: x * x.kthvalue(2, 1, keepdim=True)[0],
    "cumsum": lambda x, o: x.cumsum(1),
    "cumsum_space": lambda x, o: x.cumsum(2),
    "cumprod": lambda x, o: x.cumprod(3),
    "cummax": lambda x, o: x.cummax(2)[0],
    "logcumsumexp": lambda x, o: x.logcumsumexp(1),
    "diff": lambda x, o: x.diff(dim=1),
    "diff_space": lambda x, o: x.diff(dim=3),
    "unique_free": lambda x, o: torch.searchsorted(torch.linspace(0, 1, 5).double(), x) * x,
    "bucketize": lambda x, o: x * torch.bucketize(x, torch.linspace(0, 1, 5).double()),
    # shapes
    "movedim": lambda x, o: x.movedim(1, 3).movedim(3, 1),
    "moveaxis": lambda x, o: torch.moveaxis(x, (1, 2), (2, 1)).moveaxis(1, 2),
    "swapaxes": lambda x, o: x.swapaxes(1, 2).swapdims(1, 2),
    "permute": lambda x, o: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2),
    "T_like": lambda x, o: x.mT + x.transpose(2, 3).mH,
    "adjoint": lambda x, o: x.adjoint(),
    "flatten": lambda x, o: x.flatten(1).view(2, 8, 6, 6),
    "flatten_partly": lambda x, o: x.flatten(1, 2).unflatten(1, (8, 6)),
    "reshape": lambda x, o: torch.reshape(x, (2, -1, 36)).reshape(2, 8, 6, 6),
    "view_fold": lambda x, o: x.view(2, 4, 2, 6, 6).sum(2),
    "view_rows": lambda x, o: x.view(16, 6, 6).view(2, 8, 6, 6),
    "space_to_depth": lambda x, o: (
        x.view(2, 8, 3, 2, 3, 2).permute(0, 1, 3, 5, 2, 4).reshape(2, 32, 3, 3)
    ),
    "depth_to_space": lambda x, o: (
        x.view(2, 2, 2, 2, 6, 6).permute(0, 3, 4, 1, 5, 2).reshape(2, 2, 12, 12)
    ),
    "squeeze": lambda x, o: x.unsqueeze(1).squeeze(1),
    "expand": lambda x, o: x[:, :1].expand(-1, 4, -1, -1) * x[:, :4],
    "expand_as": lambda x, o: x.mean(1, keepdim=True).expand_as(x),
    "broadcast_to": lambda x, o: torch.broadcast_to(x.amax((2, 3), keepdim=True), x.shape),
    "broadcast_tensors": lambda x, o: torch.broadcast_tensors(x, x[:, :, :1])[1],
    "repeat": lambda x, o: x.repeat(1, 2, 1, 1),
    "repeat_space": lambda x, o: x.repeat(1, 1, 2, 1),
    "tile": lambda x, o: x.tile(1, 3, 1, 1),
    "repeat_interleave": lambda x, o: x.repeat_interleave(2, 1),
    "repeat_interleave_counts": lambda x, o: x.repeat_interleave(chosen(1, 0, 2, 1, 1, 1, 1, 3), 1),
    "unfold_method": lambda x, o: x.unfold(2, 2, 2).amax(-1),
    "unfold_channels": lambda x, o: x.unfold(1, 2, 2).sum(-1),
    "unfold_fold": lambda x, o: F.fold(F.unfold(x, 2), (6, 6), 2),
    "fold_weighted": lambda x, o: F.fold(F.unfold(x, 3, stride=3) * 2, (6, 6), 3, stride=3),
    "as_strided": lambda x, o: x.as_strided((2, 8, 3, 3), (288, 36, 12, 2)),
    "diag_embed": lambda x, o: torch.diag_embed(x[..., 0]),
    "tril": lambda x, o: x.tril() + x.triu(1),
    "atleast_3d": lambda x, o: torch.atleast_3d(x),
    "contiguous": lambda x, o: x.contiguous(memory_format=torch.channels_last).clone(),
    "cartesian": lambda x, o: (
        x + torch.meshgrid(chosen(*range(6)), chosen(*range(6)), indexing="ij")[0]
    ),
    # elementwise
    "where": lambda x, o: torch.where(x > 1, x, o()),
    "where_scalar": lambda x, o: x.where(x > 1, 0.0),
    "where_method": lambda x, o: o().where(x.mean(1, keepdim=True) > 1, x),
    "masked_fill": lambda x, o: x.masked_fill(o() > 0.5, 0.1),
    "clamp": lambda x, o: x.clamp(0.2, 0.9) + x.clip(max=0.5),
    "clamp_tensor": lambda x, o: torch.clamp(x, min=o()),
    "lerp": lambda x, o: torch.lerp(x, o(), 0.3),
    "lerp_tensor": lambda x, o: x.lerp(o(), o().mean(1, keepdim=True)),
    "addcmul": lambda x, o: torch.addcmul(x, o(), x, value=0.5),
    "addcdiv": lambda x, o: x.addcdiv(x, o() + 1),
    "pow": lambda x, o: x**2 + x.pow(o()) + 2**x,
    "atan2": lambda x, o: torch.atan2(x, o()),
    "hypot": lambda x, o: x.hypot(o()),
    "fmod": lambda x, o: x.fmod(0.3) + x.remainder(o() + 0.1) + x % 0.7,
    "floor": lambda x, o: (x * 3).floor() + (x * 3).round() - x.trunc() + x.frac(),
    "logical": lambda x, o: x * ((x > 1) & (o() < 0.5) | ~(x < 0.5)),
    "maximum": lambda x, o: torch.maximum(x, o()) + torch.minimum(x, o()) + x.fmax(o()),
    "erf": lambda x, o: x.erf() + x.log1p() + x.expm1() + x.rsqrt() + x.lgamma(),
    "special": lambda x, o: torch.special.expit(x) + torch.special.xlogy(x, o()),
    "heaviside": lambda x, o: torch.heaviside(x - 1, o()),
    "copysign": lambda x, o: x.copysign(o() - 0.5) + x.sign() + x.abs(),
    "casts": lambda x, o: x.float().double() + x.half().to(x) + x.type(torch.float64),
    "zeros_like": lambda x, o: x + torch.zeros_like(x) + torch.ones_like(x) * x.new_ones(8, 6, 6),
    "new_full": lambda x, o: x * x.new_full((1, 8, 1, 1), 0.5),
    "complex": lambda x, o: torch.complex(x, o()).abs(),
    "view_as_complex": lambda x, o: torch.view_as_real(
        torch.view_as_complex(torch.stack([x, o()], -1)) * 1j
    )[..., 0],
    "polar": lambda x, o: torch.polar(x, o()).real,
    "inplace": lambda x, o: x.mul_(2).add_(o()).clamp_(0, 1),
    "isfinite": lambda x, o: x * x.isfinite() + x.nan_to_num(),
    "sequence": lambda x, o: (
        torch.sigmoid(x) * F.softplus(x) + F.elu(x) + F.hardtanh(x) + F.logsigmoid(x)
    ),
    # products
    "matmul_space": lambda x, o: x @ o(),
    "matmul_channels": lambda x, o: (x.flatten(2) @ o().flatten(2).mT)[..., None],
    "bmm": lambda x, o: (
        torch.bmm(x.flatten(2).mT, o().flatten(2))
        .unflatten(1, (6, 6))
        .movedim(1, 2)
        .sum(3, keepdim=True)
        .expand(2, 6, 6, 6)[:, :, :1]
    ),
    "gram": lambda x, o: torch.einsum("nchw,ndhw->ncd", x, x)[..., None],
    "einsum": lambda x, o: torch.einsum("nchw,nchw->nhw", x, o())[:, None] * x,
    "einsum_dots": lambda x, o: torch.einsum("nc...,nd...->nc...", x, o()),
    "einsum_implicit": lambda x, o: torch.einsum("nchw,nchw", x, o()) * x,
    "einsum_transposed": lambda x, o: torch.einsum("nchw->nhcw", x).transpose(1, 2),
    "einsum_outer": lambda x, o: torch.einsum("nc,nd->ncd", x.mean((2, 3)), o().mean((2, 3)))[
        ..., None
    ],
    "einsum_diagonal": lambda x, o: torch.einsum("ncii->nci", x)[..., None],
    "baddbmm": lambda x, o: torch.baddbmm(
        x.flatten(2), x.flatten(2) @ o().flatten(2).mT, x.flatten(2)
    ).view_as(x),
    "tensordot": lambda x, o: torch.tensordot(x, o(), dims=([1, 2, 3], [1, 2, 3])).sum() * x,
    "tensordot_outer": lambda x, o: torch.tensordot(x, torch.ones(6, 5).double(), 1),
    "inner": lambda x, o: torch.inner(x, o()[0, 0]),
    "outer": lambda x, o: x + torch.outer(x[0, :, 0, 0], o()[0, 0, 0]).view(8, 6, 1),
    "kron": lambda x, o: torch.kron(x, torch.ones(2, 2).double()),
    "cross": lambda x, o: torch.linalg.cross(x[:, :3], o()[:, :3], dim=1),
    "cdist": lambda x, o: torch.cdist(x.flatten(2), o().flatten(2))[..., None],
    "cdist_pixels": lambda x, o: (
        torch.cdist(x.flatten(2).mT, o().flatten(2).mT) @ x.flatten(2).mT
    ).mT.reshape(2, 8, 6, 6),
    "matrix_power": lambda x, o: torch.linalg.matrix_power(x, 2),
    "inverse": lambda x, o: torch.linalg.inv(x + 9 * torch.eye(6).double()),
    "svdvals": lambda x, o: x * torch.linalg.svdvals(x)[..., None],
    "corrcoef": lambda x, o: x * torch.corrcoef(x.flatten(1)).sum(),
    "cov": lambda x, o: x * torch.cov(x[0].flatten(1)).diagonal()[:, None, None],
    # torch.fft
    "fft_space": lambda x, o: torch.fft.ifft2(torch.fft.fft2(x)).real,
    "rfft_space": lambda x, o: torch.fft.irfft(torch.fft.rfft(x, dim=2), n=6, dim=2),
    "fft_channels": lambda x, o: torch.fft.fft(x, dim=1).abs(),
    "rfft_channels": lambda x, o: torch.fft.rfft(x, dim=1).abs(),
    "fftn": lambda x, o: torch.fft.fftn(x).abs(),
    "fftshift": lambda x, o: torch.fft.fftshift(x, dim=(2, 3)),
    "fftshift_channels": lambda x, o: torch.fft.fftshift(x, dim=1),
    "stft": lambda x, o: (
        torch.stft(x.reshape(16, 36), 8, return_complex=True, window=torch.ones(8).double())
        .abs()
        .view(2, 8, 5, 19)
    ),
    # torch.nn.functional
    "normalize": lambda x, o: F.normalize(x),
    "normalize_space": lambda x, o: F.normalize(x, dim=-1),
    "normalize_one": lambda x, o: F.normalize(x, p=1, dim=1),
    "cosine_similarity": lambda x, o: x * F.cosine_similarity(x, o()).unsqueeze(1),
    "cosine_similarity_space": lambda x, o: x * F.cosine_similarity(x, o(), dim=2).unsqueeze(2),
    "pairwise_distance": lambda x, o: x * F.pairwise_distance(x, o())[..., None],
    "gumbel_softmax": lambda x, o: F.gumbel_softmax(x, dim=1).detach() * 0 + x,
    "softmax": lambda x, o: x.softmax(1),
    "softmax_default": lambda x, o: F.softmax(x.flatten(2), -1).view_as(x),
    "softmax_flat": lambda x, o: x.flatten(1).softmax(1).view_as(x),
    "log_softmax": lambda x, o: F.log_softmax(x, dim=2),
    "softmin": lambda x, o: F.softmin(x, dim=1),
    "glu": lambda x, o: F.glu(x, 1),
    "glu_space": lambda x, o: F.glu(x, -1),
    "prelu": lambda x, o: F.prelu(x, torch.full((8,), 0.2).double()),
    "layer_norm": lambda x, o: F.layer_norm(x, (8, 6, 6)),
    "layer_norm_space": lambda x, o: F.layer_norm(x, (6, 6)),
    "group_norm": lambda x, o: F.group_norm(x, 2),
    "instance_norm": lambda x, o: F.instance_norm(x),
    "batch_norm": lambda x, o: F.batch_norm(x, torch.zeros(8).double(), torch.ones(8).double()),
    "rms_norm": lambda x, o: F.rms_norm(x, (8, 6, 6)),
    "local_response_norm": lambda x, o: F.local_response_norm(x, 3),
    "dropout": lambda x, o: F.dropout(x, 0.5, False) + F.dropout2d(x, training=False),
    "one_hot": lambda x, o: x * F.one_hot(x.argmax(1), 8).movedim(-1, 1),
    "interpolate": lambda x, o: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "interpolate_size": lambda x, o: F.interpolate(x, size=(4, 5)),
    "grid_sample": lambda x, o: F.grid_sample(
        x, torch.zeros(2, 3, 3, 2).double(), align_corners=False
    ),
    "affine_grid": lambda x, o: F.grid_sample(
        x,
        F.affine_grid(torch.eye(3)[:2].double().expand(2, 2, 3), [2, 8, 4, 4], align_corners=False),
        align_corners=False,
    ),
    "pad_channels": lambda x, o: F.pad(x, (0, 0, 0, 0, 1, 2)),
    "pad_reflect": lambda x, o: F.pad(x, (1, 1, 1, 1), "reflect"),
    "pad_circular": lambda x, o: F.pad(x, (1, 1, 1, 1), mode="circular"),
    "pad_cut": lambda x, o: F.pad(x, (-1, -1, 0, 0)),
    "pixel_shuffle": lambda x, o: F.pixel_shuffle(x, 2),
    "pixel_unshuffle": lambda x, o: F.pixel_unshuffle(x, 3),
    "max_pool": lambda x, o: F.max_pool2d(x, 3, 2, return_indices=True)[0],
    "avg_pool_channels": lambda x, o: F.avg_pool1d(x.flatten(2).mT, 2).mT.unflatten(2, (6, 6)),
    "max_pool_channels": lambda x, o: F.max_pool3d(x[:, None], (2, 1, 1))[:, 0],
    "adaptive_pool": lambda x, o: x * F.adaptive_avg_pool2d(x, 1),
    "adaptive_max": lambda x, o: F.adaptive_max_pool2d(x, (2, None)),
    "lp_pool": lambda x, o: F.lp_pool2d(x, 2, 2),
    "conv_constant": lambda x, o: F.conv2d(x, torch.ones(8, 1, 3, 3).double(), groups=8),
    "conv_mix": lambda x, o: F.conv2d(x, torch.ones(4, 8, 1, 1).double()),
    "conv_transposed": lambda x, o: F.conv_transpose2d(
        x, torch.ones(8, 4, 2, 2).double(), groups=2
    ),
    "blur_expanded": lambda x, o: F.conv2d(
        x, torch.ones(1, 1, 3, 3).double().expand(x.shape[1], -1, -1, -1), groups=x.shape[1]
    ),
    "conv_over_channels": lambda x, o: (
        F.conv1d(x.mean((2, 3))[:, None], torch.ones(1, 1, 3).double(), padding=1)
        .sigmoid()
        .movedim(1, 2)[..., None]
        * x
    ),
    "linear_space": lambda x, o: F.linear(x, torch.ones(4, 6).double()),
    "bilinear": lambda x, o: F.bilinear(x, o(), torch.ones(5, 6, 6).double()),
    "l1_loss": lambda x, o: x * F.l1_loss(x, o()),
    "mse_loss": lambda x, o: F.mse_loss(x, o(), reduction="none"),
    "cross_entropy": lambda x, o: x * F.cross_entropy(x, classes(x)),
    "kl_div": lambda x, o: F.kl_div(x, o(), reduction="none"),
    "attention": lambda x, o: F.scaled_dot_product_attention(
        x.flatten(2).mT, o().flatten(2).mT, x.flatten(2).mT
    ).mT.reshape(2, 8, 6, 6),
    "attention_over_channels": lambda x, o: F.scaled_dot_product_attention(x, o(), x),
    # sizes
    "size": lambda x, o: x.view(x.size(0), x.size(1) // 2, 2, *x.shape[2:]).sum(2),
    "scale_by_size": lambda x, o: x * x.shape[1] ** -0.5,
    "numel": lambda x, o: x / x.numel(),
    "arange_channels": lambda x, o: x * torch.arange(x.shape[1])[:, None, None],
    "linspace_channels": lambda x, o: x * torch.linspace(0, 1, 8).double().view(-1, 1, 1),
    "eye": lambda x, o: (torch.eye(8).double() @ x.flatten(2)).view_as(x),
    "positional": lambda x, o: x + torch.arange(6).view(6, 1),
}
ROWS = {
    "linear_both": lambda x, o: F.linear(x, torch.ones(6, 8).double()),
    "softmax_tokens": lambda x, o: x.softmax(1),
    "mean_tokens": lambda x, o: x - x.mean(1, keepdim=True),
    "layer_norm_rows": lambda x, o: F.layer_norm(x, (8,)),
    "rms_norm_rows": lambda x, o: F.rms_norm(x, (8,)),
    "heads": lambda x, o: (
        x.unflatten(-1, (2, 4)).transpose(1, 2).flatten(-2).flatten(1).view(2, 5, 8)
    ),
    "attention_rows": lambda x, o: x.softmax(-2) @ (o().mT @ x),
    "rotary": lambda x, o: x * 0.5 + torch.cat([-x[..., 4:], x[..., :4]], -1) * 0.5,
    "rotary_pairs": lambda x, o: torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2),
    "swiglu": lambda x, o: F.silu(x[..., :4]) * x[..., 4:],
    "cumsum_tokens": lambda x, o: x.cumsum(1),
    "conv_tokens": lambda x, o: F.avg_pool1d(x.mT, 2).mT,
    "glu_rows": lambda x, o: F.glu(x),
    "embedding": lambda x, o: x + F.embedding(classes(x), torch.ones(3, 8).double()),
    "roll_tokens": lambda x, o: x.roll(1, 1),
    "shift_channels": lambda x, o: torch.cat([x[:, :, :4].roll(1, 1), x[:, :, 4:]], -1),
    "addmm": lambda x, o: torch.addmm(o()[:, 0], x[:, 0], torch.ones(8, 8).double()),
    "mv": lambda x, o: x * torch.mv(x[0], torch.ones(8).double())[:, None],
    "dot": lambda x, o: x * torch.dot(x[0, 0], o()[0, 0]),
    "outer": lambda x, o: x * torch.outer(torch.ones(5).double(), o()[0, 0]),
    "ger": lambda x, o: x + o()[0, 0].ger(torch.ones(5).double()).mT,
    "chain": lambda x, o: torch.linalg.multi_dot([x[0], o()[0].T, x[1]]),
    "matrix_norm": lambda x, o: x / torch.linalg.matrix_norm(x)[:, None, None],
    "renorm": lambda x, o: x.renorm(2, 2, 1.0),
    "baddbmm_rows": lambda x, o: torch.baddbmm(x, x @ x.mT, o()),
    "multi_head_by_chunk": lambda x, o: torch.cat(
        [(h @ h.mT).softmax(-1) @ h for h in x.chunk(2, -1)], -1
    ),
}
FUNCTIONS = {n: ("map", body) for n, body in MAPS.items()}
FUNCTIONS |= {n: ("rows", body) for n, body in ROWS.items()}


def built(name):
    """Builds a row of either table in float64, with its input."""
    torch.manual_seed(0)
    if name in LAYERS:
        layout, make, body = LAYERS[name]
        model = Between(layout, body, make())
    else:
        layout, body = FUNCTIONS[name]
        model = Between(layout, body)
    model = model.double().eval()
    torch.manual_seed(1)
    return model, torch.randn(SHAPES[layout], dtype=torch.float64)
