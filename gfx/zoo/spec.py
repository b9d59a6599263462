"""Defines what every reference network of the zoo states about itself.

A spec is a frozen dataclass: its fields are the options of the network, with their defaults.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor, nn

from gfx.errors import InputError, did_you_mean

_MOST = 16_384  # channels, blocks, pixels: of any option that is a count


@dataclass(frozen=True)
class Spec(ABC):
    """Describes one network: its options, how to build it, its inputs.

    Raises: InputError if an option has the wrong type or is out of range.
    """

    name: ClassVar[str]  # what the zoo calls the network

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if type(option.default) is int and not is_count(value):
                said = f"{option.name} is {_short(value)}"
                raise self.error(f"{said}; give a whole number of at least 1")
            if type(option.default) is int and value > _MOST:
                raise self.error(f"{option.name} is {_short(value)}; give at most {_MOST:,}")
            if type(option.default) is bool and not isinstance(value, bool):
                raise self.error(f"{option.name} is {_short(value)}; give true or false")

    @abstractmethod
    def build(self) -> nn.Module:
        """Builds the network, in training mode."""

    @abstractmethod
    def inputs(self, batch: int) -> tuple[Tensor, ...]:
        """Makes seeded inputs for one call of the network."""

    def error(self, what: str) -> InputError:
        """Makes an error that names this network."""
        return InputError(f"zoo: {self.name}: {what}")

    def require_power_of_two(self, option: str, least: int) -> None:
        """Refuses an image size that doubling from 4 pixels does not reach."""
        value = getattr(self, option)
        if value < least or value & (value - 1):
            raise self.error(f"{option} is {value}; give a power of two, at least {least}")

    def require_multiple(self, option: str, of: int) -> None:
        """Refuses an image size that the down-sampling of the generator does not divide."""
        value = getattr(self, option)
        if value % of:
            raise self.error(f"{option} is {value}; give a multiple of {of}")

    def require_at_least(self, option: str, least: int) -> None:
        """Refuses an option that leaves a layer without channels or without pixels."""
        value = getattr(self, option)
        if value < least:
            raise self.error(f"{option} is {value}; give at least {least}")


def _short(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    return repr(value)[:100]


def is_count(value: object) -> bool:
    """Whether a value is a whole number of at least 1 (a bool is not)."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def are_counts(value: object) -> bool:
    """Whether a value is a list or tuple of whole numbers of at least 1."""
    return isinstance(value, list | tuple) and all(map(is_count, value))


def nearest_choice(word: str, known: Iterable[str]) -> str:
    """Writes which known word was probably meant, else lists them all.

    Example:
        >>> nearest_choice("dcgann", ["dcgan", "sagan"])
        '; did you mean dcgan?'
        >>> nearest_choice("zzz", ["dcgan", "sagan"])
        '; choose one of dcgan, sagan'
    """
    known = list(known)
    choices = f"choose one of {', '.join(known)}" if known else "there are none"
    return did_you_mean(word, known, choices, quoted=False)


def normal(*shape: int) -> Tensor:
    """Draws a seeded normal tensor of the default dtype, on the default device.

    Example:
        >>> normal(1, 3, 8, 8).shape
        torch.Size([1, 3, 8, 8])
    """
    # drawn on the CPU: the same numbers whatever the device
    drawn = torch.randn(shape, generator=_generator(), device="cpu")
    return drawn.to(torch.get_default_device())


def integers(below: int, *shape: int) -> Tensor:
    """Draws seeded integers 0 ≤ i < below, on the default device.

    Example:
        >>> integers(10, 4).shape
        torch.Size([4])
    """
    drawn = torch.randint(below, shape, generator=_generator(), device="cpu")
    return drawn.to(torch.get_default_device())


def label_map(batch: int, channels: int, height: int, width: int) -> Tensor:
    """Draws a seeded one-hot label map.

    Example:
        >>> label_map(1, 5, 4, 4).sum(dim=1).unique()
        tensor([1.])
    """
    classes = integers(channels, batch, 1, height, width)
    steps = torch.arange(channels, device=classes.device).view(1, -1, 1, 1)
    return (classes == steps).to(torch.get_default_dtype())


def _generator() -> torch.Generator:
    return torch.Generator("cpu").manual_seed(0)
