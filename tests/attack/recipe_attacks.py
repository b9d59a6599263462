"""Attacks on recipes: text that YAML chokes on, fields of any type, values out of all bounds."""

import random
from pathlib import Path
from typing import Any

import yaml

import gfx
from attack.verdicts import Verdict
from gfx.pipeline.recipe import Recipe, shipped
from gfx.pipeline.registry import passes

__all__ = ["SCALARS", "VALUES", "attack_recipe", "dumped", "structures"]

SCALARS = """2020-99-99 1:99:99 2020-01-01T99:99:99Z 2020-13-01 ~ .inf -.inf .nan 0o9 0b2 1_000 1e999
-0 0x 0xff 1e-3 yes null !!binary!!@ !!int!!x !!timestamp!!x !!float!!x !!python/name:os.system
!!python/object/apply:os.system [] {} '' "" "\\ud800" "\\0" * & ! | > % @ ` << = ?""".split()
VALUES: list[Any] = [None, True, False, 0, -1, 1, 2, 7, 10**6, 10**9, 2**31, 2**63, 2**64, 10**400,
    -(10**30), 0.0, -0.0, 0.5, 1e-300, 1e300, float("inf"), float("-inf"), float("nan"), "", "x", "*",
    "**", "[", "a" * 10_000, "ü\u202e\u0000", "l1", "random", "data", "/dev/zero", "../../etc", [], {},
    [[]], [{}], {"a": 1}, {1: 2}, [None], ["*"], [10**9], [1, 3, 10**9, 10**9], [0], [-1, 3],
    {"macs": 0.5}, {"macs": "9" * 5000}, {"params": -1}, {"latency_ms": 0}, {"macs": "1e999"}]  # fmt: skip


def attack_recipe(dice: random.Random, folder: Path) -> Verdict | None:
    """Changes a good recipe, then loads it, writes it again, and applies it to a small net."""
    way = dice.choice((_text, _scalar, _structure, _value, _value, _value))
    text = way(dice)
    path = folder / "attack.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    recipe = Recipe.load(path)
    assert Recipe.load(recipe.spec()) == recipe
    recipe.to_yaml()
    model, inputs = _net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    try:
        small = gfx.apply(recipe, model, None if recipe.input else inputs)
        str(gfx.report(small))
        gfx.save(small, folder / "attack.gfx")
        gfx.load(folder / "attack.gfx")
    finally:
        after = model.state_dict()
        assert all(bool((after[key] == value).all()) for key, value in before.items())
    return None


def _net() -> Any:
    import torch
    from torch import nn

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1)
    )
    return net.eval(), torch.randn(1, 3, 12, 12)


def _good(dice: random.Random) -> dict[str, Any]:
    """A recipe that is shipped, or one that lists a pass with all its fields."""
    if dice.random() < 0.3:
        spec = Recipe.load(dice.choice(shipped())).spec()
        spec["input"] = None
        return spec
    name = dice.choice(sorted(passes()))
    try:
        fields = {} if dice.random() < 0.3 else dict(passes()[name]().spec()[name])
    except Exception:
        fields = {}
    return {
        "recipe": 1,
        "about": "x",
        "input": [1, 3, 12, 12],
        "seed": 0,
        "passes": [{name: fields}],
    }


def dumped(spec: Any) -> str:
    return yaml.safe_dump(spec, sort_keys=False, allow_unicode=False)


def _text(dice: random.Random) -> bytes:
    """Bytes put in, taken out and doubled."""
    data = bytearray(dumped(_good(dice)).encode())
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(data) or 1)
        match dice.randrange(4):
            case 0:
                data[at:at] = bytes(dice.choices(range(256), k=dice.randint(1, 4)))
            case 1:
                del data[at : at + dice.randint(1, 9)]
            case 2:
                data[at:at] = dice.choice(
                    ["&a ", "*a", "? ", ": ", "\t", "- " * 50, "{" * 9]
                ).encode()
            case 3:
                data[at:at] = data[at : at + 40]
    return bytes(data)


def _scalar(dice: random.Random) -> str:
    """A value that YAML reads in a way of its own."""
    digits = dice.choice("0123456789") * dice.choice((50, 4_299, 6_000, 20_000))
    value = dice.choice(
        [*SCALARS, digits, f"-{digits}", f"0x{digits}", f"1.{digits}", f"0b{'1' * 9000}"]
    )
    return dumped(_good(dice)).replace(
        dice.choice((": 0\n", ": 1\n", ": x\n", ": null\n")), f": {value}\n", 1
    )


def _structure(dice: random.Random) -> str:
    """Keys that are no text, aliases of aliases, and nesting without end."""
    return dice.choice(structures(dice))


def structures(dice: random.Random) -> tuple[str, ...]:
    """Returns texts that have a structure which no recipe has."""
    deep = dice.choice((50, 900, 3_000))
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    bomb = f"a0: &a0 [x]\n{levels}"
    return (
        "passes: []\n? [a, b]\n: 1\n", "? {a: b}\n: 1\npasses: []\n", "passes: []\n? !!set {a}\n: 2\n",
        f"{bomb}passes: *a29\n", f"{bomb}about: *a29\npasses: []\n",
        f"passes:\n- channel_prune: {{keep: {'[' * deep}{']' * deep}}}\n",
        f"about: {'{a: ' * deep}1{'}' * deep}\npasses: []\n", "passes: &p [*p]\n", "&r {passes: [*r]}\n",
        "passes: []\nbudget: &b {macs: *b}\n", "<<: [{passes: []}, {seed: 1}]\n", "<<: 3\npasses: []\n",
        "--- {passes: []}\n--- {passes: []}\n", "%YAML 9.9\n---\npasses: []\n", "!!set {passes}\n",
        "!!omap [passes: []]\n", "!!pairs [passes: []]\n", "passes: !!set {fuse_batch_norm}\n",
        "passes: [fuse_batch_norm: {targets: !!binary aGk=}]\n", "\ufeffpasses: []\n", "", "\0", "- - - -\n",
        "passes: [2020-01-01]\n", "about: 2020-01-01\npasses: []\n", f"passes: [{'fuse_batch_norm, ' * 300}]\n",
        "seed: !!int ''\npasses: []\n", "passes: []\nseed: 0x" + "f" * 20_000,
    )  # fmt: skip


def _value(dice: random.Random) -> str:
    """Fields with values of any kind and size, at the top and inside passes."""
    spec = _good(dice)
    for _ in range(dice.randint(1, 2)):
        place: Any = spec
        if dice.random() < 0.75 and isinstance(spec["passes"], list) and spec["passes"]:
            entry = dice.choice(spec["passes"])
            place = next(iter(entry.values())) if isinstance(entry, dict) and entry else spec
        place = place if isinstance(place, dict) and place else spec
        if "importance" in place and dice.random() < 0.5:
            place["importance"] = dice.choice(("taylor", "reconstruction", "fisher"))
        key = (
            dice.choice([*place, "unknown"])
            if dice.random() < 0.98
            else dice.choice((3, None, True))
        )
        place[key] = dice.choice(VALUES)
    return dumped(spec)
