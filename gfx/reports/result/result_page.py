"""Writes the report of a compressed program as one HTML page that loads nothing.

1. All text is escaped; the page's own policy forbids every request and every script.
2. Every bar or colour also has words or numbers beside it.
3. Unknown values are named, with the way to get them.
"""

from html import escape
from importlib.resources import files
from string import Template

from torch import fx, nn

from gfx.io.yaml_text import dump
from gfx.pipeline.report import Report, report
from gfx.reports.html import page_head
from gfx.reports.html.cells import fact
from gfx.reports.result.facts import ResultFacts, facts_of, with_original
from gfx.reports.result.latency_section import Latency, latency_section, sensitivity_section
from gfx.reports.result.network_svg import drawn, rules
from gfx.reports.result.pass_steps import passes
from gfx.reports.result.sections import group_list, pictures, stage_table, tiles
from gfx.sensitivity import Table

__all__ = ["page"]

_NO_LATENCY = "Not measured: gfx report measures it on the machine that it runs on."
_NO_TABLE = "Not estimated: gfx report estimates it unless --no-sensitivity says otherwise."
_NO_RECORD = (
    "What the original's layers were is not known: this file was written before gfx kept it. "
    "Name the model that it was made from: --original MODEL."
)


def page(
    module: fx.GraphModule,
    *,
    original: nn.Module | None = None,
    inputs: object = None,
    sensitivity: Table | str = _NO_TABLE,
    latency: Latency | str = _NO_LATENCY,
) -> str:
    """Returns the report of a module that gfx made as the text of an HTML page.

    Args:
        module: the result of gfx.apply or gfx.load.
        original: the model that it was made from, for files without a record of it.
        inputs: of the original.
        sensitivity: the table of gfx.inspect for the module, or why there is none.
        latency: a profile of the module, or why there is none.

    Raises: GfxError if the module has no report; InputError if it does not run, or the original is
        another model.

    Example:
        >>> import gfx
        >>> small = gfx.apply({"passes": []}, gfx.zoo.build("dcgan", ngf=4).eval())
        >>> page(small).splitlines()[0]
        '<!doctype html>'
    """
    stored = report(module)
    if original is not None:
        stored = with_original(stored, original, inputs)
    facts = facts_of(module, stored)
    template = Template(files("gfx.reports.result").joinpath("result.html").read_text("utf-8"))
    written = template.substitute(
        head=page_head(
            f"gfx report: {stored.source}",
            files("gfx.reports.result").joinpath("result.css").read_text("utf-8"),
            rules(facts.families),
        ),
        heading=escape(stored.source),
        subtitle=escape(_subtitle(facts)),
        tiles=tiles(stored.before, facts.cost),
        pictures=pictures(facts.pictures),
        stages=stage_table(facts),
        unknown="" if facts.was else f'<p class="note">{escape(_NO_RECORD)}</p>',
        network=drawn(facts),
        groups=group_list(facts.families),
        ungrouped=escape(facts.ungrouped),
        passes=passes(stored.passes, stored.verified),
        latency=latency_section(latency),
        sensitivity=sensitivity_section(sensitivity),
        recipe=escape(dump(stored.recipe)),
        origin=_origin(stored),
    )
    # a name out of a file may hold half a character, which no page can hold
    return written.encode("utf-8", "backslashreplace").decode("utf-8")


def _subtitle(facts: ResultFacts) -> str:
    stored = facts.report
    if stored.before is None or not stored.before.macs.exact:
        return f"{len(facts.pairs)} layers"
    share = facts.cost.macs.exact / stored.before.macs.exact
    params = facts.cost.params / max(stored.before.params, 1)
    how = "every pass was verified" if stored.verified else "NOT VERIFIED"
    names = ", then ".join(pass_.name for pass_ in stored.passes) or "no pass"
    return f"{share:.1%} of the MACs and {params:.1%} of the parameters, by {names}; {how}"


def _origin(stored: Report) -> str:
    """Writes the origin of the result."""
    facts = {
        "model": stored.source,
        "front end": stored.frontend,
        "inputs": ", ".join(stored.inputs) or "none",
        "seed": str(stored.recipe.get("seed", 0)),
        "gfx": stored.gfx_version,
        "torch": stored.torch_version,
    }
    listed = "".join(fact(name, text) for name, text in facts.items())
    notes = [
        *stored.assumed,
        *(f"opaque: {path}: {why}" for path, why in stored.opaque),
        *stored.notes,
    ]
    said = "".join(f'<p class="note">{escape(text)}</p>' for text in notes)
    return f"<dl>{listed}</dl>{said}"
