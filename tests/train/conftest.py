"""Generators that the tests of tasks share."""

import pytest

from support import task_generators


@pytest.fixture(scope="module")
def translator():
    return task_generators.translator()


@pytest.fixture(scope="module")
def dcgan():
    return task_generators.dcgan()
