"""Prints the stages of a run: their costs, steps and scores on held-out examples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gfx.cli.output_files import check_targets, write_all
from gfx.cli.screen import columns_of_screen, print_json, print_table, print_text

if TYPE_CHECKING:
    from gfx.reports.run.run_facts import FolderFacts
    from gfx.train.runs.preflight import RunPlan

__all__ = ["print_stages", "report_run"]


def print_stages(
    plan: "RunPlan", scores: Mapping[str, Mapping[str, Any]], taken: Mapping[str, int] | None = None
) -> None:
    """Prints a row a stage, and what the run was estimated to take.

    `taken` are the steps of stages that have not ended.
    """
    rows = [
        (
            stage.name,
            f"{stage.macs:,}",
            f"{stage.params:,}",
            f"{taken[stage.name]:,}/{stage.steps:,}"
            if taken and stage.name in taken
            else f"{stage.steps:,}",
            ", ".join(f"{k} {v:.4g}" for k, v in scores.get(stage.name, {}).items()),
        )
        for stage in plan.stages
    ]
    print_table(("stage", "#MACs", "#parameters", "#steps", "held out"), rows)
    print_text(plan.estimate)


def report_run(folder: Path, html: Path | None, *, as_json: bool) -> None:
    """Prints how far the run of a folder is; writes its page, if a file is named.

    Raises: ArchiveError if it is no folder of a run; typer.BadParameter if the page would replace
    a file of the run.
    """
    from gfx.errors import ArchiveError
    from gfx.io.guards import printable
    from gfx.reports.run.run_facts import is_run_folder, run_facts
    from gfx.reports.run.run_page import run_page

    if not is_run_folder(folder):
        raise ArchiveError(
            f"{printable(folder)} is a folder without recipe.yaml, so no run of gfx compress; name "
            "a .gfx file, or the folder that --run named"
        )
    if html is not None:
        check_targets([html])
        inside = html.resolve().is_relative_to(folder.resolve())
        if inside and html.suffix not in (".html", ".htm"):
            raise typer.BadParameter(f"--html {html} is in the folder of the run; end it in .html")
    facts = run_facts(folder)
    if html is not None:
        sizes = write_all({html: run_page(facts).encode("utf-8", "replace")})
    if as_json:
        print_json(_data(facts))
    elif html is None:
        _print(facts)
    if html is not None:
        typer.echo(f"wrote {html} ({sizes[html]:,} bytes)", err=True)


def _print(facts: "FolderFacts") -> None:
    from gfx.io.guards import printable
    from gfx.reports.run.resume_command import words_of_command

    print_text(printable(f"{facts.folder}: the run of {facts.system} on a {facts.model}"))
    print_text(printable(facts.progress))
    for said in facts.said:
        print_text(f"assumed: {printable(said)}")
    if facts.plan is not None:
        print_stages(facts.plan, facts.scores, _taken(facts))
    for fault in facts.faults:
        print_text(f"note: {printable(fault)}")
    if not facts.finished:
        print_text("it goes on by the same command; what is in capitals the folder does not know:")
        typer.echo(_command([printable(word) for word in words_of_command(facts)]))


def _command(words: Sequence[str]) -> str:
    """Breaks a command between its words, as shells read it; a blank in quotes stays."""
    lines = [""]
    for word in words:
        # a blank before the word, three before the line, and two characters at its end
        if lines[-1] and len(lines[-1]) + len(word) + 6 > columns_of_screen():
            lines.append("")
        lines[-1] += f" {word}"
    return " \\\n  ".join(f" {line}" for line in lines)


def _taken(facts: "FolderFacts") -> dict[str, int]:
    return {stage.name: stage.taken for stage in facts.stages if not stage.ended and stage.steps}


def _data(facts: "FolderFacts") -> dict[str, Any]:
    return {
        "folder": str(facts.folder),
        "system": facts.system,
        "model": facts.model,
        "finished": facts.finished,
        "progress": facts.progress,
        "taken": {stage.name: stage.taken for stage in facts.stages},
        "assumed": list(facts.said),
        "plan": None if facts.plan is None else facts.plan.spec(),
        "scores": {name: dict(scores) for name, scores in facts.scores.items()},
        "notes": list(facts.faults),
    }
