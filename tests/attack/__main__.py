"""Runs attacks: `python -m attack --minutes 60`, or one again with --kind and --seed."""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from attack.archive_attacks import attack_archive, bases
from attack.disk_attacks import attack_disk
from attack.kill_attacks import attack_kill
from attack.model_attacks import attack_model
from attack.option_attacks import attack_option
from attack.picture_attacks import attack_picture
from attack.recipe_attacks import attack_recipe
from attack.run_attacks import attack_run, run_bases
from attack.search_attacks import attack_search, search_bases
from attack.signal_attacks import attack_signal
from attack.system_attacks import attack_system
from attack.verdicts import FAULTS, Verdict, forked

Attack = Callable[[random.Random, Path], Verdict | None]

# (attack, seconds allowed, how many of a hundred)
KINDS: dict[str, tuple[Attack, float, int]] = {
    "recipe": (attack_recipe, 60, 13),
    "archive": (attack_archive, 30, 14),
    "picture": (attack_picture, 30, 12),
    "model": (attack_model, 60, 13),
    "option": (attack_option, 60, 8),
    "system": (attack_system, 60, 10),
    "run": (attack_run, 60, 10),
    "search": (attack_search, 60, 8),
    "kill": (attack_kill, 60, 5),
    "disk": (attack_disk, 60, 4),
    "signal": (attack_signal, 60, 3),
}


def attempt(kind: str, seed: int) -> Verdict:
    """Runs one attack in a folder of its own."""
    attack, seconds, _ = KINDS[kind]
    folder = Path(tempfile.mkdtemp(prefix="gfx-attack-"))
    os.environ["GFX_CACHE"] = str(folder / "cache")

    def action() -> Verdict | None:
        os.chdir(folder)
        torch.manual_seed(seed)
        return attack(random.Random(f"{kind} {seed}"), folder)

    try:
        return forked(action, seconds=seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Runs attacks until the time or the number is spent; 1 if any succeeded."""
    parser = argparse.ArgumentParser(prog="attack", description=__doc__)
    parser.add_argument("--kind", choices=list(KINDS), action="append")
    parser.add_argument("--seed", type=int, help="of the first attack; without it a fresh one")
    parser.add_argument("--count", type=int, help="attacks of each kind; with --seed alone, 1")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--short", help="kind=count,...: the same attacks each time")
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(10**9) if asked.seed is None else asked.seed
    kinds = asked.kind or list(KINDS)
    print(f"attacks of {', '.join(kinds)} from seed {seed}", flush=True)
    torch.set_num_threads(1)
    bases()  # made once, before the forks
    if "run" in kinds or asked.short:
        run_bases()
    if "search" in kinds or asked.short:
        search_bases()
    ended: Counter[str] = Counter()
    found = 0
    short = [item.split("=") for item in (asked.short or "").split(",") if item]
    planned = (
        ((kind, number) for kind, count in short for number in range(int(count)))
        if short
        else _planned(kinds, seed, asked.count, asked.minutes)
    )
    for kind, number in planned:
        verdict = attempt(kind, number)
        ended[verdict.outcome] += 1
        if verdict.bad:
            found += 1
            again = f"PYTHONPATH=tests python -m attack --kind {kind} --seed {number}"
            print(f"\n{verdict.outcome}: {again}")
            print(verdict.text, flush=True)
        elif asked.count is None and asked.minutes is None and not short:
            print(f"{verdict.outcome}: {verdict.text}")
    print(_summary(ended))
    return 1 if found else 0


def _planned(kinds: list[str], seed: int, count: int | None, minutes: float | None):
    """Yields (kind, seed): so many of each kind, or in turns until the time is over."""
    if minutes is None:
        for kind in kinds:
            yield from ((kind, seed + n) for n in range(count or 1))
        return
    end = time.monotonic() + 60 * minutes
    dice = random.Random(seed)
    weights = [KINDS[kind][2] for kind in kinds]
    while time.monotonic() < end:
        yield dice.choices(kinds, weights)[0], dice.randrange(10**9)


def _summary(ended: Counter[str]) -> str:
    words = {"traceback": "tracebacks", "hang": "hangs", "crash": "crashes"}
    faults = ", ".join(f"{ended[fault]} {words.get(fault, fault)}" for fault in FAULTS)
    total = sum(ended.values())
    return f"{total} attacks: {ended['done']} done, {ended['refused']} refused; {faults}"


if __name__ == "__main__":
    sys.exit(main())
