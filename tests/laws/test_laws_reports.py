"""Random reports: what `Report.from_dict` accepts is shown, as text and as a page."""

import json
from typing import Any

import pytest
import torch
from hypothesis import example, given
from torch import nn

import gfx
from gfx.io.plain_limits import beyond_limits
from gfx.pipeline.report import Report, attach, render
from gfx.reports.result import drawing, page
from support.laws import law
from support.report_draws import report_data

NET = gfx.trace(nn.Sequential(nn.Conv2d(3, 4, 1)).eval(), torch.zeros(1, 3, 8, 8)).module


def with_pass(**fields: Any) -> dict[str, Any]:
    """Makes a report with one pass."""
    return {"source": "Net", "verified": True, "passes": [{"name": "p", "spec": {}, **fields}]}


NO_COST = {"macs": {}, "params": 0, "param_bytes": 0, "peak_activation_bytes": 0}
NO_TIME = {"backend": "", "threads": 0, "machine": "", "limit": 0.0, "before": 0.0, "after": 0.0}
NOTHING = {"source": "Net", "before": NO_COST, "after": NO_COST, "timings": [NO_TIME]}


def readable(text: str) -> bool:
    """Whether any screen shows a text: it is UTF-8, and nothing in it moves the cursor."""
    text.encode()
    return all(c.isprintable() or c == "\n" for c in text)


@law(60)
@given(report_data())
@example(with_pass(asked=["a.b"]))
@example(with_pass(checks=[{"name": "values", "passed": True, "error": 0.5}]))
@example(with_pass(checks=[{"name": "values", "passed": True, "tolerance": 0.5}]))
@example({"source": "Net", "recipe": {"passes": 3}})
@example(NOTHING)
def test_a_report_that_is_read_is_shown_as_text(data: dict[str, Any]) -> None:
    found = Report.from_dict(json.loads(json.dumps(data)))
    assert readable(str(found))
    assert readable(render(found, 20))
    assert json.dumps(found.to_dict())


@law(15)
@given(report_data())
@example(with_pass(asked=["a.b"]))
@example(with_pass(checks=[{"name": "values", "passed": True, "error": 0.5}]))
@example({"source": "a\ud800", "recipe": {"seed": "x", "passes": None}})
@example(NOTHING)
def test_a_report_that_is_read_is_shown_as_a_page(data: dict[str, Any]) -> None:
    attach(NET, Report.from_dict(data))
    written = page(NET)
    assert written.encode().rstrip().endswith(b"</html>")


@pytest.mark.parametrize("value", [2**2000, -(10**5000)], ids=["2000 bits", "5000 digits"])
def test_integers_that_count_nothing_are_refused(value: int) -> None:
    data = with_pass(details={"removed": value})
    with pytest.raises(
        gfx.GfxError, match=r"this is no gfx report: it holds an integer of \d+ bit"
    ):
        Report.from_dict(data)


def test_nesting_without_end_is_refused() -> None:
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(
        gfx.GfxError, match="no gfx report: it holds lists and mappings in each oth"
    ):
        Report.from_dict(with_pass(details={"removed": deep}))
    assert not beyond_limits([[[]]])


def test_a_forged_report_is_drawn() -> None:
    pytest.importorskip("matplotlib")
    attach(NET, Report.from_dict({"source": "half \ud83d $x", "passes": []}))
    assert drawing(NET).startswith(b"\x89PNG")
