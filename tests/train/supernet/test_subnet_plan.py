"""Groups that meet in one place: those that a number does not follow stay whole, others do not."""

import torch
import torch.nn.functional as F
from torch import nn

import gfx

X = torch.randn(2, 3, 8, 8)


class Banked(nn.Module):
    """Has statistics for many settings, of which one is read by its number."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 1)
        self.register_buffer("means", torch.randn(9, 8))
        self.register_buffer("variances", torch.rand(9, 8) + 0.5)

    def forward(self, x):
        x = F.batch_norm(self.first(x), self.means[5], self.variances[5])
        return self.last(F.relu(x))


def test_a_group_is_elastic_beside_one_that_a_number_does_not_follow():
    widths = {"step": 1, "at_least": 0.0, "min_channels": 1}
    net = gfx.supernet(Banked().eval(), X, widths=widths, order=None)
    assert net.widths == {"first": (1, 2, 3, 4, 5, 6, 7, 8)}
    said = [why for why in net.kept_whole.values() if "follows its width in no known way" in why]
    assert len(said) == 2  # the rows of both
    for width in net.widths["first"]:
        net.set({"first": width})
        torch.testing.assert_close(net(X), net.extract()(X))
