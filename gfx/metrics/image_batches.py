"""Takes images from a tensor or batches, checks them, and cuts them into batches of one size."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from gfx.errors import InputError

__all__ = ["Images", "batched"]

Images = Tensor | Iterable[Tensor]  # (N, C, H, W) in [-1, 1], or batches of such


def batched(images: Images, size: int, who: str) -> Iterator[Tensor]:
    """Yields batches of `size` images, the last of what is left, on the CPU.

    Raises: InputError if something is no floating image tensor, is not finite, or is out of
        [-1, 1] by more than rounding, or the images differ in shape.

    Example:
        >>> [len(batch) for batch in batched([torch.zeros(3, 1, 2, 2)] * 2, 4, "fakes")]
        [4, 2]
    """
    held: list[Tensor] = []
    shape: torch.Size | None = None
    for batch in [images] if isinstance(images, Tensor) else images:
        shape = _check(batch, shape, who)
        # at once: a tensor of many images is cut, and not copied
        for part in batch.detach().split(size):
            held.append(part.cpu())
            if sum(map(len, held)) >= size:
                joined = torch.cat(held)
                yield joined[:size]
                held = [joined[size:]] if len(joined) > size else []
    if held:
        yield torch.cat(held)


def _check(batch: object, shape: torch.Size | None, who: str) -> torch.Size:
    if not isinstance(batch, Tensor) or not batch.is_floating_point() or batch.ndim != 4:
        got = f"{batch.dtype} {tuple(batch.shape)}" if isinstance(batch, Tensor) else type(batch)
        raise InputError(f"the {who} are {got}; give floating images (N, C, H, W) in [-1, 1]")
    if shape is not None and batch.shape[1:] != shape:
        raise InputError(
            f"the {who} are of several shapes: {'x'.join(map(str, shape))} and "
            f"{'x'.join(map(str, batch.shape[1:]))}; make them of one"
        )
    if batch.numel() and not batch.isfinite().all():
        raise InputError(f"the {who} hold values that are not finite")
    if batch.numel() and batch.abs().max() > 1.01:
        low, high = batch.min().item(), batch.max().item()
        raise InputError(
            f"the {who} have values from {low:.3g} to {high:.3g}; give images in [-1, 1]"
        )
    return batch.shape[1:]
