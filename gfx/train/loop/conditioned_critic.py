"""Tells a discriminator which subnet made the images: every layer's inputs follow the widths.

x' = x (1 + S w) + B w      channel by channel, w = width / largest width - 1 of each group;
                            of a form or a block: 0 as in the largest net, -1 the other way

S and B begin at 0, and w of the largest net is 0: it is judged as by the discriminator itself.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gfx.errors import InputError
from gfx.train.supernet import Supernet

__all__ = ["ConditionedCritic"]

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


class ConditionedCritic(nn.Module):
    """Judges the images of a supernet by a discriminator that knows its widths.

    `critic` is the discriminator: its forward stays as it is, and it is what a stage leaves.

    Raises: InputError if it has no convolution or linear layer.

    Example:
        >>> import gfx
        >>> net = gfx.supernet(gfx.zoo.build("dcgan", ngf=8), widths=[0.5, 1.0])
        >>> told = ConditionedCritic(nn.Conv2d(3, 1, 4), net)
        >>> x = torch.randn(1, 3, 8, 8)
        >>> torch.equal(told(x), told.critic(x)), told.scales["0"].shape
        (True, torch.Size([3, 4]))
    """

    def __init__(self, critic: nn.Module, net: Supernet) -> None:
        super().__init__()
        self.critic = critic
        vars(self)["_widths"] = partial(_relative, net)  # the net is no part of it
        layers = [(p, m) for p, m in critic.named_modules() if isinstance(m, _LAYERS)]
        if not layers:
            raise InputError(
                f"the discriminator ({type(critic).__name__}) has no convolution or linear layer "
                "that could see the widths; leave `conditioned` out"
            )
        self.paths = [path for path, _ in layers]
        self.scales, self.shifts = nn.ParameterDict(), nn.ParameterDict()
        for number, (_, layer) in enumerate(layers):
            count = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
            for held in (self.scales, self.shifts):
                like = next(layer.parameters())
                zeros = torch.zeros(count, len(net.choices), dtype=like.dtype, device=like.device)
                held[str(number)] = nn.Parameter(zeros)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Judges images of the subnet that is set."""
        widths: Callable[[], Tensor] = vars(self)["_widths"]
        with self._told(widths()):
            return self.critic(*args, **kwargs)

    @contextmanager
    def _told(self, widths: Tensor) -> Iterator[None]:
        with ExitStack() as stack:
            for number, path in enumerate(self.paths):
                layer = self.critic.get_submodule(path)
                scale, shift = self.scales[str(number)], self.shifts[str(number)]
                given = widths.to(scale)
                hook = partial(_modulated, scale @ given, shift @ given)
                stack.callback(layer.register_forward_pre_hook(hook).remove)
            yield


def _relative(net: Supernet) -> Tensor:
    return torch.tensor([share - 1 for share in net.shares(net.current)])


def _modulated(scale: Tensor, shift: Tensor, layer: nn.Module, args: tuple[Any, ...]) -> Any:
    """Scales and shifts the input of a layer, channel by channel."""
    x, *rest = args
    if not isinstance(layer, nn.Linear):
        shape = (-1, *[1] * (len(layer.kernel_size)))  # type: ignore[arg-type]
        scale, shift = scale.view(shape), shift.view(shape)
    return (x * (1 + scale) + shift, *rest)
