"""Commands that write files, run in forks, and what must be true of what they leave."""

import json
import os
import random
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from attack.archive_attacks import bases
from attack.verdicts import AttackSucceeded

__all__ = ["Writing", "check_left", "started", "writing"]

RECIPE = "passes: [{channel_prune: {ratio: 0.5}}]\n"


@dataclass(frozen=True)
class Writing:
    """A command line, its outputs, and what was at their places before."""

    arguments: list[str]
    outputs: tuple[Path, ...]
    before: dict[Path, bytes]
    inputs: tuple[Path, ...]


def writing(dice: random.Random, folder: Path) -> Writing:
    """Draws a command that writes one or several files, over older ones or not."""
    here = folder / "work"
    here.mkdir()
    net, recipe = here / "net.gfx", here / "recipe.yaml"
    net.write_bytes(bases()["gfx"])
    recipe.write_text(RECIPE)
    suffix = dice.choice((".gfx", ".pt"))
    inspect = ["inspect", str(net), "--fast", "--budget", "0.6"]
    inspect += ["--csv", "OUT0", "--html", "OUT1", "--emit-recipe", "OUT2"]
    arguments, names = dice.choice((
        (["apply", str(recipe), str(net), "-o", "OUT0"], [f"small{suffix}"]),
        (["apply", str(recipe), str(net), "-o", "OUT0"], [f"small{suffix}"]),
        (["export", str(net), "--force", "-o", "OUT0"], ["net.pt2"]),
        (inspect, ["t.csv", "t.html", "t.yaml"]),
        (inspect, ["t.csv", "t.html", "t.yaml"]),
        (["report", str(net), "--html", "OUT0", "--no-latency", "--no-sensitivity"], ["page.html"]),
    ))  # fmt: skip
    outputs = tuple(here / name for name in names)
    for number, path in enumerate(outputs):
        arguments = [str(path) if word == f"OUT{number}" else word for word in arguments]
    before: dict[Path, bytes] = {}
    for path in outputs if dice.random() < 0.4 else ():
        before[path] = b"older " * dice.randrange(1, 2000)
        path.write_bytes(before[path])
    return Writing(arguments, outputs, before, (net, recipe))


def started(action: Callable[[], object], errors: Path) -> int:
    """Runs an action in a fork, as the shell's main; what it prints goes to a file."""
    child = os.fork()
    if child == 0:
        _run(action, errors)
    return child


def _run(action: Callable[[], object], errors: Path) -> NoReturn:
    into = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(into, 2)
    os.dup2(into, 1)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    code = 0
    try:
        action()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 99
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def check_left(asked: Writing) -> bool:
    """Checks that outputs are all new and whole, or all as before, with nothing beside them.

    Returns whether they are new.
    """
    new = [path for path in asked.outputs if _content(path) != asked.before.get(path)]
    if new and len(new) != len(asked.outputs):
        raise AttackSucceeded("partial", f"{asked.arguments}: of {asked.outputs} only {new}")
    for path in new:
        _check_whole(path)
    known = {*asked.outputs, *asked.inputs}
    left = [p.name for p in asked.inputs[0].parent.iterdir() if p not in known]
    if left:
        raise AttackSucceeded("partial", f"{asked.arguments} left {left}")
    return bool(new)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _check_whole(path: Path) -> None:
    """Opens an output as its reader would."""
    import zipfile

    import gfx
    from gfx.pipeline.recipe import Recipe

    try:
        match path.suffix:
            case ".gfx":
                gfx.load(path)
            case ".pt":
                gfx.open_model(path, trust=True)
            case ".pt2":
                assert zipfile.ZipFile(path).testzip() is None
            case ".html":
                assert path.read_text("utf-8").rstrip().endswith("</html>")
            case ".yaml":
                Recipe.load(path)
            case ".csv":
                assert path.read_text("utf-8").endswith("\n")
            case ".json":
                json.loads(path.read_text("utf-8"))
    except Exception as error:
        raise AttackSucceeded(
            "partial", f"{path} is not whole: {type(error).__name__}: {error}"
        ) from error
