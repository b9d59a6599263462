"""Measures how far the output of a smaller generator is from that of the original.

An output is a tensor, or tuples and dicts of some; all floating tensors in it count.
"""

from collections.abc import Callable
from math import isfinite, isnan
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gfx.errors import InputError, did_you_mean
from gfx.objects.take_apart import mapped, plain

__all__ = ["METRICS", "Metric", "image_metrics", "metric"]

Measure = Callable[[Any, Any], Any]
METRICS = ("relative_l2", "psnr", "ssim", "feature")
_WINDOW = 11  # pixels: SSIM looks at squares of this size


class Metric:
    """Compares the output of a smaller program (student) with that of the original (teacher).

    Example:
        >>> measured = metric("relative_l2")
        >>> measured(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5]))
        0.1
    """

    def __init__(
        self,
        name: str,
        measure: Measure,
        *,
        higher_is_better: bool = False,
        cost: Callable[[float], float] | None = None,
    ) -> None:
        self.name = name
        self.higher_is_better = higher_is_better
        self._measure = measure
        self._cost = cost

    def __call__(self, teacher_out: Any, student_out: Any) -> float:
        """Returns the value of the metric for one batch.

        Raises: InputError if the outputs do not fit each other or the metric, or its result is no
        number.
        """
        with torch.no_grad():
            value = self._measure(teacher_out, student_out)
        try:
            if isinstance(value, bool | str):
                raise TypeError
            found = float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"metric {self.name} returned a {type(value).__name__}; it must return one number"
            ) from error
        if isnan(found) or not (isfinite(found) or self.higher_is_better):
            raise InputError(
                f"metric {self.name} returned {found}: an output it was given is most likely not "
                "finite, or constant"
            )
        return found

    def cost(self, value: float) -> float:
        """Turns a value into a damage, to rank by: 0 if nothing changed, larger if worse.

        The value itself where lower is better; 10^(-PSNR / 20), which is the error over the range
        of the image; 1 - SSIM.

        Example:
            >>> metric("psnr").cost(20.0), metric("psnr").cost(float("inf"))
            (0.1, 0.0)
        """
        return value if self._cost is None else self._cost(value)

    def __repr__(self) -> str:
        return f"Metric({self.name})"


class _Extractor(Protocol):
    def __call__(self, output: Any, /) -> Any: ...


def metric(spec: "str | Measure | Metric", *, extractor: _Extractor | None = None) -> Metric:
    """Makes a metric of its name, or of any function of (teacher_out, student_out) → float.

    - relative_l2: ‖student - teacher‖ / ‖teacher‖ over all outputs of a batch together; ‖student‖
      where the teacher's output is 0.
    - psnr, ssim: peak signal-to-noise ratio in dB and structural similarity, by torchmetrics; the
      mean over the outputs if there are several. Outputs must be images (N, C, H, W). The range
      (peak to peak) is that of the teacher's output in the batch, whatever the images' scale.
    - feature: relative_l2 between what an extractor makes of the two outputs. The extractor, any
      function or module, is called with an output; a module is put in eval mode for the call.
    - a function: lower is better, 0 is no damage.

    Raises: InputError if there is no such metric, the extractor is missing or not used, or
    torchmetrics is not installed.

    Source: Wang et al. 2004, Image quality assessment (SSIM).

    Example:
        >>> metric("ssim").higher_is_better, metric(lambda a, b: 0.5).name
        (True, '<lambda>')
    """
    if isinstance(spec, Metric):
        return spec
    if extractor is not None and spec != "feature":
        raise InputError(
            f"extractor= is given, and metric={_named(spec)} does not use it; say metric='feature'"
        )
    if not isinstance(spec, str):
        if not callable(spec):
            raise InputError(
                f"metric is a {type(spec).__name__}; give one of {', '.join(METRICS)}, or a "
                "function (teacher_out, student_out) -> float"
            )
        return Metric(_named(spec), _shielded(spec))
    if spec == "relative_l2":
        return Metric(spec, _relative_l2)
    if spec == "psnr":
        return Metric(spec, _psnr(), higher_is_better=True, cost=lambda db: 10 ** (-db / 20))
    if spec == "ssim":
        return Metric(spec, _ssim(), higher_is_better=True, cost=lambda value: 1 - value)
    if spec == "feature":
        return Metric(spec, _feature(extractor))
    hint = did_you_mean(spec, METRICS, f"there are {', '.join(METRICS)}")
    raise InputError(f"there is no metric {spec!r}{hint}")


def _shielded(measure: Measure) -> Measure:
    """Gives a function copies: it may write into what it is given."""
    return lambda teacher, student: measure(_copied(teacher), _copied(student))


def _copied(output: Any) -> Any:
    return mapped(torch.clone, output)


def _named(spec: Any) -> str:
    return spec if isinstance(spec, str) else getattr(spec, "__name__", type(spec).__name__)


def _pairs(name: str, teacher: Any, student: Any) -> list[tuple[Tensor, Tensor]]:
    """Pairs the floating tensors of two outputs, in double precision."""
    ours, spec = pytree.tree_flatten(plain(teacher))
    theirs, other = pytree.tree_flatten(plain(student))
    if spec != other:
        raise InputError(f"metric {name}: the two outputs are not of one structure")
    pairs = []
    for a, b in zip(ours, theirs, strict=True):
        if not isinstance(a, Tensor) or not (a.is_floating_point() or a.is_complex()):
            continue
        if not isinstance(b, Tensor) or a.shape != b.shape:
            shape = "x".join(map(str, b.shape)) if isinstance(b, Tensor) else type(b).__name__
            raise InputError(
                f"metric {name}: the outputs are {'x'.join(map(str, a.shape))} and {shape}"
            )
        pairs.append((_wide(a), _wide(b)))
    if not pairs:
        raise InputError(f"metric {name}: the output holds no floating tensor to compare")
    for who, place in (("original", 0), ("changed", 1)):
        if not all(bool(torch.isfinite(pair[place]).all()) for pair in pairs):
            raise InputError(f"metric {name}: the output of the {who} model is not finite")
    return pairs


def _wide(value: Tensor) -> Tensor:
    if value.is_complex():
        value = torch.view_as_real(value)
    return value.detach().double()


def _relative_l2(teacher: Any, student: Any) -> float:
    pairs = _pairs("relative_l2", teacher, student)
    gap = sum(float((b - a).square().sum()) for a, b in pairs)
    size = sum(float(a.square().sum()) for a, _ in pairs)
    return float((gap / size) ** 0.5 if size > 0 else gap**0.5)


def _psnr() -> Measure:
    peak = image_metrics("metric psnr").peak_signal_noise_ratio

    def measure(teacher: Any, student: Any) -> float:
        found = [
            float(peak(b, a, data_range=_range("psnr", a)))
            for a, b in _images("psnr", teacher, student)
        ]
        return sum(found) / len(found)

    return measure


def _ssim() -> Measure:
    similarity = image_metrics("metric ssim").structural_similarity_index_measure

    def measure(teacher: Any, student: Any) -> float:
        pairs = _images("ssim", teacher, student)
        least = min(min(a.shape[2:]) for a, _ in pairs)
        if least < _WINDOW:
            raise InputError(
                f"metric ssim needs images of at least {_WINDOW} pixels, and the output has "
                f"{least}; use relative_l2 or psnr"
            )
        found = [float(similarity(b, a, data_range=_range("ssim", a))) for a, b in pairs]
        return sum(found) / len(found)

    return measure


def _images(name: str, teacher: Any, student: Any) -> list[tuple[Tensor, Tensor]]:
    pairs = _pairs(name, teacher, student)
    for a, _ in pairs:
        if a.ndim != 4:
            raise InputError(
                f"metric {name} needs images (N, C, H, W), and the output has shape "
                f"{'x'.join(map(str, a.shape))}; use relative_l2"
            )
    return pairs


def _range(name: str, image: Tensor) -> float:
    found = float(image.max() - image.min())
    if found <= 0:
        raise InputError(
            f"metric {name}: the original's output is constant ({float(image.min()):g}), so it has "
            "no range; give other data, or use relative_l2"
        )
    return found


def _feature(extractor: _Extractor | None) -> Measure:
    if extractor is None:
        raise InputError(
            "metric=feature compares what an extractor makes of the outputs, and none is given; "
            "pass extractor=, a function or module such as the first layers of a classifier"
        )
    if not callable(extractor):
        raise InputError(f"extractor is a {type(extractor).__name__}, which cannot be called")
    seen: list[tuple[Any, Any]] = []  # the teacher's outputs come again for every change

    def features(output: Any) -> Any:
        output = _copied(output)
        if not isinstance(extractor, nn.Module):
            return extractor(output)
        modes = [(module, module.training) for module in extractor.modules()]
        try:
            return extractor.eval()(output)
        finally:
            for module, mode in modes:
                module.training = mode

    def measure(teacher: Any, student: Any) -> float:
        known = next((made for output, made in seen if output is teacher), None)
        if known is None:
            known = features(teacher)
            seen.append((teacher, known))
            del seen[:-_REMEMBERED]
        return _relative_l2(known, features(student))

    return measure


_REMEMBERED = 8  # batches whose features are kept


def image_metrics(who: str) -> Any:
    """Returns torchmetrics' functions on images.

    Raises: InputError that says who needs them, if torchmetrics is not installed.
    """
    try:
        from torchmetrics.functional import image
    except ImportError as error:
        raise InputError(
            f"{who} is computed by torchmetrics, which is not installed: pip install "
            "'gfx-compiler[metrics]'"
        ) from error
    return image
