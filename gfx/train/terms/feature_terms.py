"""Terms that compare a student's features with its teachers', tap by tap."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from gfx.compression.taps.adapter_layers import Adapters, adapters_between
from gfx.errors import RecipeError, check_range
from gfx.train.losses import (
    AttentionLoss,
    ChannelLoss,
    ContentLoss,
    FeatureLoss,
    FSPLoss,
    KernelAlignmentLoss,
    TapLoss,
    TextureLoss,
)
from gfx.train.terms.term import Need, Objective, StepValues, Term, TermSetting

__all__ = [
    "AttentionTransfer",
    "ChannelMeans",
    "Content",
    "Flows",
    "KernelAlignment",
    "Taps",
    "Texture",
]

Begin = Literal["fit", "random"]
Kind = Callable[..., TapLoss]

_TAPS: frozenset[Need] = frozenset({"teacher", "taps"})


@dataclass(frozen=True)
class _OfTaps(Term):
    """A term between taps; adapters map the student's widths to the teacher's."""

    needs: ClassVar[frozenset[Need]] = _TAPS

    taps: dict[str, float] = field(default_factory=dict)  # weights by tap; 1 for all others
    # how adapters begin: by least squares on the first batch, or as torch draws them
    init: Begin = "fit"
    bias: bool = True  # of the adapters

    def __post_init__(self) -> None:
        super().__post_init__()
        for tap, weight in self.taps.items():
            check_range(f"{self.name}: taps: {tap}", weight, at_least=0, below=float("inf"))

    def build(self, setting: TermSetting) -> Objective:
        """Builds the loss, with adapters for each teacher."""
        losses = []
        for number, shown in enumerate(setting.shown):
            seed, elastic = setting.seed + number, setting.elastic
            made = adapters_between(setting.seen, shown, bias=self.bias, seed=seed, elastic=elastic)
            if self.init == "fit":
                made.fit(setting.seen, dict(shown))
            losses.append(self.loss(made))
        return _TapObjective(losses)

    def loss(self, adapters: Adapters) -> TapLoss:
        """Makes the loss to one teacher."""
        raise NotImplementedError


class _TapObjective(Objective):
    """Sums the losses to all teachers."""

    def __init__(self, losses: Sequence[nn.Module]) -> None:
        super().__init__()
        self.losses = nn.ModuleList(losses)

    def generator(self, values: StepValues) -> Tensor | None:
        pairs = zip(self.losses, values.teachers, strict=True)
        found = [loss(values.features, teacher.features) for loss, teacher in pairs]
        return torch.stack(found).sum() if found else None


@dataclass(frozen=True)
class Taps(_OfTaps):
    """The mean squared error between features.

    Source: Li et al. 2020, arXiv:2003.08936 (GAN Compression), equation 3.
    """

    name: ClassVar[str] = "taps"

    def loss(self, adapters: Adapters) -> TapLoss:
        """Makes the loss to one teacher."""
        return FeatureLoss(adapters, self.taps, name=self.name)


@dataclass(frozen=True)
class Content(_OfTaps):
    """The root of the mean squared error between features.

    Source: Li et al. 2021, arXiv:2110.14439 (GCC), its code.
    """

    name: ClassVar[str] = "content"

    def loss(self, adapters: Adapters) -> TapLoss:
        """Makes the loss to one teacher."""
        return ContentLoss(adapters, self.taps, name=self.name)


@dataclass(frozen=True)
class Texture(_OfTaps):
    """The distance between the Gram matrices of features.

    Source: Li et al. 2021, arXiv:2110.14439 (GCC), appendix, equation 1.
    """

    name: ClassVar[str] = "texture"

    scale: Literal["paper", "code"] = "code"

    def loss(self, adapters: Adapters) -> TapLoss:
        """Makes the loss to one teacher."""
        return TextureLoss(adapters, self.taps, scale=self.scale, name=self.name)


@dataclass(frozen=True)
class AttentionTransfer(_OfTaps):
    """The squared distance between maps of where features are active; without adapters.

    Source: PPCD-GAN 2022, reconstructed.
    """

    name: ClassVar[str] = "attention"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.taps:
            raise RecipeError("attention: every tap counts as much; leave its field taps out")

    def build(self, setting: TermSetting) -> Objective:
        """Builds the loss to each teacher."""
        return _TapObjective([AttentionLoss(name=self.name) for _ in setting.shown])


@dataclass(frozen=True)
class ChannelMeans(_OfTaps):
    """The squared distance between the means of each channel.

    Source: Ren et al. 2021, arXiv:2108.06908 (OMGD).
    """

    name: ClassVar[str] = "channel_means"

    def loss(self, adapters: Adapters) -> TapLoss:
        """Makes the loss to one teacher."""
        return ChannelLoss(adapters, self.taps, name=self.name)


@dataclass(frozen=True)
class Flows(_OfTaps):
    """The distance between the flows of pairs of taps.

    Source: Yim et al. 2017, CVPR.
    """

    name: ClassVar[str] = "flows"

    def loss(self, adapters: Adapters) -> TapLoss:
        """Makes the loss to one teacher."""
        return FSPLoss(adapters, self.taps, name=self.name)


@dataclass(frozen=True)
class KernelAlignment(_OfTaps):
    """Minus the alignment of which images of a batch are alike; without adapters.

    Source: Jin et al. 2021, arXiv:2103.03467 (CAT).
    """

    name: ClassVar[str] = "kernel_alignment"

    def build(self, setting: TermSetting) -> Objective:
        """Builds the loss to each teacher."""
        return _TapObjective(
            [KernelAlignmentLoss(weights=self.taps, name=self.name) for _ in setting.shown]
        )
