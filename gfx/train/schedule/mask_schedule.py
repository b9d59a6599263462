"""Steps the masks and penalties of a model in the user's own training loop.

    schedule = gfx.schedule(model, optimizer)
    for batch in data:
        loss = criterion(model(batch)) + schedule.loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if not schedule.done:
            schedule.step()

1. Step t is the t-th call of `step`, after the t-th update; changes due at step 0 are made at the
   first. Scores use the stored weights, not the masked ones, so that masked entries may come back.
2. Masks are written in place only. The model's state and `state_dict` together are enough to
   resume.
"""

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from gfx.errors import InputError
from gfx.ir.ambient_modes import shielded
from gfx.ir.model_kinds import require_module
from gfx.ir.modules import ChannelMask, LearnedMask, Ramp
from gfx.train.schedule.choose_entries import chosen, chosen_together
from gfx.train.schedule.find_masks import Masked, kind_of, masked_in, penalised_in
from gfx.train.schedule.penalties import penalty_term, shrink
from gfx.train.schedule.rank_entries import Ranks
from gfx.train.schedule.schedule_state import check_same, described

__all__ = ["Schedule", "schedule"]

_THRESHOLDED = ("slimming", "l1")


def schedule(model: nn.Module, optimizer: Any = None) -> "Schedule":
    """Returns the schedule of the masks and penalties that the pass `mask` put into a model.

    The model may be wrapped (DistributedDataParallel, torch.compile), or hold masked programs as
    parts. It is left unchanged. The optimizer is needed for proximal penalties only.

    Raises: InputError if there is nothing to schedule, or a proximal penalty has no optimizer.

    Example:
        >>> import gfx
        >>> recipe = {"passes": [{"mask": {"sparsity": 0.75, "end": 4, "every": 2}}]}
        >>> model = gfx.apply(recipe, nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 3, 3)))
        >>> schedule = gfx.schedule(model)
        >>> while not schedule.done:
        ...     schedule.step()
        >>> schedule.sparsity()
        0.75
    """
    return Schedule(model, optimizer)


def _check_optimizer(model: nn.Module, optimizer: Any) -> None:
    """Checks that an optimizer, if one is given, trains something of the model.

    Raises: InputError if it does not.
    """
    if optimizer is None:
        return
    groups = getattr(optimizer, "param_groups", None)
    if not isinstance(groups, list):
        raise InputError(
            f"the optimizer is a {type(optimizer).__name__}, not a torch.optim.Optimizer; give the "
            "one that trains the model, gfx.schedule(model, optimizer)"
        )
    trained = [parameter for group in groups for parameter in group["params"]]
    own = {id(parameter) for parameter in model.parameters()}
    if not any(id(parameter) in own for parameter in trained):
        raise InputError(
            f"the optimizer ({type(optimizer).__name__}, {len(trained)} parameters) trains none of "
            f"the {len(own)} parameters of this {type(model).__name__}; make it of the parameters "
            "of the masked model, after gfx.apply"
        )


@shielded
class Schedule:
    """Holds the masks and penalties of a model, and the step that training is at.

    Example: see `gfx.schedule`.
    """

    def __init__(self, model: nn.Module, optimizer: Any = None) -> None:
        require_module(model)
        self._masks = list(masked_in(model))
        self._penalised = list(penalised_in(model))
        if not self._masks and not self._penalised:
            raise InputError(
                f"{type(model).__name__} holds no masks and no penalties; put some in first, as "
                'with gfx.apply({"passes": ["mask"]}, model), and train what it returns'
            )
        self._optimizer = optimizer
        self._steps = 0
        self._ranks = Ranks(self._masks, self._penalised)
        self._ramps = {m.module.ramp for m in self._masks if kind_of(m) not in _THRESHOLDED}
        self._proximal = [p for p in self._penalised if p.penalty.proximal]
        shrink(self._proximal, optimizer, dry=True)
        _check_optimizer(model, optimizer)

    @torch.no_grad()
    def step(self) -> None:
        """Counts a step, after the optimizer's, and sets the masks that are due.

        With proximal penalties the weights are shrunk by strength times the learning rate.

        Raises: InputError past the end, and where weights are not finite.
        """
        if self.done:
            raise InputError(
                f"a schedule stepped past its end: its ramps end at step {self._end}, and this is "
                f"step {self._steps + 1}; call step() while schedule.done is False, or give the "
                "mask pass a later end"
            )
        self._steps += 1
        shrink(self._proximal, self._optimizer)
        for ramp in self._ramps:
            moment = self._due(ramp)
            if moment is not None:
                self._set(ramp, ramp.at(moment))

    def loss(self) -> Tensor:
        """Returns the penalty to add to the loss, 0 where there is none.

        ppcd: strength · Σ over masks of mean |m| (reconstructed); slimming and l1: strength · Σ|w|
        over the penalised weights, but for proximal ones.

        Shapes: 0-dimensional, in float32 or wider.
        """
        terms = [
            penalty_term(m.module.m, m.module.strength, mean=True)
            for m in self._masks
            if isinstance(m.module, LearnedMask)
        ]
        terms += [
            penalty_term(p.weight.value, p.penalty.strength)
            for p in self._penalised
            if not p.penalty.proximal
        ]
        device = self._device()
        total = torch.zeros((), device=device)
        for term in terms:
            total = total + term.to(device)
        return total

    @torch.no_grad()
    def binarize(self, alpha: float | None = None) -> None:
        """Sets entries below a threshold to zero; the largest of each mask stay.

        ppcd: m below α, the pass's `alpha` by default. slimming: channels all of whose |γ| are
        below α; l1: channels all of whose filters have a mean |w| below α; by default those that
        are exactly 0, which proximal steps make.

        Raises: InputError if there is nothing to binarize, or alpha is no threshold.
        """
        if alpha is not None and not 0 <= alpha < float("inf"):
            raise InputError(f"binarize: alpha={alpha} is no threshold; give a number, 0 or above")
        kinds = {kind_of(mask) for mask in self._masks}
        if not kinds & {"ppcd", *_THRESHOLDED}:
            raise InputError(
                "binarize: these masks are of kind agp: they are binary, and follow their "
                "schedule; it is for the kinds ppcd, slimming and l1"
            )
        for mask in self._masks:
            module = mask.module
            if isinstance(module, LearnedMask):
                module.binarize(module.ramp.final if alpha is None else alpha)
            elif isinstance(module, ChannelMask) and module.kind in _THRESHOLDED:
                worth = self._ranks.worth(mask)
                keep = worth > 0 if alpha is None else worth >= alpha
                module.mask.copy_(module.keep_best(keep, worth))

    def sparsity(self) -> float:
        """Returns the share of all entries of masks that are 0."""
        entries = sum(mask.module.mask.numel() for mask in self._masks)
        return sum(_zeros(mask) for mask in self._masks) / entries if entries else 0.0

    def sparsities(self) -> dict[str, float]:
        """Returns the share of entries that are 0, by mask."""
        return {m.name: _zeros(m) / m.module.mask.numel() for m in self._masks}

    def target(self) -> float:
        """Returns s_t, of ppcd the threshold, at this step; the mean over entries of several."""
        followed = [m.module for m in self._masks if kind_of(m) not in _THRESHOLDED]
        levels = [(module.ramp.at(self._steps), module.mask.numel()) for module in followed]
        if len({level for level, _ in levels}) < 2:
            return levels[0][0] if levels else 0.0
        return sum(level * n for level, n in levels) / sum(n for _, n in levels)

    @property
    def thresholded(self) -> bool:
        """Whether masks are to be cut off at a threshold in the end (`binarize`)."""
        return any(kind_of(mask) in ("ppcd", *_THRESHOLDED) for mask in self._masks)

    @property
    def steps(self) -> int:
        """The number of steps taken."""
        return self._steps

    @property
    def done(self) -> bool:
        """Whether every ramp has ended; never where there are penalties, which have no end."""
        return not self._penalised and self._steps >= self._end

    def state_dict(self) -> dict[str, Any]:
        """Returns the step, and the settings that `load_state_dict` compares: plain data."""
        return {"steps": self._steps, "settings": described(self._masks, self._penalised)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resumes from a step; the masks themselves are in the state of the model.

        Raises: InputError if the state is of another schedule; it says what differs.
        """
        check_same(state, described(self._masks, self._penalised))
        self._steps = state["steps"]

    def __repr__(self) -> str:
        penalties = f", {len(self._penalised)} penalties" if self._penalised else ""
        end = "" if self._penalised else f" of {self._end}"
        return f"Schedule({len(self._masks)} masks{penalties}, step {self._steps}{end})"

    @property
    def _end(self) -> int:
        return max((1, *(ramp.end for ramp in self._ramps)))

    def _due(self, ramp: Ramp) -> int | None:
        """Returns the step at which to evaluate a ramp now, if it is due (rule 1)."""
        if ramp.due(self._steps):
            return self._steps
        return 0 if self._steps == 1 and ramp.due(0) else None

    def _set(self, ramp: Ramp, level: float) -> None:
        """Sets the masks of a ramp to a sparsity, or binarizes them at a threshold."""
        together: list[Masked] = []
        for mask in self._masks:
            module = mask.module
            if module.ramp != ramp or kind_of(mask) in _THRESHOLDED:
                continue
            if isinstance(module, LearnedMask):
                module.binarize(level)
            elif module.scope == "global":
                together.append(mask)
            else:
                scores = self._ranks.scores(mask, self._steps)
                module.mask.copy_(chosen(scores, level, _least(mask)))
        together.sort(key=_pass_of)
        for _, same in groupby(together, _pass_of):
            masks = list(same)
            scored = [self._ranks.scores(m, self._steps) for m in masks]
            keeps = chosen_together(scored, level, [_least(m) for m in masks])
            for mask, keep in zip(masks, keeps, strict=True):
                mask.module.mask.copy_(keep)

    def _device(self) -> torch.device:
        held = [m.module.mask for m in self._masks] or [p.weight.value for p in self._penalised]
        return held[0].device


def _least(mask: Masked) -> int:
    """Returns how many entries of a mask stay; of weights it is one."""
    return getattr(mask.module, "least", 1)


def _zeros(mask: Masked) -> int:
    return mask.module.mask.numel() - int(mask.module.kept.sum())


def _pass_of(mask: Masked) -> tuple[int, str]:
    """Identifies the masks that share a threshold: those of one pass on one program."""
    channels = isinstance(mask.module, ChannelMask)
    return id(mask.home), getattr(mask.module, "granularity", "") if channels else "element"
