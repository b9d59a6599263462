"""Assembles the rows and the facts of a sensitivity table."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from gfx.io.data import synthetic_note
from gfx.metrics import Metric
from gfx.sensitivity.inspected_layers import InspectedLayer, InspectedProgram
from gfx.sensitivity.probes import ProbeResult
from gfx.sensitivity.rows import Key, Row
from gfx.sensitivity.table import TableFacts

__all__ = ["facts_of", "row_of"]


def row_of(
    subject: InspectedProgram,
    place: InspectedLayer,
    found: dict[tuple[str, Key], ProbeResult],
    keys: Sequence[Key],
) -> Row:
    """Builds the row of one layer from the results of its probes."""
    group = subject.group(place)
    free = group is not None and not subject.fixed(group)
    results = {key: _result(subject, place, key, found) for key in keys}
    shares = [key for key in keys if not isinstance(key, str)]
    macs = subject.macs(place)
    saved = {k: _saving(subject, place, k) for k in keys}
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
        channels=group.width if group else 0,
        free=free,
        why="" if free else _pinned(subject, place),
        approximate=(group.approximate or "") if group else "",
        damage={key: result.damage for key, result in results.items()},
        value={key: result.value for key, result in results.items()},
        saved=saved,
        widths={s: subject.width(group, s) if group and free else None for s in shares},
        notes={key: result.why for key, result in results.items() if result.why},
    )


def _saving(subject: InspectedProgram, place: InspectedLayer, key: Key) -> int | None:
    """Returns the MACs that one option saves; None where there is none."""
    if isinstance(key, str):
        return None if subject.unfit(place) else subject.decomposed(place)
    group = subject.group(place)
    free = group is not None and not subject.fixed(group)
    return subject.saved(group, key) if group is not None and free else None


def _result(
    subject: InspectedProgram,
    place: InspectedLayer,
    key: Key,
    found: dict[tuple[str, Key], ProbeResult],
) -> ProbeResult:
    group = subject.group(place)
    if isinstance(key, str):
        return found.get((place.path, key)) or ProbeResult(why=subject.unfit(place))
    if group is None or subject.fixed(group):
        return ProbeResult(why=_pinned(subject, place))
    return found[group.name, key]


def _pinned(subject: InspectedProgram, place: InspectedLayer) -> str:
    group = subject.group(place)
    if group is None:
        return "its output channels belong to no group: its weight is computed, or not followed"
    return subject.fixed(group)


def _shape(node: Any) -> tuple[int, ...]:
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def facts_of(
    subject: InspectedProgram,
    given: Sequence[tuple[Any, ...]],
    metric: Metric,
    keys: tuple[Key, ...],
    *,
    synthetic: bool,
    seed: int,
) -> TableFacts:
    """Collects how the table was made."""
    program, form = subject.program, subject.form
    said = [*program.provenance.assumed]
    if synthetic:
        said.append(synthetic_note(program, len(given), seed))
    else:
        said.append(f"ran on {len(given)} {'batch' if len(given) == 1 else 'batches'} of the data")
    tensors = [[x for x in pytree.tree_leaves(b) if isinstance(x, Tensor)] for b in given]
    rank = "" if form.rank is None else f", rank {form.rank}"
    return TableFacts(
        model=program.provenance.source,
        macs=subject.cost.macs.exact,
        params=subject.cost.params,
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        measured=True,
        synthetic=synthetic,
        inputs=tuple(said),
        shapes=tuple(tuple(x.shape) for x in tensors[0]),
        batches=len(given),
        examples=sum(b[0].shape[0] if b and b[0].ndim else 1 for b in tensors),
        seed=seed,
        keys=keys,
        form=f"{form.kind}{rank}, norm {form.norm}, init {form.init}",
        notes=tuple(f"{path} stays whole: {why}" for path, why in program.provenance.opaque),
    )
