"""remove_zeros: filters of zeros are gone, whoever wrote them, and the output is what it was."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, reject
from hypothesis import strategies as st
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.utils import prune

import gfx
from gfx.compression.masks.known_rules import POINTWISE
from gfx.compression.masks.known_values import _KINDS, see_known
from gfx.ir.shapes.propagate import propagate
from support.blocks import (
    Attention,
    ConditionalNorm,
    Fourier,
    Modulated,
    MultiHead,
    Source,
    Spec,
    Swap,
)
from support.laws import _fits, law
from support.oracle import alike, assert_equal_outputs, flat
from support.strategies import specs

X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
METHODS = {
    "ln": lambda layer, share: prune.ln_structured(layer, "weight", share, n=2, dim=0),
    "random": lambda layer, share: prune.random_structured(layer, "weight", share, dim=0),
    "inputs": lambda layer, share: prune.ln_structured(layer, "weight", share, n=1, dim=1),
    "l1": lambda layer, share: prune.l1_unstructured(layer, "weight", share),
}
ZEROS = {"passes": ["remove_zeros"]}


def prunable(model):
    layers = dict(model.named_modules())
    kinds = (nn.modules.conv._ConvNd, nn.Linear)
    return [n for n, m in layers.items() if isinstance(m, kinds) and "weight" in m._parameters]


def macs(program):
    return gfx.cost(program).macs.exact


@law(14, swept=28)
@given(specs(approximate=True), st.data())
def test_masks_of_torch_convert_exactly(spec, data):
    model, inputs = spec.build()
    names = prunable(model)
    assume(names)
    for name in data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=6)):
        method = data.draw(st.sampled_from(sorted(METHODS)))
        layer = model.get_submodule(name)
        METHODS[method](layer, data.draw(st.sampled_from((0.5, 0.75))))
        if layer.bias is not None and data.draw(st.booleans()):
            prune.random_unstructured(layer, "bias", 0.5)
    wanted = model(*inputs)
    assume(flat(wanted).isfinite().all())
    try:
        small = gfx.apply("convert", model, inputs)
    except gfx.TraceError:
        reject()
    left = {name for name in small.state_dict() if name.endswith(("_mask", "_orig"))}
    # a layer of a class of its own is seen through: the graph computes with its tensors
    assert left <= {str(n.target) for n in small.graph.nodes if n.op == "get_attr"}
    program = gfx.trace(model, inputs)
    for batch, size in ((spec.batch, 8), (3, 8), (2, 12)):
        fresh = spec.inputs(batch, size)
        if size == 8 or _fits(program, fresh):
            assert_equal_outputs(model(*fresh), small(*fresh))


@law(14, swept=28)
@given(specs(), st.data())
def test_channels_that_are_zero_at_all_their_tensors_are_gone(spec, data):
    def choose(groups):
        assume(groups)
        return data.draw(st.sampled_from(groups))

    zeroed_channels_are_gone(spec, choose)


CARRIED = {
    "pairs of parts": Fourier(),
    "halves": Fourier(interleaved=False),
    **{f"attention by {how}": Attention(how=how) for how in ("bmm", "matmul", "einsum", "literal")},
    **{how: MultiHead(how=how) for how in ("matmul", "sdpa", "einsum", "whole")},
    "modulated": Modulated(),
    "gated": Swap(how="glu_module"),
}


@pytest.mark.parametrize("group", [0, -1])
@pytest.mark.parametrize("name", CARRIED)
def test_zeros_are_gone_wherever_operations_carry_them(name, group):
    spec = Spec(source=Source(out=8), blocks=(CARRIED[name],))
    zeroed_channels_are_gone(spec, lambda groups: groups[group])


@pytest.mark.parametrize("chunked", [False, True])
def test_zeros_of_an_embedding_are_zeros_whatever_the_class_is(chunked):
    source = Source(out=8, second="class", join=True)
    spec = Spec(source=source, blocks=(ConditionalNorm(chunked=chunked),), batch=2)
    zeroed_channels_are_gone(spec, lambda groups: groups[0])


class Embedded(nn.Module):
    """Adds a row of a table to each channel; the table is a layer's, or read by a function."""

    def __init__(self, function, **how):
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1)
        self.table, self.function, self.how = nn.Embedding(4, 8, **how), function, how
        with torch.no_grad():
            self.table.weight[:, :2] = 0.0
            self.table.weight[:, 2] = 0.5
            self.conv.weight[:3], self.conv.bias[:3] = 0.0, 0.0

    def forward(self, x, label):
        row = F.embedding(label, self.table.weight) if self.function else self.table(label)
        return self.out(self.conv(x) + row[:, :, None, None])


@pytest.mark.parametrize(
    ("function", "how", "left"),
    [(False, {}, 5), (True, {}, 5), (False, {"max_norm": 1.0}, 8)],
    ids=["layer", "function", "renormalised"],
)
def test_what_all_rows_of_an_embedding_share_is_known(function, how, left):
    x, label = torch.randn(2, 3, 4, 4), torch.tensor([0, 3])
    model = Embedded(function, **how).eval()
    small = gfx.apply(ZEROS, model, (x, label))
    assert small.conv.out_channels == left
    for other in (torch.tensor([1, 2]), torch.tensor([3, 3])):
        assert_equal_outputs(model(x, other), small(x, other))


def zeroed_channels_are_gone(spec, choose):
    program = gfx.trace(*spec.build())
    groups = gfx.channels(program)
    group = choose([g for g in groups if g.free and g.exact and g.producers and g.size > 2])
    with torch.no_grad():
        for m in group.members:
            if groups.role(m.tensor, m.dim) != "in" and not m.tensor.endswith("running_var"):
                index = torch.from_numpy(m.index[m.channel < 2])
                program.tensor(m.tensor).index_fill_(m.dim, index, 0)
    inputs = spec.inputs(spec.batch, 8)
    gone = read_as_zero(program, groups, group, inputs)
    small = gfx.apply(ZEROS, program.module, inputs)
    fresh = spec.inputs(3, 8)
    assert_equal_outputs(program.module(*fresh), small(*fresh))
    assert not gone or macs(gfx.trace(small, inputs)) < macs(program)


def read_as_zero(program, groups, group, inputs):
    """Whether every reader reads zeros of the first two channels of a group, for these inputs."""
    values = {}

    class Recorded(fx.Interpreter):
        def run_node(self, n):
            values[n] = super().run_node(n)
            return values[n]

    with torch.no_grad():
        Recorded(program.module, garbage_collect_values=False).run(*inputs)
    for read in groups.reads:
        mine = np.isin(groups.roots[read.ids], group.roots[:2]).nonzero()[0]
        if values[read.operand].index_select(read.dim, torch.from_numpy(mine)).any():
            return False
    return True


# what tutorials do: a chain of layers, masked in several ways


def chain(norm=nn.Identity, act=nn.ReLU, padding=1):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=padding),
        norm(16) if norm is not nn.Identity else norm(),
        act(),
        nn.Conv2d(16, 16, 3, padding=padding),
        norm(16) if norm is not nn.Identity else norm(),
        act(),
        nn.ConvTranspose2d(16, 8, 4, 2, 1),
        act(),
        nn.Conv2d(8, 3, 3, padding=padding),
    )
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.bias)
    return net.eval()


LAYERS = ("0", "3", "6")


def masked(net, method, share=0.5):
    for name in LAYERS:
        METHODS[method](net.get_submodule(name), share)
    return net


def widths(net):
    return [net.get_submodule(name).out_channels for name in LAYERS]


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("act", [nn.ReLU, nn.SiLU, nn.Sigmoid])
@pytest.mark.parametrize("norm", [nn.Identity, nn.BatchNorm2d, nn.InstanceNorm2d])
@pytest.mark.parametrize("method", ["ln", "random"])
def test_masked_filters_are_gone_with_their_biases_and_norms(method, norm, act, padding):
    net = masked(chain(norm, act, padding), method)
    if method == "random":  # ConvTranspose2d has its filters in dimension 1: dim=0 masks inputs
        METHODS["ln"](net[3], 0.25)
    small = gfx.apply("convert", net, X)
    for x in (X, torch.randn(3, 3, 17, 20)):
        assert alike(small(x), net(x))
    assert not any(name.endswith(("_mask", "_orig")) for name in small.state_dict())
    assert max(widths(small)[:2]) <= 9  # at most one constant channel is kept
    assert gfx.cost(small, X).macs.exact < 0.6 * gfx.cost(net, X).macs.exact


def test_the_model_that_is_given_keeps_its_numbers():
    net = chain(nn.BatchNorm2d)
    net[0].weight.data[:8] = 0
    before = {name: value.clone() for name, value in net.state_dict().items()}
    small = gfx.apply(ZEROS, net, X)
    assert widths(small)[0] < 16
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("times", [1, 2, 3])
def test_masks_upon_masks_convert(times):
    net = chain()
    for _ in range(times):
        masked(net, "ln", 0.25)
    small = gfx.apply("convert", net, X)
    assert alike(small(X), net(X))
    assert widths(small)[0] <= 16 * 0.75**times + 2


def test_global_masks_that_zero_whole_filters_convert():
    net = chain()
    net[0].weight.data[:6] *= 1e-6
    prune.global_unstructured(
        [(net[0], "weight"), (net[3], "weight")], prune.L1Unstructured, amount=6 * 27
    )
    small = gfx.apply("convert", net, X)
    assert alike(small(X), net(X))
    assert widths(small)[0] <= 11


def test_zeros_written_by_hand_are_gone_below_any_bound_but_one():
    net = chain()
    net[0].weight.data[1:] = 0
    net[0].bias.data.zero_()
    net[3].weight.data.zero_()
    net[3].bias.data.zero_()
    small = gfx.apply(ZEROS, net, X)
    assert alike(small(X), net(X))
    assert widths(small)[:2] == [1, 1]
    (skip,) = gfx.report(small).passes[0].skips
    assert (skip.node, skip.why) == ("3", "1 filter of zeros stays: all of 3 is zero; one stays")


def test_what_nothing_reads_is_gone_with_all_that_only_it_reads():
    net = chain()
    net[8].weight.data[:, :4] = 0
    net[3].weight.data[:, :7] = 0
    small = gfx.apply(ZEROS, net, X)
    assert alike(small(X), net(X))
    assert widths(small) == [9, 16, 4]


def test_scales_and_shifts_of_zero_remove_channels():
    net = chain(nn.BatchNorm2d)
    net[1].weight.data[:5] = 0
    net[1].bias.data[:5] = 0
    small = gfx.apply(ZEROS, net.train(), X)
    assert widths(small) == [11, 16, 8]
    assert alike(small.eval()(X), net.eval()(X))


def test_training_takes_only_constants_that_evaluation_has_too():
    net = chain(nn.BatchNorm2d)
    METHODS["ln"](net[0], 0.5)
    small = gfx.apply("convert", net.train(), X)
    assert widths(small)[:2] == [16, 16]
    why = {skip.node: skip.why for skip in gfx.report(small).passes[-1].skips}
    assert why["0"] == "8 filters of zeros stay: 3 reads values there that depend on the input"
    assert alike(small.eval()(X), net.eval()(X))


def test_the_result_learns_as_a_plain_network_of_its_size():
    small = gfx.apply("convert", masked(chain(nn.BatchNorm2d), "ln"), X).train()
    before = [p.detach().clone() for p in small.parameters()]
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = small(X).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(p.is_leaf and p.requires_grad for p in small.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, small.parameters(), strict=True))


def test_a_reader_without_a_bias_gets_one_for_constants():
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sigmoid(), nn.Conv2d(8, 4, 1, bias=False)).eval()
    net[0].weight.data[2:6] = 0
    small = gfx.apply(ZEROS, net, X)
    assert alike(small(X), net(X))
    assert small.get_submodule("0").out_channels == 4
    what = [(c.node, c.what) for c in gfx.report(small).passes[0].changes]
    assert ("2", "holds 4 constants that it read, in a new bias") in what


def test_a_reader_that_is_called_twice_holds_no_constants():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.again = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            x = self.again(self.first(x).sigmoid())
            return self.again(x.sigmoid()).mean(1)

    net = Twice().eval()
    net.first.weight.data[:2] = 0
    small = gfx.apply(ZEROS, net, X)
    why = {skip.node: skip.why for skip in gfx.report(small).passes[0].skips}
    assert "which it has no weights to hold" in why["first"]


def test_a_stream_loses_what_all_that_write_it_leave_zero():
    class Stream(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, padding=1)
            self.body = nn.Conv2d(8, 8, 3, padding=1)
            self.skip = nn.Conv2d(8, 4, 1)
            self.head = nn.Conv2d(12, 3, 3, padding=1)

        def forward(self, x):
            x = self.stem(x).relu()
            side = self.skip(x).relu_()
            x = x + self.body(x)
            x = nn.functional.interpolate(torch.cat([x, side], 1), scale_factor=2)
            return self.head(nn.functional.avg_pool2d(x, 3, 1, 1))

    net = Stream().eval()
    for layer, gone in ((net.stem, 5), (net.body, 3), (net.skip, 2)):
        layer.weight.data[:gone], layer.bias.data[:gone] = 0, 0
    small = gfx.apply(ZEROS, net, X)
    assert alike(small(X), net(X))
    out = [small.get_submodule(name).out_channels for name in ("stem", "body", "skip")]
    assert out == [5, 5, 2]
    why = {s.node: s.why for s in gfx.report(small).passes[0].skips}
    assert why == {
        "stem": "2 filters of zeros stay: head reads values there that depend on the input"
    }


def test_what_is_written_through_another_view_is_not_known():
    class Views(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)

        def forward(self, x):
            h = self.first(x)
            h[:, :2].add_(1)
            return self.head(h)

    net = Views().eval()
    net.first.weight.data[:2], net.first.bias.data[:2] = 0, 0
    small = gfx.apply(ZEROS, net, X)
    assert alike(small(X), net(X))


def test_a_zero_at_one_size_is_none_at_others():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1)
    ).eval()
    net[0].weight.data[:2, :, 1, 1], net[0].bias.data[:2] = 0, 0  # all that an image of 1x1 meets
    small = gfx.apply(ZEROS, net, torch.randn(1, 3, 1, 1))
    assert alike(small(X), net(X))


@pytest.mark.parametrize("kind", [k for k, rule in _KINDS.items() if rule is POINTWISE])
def test_layers_of_each_number_alone_keep_what_is_not_known(kind):
    assert kind()(torch.tensor([[float("nan"), 1.0]])).isnan().tolist() == [[True, False]]


@pytest.mark.parametrize("name", sorted(POINTWISE))
def test_functions_of_each_number_alone_keep_what_is_not_known(name):
    x = torch.tensor([float("nan"), 0.5])
    more = {"add": 1, "sub": 1, "mul": 2, "div": 2, "clamp": 0, "clip": 0, "clamp_min": 0, "pow": 2}
    more |= {"clamp_max": 0, "prelu": torch.tensor(0.5), "to": torch.float64}
    spaces = (torch.nn.functional, torch.Tensor, torch)
    function = next((getattr(s, name) for s in spaces if hasattr(s, name)), lambda x: x)
    given = (x, more[name]) if name in more else (x,)
    assert function(*given).isnan().tolist() == [True, False]


NORMS = {
    "F": lambda x, n: F.batch_norm(x, n.running_mean, n.running_var, n.weight, n.bias),
    "names": lambda x, n: F.batch_norm(
        x, weight=n.weight, bias=n.bias, running_var=n.running_var, running_mean=n.running_mean
    ),
    "torch": lambda x, n: torch.batch_norm(
        x, n.weight, n.bias, n.running_mean, n.running_var, False, 0.1, 1e-5, False
    ),
}


@pytest.mark.parametrize("how", NORMS)
def test_a_norm_that_is_called_as_a_function_gives_its_constants(how):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 3, 1)
            self.norm = nn.BatchNorm2d(6)

        def forward(self, x):
            return self.last(NORMS[how](self.first(x), self.norm))

    torch.manual_seed(0)
    net = Net().eval()
    for value in (net.norm.running_mean, net.norm.weight, net.norm.bias):
        nn.init.normal_(value)
    net.norm.running_var.uniform_(0.5, 2)
    net.first.weight.data[:3], net.first.bias.data[:3] = 0, 0
    small = gfx.apply(ZEROS, net, X)
    assert alike(small(X), net(X))
    assert small.get_submodule("first").out_channels == 3


TRANSFORMS = {
    "fft": lambda x: torch.fft.fft(x, dim=2),
    "rfft": torch.fft.rfft,
    "rfft2": torch.fft.rfft2,
    "rfftn": lambda x: torch.fft.rfftn(x, dim=(-2, -1)),
    "irfft2": lambda x: torch.fft.irfft2(torch.complex(x, x)),
    "shift": lambda x: torch.fft.fftshift(x, dim=(2, 3)),
    "amplitude": lambda x: torch.fft.rfft2(x).abs(),
    "real": lambda x: torch.fft.fft2(x).real,
    "pairs": lambda x: torch.view_as_real(torch.fft.fft2(x)),
    "back": lambda x: torch.view_as_complex(torch.stack((x, x), -1)) * 2j,
    "filtered": lambda x: torch.fft.ifft2(torch.fft.fft2(x) * torch.randn(4, 4)).real,
    "a sum": lambda x: torch.complex(x, x.flip(1)) + 3,
    "products": lambda x: torch.complex(x, x) @ torch.complex(x, x).transpose(2, 3),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_what_is_known_of_complex_numbers_is_what_every_input_gives(name):
    class Net(nn.Module):
        def forward(self, x):
            return TRANSFORMS[name](x * torch.tensor([0.0, 1, 0, 1]).view(1, 4, 1, 1))

    program = gfx.trace(Net(), torch.randn(1, 4, 4, 4))
    propagate(program)
    found = {}
    see_known(
        program,
        lambda node, known: (
            found.update(all=known(node.all_input_nodes[0])) if node.op == "output" else None
        ),
    )
    known = found["all"]
    some = 0
    for _ in range(2):
        wanted = program.module(torch.randn(1, 4, 4, 4))
        numbers = known.expand(wanted.shape)
        if wanted.is_complex():
            numbers, wanted = torch.view_as_real(numbers.resolve_conj()), torch.view_as_real(wanted)
        sure = ~numbers.isnan()
        some += int(sure.sum())
        assert torch.equal(numbers[sure], wanted[sure])
    assert 0 < some < 2 * wanted.numel()
