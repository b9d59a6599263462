"""Writes report.html of a run from the files of its folder: costs, scores, curves, pictures.

1. All text is escaped; the page's own policy forbids every request.
2. The page is complete without its script, which only wipes between pictures.
3. It only informs: whatever fails becomes a sentence, and the run goes on.
"""

import shlex
from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from gfx.costs import human
from gfx.io.atomic_writes import write_files
from gfx.io.guards import printable, reason
from gfx.reports.html import page_head
from gfx.reports.html.cells import bar, cell, fact, moved_fact
from gfx.reports.run.curve_svg import curve_section
from gfx.reports.run.curves import charts_of
from gfx.reports.run.resume_command import command_of
from gfx.reports.run.run_facts import FolderFacts, StageFacts, run_facts
from gfx.reports.run.sample_pictures import pictures_of

__all__ = ["run_page", "write_run_page"]

_SAID = 200  # sentences
_LONGEST = 100_000  # characters of the recipe


def write_run_page(folder: Path) -> str:
    """Writes report.html into a run folder; it appears whole or not at all.

    Returns what could not be done, in a sentence; "" if all was (rule 3).
    """
    said = ""
    try:
        text = run_page(run_facts(folder))
    except Exception as error:  # whatever is in the folder
        said = f"report.html of {printable(folder)} could not be drawn ({reason(error)})"
        text = _failed(said)
    data = text.encode("utf-8", "replace")
    try:
        write_files({folder / "report.html": lambda file: file.write(data)})
    except Exception as error:  # a full disk
        said = f"report.html of {printable(folder)} could not be written ({reason(error)})"
    return said


def run_page(facts: FolderFacts) -> str:
    """Returns the page of a run as text.

    Example: `Path("run.html").write_text(run_page(run_facts(Path("runs/shoes"))), "utf-8")`.
    """
    pictures = pictures_of(facts)
    template = Template(files("gfx.reports.run").joinpath("run.html").read_text("utf-8"))
    name = f"{facts.system}: {facts.model}"
    recipe = facts.recipe[:_LONGEST]
    if len(facts.recipe) > _LONGEST:
        recipe += f"\n... and {len(facts.recipe) - _LONGEST:,} characters more, in recipe.yaml"
    return template.substitute(
        head=page_head(
            f"gfx compress: {name}",
            files("gfx.reports.run").joinpath("run.css").read_text("utf-8"),
            pictures.rules,
            scripts=True,
        ),
        heading=escape(name),
        progress=escape(facts.progress),
        about=escape(facts.about[:_LONGEST]),
        tiles=_tiles(facts),
        faults=_notes(facts.faults),
        stages=_stage_table(facts),
        pictures=pictures.html,
        curves=curve_section(charts_of(facts)),
        assumed=_assumed(facts),
        next="Where the net is" if facts.finished else "How to go on",
        command=_next(facts),
        recipe=escape(recipe),
    )


def _failed(said: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>gfx compress</title>'
        f"</head><body><p>{escape(said)}; log.jsonl and metrics.csv hold the numbers.</p>"
        "</body></html>\n"
    )


def _tiles(facts: FolderFacts) -> str:
    """Returns costs and scores before and after, and what the run was given."""
    shown = ""
    done = [stage for stage in facts.stages if stage.macs is not None]
    if facts.plan is not None and done:
        given, last = facts.plan.stages[0], done[-1]
        shown += moved_fact("MACs", given.macs, last.macs or 0)
        shown += moved_fact("parameters", given.params, last.params or 0)
    ended = [stage for stage in facts.stages if stage.ended and stage.scores]
    if ended:
        for metric, value in ended[-1].scores.items():
            shown += fact(f"held out: {metric}", f"{value:.4g}", _before(facts, metric))
    for name in ("model", "task", "examples", "held out", "seed", "scale"):
        if name in facts.asked:
            shown += fact(name, str(facts.asked[name])[:200])
    return shown


def _before(facts: FolderFacts, metric: str) -> str:
    """Says what the model as given has, else what the first evaluation of the run gave."""
    if metric in facts.given_scores:
        return f' <span class="note">as given: {facts.given_scores[metric]:.4g}</span>'
    rows = (row for row in facts.rows if isinstance(row.get(f"held.{metric}"), float))
    row = next(rows, None)
    if row is None:
        return ""
    said = f"{row[f'held.{metric}']:.4g} at step {row['step']:,} of stage {row['stage']}"
    return f' <span class="note">{escape(said)}</span>'


def _stage_table(facts: FolderFacts) -> str:
    """Returns a row a stage: costs, steps, scores; the model as it was given is the first."""
    metrics = list(dict.fromkeys(key for stage in facts.stages for key in stage.scores))
    names = ("MACs", "of the given", "parameters", "steps", *metrics)
    heads = '<th scope="col">stage</th>' + "".join(
        f'<th scope="col" class="number">{escape(name)}</th>' for name in names
    )
    body = ""
    most = None if facts.plan is None else facts.plan.stages[0].macs
    if facts.plan is not None:
        given = facts.plan.stages[0]
        cells = _costs(given.macs, given.params, most) + _number("", "steps")
        cells += "".join(_score(facts.given_scores, metric) for metric in metrics)
        body = f'<tr><th scope="row">as given</th>{cells}</tr>'
    body += "".join(_stage(stage, facts, metrics, most) for stage in facts.stages)
    estimate = "" if facts.plan is None else facts.plan.estimate
    return (
        f'<table class="stacks"><caption>MACs in the exact convention, for one example. '
        f"{escape(estimate)}</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
    )


def _stage(stage: StageFacts, facts: FolderFacts, metrics: Iterable[str], most: int | None) -> str:
    runs = not stage.ended and all(s.ended for s in facts.stages[: stage.number - 1])
    cells = _costs(stage.macs, stage.params, most)
    if stage.ended or not stage.steps:
        cells += _number(f"{stage.taken:,}" if stage.steps else "0", "steps")
    else:
        filled = bar(stage.taken / stage.steps, "saving")
        cells += cell(
            f"{stage.taken:,} of {stage.steps:,}", css="number", extra=filled, label="steps"
        )
    cells += "".join(_score(stage.scores, metric) for metric in metrics)
    css = ' class="running"' if runs else ""
    return f'<tr{css}><th scope="row">{escape(stage.name)}</th>{cells}</tr>'


def _score(scores: Mapping[str, float], metric: str) -> str:
    value = scores.get(metric)
    return _number("" if value is None else f"{value:.4g}", metric)


def _costs(macs: int | None, params: int | None, most: int | None) -> str:
    cells = _number("-" if macs is None else human(macs), "MACs")
    if macs is None or not most:
        cells += _number("-", "of the given")
    else:
        filled = bar(macs / most, "share")
        cells += cell(f"{macs / most:.1%}", css="number", extra=filled, label="of the given")
    return cells + _number("-" if params is None else f"{params:,}", "parameters")


def _number(text: str, label: str) -> str:
    return cell(text, css="number", label=label) if text else '<td class="number"></td>'


def _assumed(facts: FolderFacts) -> str:
    if not facts.said:
        return '<p class="note">A stage says so when it ends; none has.</p>'
    items = "".join(f"<li>{escape(said)}</li>" for said in facts.said[:_SAID])
    left = len(facts.said) - _SAID
    return f'<ul class="assumed">{items}</ul>' + _notes([f"{left} more"] if left > 0 else [])


def _notes(sentences: Iterable[str]) -> str:
    return "".join(f'<p class="note">{escape(said)}</p>' for said in sentences)


def _next(facts: FolderFacts) -> str:
    """Says where the result is, or how to go on."""
    if facts.finished:
        last = facts.stages[-1]
        file = facts.folder.absolute() / f"{last.number:02d}-{last.name}.gfx"
        return (
            f'<p>The generator that the last stage has kept:</p><pre tabindex="0">'
            f"gfx report {escape(shlex.quote(str(file)))}</pre>"
        )
    return (
        "<p>The same command, or the same call of gfx.compress, goes on where it stopped. What "
        "is in capitals is not known from the folder:</p>"
        f'<pre tabindex="0">{escape(command_of(facts))}</pre>'
    )
