"""Finds a reference generator or discriminator by name and hands it its options."""

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, Final

from torch import Tensor, nn

from gfx.errors import InputError
from gfx.zoo.biggan import Biggan128
from gfx.zoo.dcgan import Dcgan
from gfx.zoo.discriminator.biggan_discriminator import BigganDiscriminatorSpec
from gfx.zoo.discriminator.dcgan_discriminator import DcganDiscriminatorSpec
from gfx.zoo.discriminator.discriminator_spec import DiscriminatorSpec
from gfx.zoo.discriminator.multiscale_patchgan import MultiscalePatchgan
from gfx.zoo.discriminator.patchgan import Patchgan
from gfx.zoo.discriminator.patchgan_pixel import PatchganPixel
from gfx.zoo.discriminator.sagan_discriminator import SaganDiscriminatorSpec
from gfx.zoo.discriminator.srgan_discriminator import SrganDiscriminatorSpec
from gfx.zoo.discriminator.stargan_discriminator import StarganDiscriminatorSpec
from gfx.zoo.resnet import MobileResnet9Blocks, Pix2pixhdGlobal, Resnet9Blocks
from gfx.zoo.sagan import Sagan
from gfx.zoo.spade import Spade
from gfx.zoo.spec import Spec, is_count, nearest_choice
from gfx.zoo.srresnet import Srresnet
from gfx.zoo.stargan import Stargan
from gfx.zoo.unet import Unet256

SPECS: Final[Mapping[str, type[Spec]]] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            Resnet9Blocks,
            MobileResnet9Blocks,
            Unet256,
            Spade,
            Pix2pixhdGlobal,
            Stargan,
            Srresnet,
            Dcgan,
            Sagan,
            Biggan128,
            Patchgan,
            PatchganPixel,
            MultiscalePatchgan,
            DcganDiscriminatorSpec,
            SaganDiscriminatorSpec,
            BigganDiscriminatorSpec,
            StarganDiscriminatorSpec,
            SrganDiscriminatorSpec,
        )
    }
)


def names() -> tuple[str, ...]:
    """Lists the reference generators.

    Example:
        >>> "dcgan" in names(), "patchgan" in names()
        (True, False)
    """
    return tuple(name for name, spec in SPECS.items() if not issubclass(spec, DiscriminatorSpec))


def discriminators() -> tuple[str, ...]:
    """Lists the reference discriminators.

    Example:
        >>> "patchgan" in discriminators()
        True
    """
    return tuple(name for name, spec in SPECS.items() if issubclass(spec, DiscriminatorSpec))


def build(name: str, **options: Any) -> nn.Module:
    """Builds a reference generator or discriminator, in training mode.

    A generator has torch's default initialisation, a discriminator that of its option `init`. Seed
    torch first for the same weights each time. What the options mean stands in the network's file;
    `options(name)` lists them with their defaults.

    Raises: InputError for an unknown name or option, or a value out of range.

    Example:
        >>> model = build("dcgan", ngf=8)
        >>> sum(p.numel() for p in model.parameters())
        146032
    """
    spec = _spec(name, options)
    try:
        return spec.build()
    except (MemoryError, RuntimeError) as error:  # torch's allocator raises the latter
        raise spec.error(f"it cannot be built with {options}: {str(error)[:200]}") from error


def example_inputs(name: str, *, batch: int = 1, **options: Any) -> tuple[Tensor, ...]:
    """Makes seeded inputs for the network that `build` makes from the same options.

    They have torch's default dtype and lie on torch's default device.

    Raises: InputError for an unknown name or option, or a value out of range.

    Example:
        >>> [tuple(x.shape) for x in example_inputs("resnet_9blocks", batch=2, image_size=64)]
        [(2, 3, 64, 64)]
    """
    if not is_count(batch):
        raise InputError(f"zoo: {name}: batch is {batch!r}; give a whole number of at least 1")
    spec = _spec(name, options)
    try:
        return spec.inputs(batch)
    except (MemoryError, RuntimeError) as error:
        raise spec.error(f"no inputs can be made with {options}: {str(error)[:200]}") from error


def options(name: str) -> dict[str, Any]:
    """Lists the options of a generator or discriminator with their defaults.

    Raises: InputError for an unknown name.

    Example:
        >>> options("dcgan")
        {'ngf': 64, 'z_dim': 100, 'out_channels': 3, 'image_size': 64}
    """
    return {option.name: option.default for option in fields(_find(name))}


def about(name: str) -> str:
    """Says in one line what a generator or discriminator is.

    Raises: InputError for an unknown name.

    Example:
        >>> about("resnet_9blocks")
        'CycleGAN and pix2pix ResNet with nine residual blocks.'
    """
    return (_find(name).__doc__ or "").partition("\n")[0]


def _find(name: str) -> type[Spec]:
    if str(name) not in SPECS:
        hint = nearest_choice(str(name), SPECS)
        raise InputError(f"zoo: there is no generator or discriminator {name!r}{hint}")
    return SPECS[name]


def _spec(name: str, given: Mapping[str, Any]) -> Spec:
    spec = _find(name)
    known = options(name)
    for option in given:
        if option not in known:
            hint = nearest_choice(option, known)
            raise InputError(f"zoo: {name} has no option {option!r}{hint}")
    return spec(**given)
