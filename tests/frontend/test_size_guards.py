"""What a forward asks of the sizes is told, where torch.export follows one branch of it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import gfx


class Decides(nn.Module):
    """Goes one of two ways by a size; `len` keeps symbolic trace out."""

    def __init__(self, ask: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self.layer, self.ask = nn.Conv2d(3, 3, 3, padding=1), ask

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if self.ask(x) else 2 * x


CASES = [
    (lambda x: x.shape[2] % 8 == 0, "dimension 2 is a multiple of 8"),
    (lambda x: x.shape[3] > 10, "dimension 3 is at least 11"),
    (lambda x: x.shape[3] <= 24, "dimension 3 is at most 24"),
    (lambda x: -x.shape[2] % 16 == 0, "dimension 2 is a multiple of 16"),
]


@pytest.mark.parametrize(("ask", "words"), CASES)
def test_what_forward_decides_by_a_size_is_told(ask: Callable[[Tensor], bool], words: str) -> None:
    torch.manual_seed(0)
    model = Decides(ask).eval()
    program = gfx.trace(model, torch.rand(1, 3, 16, 24))
    assert program.provenance.frontend == "export"
    assert any(words in note for note in program.provenance.notes), program.provenance.notes
    for height, width in ((32, 16), (12, 40), (7, 9)):
        x = torch.rand(2, 3, height, width)
        with torch.no_grad():
            same = torch.allclose(program.module(x), model(x), atol=1e-5)
        assert same == ask(x)


def test_a_forward_that_decides_nothing_has_no_such_note() -> None:
    model = Decides(lambda x: len(x.shape) == 4 and len(x) > 0).eval()
    notes = gfx.trace(model, torch.rand(1, 3, 16, 24)).provenance.notes
    assert not [note for note in notes if "stands for sizes" in note]
