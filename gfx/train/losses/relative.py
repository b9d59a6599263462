"""Compares losses of a compressed generator with the original's, by the original discriminator."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from gfx.errors import InputError
from gfx.train.losses.base import Loss
from gfx.train.losses.checks import near, numbers, same_device, size, wide

__all__ = ["RelativeLoss", "SelfSupervisedLoss", "Terms"]

Terms = Tensor | Mapping[str, Tensor]
Named = dict[str, Tensor]


class RelativeLoss(Loss):
    """Compares terms of a compressed generator with the original's, relative to those.

    Σ_k w_k |l_k^O - l_k^C| / |l_k^O|

    Where |l_k^O| is below `eps` there is nothing to be relative to: the term is w_k |l_k^O - l_k^C|
    there, so that an original loss of 0 gives no inf.

    `weights` has the w_k by name; terms without one have 1. The l_k^O get no gradient.

    Shapes: each term is one number; `compressed` and `original` are tensors, or dicts of terms with
    the same names.
    Raises: InputError if names differ, a term is no single number, or something is not finite.

    Source: Yu and Pool 2020, Self-Supervised Generative Adversarial Compression (NeurIPS),
    arXiv:2007.01491, L_GC.

    Example:
        >>> loss = RelativeLoss({"rec": 10.0})
        >>> compressed = {"gen": torch.tensor(3.0), "rec": torch.tensor(0.5)}
        >>> original = {"gen": torch.tensor(2.0), "rec": torch.tensor(0.4)}
        >>> round(float(loss(compressed, original)), 4)  # 1 / 2 + 10 · 0.1 / 0.4
        3.0
    """

    def __init__(
        self,
        weights: Mapping[str, float] | None = None,
        eps: float = 1e-6,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.weights = numbers(self.name, "the weight of", weights or {})
        self.eps = numbers(self.name, "the setting", {"eps": eps})["eps"]

    def forward(self, compressed: Terms, original: Terms) -> Tensor:
        """Returns the sum over the terms.

        Raises: InputError if names differ, a term is no single number, or is not finite.
        """
        ours, theirs = _pair(self.name, compressed, original, self.weights)
        return self.sound(_sum(ours, theirs, self.weights, self.eps), _labels(ours, theirs))

    def extra_repr(self) -> str:
        """Writes the settings."""
        return f"weights={self.weights}, eps={self.eps:g}"


class SelfSupervisedLoss(Loss):
    """Trains a compressed generator to be judged as the original is, by the original discriminator.

    L = L_GC + λ L_DC
    L_GC = Σ_k w_k |l_k^O - l_k^C| / |l_k^O|
    L_DC = |Dis^O - Dis^C| / |Dis^O| + δ |GP^O - GP^C| / |GP^O|

    l_k are the task's own terms of the generator; Dis the loss of the discriminator and GP its
    gradient penalty, if it has one. O is for the images of the original generator, C for those of
    the compressed, and both are judged by the original, trained discriminator.

    Shapes: each term is one number. `generator` terms are dicts by name or one tensor; those of the
    `discriminator` too: a term named "gp" has the weight δ, `penalty`.
    Raises: InputError if names differ, a term is no single number, or something is not finite.

    Source: Yu and Pool 2020, Self-Supervised Generative Adversarial Compression (NeurIPS),
    arXiv:2007.01491; λ is 0.5 throughout. An original term of 0 is compared absolutely, as by
    `RelativeLoss`.

    Example:
        >>> two, three = torch.tensor(2.0), torch.tensor(3.0)
        >>> loss = SelfSupervisedLoss()
        >>> float(loss(compressed=three, original=two))  # L_GC alone
        0.5
        >>> float(loss(three, two, discriminator_compressed=three, discriminator_original=two))
        0.75
    """

    def __init__(
        self,
        weights: Mapping[str, float] | None = None,
        lam: float = 0.5,
        penalty: float = 1.0,
        eps: float = 1e-6,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.weights = numbers(self.name, "the weight of", weights or {})
        settings = {"lam": lam, "penalty": penalty, "eps": eps}
        self.lam, self.penalty, self.eps = numbers(self.name, "the setting", settings).values()

    def forward(
        self,
        compressed: Terms,
        original: Terms,
        discriminator_compressed: Terms | None = None,
        discriminator_original: Terms | None = None,
    ) -> Tensor:
        """Returns L_GC + λ L_DC; L_GC alone if nothing of the discriminator is given.

        Raises: InputError if names differ, a term is no single number, or is not finite.
        """
        ours, theirs = _pair(self.name, compressed, original, self.weights)
        value = _sum(ours, theirs, self.weights, self.eps)
        given = _labels(ours, theirs)
        if discriminator_compressed is not None and discriminator_original is not None:
            pair = _pair(self.name, discriminator_compressed, discriminator_original)
            value = value + self.lam * _sum(*pair, {"gp": self.penalty}, self.eps)
            given |= _labels(*pair, "discriminator loss")
        elif discriminator_compressed is not None or discriminator_original is not None:
            lacking = "compressed" if discriminator_compressed is None else "original"
            raise InputError(f"{self.name}: discriminator_{lacking} is missing; give both or none")
        return self.sound(value, given)

    def extra_repr(self) -> str:
        """Writes the settings."""
        return f"lam={self.lam}, penalty={self.penalty}"


def _pair(
    loss: str, compressed: Terms, original: Terms, weights: Iterable[str] = ()
) -> tuple[Named, Named]:
    """Returns the terms of both by name, the original's detached."""
    ours, theirs = _terms(loss, "compressed", compressed), _terms(loss, "original", original)
    for one, other, whose in ((ours, theirs, "original"), (theirs, ours, "compressed")):
        for key in one:
            if key not in other:
                known = near(key, other)
                raise InputError(f"{loss}: the {whose} generator has no term {key!r}{known}")
    for key in weights:
        if key not in ours:
            raise InputError(f"{loss}: weights has {key!r}, no term{near(key, ours)}")
    for key in ours:
        same_device(loss, key or "loss", ours[key], theirs[key])
    return ours, {key: value.detach() for key, value in theirs.items()}


def _terms(loss: str, whose: str, terms: Terms) -> Named:
    named = {"": terms} if isinstance(terms, Tensor) else dict(terms)
    if not named:
        raise InputError(f"{loss}: the {whose} generator has no terms")
    for key, value in named.items():
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.is_floating_point():
            given = size(value) if isinstance(value, Tensor) else type(value).__name__
            raise InputError(
                f"{loss}: the {whose} generator's {key or 'loss'} is {given}; give one floating "
                "number as a tensor, such as the mean over the batch"
            )
    return {key: wide(value).reshape(()) for key, value in named.items()}


def _sum(compressed: Named, original: Named, weights: Mapping[str, float], eps: float) -> Tensor:
    """Returns Σ w |l^O - l^C| / |l^O|."""
    found = []
    for key, ours in compressed.items():
        scale = original[key].abs()
        scale = torch.where(scale < eps, torch.ones_like(scale), scale)
        found.append(weights.get(key, 1.0) * (original[key] - ours).abs() / scale)
    return torch.stack(found).sum()


def _labels(compressed: Named, original: Named, what: str = "loss") -> Named:
    """Names the terms as errors do."""
    given = {f"the compressed generator's {k or what}": v for k, v in compressed.items()}
    return given | {f"the original's {k or what}": v for k, v in original.items()}
