"""Attacks on files of models: damaged, forged, hostile, of another kind, or no files at all."""

import copy
import functools
import io
import json
import os
import pickle
import random
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

import gfx
from attack.verdicts import AttackSucceeded, Verdict, run_shell

__all__ = ["ODD", "attack_archive", "bases", "factory", "forged_code", "places_of"]

ODD: list[Any] = [None, True, -1, 0, 1, 3, 10**9, 2**31, 2**62, 10**40, -0.5, 1e308, "", "x", "a.b", "__class__",
    "torch.load", "os.system", "builtins.eval", "\ud800", "\u202e", "é" * 300, [], {}, [[]], [None], {"a": {}},
    {"node": "x"}, {"tuple": 3}, {"slice": []}, {"torch": "float32"}, {"device": "cuda:99"}, {"dict": [1]},
    {"range": [0, 10**30, 1]}, {"size": [10**12]}, [10**12, 10**12], {"float": "nan"}, {"complex": ["x"]}]  # fmt: skip


def attack_archive(dice: random.Random, folder: Path) -> Verdict | None:
    """Makes a bad file, opens it as a user would, and looks for the canary."""
    canary = folder / "canary"
    way = dice.choice(
        (
            _zip,
            _json,
            _json,
            _json,
            _bytes,
            _bytes,
            _pickle,
            _content,
            _safetensors,
            _path,
            _storage,
        )
    )
    path = way(dice, folder, canary)
    try:
        return _opened(dice, path, folder)
    finally:
        if canary.exists():
            raise AttackSucceeded("executed", f"{path} ran code")


def factory() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 3, 1))


def _opened(dice: random.Random, path: Path | str, folder: Path) -> Verdict | None:
    """Opens by the shell or from Python; what opens is used."""
    name = f"{__name__}:factory"
    if dice.random() < 0.4:
        page = str(folder / "page.html")
        return run_shell(dice.choice((
            ["cost", str(path)], ["cost", str(path), "--model", name, "--input", "1x3x8x8"],
            ["report", str(path)], ["report", str(path), "--json"], ["channels", str(path)],
            ["report", str(path), "--html", page, "--no-latency", "--no-sensitivity"],
        )))  # fmt: skip
    model = gfx.open_model(path, model=dice.choice((None, name)))
    if hasattr(model, "gfx_report"):
        str(gfx.report(model))
    try:
        gfx.cost(model, torch.zeros(1, 3, 8, 8))
    finally:
        gfx.save(gfx.trace(model, torch.zeros(1, 3, 8, 8)).module, folder / "again.gfx")
    return None


@functools.cache
def bases() -> dict[str, bytes]:
    """One good file of each kind, small."""
    torch.manual_seed(0)
    net = factory().eval()
    from_recipe = gfx.apply(
        {"passes": [{"channel_prune": {"ratio": 0.5}}]}, net, torch.zeros(1, 3, 8, 8)
    )
    files: dict[str, bytes] = {}
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"gfx-attack-base-{os.getpid()}"
    folder.mkdir()
    gfx.save(from_recipe, folder / "net.gfx")
    files["gfx"] = (folder / "net.gfx").read_bytes()
    (folder / "net.gfx").unlink()
    folder.rmdir()
    for name, value in (("module", net), ("state", net.state_dict()), ("graph", from_recipe)):
        files[name] = _saved(value)
    files["legacy"] = _saved(net.state_dict(), _use_new_zipfile_serialization=False)
    from safetensors.torch import save

    files["safetensors"] = save(dict(net.state_dict()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = io.BytesIO()
        torch.export.save(torch.export.export(net, (torch.zeros(1, 3, 8, 8),)), written)
    files["pt2"] = written.getvalue()
    return files


def _saved(value: Any, **options: Any) -> bytes:
    written = io.BytesIO()
    torch.save(value, written, **options)
    return written.getvalue()


def _named(dice: random.Random, folder: Path, data: bytes) -> Path:
    path = (
        folder / f"model{dice.choice(('.gfx', '.pt', '.pth', '.pt2', '.safetensors', '', '.onnx'))}"
    )
    path.write_bytes(data)
    return path


def _bytes(dice: random.Random, folder: Path, canary: Path) -> Path:
    """Truncated, flipped, overwritten and extended files."""
    data = bytearray(bases()[dice.choice(list(bases()))])
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(data)) if len(data) else 0
        if dice.random() < 0.4:  # near the end, where a zip has its directory
            at = max(len(data) - 1 - dice.randrange(400), 0)
        match dice.randrange(5):
            case 0:
                del data[at:]
            case 1 if data:
                data[at] ^= 1 << dice.randrange(8)
            case 2:
                data[at : at + 4] = struct.pack("<I", dice.choice((0, 1, 2**31, 2**32 - 1)))
            case 3:
                data[at : at + 8] = struct.pack("<Q", dice.choice((0, 2**31, 2**60, 2**64 - 1)))
            case _:
                data[at:at] = dice.randbytes(dice.randint(1, 40))
    return _named(dice, folder, bytes(data))


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def _zip(dice: random.Random, folder: Path, canary: Path) -> Path:
    """A zip whose members have other names, sizes, methods and flags."""
    members = list(_members(bases()[dice.choice(("gfx", "module", "state", "pt2"))]).items())
    match dice.randrange(6):
        case 0:
            members.append(dice.choice(members))
        case 1:
            members.pop(dice.randrange(len(members)))
        case 2:
            members.append(
                (
                    dice.choice(
                        (
                            "../../canary",
                            "/etc/x",
                            "",
                            "a" * 60_000,
                            "é\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
                            "graph.json/",
                            "x\n",
                        )
                    ),
                    b"x",
                )
            )
        case 3:
            at = dice.randrange(len(members))
            members[at] = (members[at][0], b"\0" * dice.choice((0, 1, 1 << 26)))
        case 4:
            dice.shuffle(members)
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        method = dice.choice(
            (zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)
        )
        with zipfile.ZipFile(written, "w", method) as archive:
            for name, content in members:
                archive.writestr(zipfile.ZipInfo(name), content, method)
    data = bytearray(written.getvalue())
    if dice.random() < 0.6:  # in the central directory: version, flags, method, sizes, name
        at = data.rfind(b"PK\x01\x02") if dice.random() < 0.5 else data.find(b"PK\x01\x02")
        field = dice.choice((4, 6, 8, 10, 16, 20, 24, 28, 30, 32, 42, 46, 47))
        data[at + field : at + field + 2] = dice.choice(
            (b"\xff\xff", b"\x01\x00", b"\x00\x08", b"\x63\x00", b"\xff\xfe", b"\x00\x00")
        )
    return _named(dice, folder, bytes(data))


def _rezipped(members: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return written.getvalue()


def _json(dice: random.Random, folder: Path, canary: Path) -> Path:
    """One or two values anywhere in the graph or the report are changed, renamed or taken out."""
    members = _members(bases()["gfx"])
    name = dice.choice(("graph.json", "graph.json", "report.json"))
    tree = json.loads(members[name])
    for _ in range(dice.randint(1, 2)):
        places = list(places_of(tree))
        place, key = dice.choice(places)
        odd = copy.deepcopy(dice.choice(ODD))
        match dice.randrange(6):
            case 0:
                del place[key]
            case 1 if isinstance(place, dict):
                place[str(odd)] = place.pop(key)
            case 2:
                place[key] = copy.deepcopy(dice.choice(places)[0])
            case _:
                place[key] = odd
        if not tree:
            break
    text = json.dumps(tree)
    if dice.random() < 0.05:
        text = text.replace(
            ": 1", dice.choice((": NaN", ": 1" + "0" * 9000, ": Infinity", ": 1e999")), 1
        )
    members[name] = text.encode("utf-8", "surrogatepass")
    path = folder / "forged.gfx"
    path.write_bytes(_rezipped(members))
    return path


def places_of(tree: Any) -> Any:
    if isinstance(tree, dict | list):
        for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from places_of(tree[key])


class _Runs:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def forged_code(dice: random.Random, canary: Path) -> Any:
    """Returns what runs code when it is unpickled."""
    code = f"open({str(canary)!r}, 'w').close()"
    return dice.choice((
        _Runs(os.system, f"touch {canary}"), _Runs(exec, code), _Runs(eval, code), _Runs(Path.touch, canary),
        _Runs(getattr, "x", "join"), _Runs(torch.load, str(canary)), _Runs(open, str(canary), "w"),
        _Runs(nn.Module.__setattr__, nn.Conv2d(1, 1, 1), "x", 1), _Runs(torch.hub.load, "x/y", "z"),
    ))  # fmt: skip


def _pickle(dice: random.Random, folder: Path, canary: Path) -> Path:
    """Pickles that would run code, declare sizes that are not there, or never end."""
    runs = forged_code(dice, canary)
    holds = dice.choice(
        (runs, {"state_dict": runs}, {"a": torch.zeros(1), "b": runs}, [runs], nn.Sequential())
    )
    if isinstance(holds, nn.Module):
        holds.odd = runs
    big = dice.choice((2**31, 2**40, 2**60, 2**63 - 1))
    raw = dice.choice((
        b"\x80\x04\x8e" + struct.pack("<Q", big) + b"x.", b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01.",
        b"\x80\x04\x95" + struct.pack("<Q", big) + b"}.", b"\x80\x04\x8d" + struct.pack("<Q", big) + b"x.",
        b"\x80\x05\x96" + struct.pack("<Q", big) + b"x.", b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".",
        b"\x80\x02" + b"]" * 5_000 + b"a" * 4_999 + b".", b"\x80\x02}q\x00" + b"j\xff\xff\xff\x7f.", b"\x80\x02B" + b"\xff" * 4,
        b"\x80\x02" + b"]" + b"2(" * 40 + b".", b"\x80", b"\x80\xff.", b"\x80\x02.", b"\x80\x02I" + b"9" * 9000 + b"\n.",
        b"\x80\x02cos\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR.", b"\x80\x02ctorch\nno_such\n.", b"\x80\x02N.",
        b"\x80\x02c\xff\xfe\nx\n.", b"\x80\x02X\x02\x00\x00\x00\xff\xff.", b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
    ))  # fmt: skip
    match dice.randrange(4):
        case 0:
            data = _saved(holds)
        case 1:
            data = _saved(holds, _use_new_zipfile_serialization=False)
        case 2:
            data = raw
        case _:
            members = _members(bases()[dice.choice(("state", "module"))])
            key = next(name for name in members if name.endswith("data.pkl"))
            members[key] = raw if dice.random() < 0.7 else pickle.dumps(holds, dice.choice((2, 4)))
            data = _rezipped(members)
    return _named(dice, folder, data)


def _storage(dice: random.Random, folder: Path, canary: Path) -> Path:
    """Tensors whose sizes, strides and offsets do not fit the bytes that there are."""
    if dice.random() < 0.4:
        data = bytearray(bases()["legacy"])
    else:
        members = _members(bases()[dice.choice(("state", "module"))])
        key = next(name for name in members if name.endswith("data.pkl"))
        data = bytearray(members[key])
    # small numbers of a pickle are K (1 byte), M (2) or J (4); 4-byte ones reach far
    spots = [at for at, byte in enumerate(data) if byte in b"KMJ"]
    for _ in range(dice.randint(1, 3)):
        at = dice.choice(spots)
        wide = {75: 1, 77: 2, 74: 4}[data[at]] if data[at] in b"KMJ" else 1
        if dice.random() < 0.5:
            data[at : at + 1 + wide] = b"J" + struct.pack(
                "<i", dice.choice((2**31 - 1, -1, 10**6, 0))
            )
        else:
            data[at : at + 1 + wide] = b"\x8a\x08" + struct.pack(
                "<q", dice.choice((2**60, 2**62, -(2**40), 2**33))
            )
        spots = [s for s, byte in enumerate(data) if byte in b"KMJ"]
    if "members" in locals():
        members[key] = bytes(data)
        if dice.random() < 0.3:
            record = dice.choice([name for name in members if "/data/" in name])
            members[record] = members[record][: dice.randrange(8)]
        return _named(dice, folder, _rezipped(members))
    return _named(dice, folder, bytes(data))


def _content(dice: random.Random, folder: Path, canary: Path) -> Path:
    """Good pickles of what is no plain state dict."""
    state: dict[Any, Any] = dict(factory().state_dict())
    key = dice.choice(list(state))
    weight = state[key]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        odd = dice.choice((
            lambda: weight.float().to_sparse(), lambda: torch.quantize_per_tensor(weight.float(), 0.1, 0, torch.qint8),
            lambda: torch.quantize_per_channel(torch.ones(4, 3, 3, 3), torch.ones(4), torch.zeros(4), 0, torch.quint8),
            lambda: torch.eye(4).to_sparse_csr(), lambda: weight.to(torch.complex64), lambda: weight.to("meta"),
            lambda: weight.bool(), lambda: weight.float().to(torch.float8_e4m3fn), lambda: weight.double(), lambda: None,
            lambda: 3, lambda: "text", lambda: weight.float().numpy().tolist(), lambda: torch.zeros(0), lambda: torch.zeros(()),
            lambda: torch.zeros(1).expand(2**40), lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
            lambda: nn.Parameter(weight.float().to_sparse()), lambda: nn.Linear(2, 2), lambda: [weight], lambda: {"x": weight},
            lambda: weight.float() * float("nan"), lambda: torch.nn.UninitializedParameter(), lambda: torch.zeros((1,) * 60),
        ))()  # fmt: skip
    state[
        dice.choice((key, key, key, "", "extra", 3, None, "a" * 70_000, "\ud83d", ("a", 1), b"x"))
    ] = odd
    outer = dice.choice((lambda s: s, lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: [s], lambda s: {"g": s, "d": s},
        lambda s: {f"module.{k}": v for k, v in s.items()}, lambda s: {"a": {"b": {"c": s}}}, lambda s: torch.zeros(3), lambda s: None,
        lambda s: odd, lambda s: {}, lambda s: torch.nn.ParameterDict({"a": torch.ones(2)}), lambda s: _emptied(), lambda s: _cyclic()))  # fmt: skip
    return _named(dice, folder, _saved(outer(state)))


def _emptied() -> nn.Module:
    module = factory()
    vars(module[0]).pop("_parameters")
    return module


def _cyclic() -> Any:
    module, cycle = factory(), {}
    module._modules["again"] = module
    cycle["x"] = cycle
    return random.choice((module, cycle))


def _safetensors(dice: random.Random, folder: Path, canary: Path) -> Path:
    """Headers with sizes, dtypes and offsets that lie."""
    data = bases()["safetensors"]
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    place, key = dice.choice(list(places_of(header)))
    place[key] = copy.deepcopy(
        dice.choice([*ODD, "F64", "F8_E5M2", "BOOL", [2**63, 2], [-1], [0, 2**60]])
    )
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    size = dice.choice((len(text), len(text), len(text), 0, 2**31, 2**60, len(text) - 1))
    return _named(dice, folder, struct.pack("<Q", size) + text + data[8 + length :])


def _path(dice: random.Random, folder: Path, canary: Path) -> Path | str:
    """Paths where no file can be."""
    loop, pipe = folder / "loop.pt", folder / "pipe.pt"
    loop.symlink_to("loop.pt")
    os.mkfifo(pipe)
    bomb = folder / "bomb.pt"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", zlib.compress(b"") + b"\0" * (64 << 20))
        archive.writestr("model/version", "3\n")
    return dice.choice((loop, pipe, bomb, folder, folder / ("x" * 300), "a\0b.pt", "/dev/zero", "/dev/null", "",
        folder / "no" / "such.pt", f"{loop}/model.pt", "/proc/self/mem", "zoo:", "zoo:dcgan?", folder / ("é" * 200)))  # fmt: skip
