"""Lets the BatchNorms of a net see the batches of all processes while it trains.

torch's SyncBatchNorm refuses a CPU. What is done here is the same: moments are summed over the
processes, and so are their gradients.

1. A BatchNorm of the user's own class is synchronised too, if it keeps torch's forward.
2. In evaluation mode nothing is sent: a process may then run a net alone.
"""

from collections.abc import Iterator

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["alone", "plain_class", "synchronise"]

_SYNCED: dict[type[nn.Module], type[nn.Module]] = {}  # by the class that it stands for


class _SyncedForward:
    """The forward of a BatchNorm that sees all processes."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalises by the moments of the batches of all processes."""
        assert isinstance(self, _BatchNorm)
        if not self.training:  # rule 2
            return _BatchNorm.forward(self, input)
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        x = input if input.dtype in (torch.float32, torch.float64) else input.float()
        mean, var, count = _moments(x)
        self._learn(mean.detach(), var.detach() * count / (count - 1).clamp(min=1))
        shape = (1, -1, *[1] * (x.ndim - 2))
        scale = (var + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        made = (x - mean.view(shape)) * scale.view(shape)
        if self.bias is not None:
            made = made + self.bias.view(shape)
        return made.to(input.dtype)

    def _learn(self, mean: Tensor, var: Tensor) -> None:
        """Moves the running statistics, as torch's own BatchNorm does."""
        assert isinstance(self, _BatchNorm)
        if not self.track_running_stats or self.running_mean is None:
            return
        rate = 0.0 if self.momentum is None else self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:  # the mean of all batches
                rate = 1 / float(self.num_batches_tracked)
        assert self.running_var is not None
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
            self.running_var.lerp_(var.to(self.running_var.dtype), rate)


class _Total(torch.autograd.Function):
    """Sums a tensor over all processes; the gradients of all are summed as well."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        total = value.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        return _total(gradient.contiguous())


def _total(value: Tensor) -> Tensor:
    total: Tensor = _Total.apply(value)  # type: ignore[no-untyped-call]
    return total


def _moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns mean and biased variance of each channel over all processes, and the count.

    The variance is that around the common mean, so that nothing is lost where the mean is large.
    """
    dims = [0, *range(2, x.ndim)]
    var, mean = torch.var_mean(x, dims, correction=0)
    count = mean.new_full((1,), x.numel() / max(x.shape[1], 1))
    total = _total(torch.cat((mean * count, count)))
    everywhere, all_of_them = total[:-1] / total[-1], total[-1].detach()
    spread = _total(count * (var + (mean - everywhere).square()))
    return everywhere, spread / all_of_them, all_of_them


def synchronise(net: nn.Module) -> tuple[str, ...]:
    """Lets the BatchNorms of a net see all processes in training mode; returns their paths.

    Example:
        >>> net = nn.Sequential(nn.BatchNorm2d(3))
        >>> synchronise(net), plain_class(type(net[0])).__name__
        (('0',), 'BatchNorm2d')
    """
    found = []
    for path, module in net.named_modules():
        kind = type(module)
        if _is_plain(module):
            if kind not in _SYNCED:
                _SYNCED[kind] = type(f"Synced{kind.__name__}", (_SyncedForward, kind), {})
            # the same object under another class: it may be registered under several names
            module.__class__ = _SYNCED[kind]
            found.append(path)
    return tuple(found)


def plain_class(kind: type[nn.Module]) -> type[nn.Module] | None:
    """Returns the class that a synchronised one stands for; None of any other."""
    return kind.__mro__[2] if issubclass(kind, _SyncedForward) else None


def alone(net: nn.Module) -> Iterator[str]:
    """Names the batch norms of a net that see the batch of their own process alone.

    Example:
        >>> list(alone(nn.Sequential(nn.BatchNorm2d(3))))
        ['0']
    """
    for path, module in net.named_modules():
        if isinstance(module, _BatchNorm) and not _sees_all(module):
            yield path
        if isinstance(module, fx.GraphModule):
            for node in module.graph.find_nodes(op="call_function", target=F.batch_norm):
                yield f"{path}.{node.name}".lstrip(".")
            for node in module.graph.find_nodes(op="call_function", target=torch.batch_norm):
                yield f"{path}.{node.name}".lstrip(".")


def _sees_all(module: nn.Module) -> bool:
    return isinstance(module, nn.SyncBatchNorm | _SyncedForward)


def _is_plain(module: nn.Module) -> bool:
    """Whether a module is a BatchNorm with torch's forward (rule 1)."""
    return isinstance(module, _BatchNorm) and type(module).forward is _BatchNorm.forward
