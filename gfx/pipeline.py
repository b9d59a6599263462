"""Runs a recipe: traces a copy of the model, applies each pass, checks it, writes the report.

1. Everything happens on copies: whatever is raised, the model passed in is what it was.
2. A pass that takes a budget or a seed and was given none gets the recipe's.
3. The same recipe, model and seed give the same bytes; the global random state is left alone.
"""

import dataclasses
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import fx, nn

from gfx.contract import Outcome, Pass
from gfx.costing import Budget, Cost, cost_of, parse_budget
from gfx.data import replayable
from gfx.errors import InputError, RecipeError, VerificationError
from gfx.frontend import trace
from gfx.lineage import forget
from gfx.numerics import tolerance
from gfx.program import Program
from gfx.recipe import InputSpec, Recipe, Source
from gfx.recording import Record, layers_of, sample_of
from gfx.reporting import PassReport, Report, attach, pass_report
from gfx.shapes import propagate
from gfx.verify import Check, honesty, signature, structure, values

__all__ = ["apply"]

_logger = logging.getLogger(__name__)


def apply(
    recipe: Source,
    model: nn.Module,
    example_inputs: Any = None,
    *,
    data: Any = None,
    seed: int | None = None,
    verify: bool = True,
) -> fx.GraphModule:
    """Applies a recipe to a copy of a model and returns the result, with its report.

    The recipe is a path, the name of a shipped recipe, a dict or a Recipe. Example inputs are a
    tensor, a tuple or a dict by name; without them the recipe's `input` is used, else they are
    inferred. `data` is for the passes that look at some: an iterable of batches, or the path of a
    folder of images. `seed` goes before the recipe's.

    The result is in the train/eval mode, on the device and in the dtype of the model.

    Raises: GfxError of the kind of what went wrong; the model is left unchanged.

    Example:
        >>> import gfx
        >>> small = gfx.apply({"passes": ["fuse_batch_norm"]}, gfx.zoo.build("dcgan").eval())
        >>> any(isinstance(m, nn.BatchNorm2d) for m in small.modules())
        False
    """
    started = time.perf_counter()
    recipe = Recipe.load(recipe)
    recipe = replace(recipe, seed=_seed(recipe, seed))
    _ask_for_data(recipe, data)
    if not isinstance(model, nn.Module):
        raise InputError(f"the model is a {type(model).__name__}, not a torch.nn.Module")
    if example_inputs is None:
        example_inputs = _recipe_inputs(recipe, model)
    program = trace(model, example_inputs, check=verify)
    with _own_random_state(program):
        forget(program)
        run = _Run(program, recipe, data, verify)
        if any(pass_.needs_original for pass_ in recipe.passes):
            program.original = program.copy()
        before, recorded = run.cost, _Recording(run)
        passes = tuple(run.step(pass_) for pass_ in recipe.passes)
        record = recorded.finished()
    for budget in run.budgets:
        budget.check(run.cost)
    small = program.module
    _forget_shapes(program)
    forget(program)
    _set_modes(small, model)
    report = _report(program, recipe, before, run.cost, passes, verify)
    report = replace(report, record=record)
    _remember_inputs(small, program)
    attach(small, replace(report, seconds=time.perf_counter() - started))
    return small


class _Run:
    """Applies the passes of one recipe in turn, and remembers what the next one can reuse."""

    def __init__(self, program: Program, recipe: Recipe, data: Any, verify: bool) -> None:
        self.program = program
        self.data = replayable(data)  # two passes may look at it
        self.verify = verify
        self.seed = recipe.seed or 0
        self.cost = cost_of(program)
        self.budgets = parse_budget(recipe.budget, self.cost) if recipe.budget else ()
        self.known: Any = None  # what the program gives on the check inputs, once it was run

    def step(self, pass_: Pass) -> PassReport:
        """Applies one pass, checks it and reports it."""
        started, before = time.perf_counter(), self.cost
        pass_ = settle(pass_, self.budgets, self.seed)
        _logger.info("%s: applying", pass_.name)
        old = self.program.copy() if self.verify else None
        outcome = self._apply(pass_)
        if old is None:
            checks: tuple[Check, ...] = ()
            _propagate(pass_, self.program)
            pass_.ensures(self.program)
        else:
            _logger.info("%s: checking", pass_.name)
            checks = self._check(pass_, old, outcome)
        self.cost = cost_of(self.program)
        seconds = time.perf_counter() - started
        return pass_report(pass_, outcome, before, self.cost, checks, seconds)

    def _apply(self, pass_: Pass) -> Outcome:
        pass_.requires(self.program)
        torch.manual_seed(self.seed)
        return pass_.apply_with(self.program, self.data)

    def _check(self, pass_: Pass, old: Program, outcome: Outcome) -> tuple[Check, ...]:
        new = self.program
        if not isinstance(outcome, Outcome):
            raise VerificationError(
                f"{pass_.name}: apply returned {type(outcome).__name__}, not an Outcome"
            )
        well_formed = structure(pass_, new)
        pass_.ensures(new)
        same, honest = signature(pass_, old, new), honesty(pass_, old, new, outcome)
        if not outcome.modified:  # honest, hence the same bytes: there is nothing to run
            return (well_formed, same, honest, Check("values", True, 0.0, tolerance(new)))
        torch.manual_seed(self.seed)
        if outcome.expected is not None:
            reference: Program | None = outcome.expected(old)
        else:
            reference = (outcome.resolved or pass_).reference(old)
        known = self.known if reference is old else None
        equal, self.known = values(pass_, new, reference, known)
        return (well_formed, same, honest, equal)


class _Recording:
    """Records the original before the passes run, the user's data only after them.

    The data is read when the passes have read theirs: a loader that shuffles gives them the batches
    that it would give them anyway.
    """

    def __init__(self, run: _Run) -> None:
        self.run = run
        program, late = run.program, run.verify and run.data is not None
        self.record = Record(layers_of(program, run.cost), None, _UNVERIFIED)
        self.original = program.copy() if late else None
        if run.verify and not late:
            self._sample(program)

    def finished(self) -> Record:
        """Returns the record."""
        if self.original is not None:
            self._sample(self.original)
        return self.record

    def _sample(self, program: Program) -> None:
        _logger.info("running the original once, for the report")
        sample, why = sample_of(program, self.run.data, seed=self.run.seed)
        self.record = replace(self.record, sample=sample, why=why)


_UNVERIFIED = "verify=False, so the original was not run"

# fields by which a pass says itself how far it goes
_SAYS = ("budget", "ratio", "ratios", "widths", "kept", "rank", "layers", "where")


def settle(pass_: Pass, budgets: tuple[Budget, ...], seed: int) -> Pass:
    """Gives a pass the recipe's seed and budget where it takes them and has none of its own.

    A pass that says itself what to do (a ratio, widths, the channels kept, ranks, where) is given
    no budget: that is then only checked at the end.

    Example:
        >>> from passes.channel_prune import ChannelPrune
        >>> settle(ChannelPrune(ratio=0.5), (), seed=3).seed
        3
    """
    names = {f.name for f in dataclasses.fields(pass_)}
    given: dict[str, Any] = {}
    if "seed" in names and getattr(pass_, "seed") is None:  # noqa: B009 - not a field of Pass
        given["seed"] = seed
    own = any(_says(pass_, name) for name in _SAYS)
    if budgets and "budget" in names and not own:
        given["budget"] = budgets
    return replace(pass_, **given) if given else pass_


def _says(pass_: Pass, name: str) -> bool:
    value = getattr(pass_, name, None)
    return value is not None and value not in ({}, ())


def _seed(recipe: Recipe, seed: int | None) -> int:
    if seed is not None:
        return seed
    return 0 if recipe.seed is None else recipe.seed


def _ask_for_data(recipe: Recipe, data: Any) -> None:
    needy = [pass_.name for pass_ in recipe.passes if pass_.needs_data]
    if needy and data is None:
        raise RecipeError(
            f"{', '.join(needy)} needs data to look at; give data= to gfx.apply, in "
            "the shell --data DIR"
        )


def _recipe_inputs(recipe: Recipe, model: nn.Module) -> tuple[torch.Tensor, ...] | None:
    """Makes the inputs that the recipe tells; None if it tells none."""
    if recipe.input is None:
        return None
    tensors = [t for t in model.parameters() if t.is_floating_point()]
    dtype, device = torch.get_default_dtype(), torch.device("cpu")
    if tensors:
        dtype, device = tensors[0].dtype, tensors[0].device
    return tuple(spec.tensor(dtype, device) for spec in recipe.input)


@contextmanager
def _own_random_state(program: Program) -> Iterator[None]:
    """Keeps the global random state of the CPU and of the program's GPUs (rule 3)."""
    devices = {t.device.index for t in program.module.parameters() if t.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(devices)):
        yield


def _propagate(pass_: Pass, program: Program) -> None:
    try:
        propagate(program)
    except InputError as error:
        raise VerificationError(f"{pass_.name}: the result does not run: {error}") from error


def _forget_shapes(program: Program) -> None:
    for node in program.nodes():
        node.meta.pop("val", None)


def _set_modes(small: nn.Module, model: nn.Module) -> None:
    """Sets every train/eval flag to the model's; a module it has not follows its parent."""
    flags = {path: module.training for path, module in model.named_modules()}
    for path, module in small.named_modules():  # parents come first
        flags.setdefault(path, flags[path.rpartition(".")[0]])
        module.training = flags[path]


def _report(
    program: Program,
    recipe: Recipe,
    before: Cost,
    after: Cost,
    passes: tuple[PassReport, ...],
    verify: bool,
) -> Report:
    specs = _specs(program.example_inputs)
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
        recipe=replace(recipe, input=specs or recipe.input).spec(),
        gfx_version=_version(),
        torch_version=str(torch.__version__),
    )


def _remember_inputs(small: fx.GraphModule, program: Program) -> None:
    """Notes the inputs' shapes and dtypes where the front end and the archive look for them."""
    specs = _specs(program.example_inputs)
    if specs:
        small.meta["gfx_inputs"] = [{"shape": [*s.shape], "dtype": s.dtype} for s in specs]


def _specs(inputs: tuple[Any, ...]) -> tuple[InputSpec, ...]:
    """Writes inputs the way a recipe does; nothing if one is no tensor."""
    if not all(isinstance(x, torch.Tensor) for x in inputs):
        return ()
    return tuple(InputSpec(tuple(x.shape), str(x.dtype).removeprefix("torch.")) for x in inputs)


def _describe(value: Any) -> str:
    if not isinstance(value, torch.Tensor):
        return repr(value)
    return f"{str(value.dtype).removeprefix('torch.')} {'x'.join(map(str, value.shape))}"


def _version() -> str:
    try:
        return version("gfx-compiler")
    except PackageNotFoundError:
        return "from source"
