"""Applies a recipe: traces a copy of the model, applies each pass, checks it, writes the report.

1. Everything happens on copies: the model passed in stays unchanged, even after an error, and no
   tensor of the result shares memory with it. What nothing writes is copied only at the end.
2. A pass that takes a budget or a seed and was given none gets the recipe's.
3. The same recipe, model and seed give the same bytes; the global random state is left alone.
"""

from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter
from typing import Any

import torch
from torch import fx, nn

from gfx.costs import Cost, Meter
from gfx.errors import RecipeError
from gfx.frontend.driver import traced
from gfx.frontend.private_copy import modes
from gfx.io.archive import ModelPath, as_module
from gfx.io.data import ImageFolder, Latents, RangeFound, reads_latents, with_range
from gfx.ir.copy_on_write import copy_on_write
from gfx.ir.model_kinds import require_module
from gfx.ir.node_origin import forget
from gfx.ir.preserve import devices_of
from gfx.ir.program import Program
from gfx.ir.random_state import keep_random_state
from gfx.ir.shapes.propagate import forget_shapes
from gfx.pipeline.pass_report import PassReport
from gfx.pipeline.recipe import InputSpec, Recipe, Source
from gfx.pipeline.record.original import Recording
from gfx.pipeline.report import Report, attach
from gfx.pipeline.run import Run
from gfx.progress import Progress, reported, stage, time_limit

__all__ = ["apply", "report_of", "specs"]


def report_of(
    program: Program,
    recipe: Recipe,
    before: Cost,
    after: Cost,
    passes: tuple[PassReport, ...],
    verify: bool,
) -> Report:
    """Returns the report of a recipe that has run."""
    inputs = specs(program.example_inputs)
    origin = program.provenance
    return Report(
        source=origin.source,
        frontend=origin.frontend,
        inputs=tuple(_describe(value) for value in program.example_inputs),
        assumed=origin.assumed,
        opaque=origin.opaque,
        notes=origin.notes,
        before=replace(before, nodes=()),
        after=replace(after, nodes=()),
        passes=passes,
        verified=verify,
        recipe=replace(recipe, input=inputs or recipe.input).spec(),
        gfx_version=_version(),
        torch_version=str(torch.__version__),
    )


def specs(inputs: tuple[Any, ...]) -> tuple[InputSpec, ...]:
    """Returns inputs as a recipe lists them; nothing if one is no tensor."""
    if not all(isinstance(x, torch.Tensor) for x in inputs):
        return ()
    return tuple(InputSpec(tuple(x.shape), str(x.dtype).removeprefix("torch.")) for x in inputs)


def _describe(value: Any) -> str:
    if not isinstance(value, torch.Tensor):
        try:
            return repr(value)
        except Exception:  # the user's class: what only informs may not stop the recipe
            return f"a {type(value).__name__}"
    return f"{str(value.dtype).removeprefix('torch.')} {'x'.join(map(str, value.shape))}"


@cache
def _version() -> str:
    try:
        return version("gfx-compiler")
    except PackageNotFoundError:
        return "from source"


@reported
def apply(
    recipe: Source,
    model: nn.Module | ModelPath,
    example_inputs: Any = None,
    *,
    data: Any = None,
    range: Any = None,
    seed: int | None = None,
    verify: bool = True,
    meter: Meter | None = None,
    time: float | None = None,
    progress: Progress = False,
) -> fx.GraphModule:
    """Applies a recipe to a copy of a model and returns the result, with its report.

    The recipe is a path, the name of a shipped recipe, a dict or a Recipe; the model a module, or a
    path that `gfx.open_model` opens. Example inputs are a
    tensor, a tuple or a dict by name; without them the recipe's `input` is used, else they are
    inferred. `data` is for passes that need it: an iterable of batches, or the path of a folder
    of images; for a generator that reads nothing but latents, they are drawn. `range` is what
    black and white of images become, such as (0, 1); None lets the model tell, or assumes [-1, 1]
    and says so in the report. `seed` overrides the recipe's. `meter` measures for budgets on
    latency; None measures on this machine.

    `time` bounds the searches, in seconds: when it is over, the best so far is the result, verified
    as every result is, and the report says so. Tracing before and checking after are not bounded.
    `progress=True` shows on stderr what is done and what is left; a function is called with each
    `gfx.progress.ProgressEvent`.

    The result is in the train/eval mode, on the device and in the dtype of the model.

    Raises: GfxError of the kind of what went wrong; the model is left unchanged.

    Example:
        >>> import gfx
        >>> small = gfx.apply({"passes": ["fuse_batch_norm"]}, gfx.zoo.build("dcgan").eval())
        >>> any(isinstance(m, nn.BatchNorm2d) for m in small.modules())
        False
    """
    started = perf_counter()
    recipe = Recipe.load(recipe)
    recipe = replace(recipe, seed=_seed(recipe, seed))
    model = as_module(model)
    require_module(model)
    if example_inputs is None:
        example_inputs = _recipe_inputs(recipe, model)
    with copy_on_write(), time_limit(time) as deadline:
        stage("tracing")
        program = traced(model, example_inputs, check=verify)
        data, found = with_range(data, range, program, model)
        data = _data_for(recipe, program, data)
        with keep_random_state(devices_of(program)):  # rule 3
            forget(program)
            run = Run(program, recipe, data, verify, meter)
            before, recorded = run.cost, Recording(run)
            passes, timings = run.kept(recipe.passes)
            record = recorded.finished()
        small = program.module
        if "_code" not in vars(small):  # no pass has compiled it
            small.recompile()
        forget_shapes(program)
        forget(program)
    _set_modes(small, model)
    report = report_of(program, recipe, before, run.cost, passes, verify)
    notes = () if deadline is None else deadline.notes
    report = replace(report, timings=timings, record=record, notes=(*report.notes, *notes))
    report = _with_images(report, data, found)
    _remember_inputs(small, program)
    attach(small, replace(report, seconds=perf_counter() - started))
    return small


def _with_images(report: Report, data: Any, found: RangeFound | None) -> Report:
    """Adds what was assumed about the user's images, and what happened to them."""
    if found is None or not isinstance(data, ImageFolder):
        return report
    if not found.why:
        report = replace(report, assumed=(*report.assumed, found.sentence))
        return replace(report, notes=(*report.notes, *data.told()))
    return replace(report, notes=(*report.notes, found.sentence, *data.told()))


def _seed(recipe: Recipe, seed: int | None) -> int:
    if seed is not None:
        return seed
    return 0 if recipe.seed is None else recipe.seed


def _data_for(recipe: Recipe, program: Program, data: Any) -> Any:
    """Returns the data that the passes see: the user's, or latents where a generator reads them."""
    needy = [pass_.name for pass_ in recipe.passes if pass_.needs_data]
    if data is not None or not needy:
        return data
    if not reads_latents(program):
        raise RecipeError(
            f"{', '.join(needy)} needs data to look at; give data= to gfx.apply, in "
            "the shell --data DIR"
        )
    latents = Latents(program, recipe.seed or 0)
    origin = program.provenance
    program.provenance = replace(origin, assumed=(*origin.assumed, str(latents)))
    return latents


def _recipe_inputs(recipe: Recipe, model: nn.Module) -> tuple[torch.Tensor, ...] | None:
    """Builds the inputs that the recipe lists; None if it lists none."""
    if recipe.input is None:
        return None
    tensors = [t for t in model.parameters() if t.is_floating_point()]
    dtype, device = torch.get_default_dtype(), torch.device("cpu")
    if tensors:
        dtype, device = tensors[0].dtype, tensors[0].device
    return tuple(spec.tensor(dtype, device) for spec in recipe.input)


def _set_modes(small: nn.Module, model: nn.Module) -> None:
    """Sets every train/eval flag to the model's; a module it has not follows its parent."""
    flags = modes(model)
    for path, module in small.named_modules():  # parents come first
        flags.setdefault(path, flags[path.rpartition(".")[0]])
        if module.training is not flags[path]:
            module.training = flags[path]


def _remember_inputs(small: fx.GraphModule, program: Program) -> None:
    """Records the inputs' shapes and dtypes where the front end and the archive read them."""
    found = specs(program.example_inputs)
    if found:
        small.meta["gfx_inputs"] = [{"shape": [*s.shape], "dtype": s.dtype} for s in found]
