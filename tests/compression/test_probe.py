"""A changed program runs from cached values as it would from the beginning, bit for bit."""

import pytest
from hypothesis import given

import gfx
from support.laws import law
from support.probe_checks import check
from support.strategies import specs
from support.zoo_small import SMALL


@law(10, swept=20)
@given(specs(wraps=True, approximate=True))
def test_a_suffix_equals_the_whole_changed_program_bit_for_bit(spec):
    program = gfx.trace(*spec.build())
    check(program, [spec.inputs(spec.batch)])


@pytest.mark.parametrize("name", SMALL)
def test_a_suffix_of_the_zoo_equals_the_whole_changed_program(name):
    model = gfx.zoo.build(name, **SMALL[name])
    program = gfx.trace(model, gfx.zoo.example_inputs(name, **SMALL[name]))
    check(program, [program.example_inputs])
