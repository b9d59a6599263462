"""Axes of charts: round numbers within the range, few of them, whatever the range."""

import math

import pytest

from gfx.reports.html.svg_axes import ChartAxis

RANGES = [
    (0.0, 1.0), (0.0, 7.3), (-3.0, 5.0), (-1e30, 1e30), (1e-30, 2e-30), (99_999.0, 100_001.0),
    (0.0, 5e-320), (1.0, 1.0), (0.0, 0.0), (-2.0, -2.0), (1e30, 1e30), (1.0, 1.0 + 1e-12),
]  # fmt: skip


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_numbers_are_in_the_range_rise_and_are_few(low, high):
    axis = ChartAxis.over([low, high], 50, 400)
    ticks = axis.ticks()
    assert ticks == sorted(set(ticks))
    assert 1 <= len(ticks) <= 11
    for value in (*ticks, low, high):
        assert 50 - 1e-3 <= axis.place(value) <= 400 + 1e-3


@pytest.mark.parametrize(("low", "high"), [(0.1, 10.0), (0.12, 9.9), (3e-9, 2e7), (1e-300, 1e30)])
def test_numbers_of_a_logarithmic_range_are_powers_or_their_parts(low, high):
    axis = ChartAxis.over([low, high], 190, 20, log=True)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 10
    for value in ticks:
        assert low <= value <= high
        assert (
            min(abs(value / 10 ** math.floor(math.log10(value)) - k) for k in (1, 2, 5, 10)) < 1e-9
        )
    assert axis.place(low) == 190
    assert axis.place(high) == 20
    assert axis.place(math.sqrt(low) * math.sqrt(high)) == pytest.approx(105)


def test_steps_are_one_two_or_five():
    assert ChartAxis(0.0, 0.27, 0, 1).ticks() == pytest.approx([0.0, 0.1, 0.2])
    assert ChartAxis(150.0, 1040.0, 0, 1).ticks() == [200, 400, 600, 800, 1000]
