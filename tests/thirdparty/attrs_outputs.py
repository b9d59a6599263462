"""Classes of attrs that a model returns."""

from typing import Any

import attrs


@attrs.define
class Both:
    image: Any
    mask: Any


@attrs.frozen
class Frozen:
    image: Any
    mask: Any
