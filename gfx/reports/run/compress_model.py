"""Runs a system on a model: `gfx.compress("gan-compression-distill", model, data="shoes")`.

1. The same call with the same run folder goes on where it stopped, bit for bit, or gives back what
   is finished.
2. The model is left unchanged; what it is to learn from is opened as a task.
3. Before the first step every stage is built and takes one step.
"""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import fx, nn

from gfx.errors import ArchiveError, GfxError, InputError, check_range, require_seed
from gfx.io.archive import ModelPath, as_module
from gfx.io.atomic_writes import write_files
from gfx.io.guards import printable, reading_file
from gfx.io.plain_data import coerce
from gfx.io.regular_files import read_regular
from gfx.ir.ambient_modes import in_neutral_modes
from gfx.ir.model_kinds import require_module
from gfx.ir.random_state import keep_random_state
from gfx.pipeline import apply
from gfx.progress import Progress, reported
from gfx.reports.front.front_page import write_front_page
from gfx.reports.run.run_page import write_run_page
from gfx.train.loop.devices import devices as devices_of
from gfx.train.runs.given_players import given_players
from gfx.train.runs.logbook import Row
from gfx.train.runs.opened_run import open_run
from gfx.train.runs.preflight import RunPlan, preflight
from gfx.train.runs.run_all_stages import run_all_stages
from gfx.train.runs.run_folder import RunFolder
from gfx.train.runs.run_identity import fingerprint, identity
from gfx.train.runs.run_report import attach_run_report
from gfx.train.runs.run_system import RunSettings, SystemRun
from gfx.train.runs.shared_search import check_shared_search, note_shared_search
from gfx.train.runs.trackers import check_trackers
from gfx.train.systems.fit_fields import GIVEN
from gfx.train.systems.read_system import SystemSource, load_system
from gfx.train.tasks.held_out import keep_for_search

__all__ = ["CompressionRun", "compress"]


@dataclass(frozen=True)
class CompressionRun:
    """What a run has made.

    `model` is the smaller generator, with its report; None if the run stopped before its end, or
    was dry. `scores` holds those of the stages, and of the model as it was `given`, on the same
    examples. `assumed` says what was not given.
    """

    folder: Path
    model: fx.GraphModule | None
    history: tuple[Row, ...]
    samples: tuple[Path, ...]
    scores: dict[str, dict[str, Any]]  # by stage ("given": the model) and metric, held out
    plan: RunPlan
    assumed: tuple[str, ...]

    @property
    def finished(self) -> bool:
        """Whether all stages have ended."""
        return self.model is not None

    def to_dict(self) -> dict[str, Any]:
        """Returns all but the model and the history as plain data."""
        return {
            "folder": str(self.folder),
            "finished": self.finished,
            "assumed": list(self.assumed),
            "plan": self.plan.spec(),
            "scores": self.scores,
            "samples": [str(path) for path in self.samples],
        }


@reported
@in_neutral_modes
def compress(
    recipe: SystemSource,
    model: nn.Module | ModelPath,
    *,
    data: Any = None,
    preset: str | None = None,
    budget: Mapping[str, Any] | None = None,
    discriminator: nn.Module | ModelPath | None = None,
    players: Mapping[str, nn.Module | ModelPath] | None = None,
    task: str | None = None,
    run: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    scale: float = 1.0,
    size: int | tuple[int, int] | None = None,
    crop: int | tuple[int, int] | None = None,
    flip: bool = True,
    range: Any = None,
    val: float | str | os.PathLike[str] | None = None,
    labels: float | None = None,
    attributes: Sequence[str] | None = None,
    call: Any = None,
    batch: int | None = None,
    metrics: Sequence[str] = (),
    fid_weights: str | os.PathLike[str] | None = None,
    evaluate: int | None = None,
    device: str | None = None,
    log: Sequence[str] = (),
    time: float | None = None,
    checkpoint_seconds: float = 60.0,
    storage: str | None = None,
    dry_run: bool = False,
    example_inputs: Any = None,
    progress: Progress = False,
) -> CompressionRun:
    """Runs a system, a recipe with stages, on a generator and its data.

    Args:
        recipe: a path, the name of a system that ships, a dict or a System.
        model: the generator, or what `gfx.open_model` opens.
        data: a folder, a tensor or Dataset of images, a pair of these, or a task of
            `gfx.train.tasks`; None draws the latents of a generator that takes some.
        preset: a name under `presets:` of the recipe, as of a published data set.
        budget: what the result may cost, as {"macs": 0.3}, in place of that of the recipe's search
            or passes; None: as the recipe says.
        discriminator: a trained one, its file, or what builds one, as "zoo:patchgan"; None takes
            the one that suits the task.
        players: trained ones that lead back, by name, and their discriminators, as
            {"back": ..., "back.discriminator": ...}; taken where the recipe says `inherit`.
        task: paired, unpaired, latent, class, labels, super_resolution or self; None: by model and
            data.
        run: the folder of the run; None is a new one among the temporary files.
        seed: of data, weights and noise; None: the recipe's, else 0.
        scale: what all lengths are multiplied by, one step at least: 0.001 is a trial.
        size: what the shorter side of images is scaled to, in pixels.
        crop: what training images are cut to, in pixels.
        flip: whether training images are mirrored at random.
        range: what black and white of images become, such as (0, 1).
        val: the share of the examples that is held out, or a folder of others.
        labels: the share of the pairs whose targets are used, above 0, in place of the recipe's
            `data: {labelled: 0.25}`; None: as the recipe says, else all.
        attributes: which columns of a table of attributes the generator takes.
        call: runs a generator on a batch, `call(generator, batch)`, where its arguments are odd.
        batch: examples of a step on each device, in every stage; None: as the recipe says.
        metrics: what held-out images are judged by, the first decides (`gfx.metrics.evaluate`).
        fid_weights: the file with the weights of Inception, for fd[inception].
        evaluate: steps between evaluations, where the recipe does not say; None: at the end.
        device: "cpu", "cuda"; None: the accelerator, if there is one.
        log: tensorboard, wandb, trackio, through accelerate.
        time: seconds after which the run stops, to be taken up again.
        checkpoint_seconds: between states that are written.
        storage: what workers share that judge nets of the recipe's search beside this run, as a URL
            that Optuna takes: `gfx.search(run, storage=...)`; None: this run searches alone.
        dry_run: whether to build everything and train nothing.
        example_inputs: for the generator, where they cannot be inferred.
        progress: whether to show what is done, or a function that is told.

    Raises: GfxError of the kind of what went wrong; what is finished stays in the folder.

    Example:
        >>> import gfx, torch
        >>> pairs = torch.rand(8, 3, 32, 32), torch.rand(8, 3, 32, 32)
        >>> made = compress(
        ...     {"stages": {"slim": {"do": [{"channel_prune": {"ratio": 0.5}}],
        ...      "fit": {"discriminator": "none", "losses": {"l1": 1}, "steps": 2}}}},
        ...     gfx.zoo.build("resnet_9blocks", ngf=4, image_size=32), data=pairs)
        >>> made.finished, sorted(made.scores["slim"])
        (True, ['l1', 'psnr'])
    """
    system = load_system(recipe, preset)
    if batch is not None:
        system = system.with_batch(batch)
    if budget is not None:
        system = system.with_budget(budget)
    system = system.with_labels(labels)
    system.refuse_unrunnable()
    check_range("scale", scale, above=0, at_most=1000)
    check_trackers(log)
    module = as_module(model)
    require_module(module)
    devices = devices_of(device)
    if run is None and devices.ranks > 1:
        raise InputError("several processes write one run: give run=, in the shell --run DIR")
    begins = next(each for each in (seed, system.seed, 0) if each is not None)
    require_seed(begins, InputError)
    settings = RunSettings(
        seed=begins,
        scale=scale,
        metrics=tuple(metrics),
        fid_weights=None if fid_weights is None else os.fspath(fid_weights),
        evaluate=evaluate,
        checkpoint_seconds=checkpoint_seconds,
        seconds=time,
        log=tuple(log),
        storage=storage,
    )
    check_shared_search(system, storage)
    how = {
        "size": size, "crop": crop, "flip": flip, "range": range,
        "val": val, "labels": system.labels, "attributes": attributes,
    }  # fmt: skip
    with ExitStack() as stack:
        stack.enter_context(keep_random_state([devices.device], python=True))
        begun = {"task": task, "seed": settings.seed, "call": call, **how}
        opened = open_run(module, data, discriminator, example_inputs, **begun)
        path = Path(tempfile.mkdtemp(prefix="gfx-run-")) if run is None else Path(run)
        folder = RunFolder(path)
        task_, searched = keep_for_search(opened.task, system.data.get("search"), settings.seed)
        parts = (opened.given, task_, opened.critics)
        made = SystemRun(system, *parts, folder, devices, settings, searched=searched)
        made.shows, made.shows_front = write_run_page, _front_shown
        made.say(task_.about)
        partners = given_players(players, system, made.nets)
        if dry_run:
            plan = preflight(made)
            return CompressionRun(path, None, (), (), {}, plan, tuple(made.said))
        asked = identity(system, fingerprint(opened.given), opened.critics, task_, settings, how)
        if partners:
            asked["run"]["players"] = {name: fingerprint(net) for name, net in partners.items()}
        stack.enter_context(folder.opened(asked, claims=devices.main))
        devices.wait()
        plan = _planned(made)
        note_shared_search(made)
        if devices.main:
            _note_call(path, recipe, preset, data, made.said)
        run_all_stages(made)
        small = None if made.stopped else _final(made)
        samples = tuple(sorted((path / "samples").glob("*.png")))
    return CompressionRun(
        path, small, tuple(made.book.rows), samples, made.scores, plan, tuple(made.said)
    )


def _front_shown(folder: Path) -> str:
    """Renders the front of a search; says what it could not."""
    try:
        write_front_page(folder)
    except (GfxError, OSError, ValueError) as error:  # a page stops no run
        return f"front.html is not written: {error}"
    return ""


def _note_call(folder: Path, recipe: SystemSource, preset: Any, data: Any, said: Any) -> None:
    """Writes what the call named and what was assumed, for the page; no result depends on it."""
    given = data if isinstance(data, tuple | list) else [data]
    paths = [os.path.abspath(each) for each in given if isinstance(each, str | os.PathLike)]
    name = str(recipe) if isinstance(recipe, str | Path) else None
    if name is not None and os.path.isfile(name):
        name = os.path.abspath(name)
    noted = {
        "system": name,
        "preset": preset,
        "data": paths if len(paths) == len(given) else [],
        "said": said,
    }
    text = json.dumps(noted, indent=1)
    write_files({folder / "called.json": lambda file: file.write(text.encode())})


def _final(run: SystemRun) -> fx.GraphModule:
    """Returns the student as it ships: masks are taken out, and its report tells of all stages."""
    small = apply("convert", run.nets.student)
    attach_run_report(small, run)
    return small


def _planned(run: SystemRun) -> RunPlan:
    """Returns the plan that the folder has, else checks the run and makes it (rule 3)."""
    path = run.folder.path / "plan.json"
    if not run.devices.any(not path.exists()):
        again = "delete the file, and give the command again"
        with reading_file(path, again):
            found: RunPlan = coerce(json.loads(read_regular(path, 2**24, again)), RunPlan)
        names = [GIVEN, *(stage.name for stage in run.system.stages)]
        if [stage.name for stage in found.stages] != names:
            raise ArchiveError(f"{printable(path)} is the plan of other stages; {again}")
        return found
    plan = preflight(run)
    text = json.dumps(plan.spec(), indent=1)
    if run.devices.main:
        write_files({path: lambda file: file.write(text.encode())})
    return plan
