"""Attacks on folders of runs: damaged, swapped, forged and hostile files; the run goes on in them."""

import copy
import functools
import hashlib
import io
import json
import os
import pickle
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import gfx
from attack.archive_attacks import ODD, forged_code, places_of
from attack.verdicts import AttackSucceeded, Verdict, run_shell
from support.training_runs import compressed, state_of

__all__ = ["attack_run", "damaged", "forged", "odd_kind", "run_bases"]

RECIPE: dict[str, Any] = {
    "stages": {
        "teacher": {
            "fit": {"losses": {"gan": "hinge", "l1": 10}, "steps": 4, "batch": 2, "evaluate": 2},
            "keep": "best",
        },
        "slim": {
            "do": [{"channel_prune": {"ratio": 0.5}}],
            "fit": {"teacher": "teacher", "losses": {"mimic": 1}, "steps": 3, "batch": 2},
        },
    }
}
STOPS = {"early": 2, "middle": 5}  # runs of one step each


def run(folder: Path, **how: Any) -> Any:
    """Starts the run, or goes on with it."""
    return compressed(RECIPE, run=folder, **{"checkpoint_seconds": 0.0, "seed": 4} | how)


@functools.cache
def run_bases() -> tuple[Path, dict[str, bytes], dict[str, Any]]:
    """Makes runs that stopped early, in the middle, and not; the state and scores at the end."""
    folder = Path(tempfile.mkdtemp(prefix="gfx-attack-runs-"))
    made = run(folder / "whole")
    for name, count in STOPS.items():
        for _ in range(count):
            assert run(folder / name, time=0.0).model is None
    run(folder / "other", seed=5, time=0.0)
    for _ in range(STOPS["middle"] - 1):
        run(folder / "other", seed=5, time=0.0)
    run(folder / "done", seed=5)
    return folder, state_of(made.model), made.scores


def attack_run(dice: random.Random, folder: Path) -> Verdict | None:
    """Spoils one or two files of a run, then goes on with it, or shows it."""
    bases, state, scores = run_bases()
    here, canary = folder / "run", folder / "canary"
    shutil.copytree(bases / dice.choice(("early", "middle", "whole")), here)
    spoilt = [_spoil(dice, here, canary) for _ in range(dice.choice((1, 1, 1, 2)))]
    try:
        if dice.random() < 0.25:
            page = ["--html", str(folder / "page.html")]
            return run_shell(["report", str(here), *dice.choice(([], ["--json"], page))])
        made = run(here)
        if made.model is None or state_of(made.model) != state or made.scores != scores:
            raise AttackSucceeded("partial", f"another result after {spoilt}")
        str(gfx.report(made.model))
    finally:
        if canary.exists():
            raise AttackSucceeded("executed", f"code ran after {spoilt}")
    return Verdict("done", "; ".join(spoilt))


def _spoil(dice: random.Random, folder: Path, canary: Path) -> str:
    """Spoils a file in one way; returns what was done."""
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    names = [name for name in names if name.suffix not in (".png", ".html", ".csv")]
    names += [Path(name) for name in ("samples", "checkpoints", "02-slim.json", "metrics.csv")]
    path = folder / dice.choice(names)
    ways: tuple[Callable[[random.Random, Path, Path], object], ...] = (
        damaged, damaged, odd_kind, _swapped, _swapped, _swapped, forged, forged,
    )  # fmt: skip
    way = dice.choice(ways)
    return f"{path.name} {way.__name__}: {way(dice, path, canary) or ''}"


def damaged(dice: random.Random, path: Path, canary: Path) -> object:
    """Cuts, flips, empties or removes."""
    there = path.is_file() and not path.is_symlink()  # which an attack before this one made
    data = bytearray(path.read_bytes() if there else b"x" * 9)
    _removed(path)
    match dice.randrange(6):
        case 0:
            return "removed"
        case 1:
            data = bytearray()
        case 2:
            del data[dice.randrange(len(data) or 1) :]
        case 3:
            data += dice.randbytes(9)
        case _ if data:
            for _ in range(dice.randint(1, 3)):
                data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes(data))
    return f"{len(data)} bytes"


def odd_kind(dice: random.Random, path: Path, canary: Path) -> object:
    """Puts there what is no file."""
    _removed(path)
    path.parent.mkdir(exist_ok=True)
    match dice.randrange(5):
        case 0:
            path.symlink_to(path.name)
        case 1:
            path.symlink_to(dice.choice(("/dev/zero", "/dev/null", "/proc/self/mem", "no/such")))
        case 2:
            os.mkfifo(path)
        case 3:
            path.mkdir()
        case _:
            with path.open("wb") as file:
                file.truncate(1 << 31)  # 2 GiB that take no place
    return path.lstat()


def _swapped(dice: random.Random, path: Path, canary: Path) -> object:
    """Puts there a file of another run, another stage or another time, with its hash."""
    bases, _, _ = run_bases()
    run_of = path.parent if path.parent.name == "run" else path.parent.parent
    other = bases / dice.choice(("other", "done", "middle", "early", "whole"))
    found = [each for each in other.rglob("*") if each.is_file() and each.suffix == path.suffix]
    same = [each for each in found if each.name == path.name]
    chosen = dice.choice(same if same and dice.random() < 0.7 else found or [other / ".lock"])
    pairs = {chosen: path}
    if chosen.name == path.name and dice.random() < 0.6:  # all that belongs to it
        belong = other.glob(f"**/{path.name.split('.')[0]}*")
        pairs |= {each: run_of / each.relative_to(other) for each in belong if each.is_file()}
    for source, target in pairs.items():
        _removed(target)
        if not target.parent.exists():
            target.parent.mkdir()
        if not target.parent.is_dir():
            continue
        shutil.copyfile(source, target)
    return f"from {other.name}: {sorted(each.name for each in pairs)}"


def forged(dice: random.Random, path: Path, canary: Path) -> object:
    """Changes values of JSON, YAML or a checkpoint, with a hash that fits; or puts code there."""
    _removed(path) if path.is_symlink() or not path.is_file() else None
    path.parent.mkdir(exist_ok=True)
    text = path.read_bytes() if path.is_file() else b"{}"
    if path.suffix in (".pt", ".gfx"):
        data = _checkpoint(dice, text, canary)
        path.write_bytes(data)
        path.with_suffix(".sha256").write_text(hashlib.sha256(data).hexdigest())
        return "forged"
    lines = path.suffix == ".jsonl"
    try:
        tree = [json.loads(line) for line in text.splitlines()] if lines else json.loads(text)
    except ValueError:
        odd = (b"\xff\xfe", b"{a: " * 900, b"passes: []\n", b"[" * 90_000, b"1" * 9000, b"null")
        path.write_bytes(dice.choice(odd))
        return path.read_bytes()[:40]
    told = []
    for _ in range(dice.randint(1, 2)):
        place, key = dice.choice([*places_of(tree), ([tree], 0)])
        told.append(f"{key} of {str(place)[:80]}")
        if dice.random() < 0.2 and isinstance(place, dict):
            del place[key]
        else:
            place[key] = copy.deepcopy(dice.choice(ODD))
            told[-1] += f" to {str(place[key])[:40]!a}"
    rows = tree if lines and isinstance(tree, list) else [tree]
    written = "\n".join(map(json.dumps, rows)) + "\n"
    path.write_bytes(written.encode("utf-8", "surrogatepass"))
    return told


def _checkpoint(dice: random.Random, data: bytes, canary: Path) -> bytes:
    """Pickles code, odd values, or tensors of other shapes."""
    buffer = io.BytesIO()
    if dice.random() < 0.4:
        return pickle.dumps(forged_code(dice, canary))
    try:
        tree = torch.load(io.BytesIO(data), weights_only=True)
    except Exception:
        tree = {"players": [], "step": 3}
    place, key = dice.choice([*places_of(tree), ([tree], 0)])
    place[key] = dice.choice([*ODD[:20], torch.zeros(3), torch.tensor(float("nan"))])
    torch.save(tree, buffer)
    return buffer.getvalue()


def _removed(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.parent.is_dir():
        path.unlink(missing_ok=True)
