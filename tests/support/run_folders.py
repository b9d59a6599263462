"""Run folders as gfx.compress leaves them, without training: whole, unfinished, hostile."""

import json
import math
from pathlib import Path

import torch

from gfx.io.yaml_text import dump
from gfx.train.runs.sample_grids import grid, write_grid

SAID = ("task paired: 12 pairs", "held out: 2 of 12 examples, chosen by the seed")
STEPS = {"distill": 900, "fine": 600}


def images(count=2, size=8, value=0.0):
    """Examples whose left half is darker, so that a crop tells where it is."""
    made = torch.full((count, 3, size, size), value)
    made[..., : size // 2] -= 0.25
    return made


def write_picture(folder: Path, number: int, name: str, step: int, *, truth=True, student=0.5):
    columns = {
        "input": images(value=-0.75),
        "teacher": images(value=0.25),
        "student": images(value=student),
        "difference \N{MULTIPLICATION SIGN}10": images(value=0.0),
        "truth": images(value=1.0) if truth else None,
    }
    write_grid(folder / "samples" / f"{number:02d}-{name}-{step:09d}.png", grid(columns))


def rows_of(number: int, name: str, taken: int, every=3):
    for step in range(every, taken + 1, every):
        falls = math.exp(-step / 200)
        row = {"stage": number, "name": name, "step": step, "gan": -1 + 0.1 * math.sin(step)}
        yield {**row, "recon": 10 * falls + 0.01, "teacher given.gan": 0.5, "rate": 1.0}
        if step % 150 == 0 and step < taken:
            held = {"held.l1": falls, "held.psnr": 20 + 5 * (1 - falls)}
            yield {"stage": number, "name": name, "step": step, **held}


def write_run(
    folder: Path, *, ended=2, taken=300, about="distils, then trains on", pictures=True, stages=None
) -> Path:
    """Writes a run of two stages of which some have ended; the next has taken some steps."""
    steps = STEPS if stages is None else dict.fromkeys(stages, 900)
    folder.mkdir(parents=True)
    asked = {
        "stages": {name: {"fit": {"losses": {"gan": 1}, "steps": n}} for name, n in steps.items()},
        "recipe": 1,
        "about": about,
        "run": {
            "model": "ResnetGenerator 0123456789abcdef",
            "discriminator": None,
            "task": "paired",
            "examples": 10,
            "held out": 2,
            "size": None,
            "flip": False,
            "labels": 1.0,
            "range": [0.0, 1.0],
            "seed": 7,
            "scale": 1.0,
            "metrics": ["l1", "psnr"],
        },
    }
    (folder / "recipe.yaml").write_text(dump(asked), "utf-8")
    called = {"system": "two-stages", "preset": None, "data": ["/data/my shoes"], "said": SAID[:1]}
    (folder / "called.json").write_text(json.dumps(called))
    given = {"name": "given", "steps": 0, "macs": 50_000_000, "params": 40_000, "seconds": 0.0}
    plans = [
        {"name": name, "steps": n, "macs": 20_000_000, "params": 10_000, "seconds": 90.0}
        for name, n in steps.items()
    ]
    (folder / "plan.json").write_text(json.dumps({"stages": [given, *plans], "memory": 2**29}))
    lines = []
    for number, (name, length) in enumerate(steps.items(), 1):
        over = number <= ended
        reached = length if over else taken if number == ended + 1 else 0
        lines += list(rows_of(number, name, reached))
        if pictures:
            for step in range(150, reached + 1, 150):
                write_picture(folder, number, name, step)
        if over:
            scores = {"l1": 0.1 / number, "psnr": 24.0 + number}
            lines.append(
                {"stage": number, "name": name, "step": length}
                | {f"kept.{key}": value for key, value in scores.items()}
            )
            told = {"steps": length, "scores": scores, "critic": False, "said": list(SAID)}
            (folder / f"{number:02d}-{name}.json").write_text(json.dumps(told))
    if ended == len(steps):
        judged = {"scores": {"l1": 0.04, "psnr": 27.5}, "said": []}
        (folder / "given.json").write_text(json.dumps(judged))
    text = "".join(f"{json.dumps(row)}\n" for row in lines)
    (folder / "log.jsonl").write_text(text)
    return folder
