"""The devices that a run trains on: one, or many by accelerate, with the same verbs.

1. Without accelerate a run is on one device. With it, as under `accelerate launch`, each process
   trains its share of every batch, and gradients are the mean over all.
2. Gradients are averaged after the backward of a player, in one flat tensor: the nets are called
   as they are, however often and in whatever order a loss needs them.
3. BatchNorms that train see the batches of all processes.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gfx.errors import InputError
from gfx.train.loop.synced_norms import synchronise

__all__ = ["Devices", "ManyDevices", "Precision", "devices"]

Precision = Literal["float32", "bf16"]


class Devices:
    """One device; `ManyDevices` has the same verbs.

    Example:
        >>> one = Devices("cpu")
        >>> one.rank, one.ranks, one.main
        (0, 1, True)
    """

    rank: int = 0
    ranks: int = 1

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)

    @property
    def main(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def autocast(self, precision: Precision) -> AbstractContextManager[Any]:
        """Returns the context that nets run in."""
        if precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Averages gradients over all processes."""

    def synchronise(self, net: nn.Module) -> tuple[str, ...]:
        """Lets the BatchNorms of a net see all processes; returns the paths that `restore` takes.

        One process sees all as it is: nothing is changed.
        """
        return ()

    def mean(self, values: dict[str, Tensor]) -> dict[str, float]:
        """Returns numbers averaged over all processes."""
        return {name: float(value) for name, value in values.items()}

    def any(self, flag: bool) -> bool:
        """Tells whether a flag is set in any process."""
        return flag

    def gather(self, value: Tensor) -> Tensor:
        """Returns the rows of all processes, in their order; each has as many."""
        return value

    def broadcast(self, value: Any) -> Any:
        """Returns what the main process gives, in every process."""
        return value

    def gather_objects(self, value: Any) -> list[Any]:
        """Returns what each process gives, in their order."""
        return [value]

    def wait(self) -> None:
        """Waits until every process is here."""

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Lets the main process go first, as where it writes what the others read."""
        if not self.main:
            self.wait()
        yield
        if self.main:
            self.wait()


class ManyDevices(Devices):
    """The processes of `accelerate launch`, by `torch.distributed`."""

    def __init__(self, accelerator: Any) -> None:
        super().__init__(accelerator.device)
        self.accelerator = accelerator
        self.rank, self.ranks = accelerator.process_index, accelerator.num_processes

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Averages gradients over all processes (rule 2)."""
        held = [p for p in parameters if p.grad is not None]
        by_dtype: dict[torch.dtype, list[nn.Parameter]] = {}
        for parameter in held:
            by_dtype.setdefault(parameter.dtype, []).append(parameter)
        for same in by_dtype.values():
            grads = [p.grad for p in same if p.grad is not None]
            flat = torch.cat([grad.reshape(-1) for grad in grads])
            torch.distributed.all_reduce(flat)
            flat /= self.ranks
            for grad, part in zip(
                grads, torch.split(flat, [g.numel() for g in grads]), strict=True
            ):
                grad.copy_(part.view_as(grad))

    def synchronise(self, net: nn.Module) -> tuple[str, ...]:
        """Lets the BatchNorms of a net see all processes (rule 3)."""
        return synchronise(net)

    def mean(self, values: dict[str, Tensor]) -> dict[str, float]:
        """Returns numbers averaged over all processes."""
        if not values:
            return {}
        flat = torch.stack([value.detach().double().reshape(()) for value in values.values()])
        torch.distributed.all_reduce(flat)
        return dict(zip(values, (flat / self.ranks).tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Tells whether a flag is set in any process."""
        held = torch.tensor([float(flag)], device=self.device)
        torch.distributed.all_reduce(held, torch.distributed.ReduceOp.MAX)
        return bool(held.item())

    def gather(self, value: Tensor) -> Tensor:
        """Returns the rows of all processes, in their order; each has as many."""
        held = [torch.empty_like(value) for _ in range(self.ranks)]
        torch.distributed.all_gather(held, value.contiguous())
        return torch.cat(held)

    def broadcast(self, value: Any) -> Any:
        """Returns what the main process gives, in every process."""
        held = [value]
        torch.distributed.broadcast_object_list(held, device=self.device)
        return held[0]

    def gather_objects(self, value: Any) -> list[Any]:
        """Returns what each process gives, in their order."""
        held: list[Any] = [None] * self.ranks
        torch.distributed.all_gather_object(held, value)
        return held

    def wait(self) -> None:
        """Waits until every process is here."""
        self.accelerator.wait_for_everyone()


def devices(device: str | None = None) -> Devices:
    """Returns the devices of this process: accelerate's, where it launched several (rule 1).

    Raises: InputError if a device is asked for that is not there.

    Example:
        >>> devices("cpu").device
        device(type='cpu')
    """
    if torch.distributed.is_available() and _launched():
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise InputError(
                "several processes were launched, and accelerate is not installed; install the "
                "extra: pip install 'gfx-compiler[train]'"
            ) from error
        return ManyDevices(Accelerator(cpu=device == "cpu"))
    if device is None:
        found = torch.accelerator.current_accelerator()
        return Devices("cpu" if found is None else found)
    try:
        torch.zeros(1, device=device)
    except Exception as error:  # of several kinds
        raise InputError(f"device {device!r} cannot be used: {str(error)[:200]}") from error
    return Devices(device)


def _launched() -> bool:
    """Whether a launcher started several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1
