"""Makes the table: traces, finds the layers, measures what changes do to them."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gfx.data import batches_of
from gfx.errors import InputError, PreconditionError
from gfx.factoring import Form
from gfx.factoring.forms import Init, Kind, Norm
from gfx.frontend import trace
from gfx.metrics import Metric
from gfx.metrics import metric as metric_of
from gfx.numerics import on_meta
from gfx.probing import Replay, synthetic, synthetic_note
from gfx.program import Program
from gfx.sensitivity.probes import Found, Progress, measure, probes_for
from gfx.sensitivity.recommending import advised, ranked
from gfx.sensitivity.rows import DECOMPOSE, Key, Row
from gfx.sensitivity.subject import Place, Subject
from gfx.sensitivity.table import Facts, Table

__all__ = ["inspect"]

Batches = list[tuple[Any, ...]]
_MOST, _WORK = 8, 4_000_000_000  # batches, and MACs that they may take together


def inspect(
    model: "nn.Module | Program",
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
    seed: int = 0,
    progress: Progress | None = None,
) -> Table:
    """Measures for each layer what decomposing it, or narrowing its channels, does to the output.

    Each change is made alone, and run from the cached activations of what it does not reach; the
    model is left unchanged. Narrowing takes the least important channels (l1) of the layer's group
    and damages all layers of the group at once. MACs saved are those of the whole program.

    Args:
        model: a module, or a Program.
        example_inputs: a tensor, a tuple or a dict; None infers them and says what was assumed.
        data: batches to run on: a tensor, a list, a DataLoader, a folder of images; None makes
            smooth images or noise up.
        metric: how far two outputs are apart: relative_l2, psnr, ssim, feature, or a function
            (original output, changed output) -> float, lower is better (gfx/metrics.py).
        extractor: what metric="feature" compares the outputs by.
        layers: globs over module paths, or names of stages, that say which layers get a row.
        kind: how a layer is decomposed (gfx/factoring/forms.py); so are rank, norm and init.
        rank: of the decomposition; None is its default.
        norm: between depthwise and pointwise.
        init: where the weights of the parts come from: svd, data or random.
        widths: shares of a group's channels that a narrowing leaves, each above 0 and below 1.
        batches: how many batches to run on, at most; None takes as many as are soon run, up to 8.
        tolerate: the largest damage of what is recommended.
        seed: of synthetic inputs, and of what a forward draws.
        progress: is called after each change on each batch: how many are done, of how many, and
            what was changed.

    Raises: InputError if the model, the data, the metric or `layers` cannot be used as given, or
    an activation is not finite (it names the layer); PreconditionError on the meta device.

    Source: Li et al. 2020, GAN Compression, arXiv:2003.08936, section 3.2 and table 4.

    Example:
        >>> import gfx
        >>> table = inspect(gfx.zoo.build("dcgan", ngf=4))
        >>> row = table["up.0.conv"]
        >>> row.stage, row.widths[0.5], row.saved[0.5]
        ('up', 8, 131072)
    """
    measured = metric_of(metric, extractor=extractor)
    form = Form(kind, rank, norm, init)
    _check(widths, batches, tolerate)
    program = model if isinstance(model, Program) else trace(model, example_inputs)
    if on_meta(program):
        raise PreconditionError(
            f"inspect runs the model, and {program.provenance.source} is on the meta device, "
            "without values; load its weights"
        )
    subject = Subject(program, form)
    places = subject.chosen(layers)
    given = _batches(subject, data, batches, seed)
    replay = Replay(program, given, seed=seed)
    probes = probes_for(subject, places, widths)
    found = measure(subject, replay, probes, measured, seed, progress)
    keys: tuple[Key, ...] = (DECOMPOSE, *widths)
    rows = [advised(_row(subject, place, found, keys), tolerate) for place in places]
    facts = _facts(subject, given, data, measured, keys, tolerate, seed)
    return Table(ranked(rows), facts, program, form)


def _check(widths: Sequence[float], batches: int | None, tolerate: float) -> None:
    wrong = [width for width in widths if not 0 < width < 1]
    if wrong:
        raise InputError(f"widths: {wrong[0]} is no share of channels above 0 and below 1")
    if batches is not None and batches < 1:
        raise InputError(f"batches={batches}; at least one is needed")
    if not tolerate >= 0:
        raise InputError(f"tolerate={tolerate} must be at least 0")


def _batches(subject: Subject, data: Any, count: int | None, seed: int) -> Batches:
    """Takes the user's batches, or makes some up."""
    program = subject.program
    if count is None:
        count = min(max(_WORK // max(subject.cost.macs.exact, 1), 1), _MOST)
    return synthetic(program, count, seed) if data is None else batches_of(program, data, count)


def _row(
    subject: Subject, place: Place, found: dict[tuple[str, Key], Found], keys: Sequence[Key]
) -> Row:
    group = subject.group(place)
    free = group is not None and group.free
    results = {key: _result(subject, place, key, found) for key in keys}
    shares = [key for key in keys if not isinstance(key, str)]
    macs = subject.macs(place)
    saved = {k: subject_saving(subject, place, k) for k in keys}
    return Row(
        layer=place.path,
        stage=place.stage,
        kind=place.kind,
        calls=len(place.calls),
        inputs=_shape(place.node.all_input_nodes[0]),
        outputs=_shape(place.node),
        params=subject.params(place),
        macs=macs,
        share=macs / max(subject.cost.macs.exact, 1),
        group=group.name if group else None,
        channels=group.size if group else 0,
        free=free,
        why="" if free else _pinned(subject, place),
        approximate=(group.approximate or "") if group else "",
        damage={key: result.damage for key, result in results.items()},
        value={key: result.value for key, result in results.items()},
        saved=saved,
        widths={s: subject.width(group, s) if group and free else None for s in shares},
        notes={key: result.why for key, result in results.items() if result.why},
    )


def subject_saving(subject: Subject, place: Place, key: Key) -> int | None:
    """Returns the MACs that one option saves; None where there is none."""
    if isinstance(key, str):
        return None if subject.unfit(place) else subject.decomposed(place)
    group = subject.group(place)
    return subject.saved(group, key) if group is not None and group.free else None


def _result(subject: Subject, place: Place, key: Key, found: dict[tuple[str, Key], Found]) -> Found:
    group = subject.group(place)
    if isinstance(key, str):
        return found.get((place.path, key)) or Found(why=subject.unfit(place))
    if group is None or not group.free:
        return Found(why=_pinned(subject, place))
    return found[group.name, key]


def _pinned(subject: Subject, place: Place) -> str:
    group = subject.group(place)
    if group is None:
        return "its output channels belong to no group: its weight is computed, or not followed"
    return group.pinned or "a single channel"


def _shape(node: Any) -> tuple[int, ...]:
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def _facts(
    subject: Subject,
    given: Batches,
    data: Any,
    measured: Metric,
    keys: tuple[Key, ...],
    tolerate: float,
    seed: int,
) -> Facts:
    program, form = subject.program, subject.form
    said = [*program.provenance.assumed]
    if data is None:
        said.append(synthetic_note(program, len(given), seed))
    else:
        said.append(f"ran on {len(given)} {'batch' if len(given) == 1 else 'batches'} of the data")
    tensors = [[x for x in pytree.tree_leaves(b) if isinstance(x, Tensor)] for b in given]
    rank = "" if form.rank is None else f", rank {form.rank}"
    return Facts(
        model=program.provenance.source,
        macs=subject.cost.macs.exact,
        params=subject.cost.params,
        metric=measured.name,
        higher_is_better=measured.higher_is_better,
        measured=True,
        synthetic=data is None,
        inputs=tuple(said),
        shapes=tuple(tuple(x.shape) for x in tensors[0]),
        batches=len(given),
        examples=sum(b[0].shape[0] if b and b[0].ndim else 1 for b in tensors),
        seed=seed,
        tolerate=tolerate,
        keys=keys,
        form=f"{form.kind}{rank}, norm {form.norm}, init {form.init}",
        notes=tuple(f"{path} stays whole: {why}" for path, why in program.provenance.opaque),
    )
