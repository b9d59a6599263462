"""The layer that holds a program to the sizes it was traced for."""

import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

import gfx
from gfx.errors import ArchiveError, InputError
from gfx.ir.modules import SizeRules

X = torch.zeros(2, 3, 16, 24)


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ("x.shape[3] > 10", True),
        ("x.shape[3] % 8 == 0 and x.ndim == 4", True),
        ("not x.shape[2] == x.shape[3]", True),
        ("max(x.shape[2], x.shape[3]) <= 16", False),
        ("math.floor(math.sqrt(x.shape[2] * x.shape[3])) == 19", True),
        ("x.shape[2] ** 2 == 256 or x.shape[9] == 1", True),
        ("x.shape[9] == 1", False),
        ("x.shape[0] // 0 == 1", False),
        ("2 ** (2 ** x.shape[3]) > 1", False),
        ("len(x) == 2", True),
    ],
)
def test_rules_are_arithmetic_on_sizes(rule: str, holds: bool) -> None:
    layer = pickle.loads(pickle.dumps(SizeRules(("x",), (rule,))))
    if holds:
        assert layer(X) is None
        return
    with pytest.raises(InputError, match=r"does not hold here: x is 2x3x16x24; .* trace the model"):
        layer(X)


@pytest.mark.parametrize(
    "rule",
    [
        "__import__('os').system('true')",
        "x.__class__",
        "open('x')",
        "y.shape[0] == 1",
        "(lambda: 1)()",
        "[n for n in x]",
        "x.shape[0] ==",
        "1 < x.shape[0] < 3",
        "max(x.shape, key=len)",
    ],
)
def test_rules_say_nothing_else(rule: str) -> None:
    with pytest.raises(ValueError, match="is no rule about the sizes of x"):
        SizeRules(("x",), (rule,))


def test_a_file_with_code_for_a_rule_is_refused(tmp_path: Path) -> None:
    class Wide(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if len(x.shape) == 4 and x.shape[3] > 10 else x

    gfx.save(gfx.trace(Wide(), X).module, tmp_path / "net.gfx")
    with zipfile.ZipFile(tmp_path / "net.gfx") as source:
        held = {name: source.read(name) for name in source.namelist()}
    text = held["graph.json"].decode()
    assert "x.shape[3] > 10" in text
    held["graph.json"] = json.dumps(
        json.loads(text.replace("x.shape[3] > 10", "open('x') == 1"))
    ).encode()
    with zipfile.ZipFile(tmp_path / "bad.gfx", "w") as bad:
        for name, content in held.items():
            bad.writestr(name, content)
    with pytest.raises(ArchiveError, match=r"refuses|is no rule"):
        gfx.load(tmp_path / "bad.gfx")
