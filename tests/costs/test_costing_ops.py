"""MACs of functions, attention, recurrent nets and leaves without a closed form."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gfx.costs import Macs
from support.programs import call, cost, counted_by_torch, function

A, B = torch.ones(2, 3, 4), torch.ones(2, 4, 5)
PRODUCTS = {
    "matmul": (torch.matmul, (A, B), 120),
    "@": (torch.Tensor.__matmul__, (A, B), 120),
    "broadcast": (torch.matmul, (A, B[0]), 120),
    "bmm": (torch.bmm, (A, B), 120),
    "aten bmm": (torch.ops.aten.bmm.default, (A, B), 120),
    "mm": (torch.mm, (A[0], B[0]), 60),
    "mv": (torch.mv, (A[0], B[0, :, 0]), 12),
    "matmul of vectors": (torch.matmul, (A[0, 0], A[0, 0]), 4),
    "dot": (torch.dot, (A[0, 0], A[0, 0]), 4),
    "inner": (torch.inner, (A[0], A[0]), 36),
    "addmm": (torch.addmm, (torch.ones(5), A[0], B[0]), 60),
    "aten addmm": (torch.ops.aten.addmm.default, (torch.ones(5), A[0], B[0]), 60),
    "addmv": (torch.addmv, (torch.ones(3), A[0], A[0, 0]), 12),
    "baddbmm": (torch.baddbmm, (torch.ones(2, 3, 5), A, B), 120),
    "addbmm": (torch.addbmm, (torch.ones(3, 5), A, B), 120),
    "linear": (F.linear, (A, torch.ones(7, 4)), 168),
    "bilinear": (F.bilinear, (A[0], A[0], torch.ones(2, 4, 4)), 96),
    "tensordot": (torch.tensordot, (A[0], B[0], 1), 60),
    "multi_dot": (lambda *x: torch.linalg.multi_dot(x), (A[0], B[0]), 60),
}


@pytest.mark.parametrize("case", PRODUCTS)
def test_products_of_matrices_are_counted(case):
    target, inputs, macs = PRODUCTS[case]
    tensors = [x for x in inputs if isinstance(x, torch.Tensor)]
    plain = inputs[len(tensors) :]
    found = call(lambda graph, *x: graph.call_function(target, (*x, *plain)), *tensors)
    assert found.macs == Macs.same(macs)


def test_products_are_counted_as_methods_and_with_keywords():
    found = call(lambda graph, a, b: graph.call_method("matmul", (a, b)), A, B)
    assert found.macs.exact == 120

    def named(graph, a, b):
        return graph.call_function(torch.bmm, (), {"input": a, "mat2": b})

    assert call(named, A, B).macs.exact == 120


@pytest.mark.parametrize(
    ("equation", "macs"),
    [("bij,bjk->bik", 120), ("bij,bjk->ik", 120), ("bij,cjk->bcik", 240), ("bij,bij->b", 24)],
)
def test_einsum_is_counted_as_torch_contracts_it(equation, macs):
    right = A if equation == "bij,bij->b" else B
    found = call(lambda graph, a, b: graph.call_function(torch.einsum, (equation, a, b)), A, right)
    assert found.macs.exact == macs


@pytest.mark.parametrize(
    ("query", "key", "value", "options"),
    [
        ((2, 4, 6, 8), (2, 4, 5, 8), (2, 4, 5, 7), {}),
        ((6, 8), (5, 8), (5, 8), {}),
        ((2, 4, 6, 8), (2, 4, 6, 8), (2, 4, 6, 8), {"is_causal": True}),
        ((2, 4, 6, 8), (2, 2, 5, 8), (2, 2, 5, 8), {"enable_gqa": True}),
    ],
)
def test_attention_is_two_products(query, key, value, options):
    inputs = [torch.ones(shape) for shape in (query, key, value)]
    found = function(F.scaled_dot_product_attention, *inputs, **options)
    batch = math.prod(query[:-2])
    assert found.macs.exact == batch * query[-2] * key[-2] * (query[-1] + value[-1])


def test_an_attention_mask_adds_nothing():
    q = torch.ones(2, 4, 6, 8)
    plain = function(F.scaled_dot_product_attention, q, q, q)
    masked = function(F.scaled_dot_product_attention, q, q, q, torch.ones(6, 6))
    assert plain.macs == masked.macs


class Attend(nn.Module):
    def __init__(self, weights, **options):
        super().__init__()
        self.attend, self.weights = nn.MultiheadAttention(8, 2, **options), weights

    def forward(self, query, key, value):
        return self.attend(query, key, value, need_weights=self.weights)[0]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("options", "query", "key"),
    [
        ({}, (5, 2, 8), (6, 2, 8)),
        ({"batch_first": True}, (2, 5, 8), (2, 6, 8)),
        ({}, (5, 8), (6, 8)),
        ({"kdim": 3, "vdim": 3}, (5, 2, 8), (6, 2, 3)),
        ({"add_bias_kv": True, "add_zero_attn": True}, (5, 2, 8), (6, 2, 8)),
    ],
)
def test_multihead_attention_agrees_with_torch(training, options, query, key):
    model = Attend(True, **options).train()
    inputs = torch.ones(query), torch.ones(key), torch.ones(key)
    expected = counted_by_torch(model, *inputs)  # in training mode no fused kernel hides it
    assert cost(model.train(training), *inputs).macs == Macs.same(expected)
    model.weights = False
    assert cost(model, *inputs).macs == Macs.same(expected)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_recurrent_layers_count_every_weight_once_per_step(kind):
    layer = kind(6, 4, num_layers=2, bidirectional=True)
    found = cost(nn.Sequential(layer), torch.ones(5, 3, 6))
    each = sum(p.numel() for p in layer.parameters() if p.dim() == 2)
    assert found.macs.exact == 5 * 3 * each
    assert found.params == sum(p.numel() for p in layer.parameters())


def test_a_recurrent_cell_counts_one_step():
    found = cost(nn.Sequential(nn.GRUCell(6, 4)), torch.ones(3, 6))
    assert found.macs.exact == 3 * (12 * 6 + 12 * 4)


def test_norms_activations_and_resizing_count_nothing():
    layers = nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.PReLU(4), nn.Upsample(scale_factor=2)
    assert cost(nn.Sequential(*layers), torch.ones(1, 4, 8, 8)).macs == Macs()


def test_instance_norm_counts_its_elements_as_module_and_as_function():
    x = torch.ones(2, 4, 8, 8)
    found = cost(nn.Sequential(nn.InstanceNorm2d(4, affine=True)), x)
    assert found.macs == Macs(0, 0, 512)
    assert function(F.instance_norm, x).macs == found.macs


class Opaque(nn.Module):
    """Holds what a leaf may hold, and reads a value when asked to."""

    def __init__(self, peek=False):
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 2, 4, 2, 1)
        self.norm, self.peek = nn.InstanceNorm2d(2), peek

    def forward(self, x):
        x = self.norm(self.up(self.down(x)))
        if self.peek and x.sum().item() > 1e9:
            x = x * 2
        x = F.scaled_dot_product_attention(x, x, x)
        return torch.einsum("nchw,ncvw->nchv", x, x)


@pytest.mark.parametrize("peek", [False, True])
def test_an_opaque_leaf_costs_what_its_parts_cost(peek):
    x = torch.ones(1, 3, 8, 8)
    clear = cost(Opaque(), x)
    opaque = cost(nn.Sequential(Opaque(peek)), x, opaque=(Opaque,))
    assert opaque.macs == clear.macs
    assert opaque.macs.exact < opaque.macs.output < opaque.macs.output_norm
    assert opaque.params == clear.params


@pytest.mark.parametrize("training", [True, False])
def test_a_transformer_layer_is_counted_whether_it_trains_or_not(training):
    layer, x = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.ones(2, 5, 8)
    each = 4 * 8 * 8 + 2 * 5 * 8 + 2 * 8 * 16  # projections, attention, feed-forward
    assert cost(nn.Sequential(layer.train(training)), x).macs.exact == 2 * 5 * each


def test_a_recurrent_net_in_an_opaque_leaf_is_counted():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(6, 4, bidirectional=True)

        def forward(self, x):
            return self.lstm(x)[0]

    x = torch.ones(5, 3, 6)
    assert cost(nn.Sequential(Reader()), x, opaque=(Reader,)).macs == cost(Reader(), x).macs


def double_product(a, b):
    return a @ b + a @ b


def test_a_function_of_the_user_is_watched():
    assert function(double_product, A, B).macs.exact == 240
