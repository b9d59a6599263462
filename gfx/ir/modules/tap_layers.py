"""Marks places in a graph with identity layers: what is distilled, what is penalised."""

from typing import Literal

from torch import Tensor, fx, nn

from gfx.ir.modules.sparsity_ramp import check_choice

__all__ = ["Penalty", "Tap", "penalised"]


class Tap(nn.Module):
    """Returns its input: an activation to be distilled. Its name is the end of its path.

    Example:
        >>> import torch
        >>> Tap()(torch.ones(2))
        tensor([1., 1.])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Returns the input."""
        return x


class Penalty(nn.Module):
    """Returns its input; the weights of the layer that makes it are penalised in training.

    The term is strength · Σ|w|, over the scale of a norm (slimming) or the weights of a
    convolution (l1). With `proximal` the term is left out of the loss; w is shrunk towards zero
    after each step of the optimizer instead.

    Source: Liu et al. 2017, arXiv:1708.06519 (slimming); Li et al. 2017, arXiv:1608.08710 (l1);
    Wang et al. 2020, arXiv:2008.11062 (GAN Slimming, the proximal step).

    Example:
        >>> Penalty("slimming", strength=0.01)
        Penalty(slimming, strength=0.01)
    """

    def __init__(
        self,
        kind: Literal["slimming", "l1"] = "slimming",
        strength: float = 1e-4,
        proximal: bool = False,
    ) -> None:
        super().__init__()
        check_choice("kind", kind, ("slimming", "l1"))
        self.kind = kind
        self.strength = strength
        self.proximal = proximal

    def forward(self, x: Tensor) -> Tensor:
        """Returns the input."""
        return x

    def extra_repr(self) -> str:
        """Writes the settings."""
        return f"{self.kind}, strength={self.strength}{', proximal' if self.proximal else ''}"


def penalised(module: nn.Module, node: fx.Node) -> bool:
    """Whether a penalty names the weight of the layer that a node of a module's graph calls.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), Penalty("l1"))
        >>> graph = fx.Graph()
        >>> node = graph.call_module("0", (graph.placeholder("x"),))
        >>> _ = graph.call_module("1", (node,))
        >>> penalised(model, node)
        True
    """
    users = [user for user in node.users if user.op == "call_module"]
    marks = {user: module.get_submodule(str(user.target)) for user in users}
    return any(
        isinstance(mark, Penalty) or (isinstance(mark, Tap) and penalised(module, user))
        for user, mark in marks.items()
    )
