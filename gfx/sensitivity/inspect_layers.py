"""Builds the sensitivity table: traces, lists the layers, measures the damage of changes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from gfx.compression.factor import Form
from gfx.compression.factor.forms import Init, Kind, Norm
from gfx.compression.probe import Replay
from gfx.contract import Context
from gfx.errors import MOST, InputError, PreconditionError
from gfx.frontend import trace
from gfx.io.archive import ModelPath, as_module
from gfx.io.data import ImageFolder, batches_of, synthetic, with_range
from gfx.ir.execute import floating, on_meta
from gfx.ir.program import Program
from gfx.metrics import Metric
from gfx.metrics import metric as metric_of
from gfx.progress import Progress, reported, stage, time_limit
from gfx.sensitivity.assemble import facts_of, row_of
from gfx.sensitivity.estimate import estimate
from gfx.sensitivity.inspected_layers import InspectedLayer, InspectedProgram
from gfx.sensitivity.probes import Probe, ProbeResult, measure, probes_for
from gfx.sensitivity.processes import processes
from gfx.sensitivity.recommend import advised, ranked
from gfx.sensitivity.rows import DECOMPOSE, Key
from gfx.sensitivity.table import Table
from passes.fold_parametrizations import FoldParametrizations

__all__ = ["sensitivity_table"]

Batches = list[tuple[Any, ...]]
Results = dict[tuple[str, Key], ProbeResult]
_MOST, _WORK = 8, 4_000_000_000  # batches, and MACs that they may take together


@reported
def sensitivity_table(
    model: "nn.Module | Program | ModelPath",
    example_inputs: Any = None,
    data: Any = None,
    *,
    metric: "str | Callable[[Any, Any], float] | Metric" = "relative_l2",
    extractor: Callable[[Any], Any] | None = None,
    layers: str | Sequence[str] = "*",
    kind: Kind = "depthwise_separable",
    rank: int | float | None = None,
    norm: Norm = "none",
    init: Init = "svd",
    widths: Sequence[float] = (0.75, 0.5, 0.25),
    batches: int | None = None,
    tolerate: float = 0.05,
    fast: bool = False,
    seed: int = 0,
    range: Any = None,
    time: float | None = None,
    progress: Progress = False,
) -> Table:
    """Measures for each layer how decomposing it, or narrowing its channels, damages the output.

    Each change is made alone, and runs from the cached activations of the nodes it does not reach;
    the model is left unchanged. Narrowing takes the least important channels (l1) of the layer's
    group and damages all layers of the group at once. MACs saved are those of the whole program.
    Under torchrun or accelerate launch, or in a process group, the changes are shared out: every
    process must call it, and gets the table that a single process would.

    Args:
        model: a module, a Program, or a path that `gfx.open_model` opens.
        example_inputs: a tensor, a tuple or a dict; None infers them and notes the assumptions.
        data: batches to run on: a tensor, a list, a DataLoader, a folder of images; None makes
            uses smooth synthetic images or noise.
        metric: how far two outputs are apart: relative_l2, psnr, ssim, feature, or a function
            (original output, changed output) -> float, lower is better; see `gfx.metrics.metric`.
        extractor: extracts the features that metric="feature" compares.
        layers: globs over module paths, or names of stages, that say which layers get a row.
        kind: how a layer is decomposed (gfx/compression/factor/forms.py); so are rank, norm and
        init.
        rank: of the decomposition; None is its default.
        norm: between depthwise and pointwise.
        init: where the weights of the parts come from: svd, data or random.
        widths: shares of a group's channels that a narrowing leaves, each above 0 and below 1.
        batches: how many batches to run on, at most; None takes as many as run quickly, up to 8.
        tolerate: the largest damage of a recommended change.
        fast: whether to estimate the damage from one forward and one backward on each batch
            (gfx/sensitivity/estimate.py): good for the order of rows, by relative_l2 alone.
        seed: of synthetic inputs, and of random numbers in a forward.
        range: what black and white of a folder of images become, such as (0, 1); None: the model
            tells it, or [-1, 1] is assumed and noted.
        time: of the measurements, in seconds; when it is over, the changes that were not measured
            yet have no damage, and the table says so. None: as long as it takes.
        progress: True shows a line on stderr; a function is called with each
            `gfx.progress.ProgressEvent`, after each change on each batch among others.

    Raises: InputError if the model, the data, the metric or `layers` cannot be used as given, or
    an activation is not finite (it names the layer); PreconditionError on the meta device.

    Source: Li et al. 2020, GAN Compression, arXiv:2003.08936, section 3.2 and table 4.

    Example:
        >>> import gfx
        >>> table = sensitivity_table(gfx.zoo.build("dcgan", ngf=4))
        >>> row = table["up.0.conv"]
        >>> row.stage, row.widths[0.5], row.saved[0.5]
        ('up', 8, 131072)
    """
    measured = metric_of(metric, extractor=extractor)
    form = Form(kind, rank, norm, init)
    _check(widths, batches, tolerate)
    if fast and measured.name != "relative_l2":
        raise InputError(
            f"fast ranks by relative_l2, and metric is {measured.name}; leave one of the two out"
        )
    stage("tracing")
    model = as_module(model)
    program = model.copy() if isinstance(model, Program) else trace(model, example_inputs)
    if on_meta(program):
        raise PreconditionError(
            f"inspect runs the model, and {program.provenance.source} is on the meta device, "
            "without values; load its weights"
        )
    folded, training = _folded(program), program.training
    subject = InspectedProgram(program, form)
    places = subject.chosen(layers)
    data, scaled = with_range(data, range, program, model if isinstance(model, nn.Module) else None)
    given = _batches(subject, data, batches, seed)
    late: tuple[str, ...] = ()
    if fast:
        found = _estimated(subject, given, places, widths, seed)
    else:
        replay = Replay(program, given, seed=seed)  # names the layer if a value is not finite
        probes = probes_for(subject, places, widths)
        with time_limit(time) as deadline:
            found = _measured(subject, replay, probes, measured, seed)
        late = () if deadline is None else deadline.notes
    keys: tuple[Key, ...] = (DECOMPOSE, *widths)
    rows = [advised(row_of(subject, place, found, keys), tolerate) for place in places]
    facts = facts_of(subject, given, measured, keys, synthetic=data is None, seed=seed)
    told = data.told() if isinstance(data, ImageFolder) else ()
    said = () if scaled is None else (scaled.sentence, *told)
    facts = replace(facts, inputs=(*facts.inputs, *said))
    notes = (*facts.notes, *_notes(folded, training), *late)
    facts = replace(facts, measured=not fast, tolerate=tolerate, needs=folded, notes=notes)
    return Table(ranked(rows), facts, program, form)


def _estimated(
    subject: InspectedProgram,
    given: Batches,
    places: Sequence[InspectedLayer],
    widths: Sequence[float],
    seed: int,
) -> Results:
    """Estimates the damage of each probe."""
    try:
        return estimate(subject, given, probes_for(subject, places, widths), seed)
    except InputError:
        Replay(subject.program, given, seed=seed)  # names the layer if a value is not finite
        raise


def _measured(
    subject: InspectedProgram,
    replay: Replay,
    probes: Sequence[Probe],
    metric: Metric,
    seed: int,
) -> Results:
    """Measures the probes, shared out among the processes that started together."""
    metric(replay.outputs[0], replay.outputs[0])  # raises if the metric does not suit
    leaves = [x for output in replay.outputs for x in floating(output)]
    mark = sum(float(x.double().abs().sum()) for x in leaves)

    def work(share: Sequence[Probe]) -> tuple[Results, float]:
        return measure(subject, replay, share, metric, seed), mark

    with processes() as together:
        return together.share(work, probes)


def _check(widths: Sequence[float], batches: int | None, tolerate: float) -> None:
    wrong = [width for width in widths if not 0 < width < 1]
    if wrong:
        raise InputError(f"widths: {wrong[0]} is no share of channels above 0 and below 1")
    if batches is not None and batches < 1:
        raise InputError(f"batches={batches}; at least one is needed")
    if batches is not None and batches > MOST:
        raise InputError(f"batches={batches}; at most {MOST:,} are run, and 8 are often enough")
    if not tolerate >= 0:
        raise InputError(f"tolerate={tolerate} must be at least 0")


def _folded(program: Program) -> tuple[str, ...]:
    """Folds parametrizations, which keep weights from being changed; returns the passes used."""
    fold = FoldParametrizations()
    return (fold.name,) if fold.apply(program, Context()).modified else ()


def _notes(passes: Sequence[str], training: bool) -> tuple[str, ...]:
    notes = [
        f"spectral norms and the like were folded first; put {name} before what acts on this"
        for name in passes
    ]
    if training:
        notes.append("the model is in training mode; it was run in eval mode")
    return tuple(notes)


def _batches(subject: InspectedProgram, data: Any, count: int | None, seed: int) -> Batches:
    """Takes the user's batches, or draws synthetic ones."""
    program = subject.program
    if count is None:
        count = min(max(_WORK // max(subject.cost.macs.exact, 1), 1), _MOST)
    return synthetic(program, count, seed) if data is None else batches_of(program, data, count)
