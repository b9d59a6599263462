"""Composite layers of torch.nn are written out, with the values that they had."""

import pytest
import torch
from torch import fx, nn

import gfx
from gfx.costs import cost_of
from gfx.ir.program import Program
from passes.channel_prune import ChannelPrune
from support.laws import EFFORT, staying
from support.oracle import assert_equal_outputs, zeroed

EMBED, HEADS, TARGET, SOURCE, BATCH = 8, 2, 5, 6, 3


class Attends(nn.Module):
    """Linear layers around one attention."""

    def __init__(self, returns="first", self_attention=True, call=None, **options):
        super().__init__()
        kdim, vdim = (options.get(name, EMBED) for name in ("kdim", "vdim"))
        self.q = nn.Linear(4, EMBED)
        if not self_attention:
            self.k, self.v = nn.Linear(4, kdim), nn.Linear(4, vdim)
        self.attention = nn.MultiheadAttention(EMBED, HEADS, **options)
        self.last = nn.Linear(EMBED, 3)
        self.returns, self.call, self.alike = returns, call or {}, self_attention

    def forward(self, x, y, mask=None, padding=None):
        q = self.q(x)
        k, v = (q, q) if self.alike else (self.k(y), self.v(y))
        out, weights = self.attention(
            q, k, v, attn_mask=mask, key_padding_mask=padding, **self.call
        )
        out = self.last(out)
        return out if self.returns == "first" else (out, weights)


def inputs(batch_first=False, batched=True):
    torch.manual_seed(1)
    x, y = (torch.randn(n, BATCH, 4, dtype=torch.float64) for n in (TARGET, SOURCE))
    if not batched:
        return x[:, 0], y[:, 0]
    return (x.transpose(0, 1), y.transpose(0, 1)) if batch_first else (x, y)


def masks(kind, source, batched=True):
    torch.manual_seed(2)
    shapes = {"2d": (TARGET, source), "3d": (HEADS * (BATCH if batched else 1), TARGET, source)}
    padding = (BATCH, source) if batched else (source,)
    mask, pad = None, None
    for part in kind.split():
        name, _, dtype = part.partition(":")
        shape = padding if name == "pad" else shapes[name]
        made = torch.rand(shape, dtype=torch.float64)
        made = made > 0.7 if dtype == "bool" else made
        if dtype == "bool":
            made[..., 0] = False  # nothing is all masked
        mask, pad = (mask, made) if name == "pad" else (made, pad)
    return mask, pad


def built(**options):
    torch.manual_seed(0)
    model = Attends(**options).double().eval()
    for name, parameter in model.named_parameters():
        if "bias" in name:
            nn.init.normal_(parameter)
    return model


def given(model, kind="", batched=True):
    layer = model.attention
    x, y = inputs(layer.batch_first, batched)
    source = TARGET if model.alike else SOURCE
    return (x, y, *masks(kind, source, batched)) if kind else (x, y)


def kinds(program):
    return {type(module).__name__ for module in program.module.modules()}


OPTIONS = {
    "plain": {},
    "batch_first": {"batch_first": True},
    "no_bias": {"bias": False},
    "bias_kv": {"add_bias_kv": True},
    "zero": {"add_zero_attn": True},
    "both": {"add_bias_kv": True, "add_zero_attn": True, "batch_first": True},
    "dropout": {"dropout": 0.5},
    "cross": {"self_attention": False},
    "other_widths": {"self_attention": False, "kdim": 6, "vdim": 10, "batch_first": True},
}
MASKS = ["", "2d:bool", "3d:float pad:bool", "2d:float pad:float", "3d:bool pad:bool"]
CALLS = {"plain": {}, "fused": {"need_weights": False}, "heads": {"average_attn_weights": False}}


@pytest.mark.filterwarnings("ignore:Support for mismatched")
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("options", OPTIONS)
def test_attention_is_written_out_and_keeps_its_values(options, kind):
    ways = [("plain", True), ("plain", False), ("fused", True), ("heads", True)]
    if kind and EFFORT == 1:  # every way with every option and every mask, but not all three
        turn = [*OPTIONS].index(options) + MASKS.index(kind)
        ways = [ways[turn % 4], ways[(turn + 2) % 4]]
    for call, batched in ways:
        returns = "first" if call == "fused" else "both"
        model = built(returns=returns, call=CALLS[call], **OPTIONS[options])
        args = given(model, kind, batched)
        program = gfx.trace(model, args)
        assert "MultiheadAttention" not in kinds(program)
        assert set(program.module.state_dict()) == set(model.state_dict())
        got = program.module(*(a for a in args if a is not None))
        assert_equal_outputs(model(*args), got)


def pruned(model, args, **options):
    """Prunes half of a model and judges it by the oracle; returns the program and the outcome."""
    program = gfx.trace(model, args)
    original = program.copy().module
    outcome = ChannelPrune(ratio=0.5, importance="random", seed=3, **options).apply(
        program, gfx.Context()
    )
    kept = staying(outcome)
    args = [a for a in args if a is not None]
    assert_equal_outputs(zeroed(original, args, kept), program.module(*args))
    return program, outcome


@pytest.mark.parametrize("attention", ["width", "heads"])
@pytest.mark.parametrize("options", OPTIONS)
def test_attention_is_pruned_inside_and_outside(options, attention):
    model = built(call={"need_weights": False}, **OPTIONS[options])
    program, outcome = pruned(model, given(model), attention=attention)
    gone = {row["group"]: row["removed"] for row in outcome.details["groups"]}
    # in_proj holds query and key, and value, of every head; alone each is a layer of its own
    expected = {"q": 4, "attention": 8, "attention#2": 4, "attention.out_proj": 4}
    if attention == "heads":
        expected = {"q": 4, "attention": 12, "attention.out_proj": 4}
    if options == "other_widths":
        expected |= {"k": 2, "v": 5, "attention": 4}
    assert gone == expected
    assert program.module.attention.out_proj.in_features == 4


class Functional(nn.Module):
    """Attention pooling as in CLIP: the functional form on the weights of linear layers."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, EMBED), nn.Linear(EMBED, 3)
        self.q, self.k, self.v, self.c = (nn.Linear(EMBED, EMBED) for _ in range(4))

    def forward(self, x, y):
        x = self.first(x)
        x, _ = nn.functional.multi_head_attention_forward(
            query=x[:1],
            key=x,
            value=x,
            embed_dim_to_check=EMBED,
            num_heads=HEADS,
            q_proj_weight=self.q.weight,
            k_proj_weight=self.k.weight,
            v_proj_weight=self.v.weight,
            in_proj_weight=None,
            in_proj_bias=torch.cat([self.q.bias, self.k.bias, self.v.bias]),
            bias_k=None,
            bias_v=None,
            add_zero_attn=False,
            dropout_p=0.0,
            out_proj_weight=self.c.weight,
            out_proj_bias=self.c.bias,
            use_separate_proj_weight=True,
            training=self.training,
            need_weights=False,
        )
        return self.last(x)


@pytest.mark.parametrize("attention", ["width", "heads"])
def test_the_functional_form_is_written_out_and_pruned(attention):
    torch.manual_seed(0)
    program, outcome = pruned(Functional().double().eval(), inputs(), attention=attention)
    assert "multi_head" not in program.text()
    assert program.module.first.out_features == 4
    assert {tuple(program.tensor(f"{n}.weight").shape) for n in "qkvc"} == {(4, 4)}
    assert outcome.details["achieved"]["removed"] > 8


class Transforms(nn.Module):
    """Linear layers around a composite."""

    def __init__(self, inner):
        super().__init__()
        self.first = nn.Linear(4, EMBED)
        self.inner, self.last = inner, nn.Linear(EMBED, 3)
        if isinstance(inner, TWO):
            self.second = nn.Linear(4, EMBED)

    def forward(self, x, y, mask=None, padding=None):
        x = self.first(x)
        if not isinstance(self.inner, TWO):
            name = "mask" if isinstance(self.inner, nn.TransformerEncoder) else "src_mask"
            return self.last(self.inner(x, **{name: mask}, src_key_padding_mask=padding))
        transformer = isinstance(self.inner, nn.Transformer)
        given = (self.second(y), x) if transformer else (x, self.second(y))
        return self.last(self.inner(*given, tgt_mask=mask))


TWO = (nn.TransformerDecoder, nn.TransformerDecoderLayer, nn.Transformer)


def layer(kind, **options):
    return kind(EMBED, HEADS, 12, **options)


COMPOSITES = {
    "encoder_layer": lambda: layer(nn.TransformerEncoderLayer),
    "encoder_layer_first": lambda: layer(
        nn.TransformerEncoderLayer, norm_first=True, activation="gelu", batch_first=True
    ),
    "encoder_batch_first": lambda: nn.TransformerEncoder(
        layer(nn.TransformerEncoderLayer, dropout=0.0, batch_first=True),
        2,
        norm=nn.LayerNorm(EMBED),
    ),
    "decoder_layer": lambda: layer(nn.TransformerDecoderLayer, bias=False),
    "decoder": lambda: nn.TransformerDecoder(layer(nn.TransformerDecoderLayer, norm_first=True), 2),
    "transformer": lambda: nn.Transformer(EMBED, HEADS, 1, 1, 12),
}


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("kind", ["", "2d:bool", "2d:float pad:float"])
@pytest.mark.parametrize("name", COMPOSITES)
def test_transformers_are_traced_through(name, kind):
    torch.manual_seed(0)
    model = Transforms(COMPOSITES[name]()).double().eval()
    args = (*inputs("first" in name), *masks(kind, TARGET))
    for check in (True, False):
        program = gfx.trace(model, args, check=check)
        assert program.provenance.frontend == "symbolic"
        assert not kinds(program) & {"MultiheadAttention", type(model.inner).__name__}
        assert set(program.module.state_dict()) == set(model.state_dict())
    given = [a for a in args if a is not None]
    for training in (False, *([] if "first" in name else [True])):  # else in another order
        torch.manual_seed(0)
        expected = model.train(training)(*args)
        torch.manual_seed(0)
        assert_equal_outputs(expected, program.module.train(training)(*given))


class Branching(nn.Module):
    """Asks for a size, which symbolic trace cannot answer."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, y):
        return self.inner(x + 1 if x.shape[-1] == 4 else x, y)


@pytest.mark.parametrize("name", ["attention", "encoder_batch_first", "decoder"])
def test_the_other_front_end_writes_out_the_same(name):
    inner = built() if name == "attention" else Transforms(COMPOSITES[name]()).double()
    model, args = Branching(inner).eval(), inputs("first" in name)
    program = gfx.trace(model, args)
    assert program.provenance.frontend == "export"
    assert not kinds(program) & {"MultiheadAttention", "TransformerEncoder", "TransformerDecoder"}
    assert_equal_outputs(model(*args), program.module(*args))
    assert gfx.channels(program).free


def test_an_attention_that_is_called_twice_is_written_out_twice():
    layer = nn.MultiheadAttention(EMBED, HEADS)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.layer, self.last = nn.Linear(4, EMBED), layer, nn.Linear(EMBED, 3)

        def forward(self, x):
            x = self.first(x)
            for _ in range(2):
                x = x + self.layer(x, x, x)[0]
            return self.last(x)

    torch.manual_seed(0)
    program, _ = pruned(Twice().double().eval(), inputs()[:1])
    assert program.tensor("layer.in_proj_weight").shape == (12, 4)


def test_an_attention_whose_hook_needs_real_values_stays_whole():
    model = built()
    model.attention.register_forward_hook(lambda m, i, o: print(float(o[0].sum())))
    program = gfx.trace(model, inputs())
    assert "MultiheadAttention" in kinds(program)
    assert "has hooks" in str(gfx.channels(program)["q"].pinned)


@pytest.mark.parametrize("options", OPTIONS)
def test_the_cost_of_attention_is_that_of_the_module(options):
    model = built(call={"need_weights": False}, **OPTIONS[options])
    program = gfx.trace(model, given(model))
    whole = Program(fx.symbolic_trace(model, {"mask": None, "padding": None}), given(model))
    before, after = cost_of(whole), cost_of(program)
    assert before.macs == after.macs
    assert before.params == after.params


@pytest.mark.parametrize("options", ["plain", "other_widths", "dropout"])
def test_a_pruned_attention_survives_a_file(options, tmp_path):
    model = built(call={"need_weights": False}, **OPTIONS[options])
    program, _ = pruned(model, given(model))
    gfx.save(program.module, tmp_path / "small.gfx")
    again = gfx.load(tmp_path / "small.gfx")
    assert_equal_outputs(program.module(*given(model)), again(*given(model)))
    assert set(again.state_dict()) == set(model.state_dict())


def test_training_mode_reaches_the_dropout_of_attention():
    model = built(dropout=0.5, call={"need_weights": False})
    args = given(model)
    module = gfx.trace(model, args).module
    one, two = (module.train()(*args) for _ in range(2))
    assert not torch.equal(one, two)
    assert_equal_outputs(model(*args), module.eval()(*args))


def test_attention_in_a_given_graph_is_written_out():
    model = built()
    args = given(model)
    graph = fx.symbolic_trace(model, {"mask": None, "padding": None})
    program = gfx.trace(graph, args)
    assert program.provenance.frontend == "given"
    assert "MultiheadAttention" in {type(m).__name__ for m in graph.modules()}
    assert "MultiheadAttention" not in kinds(program)
    assert_equal_outputs(model(*args), program.module(*args))


def test_padded_places_are_computed_like_the_others():
    """The fused kernel of an encoder returns zeros there, but in training it does not."""
    model = Transforms(COMPOSITES["encoder_batch_first"]()).double().eval()
    x, y = inputs(batch_first=True)
    padding = torch.zeros(BATCH, TARGET, dtype=torch.bool)
    padding[0, 3:] = True
    program = gfx.trace(model, {"x": x, "y": y, "padding": padding})
    assert_equal_outputs(model(x, y, padding=padding), program.module(x, y, padding))
