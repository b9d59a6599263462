"""Attacks on the command line: options and names of models with values of any kind and size."""

import random
from pathlib import Path

from attack.verdicts import Verdict, run_shell

__all__ = ["attack_option"]

NUMBERS = ["0", "-1", "1", "3", "1000000000", "9223372036854775807", "9223372036854775808", "1" + "0" * 30, "9" * 500,
    "0.5", "nan", "inf", "-inf", "1e308", "", "x", "0x10", "1_0", "½", "\u0661"]  # fmt: skip
WORDS = {
    "--attention": ["heads", "width"],
    "--group-norm": ["whole", "auto"],
    "--budget": [
        "0.5",
        "macs=0.5",
        "macs=" + "9" * 500,
        "{macs: *a}",
        "{macs: 0.9, params: 1e-9}",
        "latency_ms=0",
        "macs=nan",
        "{",
        "macs=1e400",
        "params=0",
    ],
    "--metric": ["psnr", "ssim", "os:system", "a:b:c", "json:dumps", "feature"],
    "--layers": ["*", "[", "**", "conv*"],
    "--csv": ["-", "t.csv", "/dev/full"],
    "--html": ["t.html", "/dev/full", ".", "no/t.html"],
    "--kind": ["tucker", "low_rank", "spatial"],
    "--backend": ["compile", "eager"],
    "--device": ["cpu", "cuda:7", "meta", "cpu:9"],
    "--data": [".", "/dev", "/proc/self/fd"],
    "--against": ["zoo:dcgan?ngf=3", "no.pt"],
    "--protocol": ["paper"],
}
SHAPES = ["1x3x16x16", "1", "0x3", "1x3", "1x3x0x16", "1x3x16x16:int64", "1x3x16x16:nothing", "1x3x16x16:bool",
    "1x3x1000000x1000000", "x".join(["9" * 40] * 4), "1x3x16x16x16x16", "-1x3x4x4", "1x100x1x1:complex64", "1x100x1x1",
    "100000000x100x1x1", "1x" * 300 + "1", "1x100x1x1:qint8", "1x100x1x1:Tensor", "1" * 5000]  # fmt: skip
MODELS = ["zoo:dcgan?ngf=2", "zoo:dcgan", "zoo:dcgan?ngf={}", "zoo:dcgan?z_dim={}", "zoo:dcgan?image_size={}", "zoo:unet_256?n_down={}",
    "zoo:unet_256?ngf={}", "zoo:resnet_9blocks?n_blocks={}", "zoo:stargan?n_labels={}", "zoo:srresnet?n_blocks={}", "zoo:nothing",
    "zoo:dcgan?ngf=[", "zoo:dcgan?ngf={a: ", "zoo:dcgan?ngf=2020-99-99", "zoo:dcgan?ngf=*a", "zoo:dcgan?ngf", "zoo:dcgan?=3", "zoo:dcgan?&&",
    "zoo:dcgan?ngf=!!python/name:os.system", "zoo:dcgan?ngf=1,,2", "zoo:\ud800", "no.pt", "x" * 300, "", "."]  # fmt: skip


def attack_option(dice: random.Random, folder: Path) -> Verdict | None:
    """Runs a command with one or two odd values; what it wrote must be whole."""
    number = _number(dice)
    model = dice.choice(["zoo:dcgan?ngf=2"] * 20 + MODELS).replace("{}", number)
    command = dice.choice((_cost, _channels, _inspect, _bench, _export, _apply))
    arguments = [
        *command(dice, model, folder),
        *(["--input", dice.choice(SHAPES)] if dice.random() < 0.3 else []),
    ]
    verdict = run_shell(arguments)
    left = sorted(p.name for p in folder.rglob("*") if p.suffix == ".tmp" or p.name.startswith("."))
    return Verdict("partial", f"{arguments} left {left}") if left else verdict


def _odd(dice: random.Random, *options: str) -> list[str]:
    option = dice.choice(options)
    words = WORDS.get(option)
    return [option, dice.choice(words) if words and dice.random() < 0.6 else _number(dice)]


def _number(dice: random.Random) -> str:
    return (
        dice.choice(("1", "2", "5", "1000000000", "17"))
        if dice.random() < 0.5
        else dice.choice(NUMBERS)
    )


def _cost(dice: random.Random, model: str, folder: Path) -> list[str]:
    return ["cost", model, *_odd(dice, "--top")]


def _channels(dice: random.Random, model: str, folder: Path) -> list[str]:
    return ["channels", model, *_odd(dice, "--attention", "--group-norm")]


def _inspect(dice: random.Random, model: str, folder: Path) -> list[str]:
    odd = _odd(
        dice,
        "--batches",
        "--rank",
        "--tolerate",
        "--seed",
        "--layers",
        "--metric",
        "--budget",
        "--csv",
        "--html",
        "--data",
        "--kind",
    )
    return ["inspect", model, "--fast", *odd]


def _bench(dice: random.Random, model: str, folder: Path) -> list[str]:
    odd = _odd(
        dice,
        "--threads",
        "--warmups",
        "--device",
        "--backend",
        "--seed",
        "--top",
        "--protocol",
        "--against",
    )
    huge = (
        odd[0] == "--warmups" and odd[1].isdecimal() and int(odd[1][:20]) > 10
    )  # asked for, and can be interrupted
    rounds = ["--rounds", dice.choice(("5", "0", "-1", "x"))]
    return ["bench", model, "--no-memory", "--no-profile", *([] if huge else odd), *rounds]


def _export(dice: random.Random, model: str, folder: Path) -> list[str]:
    path = str(folder / dice.choice(("net.onnx", "net.pt2", "net", "x" * 300 + ".pt2")))
    return ["export", model, "-o", path, *_odd(dice, "--opset", "--seed")]


def _apply(dice: random.Random, model: str, folder: Path) -> list[str]:
    loop = folder / "loop.gfx"
    loop.symlink_to("loop.gfx")
    path = dice.choice((str(folder / "net.gfx"), str(loop), str(folder / ("é" * 200 + ".gfx")), str(folder / ("x" * 251 + ".gfx")), "a\0.gfx", "/proc/x.gfx",
        "/dev/full.gfx", f"{loop}/x.gfx", str(folder), str(folder / "no" / "net.gfx")))  # fmt: skip
    recipe = dice.choice(
        (
            "half",
            "half",
            "half",
            "x" * 300,
            "a\0b",
            "",
            "/dev/zero",
            str(folder),
            str(loop),
            "half.yaml",
            "\ud800",
        )
    )
    return ["apply", recipe, model, "-o", path, *_odd(dice, "--seed", "--data")]
