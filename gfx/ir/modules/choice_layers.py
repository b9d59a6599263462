"""Marks places in a graph where a subnet takes one of several values: forms, skipped blocks."""

from torch import Tensor, nn

__all__ = ["ChoiceLayer"]


class ChoiceLayer(nn.Module):
    """Returns the last of its inputs: what the largest subnet takes; others may take another.

    `name` is what the choice is called, `options` what its inputs stand for, in their order.

    Example:
        >>> import torch
        >>> ChoiceLayer("up.form", ("separable", "dense"))(torch.zeros(2), torch.ones(2))
        tensor([1., 1.])
    """

    def __init__(self, name: str, options: tuple[str, ...]) -> None:
        super().__init__()
        self.name = name
        self.options = options

    def forward(self, *inputs: Tensor) -> Tensor:
        """Returns the last input."""
        return inputs[-1]

    def extra_repr(self) -> str:
        """Writes the name and the options."""
        return f"{self.name}: {' | '.join(self.options)}"
