"""What masks zero is gone, the masks too, and the output is what it was."""

import copy

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, fx, nn

import gfx
from gfx.compression.masks.sparse_layouts import against_pattern
from gfx.contract import Outcome
from gfx.ir.modules import ChannelMask, CsrLinear, LearnedMask, Penalty, SemiStructuredLinear
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate
from passes.fold_masks import FoldMasks
from support import blocks
from support.blocks import Source, Spec
from support.laws import law
from support.masked_programs import masked_weights, masks_of, tapped, with_masks, zeroed_masks
from support.oracle import alike, assert_equal_outputs, flat
from support.strategies import specs


def folded(program: Program) -> tuple[Program, Outcome]:
    """Folds a copy, and holds the pass to all it promises."""
    after, pass_ = program.copy(), FoldMasks()
    pass_.requires(after)
    outcome = pass_.apply(after, gfx.Context())
    pass_.ensures(after)
    assert not [n for n, _ in after.module.named_modules() if "masks" in n.split(".")]
    assert "masks" not in after.module.code
    return after, outcome


def same(a: nn.Module, b: nn.Module) -> bool:
    """Whether two programs have the same code, keys and bytes."""
    one, two = a.state_dict(), b.state_dict()
    kinds = [[(n, type(m).__qualname__) for n, m in x.named_modules()] for x in (a, b)]
    return (
        a.code == b.code
        and kinds[0] == kinds[1]
        and list(one) == list(two)
        and all(torch.equal(one[k], two[k]) for k in one)
    )


def held(before: Program, spec: Spec) -> Outcome:
    """Folds, and compares on another batch too."""
    after, outcome = folded(before)
    for batch in (spec.batch, 3):
        inputs = spec.inputs(batch, 8)
        assert_equal_outputs(before.module(*inputs), after.module(*inputs))
    return outcome


@law(7, swept=14)
@given(specs(), st.integers(0, 7), st.sampled_from((0.5, 0.25, 0.9)))
def test_folding_channel_masks_keeps_values(spec, seed, share):
    masked = zeroed_masks(with_masks(gfx.trace(*spec.build())), seed, share)
    outcome = held(masked, spec)
    takes = {m.tensor: g.takes[0] for g in gfx.channels(masked) for m in g.members}
    zeros = {f"{path}.mask": int((~m.kept).sum()) for path, m in masks_of(masked).items()}
    gone = sum(count * takes[path] for path, count in zeros.items() if count)
    assert outcome.details.get("achieved", {}).get("removed", 0) == gone
    assert outcome.skips == []


@law(7, swept=14)
@given(specs(approximate=True))
def test_masks_of_ones_fold_to_the_identical_program(spec):
    program = gfx.trace(*spec.build())
    masked = masked_weights(with_masks(program), share=0.0)
    after, outcome = folded(masked)
    assert same(after.module, program.module)
    assert outcome.skips == []


@law(7, swept=14)
@given(specs(approximate=True), st.data())
def test_masks_anywhere_fold_exactly(spec, data):
    program = gfx.trace(*spec.build())
    if data.draw(st.booleans(), label="channels too"):
        program = zeroed_masks(with_masks(program))
    if data.draw(st.booleans(), label="elements too"):
        program = masked_weights(program)
    propagate(program)
    for i, node in enumerate(data.draw(st.lists(outputs(program), unique=True, max_size=3))):
        shape = node.meta["val"].shape
        dim = data.draw(st.sampled_from((1, len(shape) - 1)))
        drawn = torch.rand(shape[dim], generator=torch.Generator().manual_seed(i)) < 0.5
        mask_output(program, node, dim).mask.copy_(drawn)
    inputs = spec.inputs(spec.batch, 8)
    wanted = program.module(*inputs)
    assume(flat(wanted).isfinite().all())  # the logarithm of a zero, and such
    after, _ = folded(program)
    assert_equal_outputs(wanted, after.module(*inputs))


def test_zeros_at_places_of_an_image_leave_channels_free():
    spec = Spec(source=Source(kind="latent_unflatten"), blocks=(blocks.Subclass(),))
    program = zeroed_masks(with_masks(gfx.trace(*spec.build())))
    propagate(program)
    (node,) = [n for n in program.nodes() if n.name == "masks_source_layer"]
    mask_output(program, node, 3).mask.copy_(torch.tensor([1, 0, 1, 1]))
    inputs = spec.inputs(spec.batch, 8)
    wanted = program.module(*inputs)
    after, outcome = folded(program)
    assert_equal_outputs(wanted, after.module(*inputs))
    assert [change.after for change in outcome.changes if change.what == "channels"] == [32]


class Averaged(nn.Module):
    """Reads a mean over channels at places, some of which are masked."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(1, 3, 1)

    def forward(self, x):
        return self.last(self.first(x).mean(1, keepdim=True))


def test_zeros_behind_what_a_removal_corrects_are_kept():
    x = torch.randn(2, 3, 8, 8)
    program = zeroed_masks(with_masks(gfx.trace(Averaged(), (x,))))
    propagate(program)
    (node,) = [n for n in program.nodes() if n.name == "mean"]
    mask_output(program, node, 3).mask[::2] = 0
    wanted = program.module(x)
    after, outcome = folded(program)
    assert_equal_outputs(wanted, after.module(x), 1e-6)
    assert [change.what for change in outcome.changes].count("channels") == 1


def outputs(program: Program) -> st.SearchStrategy[fx.Node]:
    """Draws nodes that give an activation."""
    nodes = [n for n in program.nodes() if n.op in ("call_module", "call_function")]
    values = [(n, n.meta["val"]) for n in nodes]
    return st.sampled_from(
        [n for n, v in values if isinstance(v, Tensor) and v.ndim > 1 and v.is_floating_point()]
    )


def mask_output(program: Program, node: fx.Node, dim: int = 1) -> ChannelMask:
    """Puts a mask on what one node gives."""
    mask = ChannelMask(node.meta["val"].shape[dim], granularity="filter")
    name = f"masks.out_{node.name}"
    program.module.add_submodule(name, mask)
    with program.graph.inserting_after(node):
        masked = program.graph.call_module(name, (node, dim))
    node.replace_all_uses_with(masked, delete_user_cb=lambda user: user is not masked)
    program.recompile()
    return mask


# what becomes of zeros


class Stream(nn.Module):
    """Two layers that write a residual stream, one with a norm, and one that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.inner = nn.Conv2d(8, 6, 3, padding=1)
        self.body, self.norm = nn.ConvTranspose2d(6, 8, 3, padding=1, groups=2), nn.BatchNorm2d(8)
        self.again = nn.Conv2d(8, 8, 1)
        self.head = nn.Conv2d(8, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = x + self.norm(self.body(self.inner(x).relu()))
        x = x + self.again(x)
        return self.head(x + self.again(x))


IMAGE = torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def traced(model: nn.Module, x: Tensor = IMAGE) -> Program:
    """Traces in float64, with norms that are not at their initial values."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.bias.data.normal_()
    return gfx.trace(model.double().eval(), x)


def node_of(program: Program, target: str) -> fx.Node:
    return next(n for n in program.nodes() if n.target == target)


def test_a_layer_among_several_that_write_a_stream_gets_zero_filters():
    program = traced(Stream())
    propagate(program)
    mask_output(program, node_of(program, "norm")).mask[2:5] = False
    for training in (False, True):
        program.module.train(training)
        after, outcome = folded(program)
        assert_equal_outputs(program.module(IMAGE), after.module(IMAGE))
    body, norm = after.module.get_submodule("body"), after.module.get_submodule("norm")
    assert body.weight.view(2, 3, 4, 3, 3).transpose(1, 2).flatten(0, 1)[2:5].abs().sum() == 0
    assert norm.weight[2:5].tolist() == norm.bias[2:5].tolist() == [0, 0, 0]
    assert outcome.details["zeros"] == {"body": {"zero": 81, "of": 216}}
    assert [(c.node, c.what) for c in outcome.changes[1:]] == [("body", "3 filters that are zero")]
    (skip,) = outcome.skips
    assert skip.node == "masks.out_norm"
    assert "channels that it zeroes stay, as zeros: others write these channels" in skip.why


def test_a_layer_that_is_called_twice_gets_zero_filters_if_each_call_is_masked_alike():
    program = traced(Stream())
    propagate(program)
    calls = [n for n in program.nodes() if n.target == "again"]
    for n in calls:
        mask_output(program, n).mask[:2] = False
    after, outcome = folded(program)
    assert_equal_outputs(program.module(IMAGE), after.module(IMAGE))
    assert not after.module.get_submodule("again").weight[:2].any()
    assert "mul" not in after.module.code

    program.module.get_submodule(f"masks.out_{calls[0].name}").mask.fill_(True)
    after, outcome = folded(program)
    assert_equal_outputs(program.module(IMAGE), after.module(IMAGE))
    assert ("mul", "2 channels multiplied by a constant zero") in [
        (c.node, c.what) for c in outcome.changes
    ]


def test_a_channel_that_one_reader_reads_unmasked_stays():
    program = traced(Stream())
    propagate(program)
    head = node_of(program, "head")
    source = head.all_input_nodes[0]
    mask = ChannelMask(8)
    program.module.add_submodule("masks.stem", mask)
    with program.graph.inserting_before(head):
        head.replace_input_with(source, program.graph.call_module("masks.stem", (source, 1)))
    program.recompile()
    mask.mask[0] = False
    after, outcome = folded(program)
    assert_equal_outputs(program.module(IMAGE), after.module(IMAGE))
    assert "achieved" not in outcome.details
    assert not after.module.get_submodule("head").weight[:, 0].any()
    assert (
        outcome.skips[0].why == "channels that it zeroes stay, as zeros: inner reads them unmasked"
    )


def test_a_group_that_is_zero_as_a_whole_keeps_one_channel_of_zeros():
    masked = with_masks(traced(Stream()))
    masked.module.get_submodule("masks.inner").mask.fill_(False)
    after, outcome = folded(masked)
    assert_equal_outputs(masked.module(IMAGE), after.module(IMAGE))
    assert after.module.get_submodule("inner").out_channels == 2  # one in each group of `body`
    assert "all of inner is zero; one stays" in outcome.skips[0].why


def test_layers_that_share_a_weight_share_it_still_where_their_masks_are_alike():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[2].weight = model[0].weight
    x = torch.randn(2, 4, dtype=torch.float64)
    masked = masked_weights(traced(model, x))
    first, second, third = (masked.module.get_submodule(str(i)) for i in range(3))
    second.mask.copy_(first.mask)
    third.mask.fill_(True)
    after, outcome = folded(masked)
    assert_equal_outputs(masked.module(x), after.module(x))
    first, second, third = (after.module.get_submodule(str(i)) for i in range(3))
    assert first.weight is second.weight
    assert first.weight is not third.weight
    assert outcome.details["zeros"]["2"] == {"zero": 0, "of": 16}


def test_a_learned_mask_that_is_not_binary_is_an_error_that_tells_its_range():
    masked = with_masks(traced(Stream()), LearnedMask)
    mask = masked.module.get_submodule("masks.inner")
    mask.m.data[0] = 0.25
    said = (
        r"fold_masks: masks\.inner is not binary yet \(2 masks are not\): its 3 values lie between "
        r"0\.25 and 1; call schedule\.binarize\(alpha\) before, with schedule = gfx\.schedule"
    )
    with pytest.raises(gfx.PreconditionError, match=said):
        gfx.apply({"passes": ["fold_masks"]}, masked.module, IMAGE)
    for mask in masks_of(masked).values():
        mask.binarize(0.5)
    small = gfx.apply({"passes": ["fold_masks"]}, masked.module, IMAGE)
    assert small.get_submodule("inner").out_channels == 4


def test_penalties_are_taken_out_and_a_model_without_masks_is_left_alone():
    program = traced(Stream())
    x = tapped(program)
    stripped, outcome = folded(x)
    assert not any(isinstance(m, Penalty) for m in stripped.module.modules())
    assert {c.what for c in outcome.changes} == {"penalty (slimming) taken out"}
    again, outcome = folded(stripped)
    assert not outcome.modified
    assert same(again.module, stripped.module)


# layouts


def dense(dtype: torch.dtype = torch.float32) -> tuple[fx.GraphModule, Tensor]:
    """Masks two of each four weights of two linear layers and half of those of a convolution."""
    torch.manual_seed(0)
    layers = (nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Unflatten(1, (1, 64)))
    model = nn.Sequential(*layers, nn.Conv1d(1, 3, 3)).to(dtype)
    x = torch.randn(5, 64, dtype=dtype)
    masked = masked_weights(gfx.trace(model, x))
    for i in (0, 2):
        masked.module.get_submodule(str(i)).mask.view(-1, 4)[:] = torch.tensor([1, 0, 0, 1]).bool()
    return masked.module, x


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dims", [(8,), (2, 8), (2, 3, 8), (2, 3, 3, 8)])
def test_a_csr_layer_takes_what_a_dense_one_takes_however_it_lies(dims, bias):
    dense = nn.Linear(8, 4, bias=bias).double()
    with torch.no_grad():
        dense.weight[:, ::2] = 0
        sparse = CsrLinear.of(dense)
        x = torch.randn(dims[::-1], dtype=torch.float64).permute(*reversed(range(len(dims))))
        assert_equal_outputs(dense(x), sparse(x))
        assert_equal_outputs(dense(x.contiguous()), sparse(x.contiguous()))


def test_csr_weights_are_torchs_and_can_be_copied_saved_and_trained(tmp_path):
    masked, x = dense()
    small = gfx.apply({"passes": [{"fold_masks": {"layout": "csr"}}]}, masked, x)
    layer = small.get_submodule("0")
    assert layer.weight.layout == torch.sparse_csr
    assert layer.weight._nnz() == layer.values.numel() == 2048
    assert_equal_outputs(masked(x), small(x), 1e-6)
    gfx.save(small, tmp_path / "small.gfx")
    for twin in (copy.deepcopy(small), gfx.load(tmp_path / "small.gfx")):
        assert alike(twin(x), small(x))
    small(x).square().sum().backward()
    assert layer.values.grad.abs().sum() > 0
    before, after = gfx.cost(masked, x), gfx.cost(small, x)
    assert before.macs.exact - after.macs.exact == 5 * 2 * 2048
    assert before.params - after.params == 2 * 2048
    report = gfx.report(small).passes[0]
    assert [(s.node, s.why) for s in report.skips] == [
        ("4", "torch has no csr Conv1d; its weight stays dense")
    ]
    again = gfx.apply({"passes": ["fuse_batch_norm"]}, small.eval(), x)
    assert alike(again(x), small(x))


def test_the_2_4_layout_needs_a_gpu_and_half_precision():
    masked, x = dense()
    said = (
        r"fold_masks: layout=2:4: 0: torch's 2:4 kernels need CUDA and float16 or bfloat16; this "
        r"is float32 on cpu; move the model there, or use layout: dense, which leaves the zeros"
    )
    with pytest.raises(gfx.PreconditionError, match=said):
        gfx.apply({"passes": [{"fold_masks": {"layout": "2:4"}}]}, masked, x)


def test_a_2_4_layer_holds_what_the_dense_one_does():
    layer = nn.Linear(64, 32, dtype=torch.bfloat16)
    layer.weight.data.view(-1, 4)[:, 1:3] = 0
    sparse = SemiStructuredLinear.of(layer)
    x = torch.randn(5, 64, dtype=torch.bfloat16)
    assert torch.equal(sparse.weight, layer.weight)
    assert alike(copy.deepcopy(sparse)(x), layer(x))
    assert gfx.cost(nn.Sequential(sparse), x).macs.exact == 5 * 32 * 32


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((64, 32), "32 of 512 blocks of four have more than two weights"),
        ((32, 16), "its weight is 16x32, torch's 2:4 needs multiples of 32x64"),
        ((64, 64), ""),
    ],
)
def test_what_is_not_2_4_is_told_with_numbers(size, said):
    weight = torch.ones(*size[::-1])
    weight.view(-1, 4)[:, :2] = 0
    weight.view(-1, 4)[: 32 if size[1] == 32 else 0] = 1
    assert against_pattern(weight) == said


def test_a_layout_of_another_name_is_refused():
    with pytest.raises(gfx.RecipeError, match="layout"):
        gfx.Recipe.load({"passes": [{"fold_masks": {"layout": "coo"}}]})
