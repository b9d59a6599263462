"""Where a convolution stands: its settings and the size of its input, at any number of channels."""

from dataclasses import asdict, dataclass, replace

from torch import nn

from gfx.factoring.layout import Part, whole

__all__ = ["Point", "Site", "site_of"]

Point = tuple[Part, tuple[int, ...], str]  # a convolution, the shape of its input, its dtype


@dataclass(frozen=True)
class Site:
    """A convolution of images on an input of some size, its channels left open.

    A depthwise one gives `multiple` channels for each it reads; any other is dense.

    Example:
        >>> site = site_of(nn.Conv2d(8, 16, 3, padding=1), (1, 8, 32, 32))
        >>> part, shape, dtype = site.at(4, 6)
        >>> part.weight, shape, dtype
        ((6, 4, 3, 3), (1, 4, 32, 32), 'float32')
    """

    part: Part  # without name, channels and bias
    batch: int
    size: tuple[int, int]
    dtype: str
    multiple: int = 0  # 0: dense

    def at(self, inputs: int, outputs: int) -> Point:
        """Returns the convolution at some channels."""
        if self.multiple:
            outputs = inputs * self.multiple
        groups = inputs if self.multiple else 1
        part = replace(self.part, inputs=inputs, outputs=outputs, groups=groups)
        return part, (self.batch, inputs, *self.size), self.dtype

    @property
    def key(self) -> str:
        """The same text for the same site, in this program or another."""
        said = {k: v for k, v in asdict(self.part).items() if k not in _OPEN}
        words = [f"{k}={v}" for k, v in said.items()]
        return " ".join([*words, f"{self.batch}x{self.size}", self.dtype, f"x{self.multiple}"])


_OPEN = ("name", "inputs", "outputs", "groups", "bias")


def site_of(module: nn.Module | Part, shape: tuple[int, ...], dtype: str = "") -> Site | None:
    """Returns the site of a convolution; None if it is neither dense nor depthwise, or not of 2-D.

    Shapes: that of its input, (..., C, H, W).
    """
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and len(shape) in (3, 4):
        part, dtype = whole(module), str(module.weight.dtype).removeprefix("torch.")
    elif isinstance(module, Part):
        part = module
    else:
        return None
    dense = part.groups == 1
    if not dense and (part.groups != part.inputs or part.outputs % part.inputs):
        return None
    # a depthwise convolution of one channel is dense as well, and both are the same
    multiple = 0 if dense else part.outputs // part.inputs
    bare = replace(part, name="", inputs=0, outputs=0, groups=1, bias=True)
    batch = 1 if len(shape) == 3 else shape[0]
    return Site(bare, batch, (shape[-2], shape[-1]), dtype, multiple)
