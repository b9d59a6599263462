"""Attacks on recipes with stages: fields of any type and size, YAML that lies, on a tiny net."""

import copy
import random
from pathlib import Path
from typing import Any

import torch

import gfx
from attack.archive_attacks import places_of
from attack.recipe_attacks import SCALARS, VALUES, dumped, structures
from attack.verdicts import Verdict
from gfx.io.shipped_recipes import shipped_systems
from gfx.train.systems import load_system
from support.training_runs import compressed, cycled, generator

__all__ = ["attack_system"]

LOSSES = ("gan", "l1", "recon", "mimic", "taps", "perceptual", "kid", "tv", "relation", "nothing")
ODD: list[Any] = [*VALUES, "given", "50%", "5%", "1+1", "-1+3", "1e9+1e9", "9" * 400, "0+0", "inherit", "frozen",
    "none", "auto", "bf16", "last", "best", {"l1": "nan"}, {"gan": {"mode": "x"}}, {"discriminator": 10**30},
    {"stage": "given", "online": True, "losses": {"l1": 1}}, {"rule": "nothing"}, [0.5, 2], [float("nan"), 0.9]]  # fmt: skip


NEAR: dict[type, list[Any]] = {
    int: [0, 1, 2, 3, 7, 64, -1, 10**6, 2**31],
    float: [0.0, 0.5, 1.0, 1e-30, 1e30, 0.999, -1.0],
    bool: [True, False],
    str: ["given", "teacher", "slim", "inherit", "fresh", "frozen", "none", "best", "last", "1+1", "50%", "bf16",
        "discriminator_first", "l1", "taylor", "global", "2", "auto", "float32"],
}  # fmt: skip


def attack_system(dice: random.Random, folder: Path) -> Verdict | None:
    """Spoils a system, then reads it, writes it again, plans it, and sometimes runs it."""
    path = folder / "system.yaml"
    text = dice.choice((_value, _value, _near, _near, _near, _scalar, _structure))(dice)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    system = load_system(path)
    assert load_system(system.spec()) == system
    system.to_yaml()
    model = generator()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    try:
        dry = dice.random() < 0.6
        steps = [0 if stage.fit is None else stage.fit.length for stage in system.stages]
        short = all(not each or each.constant + each.falling < 50 for each in steps)
        large = any(s.fit and s.fit.batch * s.fit.accumulate > 64 for s in system.stages)
        if large:
            return Verdict("done", "as many examples as were asked for")
        made = compressed(
            path, model, dry_run=dry or not short, run=folder / "run", scale=1.0 if short else 1e-6
        )
        if made.model is not None:
            str(gfx.report(made.model))
            made.model(torch.zeros(1, 3, 8, 8))
            gfx.save(made.model, folder / "small.gfx")
    finally:
        now = model.state_dict()
        assert all(torch.equal(now[key], value) for key, value in before.items())
    return None


def _good(dice: random.Random) -> dict[str, Any]:
    """A system that ships, or a small one of two stages."""
    if dice.random() < 0.3:
        return load_system(dice.choice(shipped_systems())).spec()
    if dice.random() < 0.2:
        return cycled(2)
    losses = {name: 1 for name in dice.sample(LOSSES[:5], 2)}
    first = {"losses": {"l1": 1}, "steps": 2, "batch": 2, "discriminator": "none"}
    second = {"losses": losses, "steps": "1+1", "batch": 2, "teacher": "given", "taps": "auto"}
    return {
        "recipe": 1,
        "seed": 0,
        "stages": {
            "teacher": {"fit": first, "keep": dice.choice(("last", "best", "if_better"))},
            "slim": {"do": [{"channel_prune": {"ratio": 0.5}}], "fit": second},
        },
    }


def _value(dice: random.Random) -> str:
    """One or two values anywhere are changed, renamed or taken out."""
    spec = copy.deepcopy(_good(dice))
    for _ in range(dice.randint(1, 2)):
        place, key = dice.choice(list(places_of(spec)))
        match dice.randrange(8):
            case 0:
                del place[key]
            case 1 if isinstance(place, dict):
                place[dice.choice((*LOSSES, "do", "fit", "like", "search", 3))] = place.pop(key)
            case _:
                place[key] = copy.deepcopy(dice.choice(ODD))
        if not spec:
            break
    return dumped(spec)


def _near(dice: random.Random) -> str:
    """One to three values become others of their kind: what is read, and may fail later."""
    spec = copy.deepcopy(_good(dice))
    for _ in range(dice.randint(1, 3)):
        places = [(place, key) for place, key in places_of(spec) if type(place[key]) in NEAR]
        place, key = dice.choice(places)
        place[key] = dice.choice(NEAR[type(place[key])])
    return dumped(spec)


def _scalar(dice: random.Random) -> str:
    """A value that YAML reads in a way of its own."""
    value = dice.choice([*SCALARS, "9" * 6000, f"0x{'f' * 900}", f"1.{'0' * 9000}", "1e400"])
    old = dice.choice((": 1\n", ": 2\n", ": 0\n", ": none\n", ": last\n", ": 0.5\n"))
    return dumped(_good(dice)).replace(old, f": {value}\n", 1)


def _structure(dice: random.Random) -> str:
    """Keys that are no text, aliases of aliases, and nesting without end."""
    stages = "stages: {a: {fit: {losses: {l1: 1}, steps: 1}}}\n"
    return dice.choice(structures(dice)).replace("passes: []\n", stages)
