"""Classes of attrs that a model returns."""

from typing import Any

import pytest

attrs = pytest.importorskip("attrs")


@attrs.define
class Both:
    image: Any
    mask: Any


@attrs.frozen
class Frozen:
    image: Any
    mask: Any
