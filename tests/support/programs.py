"""Programs and costs that several test files make."""

import warnings
from functools import cache

import torch
from torch import fx, nn
from torch.utils.flop_counter import FlopCounterMode

from gfx import zoo
from gfx.costs import cost_of
from gfx.frontend import trace
from gfx.ir.execute import floating
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate
from support.patterns import PATTERNS


class Keep(fx.Tracer):
    """Traces with the given kinds of modules as leaves."""

    def __init__(self, *kinds):
        super().__init__()
        self.kinds = kinds

    def is_leaf_module(self, m, module_qualified_name):
        return isinstance(m, self.kinds) or super().is_leaf_module(m, module_qualified_name)


def program(model, *inputs, opaque=()):
    return Program(fx.GraphModule(model, Keep(*opaque).trace(model)), inputs)


@cache
def _traced_pattern(name):
    kind, shapes = PATTERNS[name]
    torch.manual_seed(0)
    return trace(kind().eval(), tuple(torch.randn(shape) for shape in shapes))


def traced_pattern(name):
    """Traces a pattern once for all tests, and returns a copy."""
    return _traced_pattern(name).copy()


def by_hand(model, write, *inputs):
    """Makes a program whose graph `write(graph, x)` draws; tracing would run some of it."""
    graph = fx.Graph()
    graph.output(write(graph, graph.placeholder("x")))
    return Program(fx.GraphModule(model, graph), inputs)


def shapes(model, *inputs, opaque=()):
    made = program(model, *inputs, opaque=opaque)
    propagate(made)
    return {
        node.name: tuple(node.meta["val"].shape)
        for node in made.nodes()
        if isinstance(node.meta["val"], torch.Tensor)
    }


def cost(model, *inputs, opaque=()):
    return cost_of(program(model, *inputs, opaque=opaque))


@cache
def zoo_cost(name, **options):
    with torch.device("meta"):
        model = zoo.build(name, **options)
    return cost(model, *zoo.example_inputs(name, **options))


def counted_by_torch(model, *inputs):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*inputs)
    return counter.get_total_flops() // 2


def counted_by_fvcore(model, *inputs):
    with warnings.catch_warnings():  # torch deprecates the jit that fvcore is made of
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(model, inputs).unsupported_ops_warnings(False)
        counts = analysis.tracer_warnings("none").by_operator()
    norms = ("norm", "upsample", "grid", "pool")  # it counts these too
    return sum(n for name, n in counts.items() if not any(word in name for word in norms))


def weighted_sum(output):
    """Adds up the outputs of a model, each number by a weight that is always the same."""
    draws = torch.Generator().manual_seed(1)
    seen = floating(output)
    weights = [torch.randn(x.shape, generator=draws, dtype=torch.float64) for x in seen]
    return sum((x * w).sum() for x, w in zip(seen, weights, strict=True))


def call(function, *inputs):
    """Makes a program of one call, whatever the function."""
    graph = fx.Graph()
    names = [graph.placeholder(f"x{i}") for i, _ in enumerate(inputs)]
    graph.output(function(graph, *names))
    return cost_of(Program(fx.GraphModule(nn.Module(), graph), inputs))


def function(target, *inputs, **kwargs):
    return call(lambda graph, *x: graph.call_function(target, x, kwargs), *inputs)
