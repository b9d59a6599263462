"""The latency model, on machines made of formulas: no clock is looked at."""

import numpy as np

import gfx
from gfx.costing import cost_of
from gfx.factoring import Form
from gfx.latency import latency_model
from gfx.planning.layers import layers_of


class Proportional:
    """A machine that takes a nanosecond for each multiply-accumulate, and half a millisecond."""

    def programs(self, programs, backend, threads):
        return [cost_of(p).macs.exact * 1e-6 + 0.5 for p in programs]


def small():
    return gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))


def test_a_machine_that_counts_is_predicted():
    model = latency_model(small(), measurer=Proportional())
    full = [group.size for group in model.groups]
    assert np.isclose(model.predict([full])[0], model.full, rtol=1e-3)


def test_many_configurations_are_predicted_as_one_by_one():
    model = latency_model(small(), measurer=Proportional())
    rng = np.random.default_rng(1)
    rows = rng.integers(1, [group.size + 1 for group in model.groups], (50, len(model.groups)))
    single = [model.predict([row])[0] for row in rows]
    assert np.allclose(model.predict(rows), single, rtol=1e-12)


def test_a_form_is_priced_against_its_layer():
    groups = small()
    model = latency_model(groups, measurer=Proportional())
    layer = layers_of(groups.flow.program)[1]
    times = model.of_forms(layer, [None, Form()])
    options, channels = np.array([0, 1]), np.array([[32, 32], [16, 16], [16, 16]])
    same, separable = times.differences(options, channels)
    assert same == 0
    assert separable < 0
