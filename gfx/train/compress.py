"""Runs a system on a model: `gfx.compress("gan-compression-distill", model, data="shoes")`.

1. The same call with the same run folder goes on where it stopped, bit for bit, or gives back what
   is finished.
2. The model is left unchanged; what it is to learn from is opened as a task.
3. Before the first step every stage is built and takes one step.
"""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from gfx.errors import InputError, check_range
from gfx.frontend.driver import traced
from gfx.io.archive import ModelPath, as_module
from gfx.ir.ambient_modes import in_neutral_modes
from gfx.ir.model_kinds import require_module
from gfx.ir.random_state import keep_random_state
from gfx.pipeline import apply
from gfx.progress import Progress, reported, stage
from gfx.train.loop.devices import devices as devices_of
from gfx.train.runs.critic_source import CriticSource
from gfx.train.runs.logbook import Row
from gfx.train.runs.preflight import Plan, preflight
from gfx.train.runs.run_folder import RunFolder
from gfx.train.runs.run_system import RunSettings, SystemRun
from gfx.train.systems.read_system import SystemSource, load_system
from gfx.train.tasks import Task, open_task

__all__ = ["CompressionRun", "compress"]


@dataclass(frozen=True)
class CompressionRun:
    """What a run has made.

    `model` is the smaller generator, with its report; None if the run stopped before its end, or
    was dry. `assumed` says what was not given.
    """

    folder: Path
    model: fx.GraphModule | None
    history: tuple[Row, ...]
    samples: tuple[Path, ...]
    scores: dict[str, dict[str, Any]]  # by stage and metric, on held-out examples
    plan: Plan
    assumed: tuple[str, ...]

    @property
    def finished(self) -> bool:
        """Whether all stages have ended."""
        return self.model is not None


@reported
@in_neutral_modes
def compress(
    recipe: SystemSource,
    model: nn.Module | ModelPath,
    *,
    data: Any,
    discriminator: nn.Module | ModelPath | None = None,
    task: str | None = None,
    run: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    scale: float = 1.0,
    size: int | None = None,
    crop: int | None = None,
    flip: bool = True,
    range: Any = None,
    metrics: Sequence[str] = (),
    device: str | None = None,
    log: Sequence[str] = (),
    time: float | None = None,
    checkpoint_seconds: float = 60.0,
    dry_run: bool = False,
    example_inputs: Any = None,
    progress: Progress = False,
) -> CompressionRun:
    """Runs a system, a recipe with stages, on a generator and its data.

    Args:
        recipe: a path, the name of a system that ships, a dict or a System.
        model: the generator, or what `gfx.open_model` opens.
        data: a folder, a tensor or Dataset of images, a pair of these, or a task of
            `gfx.train.tasks`.
        discriminator: a trained one, its file, or what builds one, as "zoo:patchgan"; None takes
            the one that suits the task.
        task: paired, unpaired, latent, super_resolution or self; None: by model and data.
        run: the folder of the run; None is a new one among the temporary files.
        seed: of data, weights and noise; None: the recipe's, else 0.
        scale: what all lengths are multiplied by, one step at least: 0.001 is a trial.
        size: what the shorter side of images is scaled to, in pixels.
        crop: what training images are cut to, in pixels.
        flip: whether training images are mirrored at random.
        range: what black and white of images become, such as (0, 1).
        metrics: what held-out images are judged by, the first decides.
        device: "cpu", "cuda"; None: the accelerator, if there is one.
        log: tensorboard, wandb, trackio, through accelerate.
        time: seconds after which the run stops, to be taken up again.
        checkpoint_seconds: between states that are written.
        dry_run: whether to build everything and train nothing.

    Raises: GfxError of the kind of what went wrong; what is finished stays in the folder.

    Example:
        >>> import gfx
        >>> pairs = torch.rand(8, 3, 32, 32), torch.rand(8, 3, 32, 32)
        >>> made = compress(
        ...     {"stages": {"slim": {"do": [{"channel_prune": {"ratio": 0.5}}],
        ...      "fit": {"discriminator": "none", "losses": {"l1": 1}, "steps": 2}}}},
        ...     gfx.zoo.build("unet_256", ngf=4, image_size=32), data=pairs)
        >>> made.finished, sorted(made.scores["slim"])
        (True, ['l1', 'psnr'])
    """
    system = load_system(recipe)
    check_range("scale", scale, above=0, at_most=1000)
    module = as_module(model)
    require_module(module)
    devices = devices_of(device)
    stage("tracing")
    begun = system.seed if seed is None else seed
    settings = RunSettings(
        seed=0 if begun is None else begun,
        scale=scale,
        metrics=tuple(metrics),
        checkpoint_seconds=checkpoint_seconds,
        seconds=time,
        log=tuple(log),
    )
    with ExitStack() as stack:
        stack.enter_context(keep_random_state([devices.device], python=True))
        program = traced(module, example_inputs, check=True)
        opened = open_task(
            data, program, task=task, size=size, crop=crop, flip=flip, range=range,
            seed=settings.seed,
        )
        given = apply({"passes": []}, module, example_inputs)
        critics = _critics(discriminator, opened)
        path = Path(tempfile.mkdtemp(prefix="gfx-run-")) if run is None else Path(run)
        folder = RunFolder(path)
        made = SystemRun(system, given, opened, critics, folder, devices, settings)
        made.said += opened.about
        if dry_run:
            plan = preflight(made)
            return CompressionRun(path, None, (), (), {}, plan, tuple(made.said))
        stack.enter_context(
            folder.opened(_asked(system.spec(), given, critics, opened, settings, crop, size, flip))
        )
        plan = preflight(made)
        made.run()
        small = None if made.stopped else _final(made)
    samples = tuple(sorted((path / "samples").glob("*.png")))
    return CompressionRun(
        path, small, tuple(made.book.rows), samples, made.scores, plan, tuple(made.said)
    )


def _critics(given: Any, task: Task) -> CriticSource:
    default = ""
    try:
        from gfx.train.feeding import Loader

        first = Loader(task, 1).at(0)
        default = task.default_discriminator(task.real(first), first)
    except InputError:  # a task without real images
        if given is not None:
            raise
    if given is None or isinstance(given, nn.Module):
        return CriticSource(given, default)
    if isinstance(given, str) and given.startswith("zoo:"):
        return CriticSource(given, default)
    return CriticSource(as_module(given), default)


def _asked(
    system: dict[str, Any],
    model: nn.Module,
    critics: CriticSource,
    task: Task,
    settings: RunSettings,
    crop: int | None,
    size: int | None,
    flip: bool,
) -> dict[str, Any]:
    """Returns all that decides the result, as plain data: recipe.yaml (rule 1)."""
    given = critics.given
    return {
        **system,
        "run": {
            "model": _fingerprint(model),
            "discriminator": _fingerprint(given) if isinstance(given, nn.Module) else given,
            "task": task.name,
            "examples": task.length,
            "held out": 0 if task.held_out is None else task.held_out.length,
            "crop": crop,
            "size": size,
            "flip": flip,
            "seed": settings.seed,
            "scale": settings.scale,
        },
    }


def _fingerprint(model: nn.Module) -> str:
    """Returns a hash of the names, shapes and values of a state."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, torch.Tensor):
            held = value.detach().cpu().contiguous()
            digest.update(f"{name} {held.dtype} {tuple(held.shape)}".encode())
            digest.update(held.reshape(-1).view(torch.uint8).numpy().tobytes() if held.numel() else b"")
    return f"{type(model).__name__} {digest.hexdigest()[:16]}"


def _final(made: SystemRun) -> fx.GraphModule:
    """Returns the student as it ships: masks and taps are taken out."""
    return apply("convert", made.nets.student)


