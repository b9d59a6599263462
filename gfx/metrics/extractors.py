"""Makes features of images by a network: which one, what it takes, and how its weights are named.

efficientnet_lite0   ImageNet's EfficientNet-Lite0, from the extra `fd`; images at 96 pixels,
                     features on the 64 axes along which the real images spread most
inception            Inception-v3 from the user's TorchScript file; all 2048 features
module:factory       the user's own network of images in [-1, 1]; all its features
"""

import hashlib
import importlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfx.errors import InputError
from gfx.ir.random_state import keep_random_state
from gfx.metrics.efficientnet_lite0 import SHA256, FeatureMaps, load_efficientnet_lite0
from gfx.metrics.metric_name import MetricName

__all__ = ["BATCH", "Extractor", "feature_network", "make_extractor"]

BATCH = 50  # images a call, whatever the caller's batches: the last digits depend on it


@dataclass(frozen=True)
class Extractor:
    """Holds a network, what it takes, and what its features are known by."""

    name: str  # as the metric names it
    identity: str  # names the network, its weights and the size of its images
    call: Callable[[Tensor], Any]  # images in [-1, 1] -> features
    module: nn.Module | None  # the network, put in eval mode for the call
    axes: int  # the features are projected on so many axes; 0: on none

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Returns the features of images, (N, d) in double precision on the CPU.

        Maps of features are averaged over positions. The caller's random numbers and autocast have
        no part in it.

        Raises: InputError if the network fails, or its features are no numbers for each image.
        """
        with ExitStack() as restored:
            restored.enter_context(_own_random_numbers())
            restored.enter_context(torch.autocast("cpu", enabled=False))
            if self.module is not None:
                for module in self.module.modules():
                    restored.callback(setattr, module, "training", module.training)
                self.module.eval()
            try:
                found = self.call(images)
            except (RuntimeError, TypeError, ValueError) as error:
                raise InputError(
                    f"the features {self.name} cannot be made of images of "
                    f"{'x'.join(map(str, images.shape))}: {str(error)[:300]}"
                ) from error
        if not isinstance(found, Tensor) or found.ndim not in (2, 4) or len(found) != len(images):
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(
                f"the features {self.name} of {len(images)} images are {got}; the network must "
                "return (N, d), or maps (N, d, h, w)"
            )
        features = found.double().mean(dim=(2, 3)) if found.ndim == 4 else found.double()
        if not features.isfinite().all():
            raise InputError(f"the features {self.name} are not finite")
        return features.cpu()


def make_extractor(
    metric: MetricName,
    *,
    fid_weights: str | Path | None = None,
    extractors: Mapping[str, nn.Module] | None = None,
) -> Extractor:
    """Makes the network that a metric names.

    `extractors` holds networks by the name that stands in the metric; other names are imported.

    Raises: InputError if the network, its package or its file is missing or of another kind.
    """
    name = str(metric.features)
    given = dict(extractors or {})
    if name == "efficientnet_lite0":
        net = load_efficientnet_lite0()
        size = metric.size or 96
        axes = 64 if metric.axes is None else metric.axes
        identity = f"{name}:{SHA256}:{size}"
        return Extractor(name, identity, lambda x: net(_resized(_rgb(x), size)), net, axes)
    if name == "inception":
        return _inception(metric, fid_weights)
    module = _module(name, given[name] if name in given else _imported(name))
    identity = f"{name}:{_hash_of(module)}:{metric.size}"
    size = metric.size or 0
    call = (lambda x: module(_resized(x, size))) if size else module
    return Extractor(name, identity, call, module, metric.axes or 0)


def feature_network(name: str) -> nn.Module:
    """Makes a network whose features a loss compares: images in [-1, 1] -> a map, or several.

    `efficientnet_lite0` gives the maps before each halving; `module:factory` is the user's own.

    Raises: InputError if it cannot be made, or is none.
    """
    if name == "efficientnet_lite0":
        return FeatureMaps(load_efficientnet_lite0())
    if ":" not in name:
        raise InputError(
            f"the features {name!r} are not known; give efficientnet_lite0, or module:factory, "
            "which makes your own network"
        )
    return _module(name, _imported(name))


def _module(name: str, found: Any) -> nn.Module:
    if not isinstance(found, nn.Module):
        raise InputError(
            f"the features {name} are a {type(found).__name__}; give a module, or a class or "
            "function that makes one"
        )
    return found


def _rgb(images: Tensor) -> Tensor:
    """Turns images in [-1, 1] to RGB in [0, 1], cut down to the 256 values that a file holds.

    Cut, not rounded: so the code of pix2pix, CycleGAN and GAN Compression writes its images. It
    matters: a white background of 0.9999 is 254 of 255, and a Fréchet distance moves by a percent.
    """
    if images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
    if images.shape[1] != 3:
        raise ValueError(f"images have {images.shape[1]} channels, and the network takes 3")
    # an image that was read from a file keeps its values in spite of what rounding took from them
    levels = ((images.double() + 1) * 127.5 + 1e-5).floor().clamp(0, 255)
    return levels.float() / 255


def _resized(images: Tensor, size: int) -> Tensor:
    return F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)


def _inception(metric: MetricName, weights: str | Path | None) -> Extractor:
    """Opens Inception-v3 from a file that holds the network with its weights.

    A file of weights alone is refused: which of the published variants of the network they belong
    to cannot be seen from them, and the wrong one gives other distances.
    """
    if metric.size is not None:
        raise InputError(f"metric {metric.text!r}: inception resizes images itself; leave out size")
    if weights is None:
        raise InputError(
            f"metric {metric.text!r} needs the weights of Inception-v3, which gfx does not bring; "
            "give the file inception-2015-12-05.pt as fid_weights=, or use "
            "efficientnet_lite0, which needs none"
        )
    path = Path(weights)
    if not path.is_file():
        raise InputError(f"fid_weights={str(path)!r}: there is no such file")
    content = path.read_bytes()
    try:
        with warnings.catch_warnings():
            # torch advises against writing such files, and this one is from 2015
            warnings.simplefilter("ignore", DeprecationWarning)
            load: Callable[..., nn.Module] = torch.jit.load
            net = load(io.BytesIO(content), map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"fid_weights={str(path)!r} is not a TorchScript file; give "
            "inception-2015-12-05.pt, which holds the network with its weights. A state dict does "
            "not say which variant of Inception it belongs to: build that network yourself, and "
            f"name it as {metric.kind}[module:factory]"
        ) from error
    identity = f"inception:{hashlib.sha256(content).hexdigest()}"

    def call(images: Tensor) -> Any:
        pixels = (_rgb(images) * 255).round().to(torch.uint8)
        return net(pixels, return_features=True)

    return Extractor("inception", identity, call, None, metric.axes or 0)


@contextmanager
def _own_random_numbers() -> Iterator[None]:
    """Keeps the caller's random numbers as they are; a run must not depend on when it is judged."""
    with keep_random_state(python=True):
        # of the CPU alone: seeding all devices would reach those that are not kept
        torch.default_generator.manual_seed(0)
        yield


@_own_random_numbers()
def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        factory = getattr(importlib.import_module(module), attribute)
        return factory if isinstance(factory, nn.Module) else factory()
    except Exception as error:  # of the user's own code
        raise InputError(
            f"the features {name} cannot be made: {type(error).__name__}: {error}; name a module "
            f"that can be imported, or hand the network over as extractors={{{name!r}: network}}"
        ) from error


def _hash_of(module: nn.Module) -> str:
    found = hashlib.sha256(repr(module).encode())
    for name, value in module.state_dict().items():
        found.update(name.encode())
        if isinstance(value, Tensor):
            found.update(
                value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
            )
    return found.hexdigest()
