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
            out = self.middle(torch.randn(SHAPES[layout]))
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
        lambda m, x, o: x
        * m(x.log_softmax(1).expand(4, 2, 8), torch.ones(2, 2).long(), (4, 4), (2, 2)),
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
    "GaussianNLLLoss": row(
        "map", lambda: nn.GaussianNLLLoss(), lambda m, x, o: x * m(x, o(), o())
    ),
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
    "Transformer": row(
        "rows", lambda: nn.Transformer(C, 2, 1, 1, 12, batch_first=True), two
    ),
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
FUNCTIONS = {}


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
