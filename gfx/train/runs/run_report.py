"""Writes the report of a trained net: what its stages did, from the model as it was given."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import fx

from gfx.pipeline.report import Report, attach, report
from gfx.train.runs.run_system import SystemRun
from gfx.train.systems.fit_fields import GIVEN

__all__ = ["attach_joined", "attach_run_report"]


def attach_joined(net: fx.GraphModule, *before: fx.GraphModule) -> None:
    """Gives a net the report of all passes since the first of the nets before it.

    Example:
        >>> import gfx
        >>> model = gfx.zoo.build("dcgan", ngf=4).eval()
        >>> one = gfx.apply({"passes": ["fuse_batch_norm"]}, model)
        >>> two = gfx.apply("convert", one)
        >>> attach_joined(two, one)
        >>> [step.name for step in gfx.report(two).passes][:2]
        ['fuse_batch_norm', 'strip_taps']
    """
    reports = [report(each) for each in (*before, net)]
    first, last = reports[0], reports[-1]
    joined = replace(
        last,
        source=first.source,
        frontend=first.frontend,
        before=first.before,
        passes=tuple(step for each in reports for step in each.passes),
        verified=all(each.verified or not each.passes for each in reports),
        seconds=sum(each.seconds for each in reports),
        record=first.record,
        recipe={**last.recipe, "passes": [p for each in reports for p in _passes(each)]},
    )
    attach(net, joined)


def attach_run_report(net: fx.GraphModule, run: SystemRun) -> None:
    """Gives the net that a run ends with the report of all its stages."""
    attach_joined(net, *(run.nets.generators[stage.name] for stage in run.system.stages))
    given = report(run.model)
    trained = [
        (
            "as it was given"
            if name == GIVEN
            else f"stage {name}: {run.trained[name]:,} steps of training"
        )
        + "; held out: "
        + ", ".join(f"{metric} {value:.4g}" for metric, value in scores.items())
        for name, scores in run.scores.items()
        if name == GIVEN or run.trained[name]
    ]
    attach(
        net,
        replace(
            report(net),
            source=given.source,
            frontend=given.frontend,
            assumed=(*given.assumed, *run.said),
            opaque=given.opaque,
            notes=(*given.notes, *trained),
            recipe=run.system.spec(),
        ),
    )


def _passes(found: Report) -> Sequence[Any]:
    listed = found.recipe.get("passes", ())
    return listed if isinstance(listed, Sequence) else ()
