"""Names the paper's discriminator for images of a size, as text that builds it: "zoo:patchgan".

1. Each is built for the size at hand: fewer layers for small images. Where a paper's does not fit
   a size (DCGAN's takes powers of two), a PatchGAN is taken.
2. PatchGANs have instance norms: their scores of an image do not depend on its batch.
"""

__all__ = ["conditional", "dcgan", "patchgan", "patchgan_of_labels", "srgan", "stargan"]

_LAYERS = 3  # of the PatchGAN that sees 70x70
_STARGAN_LAYERS = 6
_BIGGAN = 128  # pixels, from which on BigGAN's is taken

Size = tuple[int, int]


def patchgan(channels: int, size: Size) -> str:
    """Names the PatchGAN of pix2pix and CycleGAN, with layers as there is room for (rule 1).

    Example:
        >>> patchgan(6, (256, 256)), patchgan(3, (16, 16))
        ('zoo:patchgan?input_nc=6', 'zoo:patchgan?input_nc=3&n_layers=2')
    """
    layers = min(_LAYERS, min(size).bit_length() - 3)
    if layers < 1:
        return f"zoo:patchgan_pixel?input_nc={channels}"
    more = "" if layers == _LAYERS else f"&n_layers={layers}"
    return f"zoo:patchgan?input_nc={channels}{more}"


def patchgan_of_labels(channels: int, size: Size) -> str:
    """Names SPADE's, two scales with spectral norms, for maps of labels.

    Example:
        >>> patchgan_of_labels(38, (256, 512))
        'zoo:multiscale_patchgan?input_nc=38&num_scales=2&spectral=true'
    """
    if min(size) < 64:
        return patchgan(channels, size)
    return f"zoo:multiscale_patchgan?input_nc={channels}&num_scales=2&spectral=true"


def dcgan(channels: int, size: Size) -> str:
    """Names DCGAN's, for squares of a power of two (rule 1).

    Example:
        >>> dcgan(3, (64, 64)), dcgan(3, (60, 64))
        ('zoo:dcgan_discriminator?input_nc=3&image_size=64', 'zoo:patchgan?input_nc=3')
    """
    if not _is_power(size, 8):
        return patchgan(channels, size)
    return f"zoo:dcgan_discriminator?input_nc={channels}&image_size={size[0]}"


def conditional(channels: int, size: Size, classes: int) -> str | None:
    """Names the projection discriminator of SAGAN, of BigGAN for large images; None if none fits.

    Example:
        >>> conditional(3, (64, 64), 10)
        'zoo:sagan_discriminator?input_nc=3&image_size=64&n_classes=10'
    """
    if not _is_power(size, 16):
        return None
    net = "biggan_discriminator" if size[0] >= _BIGGAN else "sagan_discriminator"
    return f"zoo:{net}?input_nc={channels}&image_size={size[0]}&n_classes={classes}"


def stargan(channels: int, size: Size, labels: int) -> str | None:
    """Names StarGAN's, of source and classes, with layers as there is room for; None if none fits.

    Example:
        >>> stargan(3, (128, 128), 5)
        'zoo:stargan_discriminator?input_nc=3&image_size=128&n_labels=5'
    """
    layers = _STARGAN_LAYERS
    while layers and (size[0] % 2**layers or size[0] < 2 ** (layers + 1)):
        layers -= 1
    if size[0] != size[1] or not layers:
        return None
    fields = f"input_nc={channels}&image_size={size[0]}&n_labels={labels}"
    more = "" if layers == _STARGAN_LAYERS else f"&n_layers={layers}"
    return f"zoo:stargan_discriminator?{fields}{more}"


def srgan(channels: int, size: Size) -> str:
    """Names SRGAN's, for squares of a multiple of 16 (rule 1).

    Example:
        >>> srgan(3, (96, 96))
        'zoo:srgan_discriminator?input_nc=3&image_size=96'
    """
    if size[0] != size[1] or size[0] % 16:
        return patchgan(channels, size)
    return f"zoo:srgan_discriminator?input_nc={channels}&image_size={size[0]}"


def _is_power(size: Size, least: int) -> bool:
    return size[0] == size[1] >= least and size[0] & (size[0] - 1) == 0
