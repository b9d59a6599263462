"""What a forward asks of the sizes is told, where torch.export follows one branch of it."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import gfx
from gfx.errors import InputError


class Decides(nn.Module):
    """Goes one of two ways by a size; `len` keeps symbolic trace out."""

    def __init__(self, ask: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self.layer, self.ask = nn.Conv2d(3, 3, 3, padding=1), ask

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if self.ask(x) else 2 * x


CASES = [
    (lambda x: x.shape[2] % 8 == 0, "x.shape[2] % 8 == 0"),
    (lambda x: x.shape[3] > 10, "x.shape[3] > 10"),
    (lambda x: x.shape[3] <= 24, "x.shape[3] <= 24"),
    (lambda x: not x.shape[3] > 30, "x.shape[3] <= 30"),
    (lambda x: x.shape[2] + 3 < x.shape[3], "x.shape[2] + 3 < x.shape[3]"),
    (lambda x: round(x.shape[3] / x.shape[2]) == 2, "round(x.shape[3] / x.shape[2]) == 2"),
]


@pytest.mark.parametrize(("ask", "rule"), CASES)
def test_what_forward_decides_by_a_size_is_told(ask: Callable[[Tensor], bool], rule: str) -> None:
    torch.manual_seed(0)
    model = Decides(ask).eval()
    program = gfx.trace(model, torch.rand(1, 3, 16, 24))
    assert program.provenance.frontend == "export"
    said = f"the program stands for inputs with {rule}, where forward decides as on the example"
    assert any(note.startswith(said) for note in program.provenance.notes), program.provenance.notes
    for height, width in ((32, 16), (12, 40), (7, 9), (9, 24)):
        x = torch.rand(2, 3, height, width)
        if not ask(x):
            with pytest.raises(InputError, match=re.escape(f"with {rule}, which does not hold")):
                program.module(x)
            continue
        with torch.no_grad():
            torch.testing.assert_close(program.module(x), model(x), atol=1e-5, rtol=1e-4)


def test_a_forward_that_decides_nothing_has_no_such_note() -> None:
    model = Decides(lambda x: len(x.shape) == 4 and x.numel() > 0).eval()
    notes = gfx.trace(model, torch.rand(1, 3, 16, 24)).provenance.notes
    assert not [note for note in notes if "stands for" in note]
