"""Writes the state of a schedule, and compares it when training resumes."""

from collections.abc import Mapping, Sequence
from typing import Any

from gfx.errors import InputError
from gfx.ir.modules import ChannelMask, LearnedMask
from gfx.train.schedule.find_masks import Masked, Penalised

__all__ = ["check_same", "described"]


def described(masks: Sequence[Masked], penalised: Sequence[Penalised]) -> dict[str, Any]:
    """Lists the settings of each mask and penalty by its name, as plain data."""
    found: dict[str, Any] = {}
    for mask in masks:
        module = mask.module
        channels = isinstance(module, ChannelMask)
        found[mask.name] = {
            "kind": module.kind if channels else "agp",
            "granularity": module.granularity if channels else "element",
            "scope": module.scope,
            "entries": module.mask.numel(),
            **module.ramp._asdict(),
        }
        if not channels:
            found[mask.name]["pattern"] = module.pattern
        if isinstance(module, LearnedMask):
            found[mask.name]["strength"] = module.strength
    for each in penalised:
        penalty = each.penalty
        found[each.name] = {
            "kind": penalty.kind,
            "strength": penalty.strength,
            "proximal": penalty.proximal,
        }
    return found


def check_same(state: Any, settings: Mapping[str, Any]) -> None:
    """Raises InputError if a state was not written by a schedule of these settings."""
    if not isinstance(state, Mapping) or not isinstance(state.get("steps"), int):
        raise InputError(
            "load_state_dict: this is not the state of a schedule; give what its state_dict() "
            "returned"
        )
    theirs = state.get("settings", {})
    for name in [*settings, *theirs]:
        if name not in theirs or name not in settings:
            where = "this model and not the state" if name in settings else "the state and not here"
            raise _other(f"{name} is in {where}")
        for key, value in settings[name].items():
            stored = theirs[name].get(key)
            if stored != value:
                raise _other(f"{name} has {key}={value} here and {key}={stored} in the state")


def _other(what: str) -> InputError:
    return InputError(
        f"load_state_dict: the state is of another schedule: {what}; load it for the model that it "
        "was saved with, masked by the same recipe"
    )
