"""Writes the command that goes on in the folder of a run."""

import shlex
from collections.abc import Mapping
from typing import Any

from gfx.reports.run.run_facts import FolderFacts

__all__ = ["command_of", "words_of_command"]

_TASKS = ("paired", "unpaired", "latent", "class", "labels", "super_resolution", "self")


def command_of(facts: FolderFacts) -> str:
    """Returns the command that goes on in a folder; what is in capitals is to be filled in."""
    return " ".join(words_of_command(facts))


def words_of_command(facts: FolderFacts) -> list[str]:
    """Returns the words of the command, each quoted for the shell."""
    asked, called = facts.asked, facts.called
    data = called.get("data")
    paths = [str(path) for path in data] if isinstance(data, list) and data else ["DIR"]
    system = called.get("system")
    words = ["gfx", "compress", system if isinstance(system, str) else "RECIPE", "MODEL"]
    words += [word for path in paths for word in ("--data", path)]
    words += _option("--preset", called.get("preset"))
    words += ["-o", "FILE", "--run", str(facts.folder.absolute())]
    words += _discriminator(asked.get("discriminator"))
    players = asked.get("players")
    for name in players if isinstance(players, Mapping) else ():
        words += ["--player", f"{name}=PLAYER"]
    words += _options(asked)
    return list(map(shlex.quote, words))


def _options(asked: Mapping[str, Any]) -> list[str]:
    """Returns the options of the shell that say what a run was given, if not as by default."""
    words = _option("--task", asked.get("task") if asked.get("task") in _TASKS else None)
    for name, default in (("size", None), ("crop", None), ("val", None), ("labels", 1.0)):
        value = asked.get(name)
        words += _option(f"--{name}", None if value == default else value)
    limits = asked.get("range")
    if isinstance(limits, list) and len(limits) == 2:
        words += ["--range", f"{limits[0]:g}..{limits[1]:g}"]
    words += ["--no-flip"] if asked.get("flip") is False else []
    for name, plural in (("attribute", "attributes"), ("metric", "metrics")):
        values = asked.get(plural)
        for value in values if isinstance(values, list) else ():
            words += _option(f"--{name}", value)
    if "inception" in str(asked.get("metrics")):
        words += ["--fid-weights", "WEIGHTS"]
    for name, default in (("seed", 0), ("scale", 1.0)):
        value = asked.get(name)
        words += _option(f"--{name}", None if value == default else value)
    return words


def _discriminator(given: Any) -> list[str]:
    """Names a reference discriminator; of another only its weights are known."""
    if given is None:
        return []
    known = isinstance(given, str) and given.startswith("zoo:")
    return ["--discriminator", given if known else "DISCRIMINATOR"]


def _option(name: str, value: Any) -> list[str]:
    if value is None:
        return []
    return [name, str(value) if isinstance(value, int | float | str) else "VALUE"]
