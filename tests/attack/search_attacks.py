"""Attacks on folders of searches: damaged, forged and hostile files; the search goes on in them."""

import functools
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

import gfx
from attack.run_attacks import damaged, forged, odd_kind
from attack.verdicts import AttackSucceeded, Verdict, forked, run_shell
from gfx.train import tasks
from gfx.train.search.front_file import read_front
from support.search_cases import small_net
from support.training_runs import state_of

__all__ = ["attack_search", "search_bases"]

ALL, EARLY = 8, 4  # nets that are judged in the end, and of a search that stopped


def search(folder: Path, evaluations: int = ALL, **how: Any) -> Any:
    """Begins the search, or goes on with it."""
    x = torch.linspace(-1, 1, 12 * 3 * 8 * 8).sin().reshape(12, 3, 8, 8)
    net = gfx.supernet(small_net(3), x[:1], widths={"step": 4}, order=None, verify=False)
    return gfx.search(
        net, data=tasks.inputs(x), by="random", evaluations=evaluations, examples=8, seed=3, run=folder,
        **how,
    )  # fmt: skip


@functools.cache
def search_bases() -> tuple[Path, dict[str, float], list[dict[str, bytes]]]:
    """Makes searches that stopped early, with and without a front, and not.

    Returns the value of every net there is, and the nets that were found.
    """
    folder = Path(tempfile.mkdtemp(prefix="gfx-attack-searches-"))
    made = forked(lambda: _make(folder), seconds=300)  # its workers are gone: nobody waits for them
    assert not made.bad, made.text
    paths = [path for name in ("whole", "shared whole") for path in (folder / name).glob("nets/*")]
    every = read_front(folder / "every")
    return folder, _values(every), [state_of(gfx.load(path)) for path in paths]


def _make(folder: Path) -> None:
    for name, count in (("early", EARLY), ("whole", ALL), ("shared", EARLY), ("shared whole", ALL)):
        here = folder / name
        storage = f"journal:{here / 'shared.log'}" if name.startswith("shared") else None
        search(here, count, storage=storage)
    shutil.copytree(folder / "early", folder / "begun")
    for name in ("front.json", "front.html"):
        (folder / "begun" / name).unlink()
    search(folder / "every", 1000)


def _values(front: Any) -> dict[str, float]:
    return {str(sorted(net.widths.items())): net.value for net in front.searched}


def attack_search(dice: random.Random, folder: Path) -> Verdict | None:
    """Spoils one or two files of a search, then goes on with it, or takes a net of its front."""
    bases, values, nets = search_bases()
    name = dice.choice(("early", "begun", "whole", "whole", "shared", "shared whole"))
    here, canary = folder / "run", folder / "canary"
    shutil.copytree(bases / name, here)
    spoilt = [_spoil(dice, here, canary) for _ in range(dice.choice((1, 1, 1, 2)))]
    try:
        if dice.random() < 0.4:
            return _shown(dice, here, nets if name.endswith("whole") else None, spoilt)
        journal = f"journal:{here / 'shared.log'}" if name.startswith("shared") else None
        found = _values(search(here, storage=journal).front)
        if len(found) != ALL or not found.items() <= values.items():
            raise AttackSucceeded("partial", f"other values after {spoilt}")
    finally:
        if canary.exists():
            raise AttackSucceeded("executed", f"code ran after {spoilt}")
    return Verdict("done", "; ".join(spoilt))


def _shown(dice: random.Random, here: Path, nets: Any, spoilt: list[str]) -> Verdict:
    """Shows the front, or takes a net of it: one that was judged."""
    small = here.parent / "small.gfx"
    pick = dice.choice(("best", "macs=0.7", "params=1k", "l1=0.1"))
    take = ["--pick", pick, "-o", str(small)]
    verdict = run_shell(["search", str(here), *dice.choice(([], ["--json"], take, take))])
    if verdict.outcome == "refused" and small.exists():
        raise AttackSucceeded("partial", f"{small.name} is there after {spoilt}")
    if small.exists() and nets is not None and state_of(gfx.load(small)) not in nets:
        raise AttackSucceeded("partial", f"another net after {spoilt}")
    return verdict


def _spoil(dice: random.Random, folder: Path, canary: Path) -> str:
    """Spoils a file in one way; returns what was done."""
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    names = [name for name in names if name.suffix not in (".png", ".html")]
    names += [Path(name) for name in ("nets", "samples", "search.json", "front.json", "front.html")]
    path = folder / dice.choice(names)
    way = dice.choice((damaged, damaged, odd_kind, forged, forged))
    return f"{path.name} {way.__name__}: {way(dice, path, canary) or ''}"
