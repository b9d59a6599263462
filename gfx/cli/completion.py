"""Completes names on the command line: recipes, reference generators, passes, and their files.

1. Names are read from the text of the files that define them: to import these would import torch,
   which takes longer than a key press may.
2. bash breaks words at colons, so that `zoo:un` arrives in three words, and only what stands after
   the colon is replaced.
"""

import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path

from gfx.io.shipped_recipes import shipped, shipped_systems

__all__ = [
    "complete_model",
    "complete_pass",
    "complete_recipe",
    "complete_system",
    "complete_zoo_name",
    "join_words_at_colons",
    "without_beginning",
]

_GFX = Path(__file__).parents[1]
_NAME = re.compile(r'^ {4}name: ClassVar\[str\] = "(\w+)"', re.MULTILINE)
_MODELS = (".gfx", ".pt", ".pth", ".pt2", ".safetensors", ".ckpt", ".pkl", ".bin")
_ZOO = "zoo:"


def complete_recipe(incomplete: str) -> list[str]:
    """Completes RECIPE: the recipes that ship, and YAML files.

    Example:
        >>> complete_recipe("ha")
        ['half', 'half-latency', 'half-refit']
    """
    return _beginning(incomplete, shipped()) + _files(incomplete, (".yaml", ".yml"))


def complete_system(incomplete: str) -> list[str]:
    """Completes RECIPE of what trains: the systems that ship, and YAML files.

    Example:
        >>> complete_system("gan-compression-d")
        ['gan-compression-distill']
    """
    return _beginning(incomplete, shipped_systems()) + _files(incomplete, (".yaml", ".yml"))


def complete_model(incomplete: str) -> list[str]:
    """Completes MODEL: reference networks as zoo:NAME, and files of models.

    Example:
        >>> complete_model("zoo:un")
        ['zoo:unet_256']
    """
    zoo = (f"{_ZOO}{name}" for name in complete_zoo_name(""))
    return _beginning(incomplete, zoo) + _files(incomplete, _MODELS)


def complete_zoo_name(incomplete: str) -> list[str]:
    """Completes the name of a reference generator or discriminator.

    Example:
        >>> complete_zoo_name("sag")
        ['sagan', 'sagan_discriminator']
    """
    return _beginning(incomplete, _names_in(_GFX / "zoo"))


def complete_pass(incomplete: str) -> list[str]:
    """Completes the name of a pass that ships.

    Example:
        >>> complete_pass("fuse")
        ['fuse_batch_norm']
    """
    found = find_spec("passes")  # where they are; nothing is imported
    folders = [] if found is None else list(found.submodule_search_locations or ())
    return _beginning(incomplete, (name for at in folders for name in _names_in(Path(at))))


def join_words_at_colons(environ: MutableMapping[str, str]) -> str:
    """Joins what bash has broken at colons, in the variables of its completion (rule 2).

    Returns what bash has already of the word that is completed: completions begin after that.

    Example:
        >>> words = {"COMP_WORDS": "gfx cost zoo : un", "COMP_CWORD": "4"}
        >>> join_words_at_colons(words), words["COMP_WORDS"].split(), words["COMP_CWORD"]
        ('zoo:', ['gfx', 'cost', 'zoo:un'], '2')
    """
    text, place = environ.get("COMP_WORDS", ""), environ.get("COMP_CWORD", "")
    words = text.split("\n" if "\n" in text else " ")
    if ":" not in words or not place.isdigit():
        return ""
    joined: list[str] = []
    current = 0
    for number, word in enumerate(words):
        if joined and (word == ":" or words[number - 1] == ":"):
            joined[-1] += word
        else:
            joined.append(word)
        if number <= int(place):
            current = len(joined) - 1
    environ["COMP_WORDS"], environ["COMP_CWORD"] = "\n".join(joined), str(current)
    before, colon, _ = joined[current].rpartition(":")
    return before + colon


@contextmanager
def without_beginning(beginning: str) -> Iterator[None]:
    """Takes what bash has already off each line that is printed on stdout meanwhile."""
    if not beginning:
        yield
        return
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            yield
    finally:
        for line in said.getvalue().splitlines():
            sys.stdout.write(f"{line.removeprefix(beginning)}\n")


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))


def _names_in(folder: Path) -> Iterator[str]:
    """Lists the names that the classes of a folder give themselves (rule 1)."""
    for path in folder.rglob("*.py"):
        yield from _NAME.findall(path.read_text("utf-8"))


def _files(incomplete: str, suffixes: tuple[str, ...]) -> list[str]:
    """Lists the files and folders that a path may go on to."""
    folder, _, begun = incomplete.rpartition("/")
    base = f"{folder}/" if folder or incomplete.startswith("/") else ""
    try:
        found = sorted(os.scandir(base or "."), key=lambda entry: entry.name)
    except OSError:
        return []
    return [
        f"{base}{entry.name}{'/' * entry.is_dir()}"
        for entry in found
        if entry.name.startswith(begun)
        and (begun or not entry.name.startswith("."))
        and (entry.is_dir() or entry.name.endswith(suffixes))
    ]
