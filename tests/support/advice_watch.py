"""Watches every run of passes in the tests: nothing may be advised that was just done.

A pass that ran in the same recipe is not to be run before, data that was given is not to be given,
and a model in eval mode is not to be put into it.
"""

import re
from collections.abc import Iterator

import pytest

import gfx
from gfx.pipeline.pass_report import PassReport
from gfx.pipeline.run import Run
from gfx.pipeline.shared_budget import SharedBudget

__all__ = ["advice_watch"]

RUN = re.compile(r"\brun (\w+) (?:before|first)\b")
_found: list[str] = []
_step = Run.step


def _watched(self: Run, pass_: gfx.Pass, plan: SharedBudget) -> PassReport:
    ran = self.__dict__.setdefault("_ran", set())
    ran.add(pass_.name)
    said: list[str] = []
    try:
        report = _step(self, pass_, plan)
        said = [skip.why for skip in report.skips]
        return report
    except gfx.GfxError as error:
        said = [str(error)]
        raise
    finally:
        for text in said:
            done = [name for name in RUN.findall(text) if name in ran]
            if "give data= to gfx.apply" in text and self.context.data is not None:
                done.append("data=")
            if "call model.eval()" in text and not self.program.training:
                done.append("model.eval()")
            _found.extend(f"{pass_.name} advises {name}, which is done: {text}" for name in done)


@pytest.fixture(autouse=True)
def advice_watch() -> Iterator[None]:
    """Fails a test in which a pass advised what was just done."""
    Run.step = _watched  # type: ignore[method-assign]
    _found.clear()
    yield
    assert not _found, _found
