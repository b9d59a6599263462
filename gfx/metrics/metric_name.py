"""Reads the names of metrics: l1, or fd[efficientnet_lite0?size=96&axes=64]."""

import re
from dataclasses import dataclass
from typing import Final

from gfx.errors import InputError, did_you_mean

__all__ = ["PAIRED", "SETS", "MetricName", "parse_metric"]

PAIRED: Final = ("l1", "psnr", "ssim")
SETS: Final = ("fd", "kd", "precision", "recall")
HIGHER: Final = ("psnr", "ssim", "precision", "recall")
_NETS = ("efficientnet_lite0", "inception")
_OPTIONS = ("size", "axes")


@dataclass(frozen=True)
class MetricName:
    """Says what to measure, and for a distance between sets in which features."""

    text: str  # as it was asked for
    kind: str  # one of PAIRED or SETS
    features: str | None = None  # efficientnet_lite0, inception or module:factory
    size: int | None = None  # pixels that images are resized to; None: the features' own choice
    axes: int | None = None  # axes that features are projected on; 0: all, None: as for size

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value is a better one."""
        return self.kind in HIGHER


def parse_metric(text: str) -> MetricName:
    """Reads the name of a metric.

    Raises: InputError if there is no such metric, its features are missing, or an option is wrong.

    Example:
        >>> parse_metric("fd[efficientnet_lite0?axes=32]").axes
        32
    """
    found = (
        re.fullmatch(r"(\w+)(?:\[([^\[\]]*)\])?", text.strip()) if isinstance(text, str) else None
    )
    if found is None:
        raise InputError(
            f"metric {text!r} cannot be read; write one of {', '.join(PAIRED)}, or "
            "fd[FEATURES], as in fd[efficientnet_lite0]"
        )
    kind, inner = found[1], found[2]
    if kind.lower() == "fid":
        raise InputError(
            f"metric {text!r}: FID is the Fréchet distance in Inception's features; write "
            "fd[inception], with the weights file, or fd[efficientnet_lite0], which needs none"
        )
    if kind not in (*PAIRED, *SETS):
        there = f"there are {', '.join(PAIRED)}, and {', '.join(f'{k}[FEATURES]' for k in SETS)}"
        raise InputError(
            f"there is no metric {text!r}{did_you_mean(kind, (*PAIRED, *SETS), there)}"
        )
    if kind in PAIRED:
        if inner is not None:
            raise InputError(f"metric {text!r}: {kind} has no features; write {kind}")
        return MetricName(text, kind)
    features, _, query = (inner or "").partition("?")
    if not features:
        raise InputError(
            f"metric {text!r} does not say in which features; write {kind}[efficientnet_lite0], "
            f"{kind}[inception] with the weights file, or {kind}[package.module:factory]"
        )
    if ":" not in features and features not in _NETS:
        there = f"there are {', '.join(_NETS)} and package.module:factory"
        raise InputError(
            f"metric {text!r}: there are no features {features!r}"
            f"{did_you_mean(features, _NETS, there)}"
        )
    return MetricName(text, kind, features, **_options(text, query))


def _options(text: str, query: str) -> dict[str, int]:
    options = {}
    for item in filter(None, query.split("&")):
        key, _, value = item.partition("=")
        if key not in _OPTIONS:
            hint = did_you_mean(key, _OPTIONS, f"there are {', '.join(_OPTIONS)}")
            raise InputError(f"metric {text!r} has no option {key!r}{hint}")
        least = 0 if key == "axes" else 1
        if not value.isascii() or not value.isdigit() or not least <= int(value[:9]) <= 100_000:
            raise InputError(
                f"metric {text!r}: {key} is {value!r}; give a whole number of at least {least}"
            )
        options[key] = int(value[:9])
    return options
