"""Runs a generator on batches, with its features where it has taps."""

from typing import Any

from torch import Tensor, nn

from gfx.compression.taps import features_alone, tapped
from gfx.train.supernet import Supernet
from gfx.train.tasks import Batch, Task
from gfx.train.terms.term import Features

__all__ = ["TappedRun"]


class TappedRun:
    """Runs a net of a task; with `taps` its features are returned beside the image.

    Without `image`, what comes after the last tap is not computed.

    Example:
        >>> import random, torch
        >>> from gfx.train import tasks
        >>> task = tasks.inputs(torch.zeros(2, 3, 8, 8))
        >>> batch = Batch.of([task.example(0, random.Random(0))])
        >>> image, features = TappedRun(nn.Conv2d(3, 3, 1), task)(batch)
        >>> image.shape, features
        (torch.Size([1, 3, 8, 8]), {})
    """

    def __init__(
        self, net: nn.Module, task: Task, *, taps: bool = False, image: bool = True
    ) -> None:
        self.net, self.task, self.taps = net, task, taps
        # a call of the user's own may do more with the output than to return it
        self.image = image or not taps or task.call is not None
        if not self.image:
            self._runs: nn.Module = features_alone(net)
        else:
            self._runs = _Noting(_tapped(net)) if taps else net

    def __call__(self, batch: Batch) -> tuple[Tensor | None, Features]:
        """Returns the image (None: not computed), and the features by tap."""
        output = self.task.generate(self._runs, batch)
        if not self.image:
            return None, output
        features: Features = {}
        if isinstance(self._runs, _Noting):
            features, self._runs.features = self._runs.features, {}
        return self.task.image(output), features


def _tapped(net: nn.Module) -> nn.Module:
    return net.tapped() if isinstance(net, Supernet) else tapped(net)


class _Noting(nn.Module):
    """Returns the output of a tapped net, and notes its features."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.features: Features = {}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output, self.features = self.net(*args, **kwargs)
        return output
