"""What tests of timing start from: a garbage collector that looks at what is new."""

import gc

import pytest


@pytest.fixture(autouse=True)
def collects_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares the tests a look at all objects of torch and of earlier tests at each timing."""
    collect = gc.collect
    monkeypatch.setattr(gc, "collect", lambda generation=2: collect(0))
