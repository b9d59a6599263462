"""What every test starts from: one thread, a fixed seed, and a hypothesis profile."""

import gc
import os
from collections.abc import Iterator

# a test worker has one core; what torch loads reads this once, and processes inherit it
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
import torch

from support.advice_watch import advice_watch  # noqa: F401

# the hooks of `make laws`
from support.law_timer import (  # noqa: F401
    pytest_collection_modifyitems,
    pytest_runtest_call,
    pytest_terminal_summary,
)

torch.set_num_threads(1)

# "ci" repeats itself exactly; "dev" looks at new examples each time; neither looks at the clock
untimed = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("ci", derandomize=True, print_blob=True, **untimed)
hypothesis.settings.register_profile("dev", **untimed)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# torch.manual_seed notes a stack trace for each kind of device that may come up later: 2 ms a call
for kind in (torch.cuda, torch.xpu, torch.mtia):
    if not kind.is_available():
        kind.manual_seed_all = lambda seed: None

# graphs make many objects, and a collection looks at all of torch's
gc.set_threshold(20_000, 20, 20)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keeps what is there already, tests and torch, out of every later collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def lighter_collections() -> Iterator[None]:
    """Keeps what a file's tests leave, such as imported packages, out of later collections."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps what tests measure out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GFX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def fixed_seed() -> Iterator[None]:
    """Seeds torch, and gives the next test the state this one found."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
