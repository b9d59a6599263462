"""What every test starts from: one thread, a fixed seed, and a hypothesis profile."""

import os
from collections.abc import Iterator

import hypothesis
import pytest
import torch

torch.set_num_threads(1)

# "ci" repeats itself exactly; "dev" looks at new examples each time
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def fixed_seed() -> Iterator[None]:
    """Seeds torch, and gives the next test the state this one found."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
