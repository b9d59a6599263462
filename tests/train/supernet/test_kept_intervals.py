"""Which positions of a dimension stay: intervals, whatever the order of groups and channels."""

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gfx.train.supernet.kept_intervals import Intervals, TensorPart, part_of
from support.laws import law


class Owners:
    """Says for each label the group and the channel, as drawn."""

    def __init__(self, group, channel):
        self.group, self.channel = np.array(group), np.array(channel)


positions = st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 4)), min_size=1, max_size=24)
widths = st.tuples(*[st.integers(1, 5)] * 3)


@law(60, swept=400)
@given(positions, widths)
def test_what_stays_is_what_the_widths_say(listed, chosen):
    owners = Owners(*zip(*listed, strict=True))
    found = Intervals(owners, np.arange(len(listed))).at(chosen)
    kept = [i for start, length in found for i in range(start, start + length)]
    wanted = [
        i for i, (group, channel) in enumerate(listed) if group < 0 or channel < chosen[group]
    ]
    assert kept == wanted
    assert all(a + n < b for (a, n), (b, _) in pairwise(found))  # none touch


@law(40, swept=200)
@given(positions, positions, widths)
def test_a_part_is_cut_out_and_written_back(rows, columns, chosen):
    dims = [Intervals(Owners(*zip(*d, strict=True)), np.arange(len(d))) for d in (rows, columns)]
    if not all(dim.at(chosen) for dim in dims):
        return  # of a real group something stays
    value = torch.arange(float(len(rows) * len(columns))).view(len(rows), len(columns))
    part = part_of(value.shape, dims, chosen)
    keep = [torch.tensor([i for a, n in dim.at(chosen) for i in range(a, a + n)]) for dim in dims]
    assert torch.equal(part.of(value), value[keep[0]][:, keep[1]])
    after = value.clone()
    part.write(after, -part.of(value))
    signs = torch.ones_like(value)
    signs[keep[0][:, None], keep[1]] = -1
    assert torch.equal(after, value * signs)


def test_one_interval_is_a_view_and_several_are_a_copy():
    value = torch.arange(8.0)
    one, several = TensorPart((((1, 3),),)), TensorPart((((0, 1), (4, 2)),))
    assert one.of(value).data_ptr() == value[1:].data_ptr()
    assert several.of(value).tolist() == [0.0, 4.0, 5.0]
    assert (one.is_view, several.is_view, TensorPart(((),)).whole) == (True, False, True)
