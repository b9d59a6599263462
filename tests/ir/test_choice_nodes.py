"""What is alive where choices are taken is what a graph without the others computes."""

from itertools import product

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import fx, nn

from gfx.ir.choice_nodes import ALWAYS, NEVER, alive, choices_of, either, holds, take, when_alive
from gfx.ir.modules import ChoiceLayer
from gfx.ir.program import Program

COUNTS = {0: 2, 1: 3, 2: 2}
ROWS = np.array(list(product(range(2), range(3), range(2))))
TERMS = st.dictionaries(st.sampled_from([0, 1, 2]), st.integers(0, 2)).map(
    lambda found: frozenset((n, o % COUNTS[n]) for n, o in found.items())
)


@given(st.lists(st.frozensets(TERMS, max_size=4), max_size=4))
def test_either_holds_where_one_of_them_does(conditions):
    whole = either(conditions, COUNTS)
    wanted = np.zeros(len(ROWS), dtype=bool)
    for each in conditions:
        wanted |= holds(each, ROWS)
    assert (holds(whole, ROWS) == wanted).all()
    if wanted.all():
        assert whole == ALWAYS
    if not wanted.any():
        assert whole == NEVER


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.one = ChoiceLayer("one", ("plain", "linear"))
        self.two = ChoiceLayer("two", ("skipped", "halved", "whole"))

    def forward(self, x):
        y = self.one(x, torch.relu(self.first(x)))
        z = self.two(y, self.second(y) * self.weight, self.second(y) * self.weight + y)
        return z - 1


class Tracer(fx.Tracer):
    def is_leaf_module(self, m, qualname):
        return isinstance(m, ChoiceLayer) or super().is_leaf_module(m, qualname)


def program():
    torch.manual_seed(0)
    model = Branches()
    return Program(fx.GraphModule(model, Tracer().trace(model)), (torch.ones(2, 4),)), model


def test_what_is_taken_is_what_a_model_with_this_branch_computes():
    x = torch.randn(2, 4)
    for one, two in product(range(2), range(3)):
        made, model = program()
        when = when_alive(made.module)
        names = {node.name for node in alive(when, [one, two])} - {"one", "two"}
        take(made, [one, two])
        assert {node.name for node in made.graph.nodes} == names
        assert not choices_of(made.module)
        y = torch.relu(model.first(x)) if one else x
        half = model.second(y) * model.weight
        assert torch.equal(made.module(x), (y, half, half + y)[two] - 1)
        held = {name.split(".")[0] for name, _ in made.module.named_parameters()}
        assert held == ({"first"} if one else set()) | ({"second", "weight"} if two else set())
