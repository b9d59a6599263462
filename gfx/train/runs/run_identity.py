"""Writes down what decides the result of a run: the same command is known by it again."""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gfx.io.plain_data import plain
from gfx.train.runs.critic_source import CriticSource
from gfx.train.systems import System
from gfx.train.tasks import Task

if TYPE_CHECKING:
    from gfx.train.runs.run_system import RunSettings

__all__ = ["fingerprint", "identity"]


def identity(
    system: System,
    model: str,
    critics: CriticSource,
    task: Task,
    settings: "RunSettings",
    how: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the system with every default and all that it runs on, as plain data: recipe.yaml.

    `model` is its fingerprint, `how` says how images are seen.
    """
    given = critics.given
    seen = {key: str(value) if hasattr(value, "__fspath__") else plain(value)
            for key, value in how.items()}  # fmt: skip
    return {
        **system.spec(),
        "run": {
            "model": model,
            "discriminator": fingerprint(given) if isinstance(given, nn.Module) else given,
            "task": task.name,
            "examples": task.length,
            "held out": 0 if task.held_out is None else task.held_out.length,
            **seen,
            "seed": settings.seed,
            "scale": settings.scale,
            "metrics": list(settings.metrics),
            **_networks(system),
            # what is judged the best depends on when it is judged
            **({"evaluate": settings.evaluate} if _judged(system) else {}),
        },
    }


def _networks(system: System) -> dict[str, Any]:
    """Names the networks that terms compare by."""
    found = {}
    for stage in system.stages:
        for term in () if stage.fit is None else stage.fit.all_losses:
            network = term.uses()
            if network is not None:
                found[f"{stage.name}: {term.name}"] = fingerprint(network)
    return {"networks": found} if found else {}


def _judged(system: System) -> bool:
    return any(stage.keep != "last" for stage in system.stages)


def fingerprint(model: nn.Module) -> str:
    """Returns the class of a model, and a hash of the names, shapes and values of its state.

    Example:
        >>> one, other = nn.Linear(2, 2), nn.Linear(2, 2)
        >>> fingerprint(one) == fingerprint(one), fingerprint(one) == fingerprint(other)
        (True, False)
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, torch.Tensor):
            held = value.detach().cpu().contiguous()
            digest.update(f"{name} {held.dtype} {tuple(held.shape)}".encode())
            if held.numel():
                digest.update(held.reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"{type(model).__name__} {digest.hexdigest()[:16]}"
