"""Where discriminators come from: the user's, or the one that suits the task."""

import copy
import random
from collections.abc import Callable

from torch import nn

from gfx.errors import InputError
from gfx.io.archive import ModelPath, as_module
from gfx.io.archive.factories import build_module_from
from gfx.ir.fresh_weights import draw_anew, holders
from gfx.ir.random_state import keep_random_state
from gfx.train.runs.real_images import real_images
from gfx.train.tasks import Batch, Task

__all__ = ["CriticSource", "critic_source", "fresh"]


class CriticSource:
    """What discriminators of a run are made from.

    `given` is the user's module with its weights, or text that builds one with new weights, as
    "zoo:patchgan?input_nc=6"; None takes `default`, such a text.

    Example:
        >>> CriticSource(nn.Conv2d(3, 1, 4), "zoo:patchgan").name
        'Conv2d'
    """

    def __init__(self, given: nn.Module | str | None, default: str | Callable[[], str]) -> None:
        self.given, self._default = given, default

    @property
    def default(self) -> str:
        """What builds the one that suits the task.

        Raises: InputError if none of the zoo does.
        """
        return self._default if isinstance(self._default, str) else self._default()

    @property
    def trained(self) -> bool:
        """Whether weights were given."""
        return isinstance(self.given, nn.Module)

    @property
    def name(self) -> str:
        """What it is called in messages."""
        if isinstance(self.given, nn.Module):
            return type(self.given).__name__
        return self.given or self.default

    def given_copy(self) -> nn.Module:
        """Returns a copy of what was given, which learns."""
        assert isinstance(self.given, nn.Module)
        return self.copy_of(self.given)

    @staticmethod
    def copy_of(critic: nn.Module) -> nn.Module:
        """Returns a copy of one, which learns."""
        return copy.deepcopy(critic).requires_grad_(True)

    def way_back(self, task: Task, batch: Batch) -> "CriticSource":
        """Returns where discriminators of the way back come from; `task` is that way's."""
        return CriticSource(self.given, lambda: task.default_discriminator(task.real(batch), batch))

    def shell(self) -> nn.Module:
        """Returns one whose weights are about to be loaded."""
        if self.trained:
            return self.given_copy()
        with keep_random_state(seed=0):
            return build_module_from(self.given or self.default)

    def new(self, seed: int) -> nn.Module:
        """Returns one with new weights, drawn from a seed.

        Raises: InputError if weights cannot be drawn anew.
        """
        if self.trained:
            return fresh(self.given_copy(), seed)
        with keep_random_state(seed=seed):
            return build_module_from(self.given or self.default)


def critic_source(given: nn.Module | ModelPath | None, task: Task) -> CriticSource:
    """Returns where discriminators come from: the user's, or the one that suits the task.

    Raises: GfxError if a file cannot be opened.

    Example:
        >>> import torch
        >>> from gfx.train import tasks
        >>> critic_source(None, tasks.latent(torch.zeros(4, 3, 64, 64), z=(8,))).default
        'zoo:dcgan_discriminator?input_nc=3&image_size=64'
    """
    first = Batch.of([task.example(0, random.Random(0))])
    real = real_images(task, first)

    def default() -> str:  # asked for where a term needs one
        assert real is not None
        return task.default_discriminator(real, first)

    if given is None or isinstance(given, nn.Module):
        return CriticSource(given, default)
    if isinstance(given, str) and given.startswith("zoo:"):
        made = CriticSource(given, default)
        made.new(seed=0)  # a wrong name is told, also where no term asks for a discriminator
        return made
    return CriticSource(as_module(given), default)


_FACTORY = "a factory, as mynet.py:Discriminator, or discriminator: inherit"


def fresh(
    net: nn.Module, seed: int, std: float | None = None, *, advice: str = _FACTORY
) -> nn.Module:
    """Draws the weights of a net anew, as its layers do when they are made.

    With `std`, from a normal distribution of this deviation; norms around 1, biases 0. `advice`
    is what to give where that cannot be done.

    Raises: InputError if a layer with weights does not say how.

    Example:
        >>> one, other = (fresh(nn.Linear(2, 2), seed=3) for _ in range(2))
        >>> bool((one.weight == other.weight).all())
        True
    """
    with keep_random_state(seed=seed):
        for path, module in holders(net).items():
            try:
                draw_anew(path, module, std)
            except InputError as error:
                raise InputError(f"{error}; give {advice}") from error
    return net
