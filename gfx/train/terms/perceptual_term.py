"""The term that compares images by the features of a network that was trained to see."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfx.errors import InputError, check_range
from gfx.metrics import feature_network
from gfx.train.terms.term import Need, Objective, StepValues, Term, TermSetting

__all__ = ["Perceptual"]


@dataclass(frozen=True)
class Perceptual(Term):
    """The mean absolute error between a network's features of the image and of what it should be.

    L = Σ w_i E |φ_i(G(x)) - φ_i(y)|    y: the ground truth where there is one, else the teacher's

    φ is frozen. `net` names it: `efficientnet_lite0` (extra `fd`), whose features are the maps
    before each halving, or `module:factory`, your own module of images in [-1, 1], as VGG19 with
    your weights, which returns a map or a list of maps.

    Source: Wang et al. 2018, arXiv:1711.11585 (pix2pixHD), the perceptual loss of its code; Park et
    al. 2019, arXiv:1903.07291 (SPADE): VGG19 with `layers` of 1/32, 1/16, 1/8, 1/4 and 1.
    """

    name: ClassVar[str] = "perceptual"
    word: ClassVar[str] = "net"
    needs: ClassVar[frozenset[Need]] = frozenset({"target or teacher"})

    net: str = "efficientnet_lite0"
    layers: tuple[float, ...] = ()  # weights of the maps, in their order; (): 1 for each

    def __post_init__(self) -> None:
        super().__post_init__()
        for weight in self.layers:
            check_range(f"{self.name}: layers", weight, at_least=0, below=float("inf"))

    def build(self, setting: TermSetting) -> Objective:
        """Builds the loss."""
        return _Perceptual(feature_network(self.net), self)

    def uses(self) -> nn.Module:
        """Returns the network, whose weights decide what a run learns."""
        return feature_network(self.net)


class _Perceptual(Objective):
    def __init__(self, net: nn.Module, term: Perceptual) -> None:
        super().__init__()
        # not registered: it does not learn, and is in no checkpoint
        self._net = (net.eval().requires_grad_(False),)
        self.term = term

    def generator(self, values: StepValues) -> Tensor | None:
        target = values.target
        aim = values.target_else(values.teachers[0].image) if target is None else target
        with torch.no_grad():
            wanted = self._maps(aim)
        found = self._maps(values.image)
        weights = self.term.layers or (1.0,) * len(found)
        if len(weights) != len(found):
            raise InputError(
                f"perceptual: layers has {len(weights)} weights and {self.term.net} returns "
                f"{len(found)} maps; give one for each"
            )
        pairs = zip(weights, found, wanted, strict=True)
        return torch.stack([weight * F.l1_loss(a, b) for weight, a, b in pairs]).sum()

    def _maps(self, images: Tensor) -> list[Tensor]:
        """Returns the features of images in [-1, 1], as a list of maps in single precision."""
        net = self._net[0].to(images.device)
        with torch.autocast(images.device.type, enabled=False):
            made = net(images.float())
        listed = list(made) if isinstance(made, Sequence) else [made]
        if not listed or not all(isinstance(each, Tensor) for each in listed):
            raise InputError(
                f"perceptual: {self.term.net} returns {type(made).__name__}; a module is needed "
                "that returns a tensor, or a list of tensors"
            )
        return listed
