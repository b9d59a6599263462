"""Whatever a parser of others raises becomes one sentence of gfx, with the name of what it read."""

import os
import struct
import zipfile

import pytest
import torch
from torch import nn

import gfx
from gfx.errors import ArchiveError, GfxError, InputError, RecipeError
from gfx.io.data import synthetic
from gfx.io.guards import printable, reading_file, reading_recipe, writing
from gfx.pipeline.recipe import Recipe

DOORS = [(reading_recipe, RecipeError), (reading_file, ArchiveError), (writing, ArchiveError)]
RAISED = [KeyError("a"), ValueError(), TypeError("x" * 9000), MemoryError(), RecursionError("deep")]
RAISED += [UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), NotImplementedError(), EOFError()]
RAISED += [
    struct.error("short"),
    AssertionError(),
    OSError("gone"),
    StopIteration(),
    OverflowError(),
]


def built() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1))


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(("door", "kind"), DOORS)
def test_whatever_another_raises_is_one_sentence_with_the_name(door, kind, error):
    with pytest.raises(kind, match=r"a\.file") as caught, door("a.file"):
        raise error
    assert caught.value.__cause__ is error
    assert 20 < len(str(caught.value)) < 600


@pytest.mark.parametrize(("door", "kind"), DOORS)
def test_gfx_s_own_errors_and_interrupts_pass_through(door, kind):
    own = InputError("the model is a str")
    with pytest.raises(InputError) as caught, door("a.file"):
        raise own
    assert caught.value is own
    with pytest.raises(KeyboardInterrupt), door("a.file"):
        raise KeyboardInterrupt


def test_a_name_with_half_a_character_can_be_printed():
    assert printable("\ud83d\n") == "\\ud83d\\n"
    assert str(GfxError("no \ud83d")) == "no \\ud83d"


# recipes

ODD = {
    "seed: 2020-99-99\npasses: []": "month must be in 1..12",
    f"seed: {'9' * 6000}\npasses: []": "cannot be read as a recipe: ValueError: Exceeds the limit",
    f"seed: 0x{'f' * 6000}\npasses: []": "has an integer of 24000 bits",
    "? [a, b]\n: 1\npasses: []": "line 1: .* a key is a name, not a list or mapping",
    "passes: &p [*p]": "line 1: .* an alias stands in itself",
    'about: "\\ud800"\npasses: []': "has half a character",
    "passes: !!binary x": "line 1: .* failed to decode base64 data",
    "a0: &a0 [x]\n"
    + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)): (
        "stands for more than 1,000,000 values"
    ),
    f"passes: {'[' * 3000}": "nested too deeply",
}


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_yaml_that_cannot_be_built_is_refused(tmp_path, text):
    (tmp_path / "odd.yaml").write_text(text, "utf-8")
    with pytest.raises(RecipeError, match=f"odd.yaml.*{ODD[text]}") as caught:
        Recipe.load(tmp_path / "odd.yaml")
    assert len(str(caught.value)) < 600


def test_a_recipe_that_is_no_text_file_is_refused(tmp_path):
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "long.yaml").write_bytes(b"#" * (5 << 20))
    for name, message in {
        "loop.yaml": "cannot be read as text: OSError",
        "pipe.yaml": "is no file",
        "x" * 300: "File name too long",
        "a\0.yaml": "a.x00.yaml cannot be read as text: ValueError: embedded null byte",
        "long.yaml": "has 4,194,305 characters",
    }.items():
        with pytest.raises(RecipeError, match=message):
            Recipe.load(str(tmp_path / name))


# files of models


@pytest.mark.parametrize(
    "field",
    [{6: b"\xff\xff"}, {8: b"\x00\x08", 46: b"\xff\xfe"}, {10: b"\x63\x00"}, {42: b"\xff\xff"}],
)
@pytest.mark.parametrize("suffix", [".gfx", ".pt"])
def test_a_zip_directory_that_cannot_be_read_is_refused(tmp_path, field, suffix):
    path = tmp_path / f"a{suffix}"
    gfx.save(torch.fx.symbolic_trace(built()), path)
    data = bytearray(path.read_bytes())
    at = data.find(b"PK\x01\x02")
    for offset, value in field.items():
        data[at + offset : at + offset + 2] = value
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=rf"a{suffix} (is|cannot|holds) "):
        gfx.open_model(path)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:The PyTorch API of nested")
@pytest.mark.parametrize(
    "make",
    [
        torch.Tensor.to_sparse,
        lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8),
        lambda w: w.to("meta"),
        lambda w: torch.nested.nested_tensor(list(w)),
    ],
)
@pytest.mark.parametrize("several", [False, True])
def test_a_state_dict_of_tensors_that_are_not_plain_is_refused(tmp_path, make, several):
    state = built().state_dict()
    state["0.weight"] = make(state["0.weight"])
    torch.save({"g": state, "d": {"w": torch.ones(1)}} if several else state, tmp_path / "state.pt")
    with pytest.raises(ArchiveError, match=r"state.pt"):
        gfx.open_model(tmp_path / "state.pt", model=built)


@pytest.mark.parametrize("code", [b"\x8e", b"\x8d", b"\x96", b"\x95"])
def test_a_pickle_that_declares_more_bytes_than_there_are_is_refused(tmp_path, code):
    (tmp_path / "a.pt").write_bytes(b"\x80\x05" + code + struct.pack("<Q", 2**60) + b"x.")
    for trust in (False, True):
        with pytest.raises(ArchiveError, match=r"a\.pt"):
            gfx.open_model(tmp_path / "a.pt", trust=trust)


def test_a_file_that_would_swell_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", bytes(20 << 20))
    with pytest.raises(ArchiveError, match=r"would be unpacked into 20,971,520"):
        gfx.open_model(tmp_path / "bomb.pt")


def test_what_is_no_file_is_told_apart(tmp_path):
    (tmp_path / "loop.pt").symlink_to("loop.pt")
    (tmp_path / "lost.pt").symlink_to("nothing.pt")
    os.mkfifo(tmp_path / "pipe.pt")
    for name, message in {
        "loop.pt": "is a link that leads back to itself",
        "lost.pt": "lost.pt is a link to nothing.pt, which does not exist",
        "pipe.pt": "is a device or a pipe",
        "x" * 300: "its name is longer than the system allows",
        "a\0b.pt": "a.x00b.pt is no path .embedded null byte",
        "no.pt": "no.pt does not exist",
    }.items():
        with pytest.raises(ArchiveError, match=message):
            gfx.open_model(str(tmp_path / name))


# bounds


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channel_prune": {"batches": 10**9}}, "batches=1000000000 must be between 1 and 100000"),
        ({"decompose": {"rounds": 10**9}}, "rounds=1000000000 must be between 1 and 100000"),
        ({"refit": {"rounds": 10**9}}, "rounds=1000000000 must be between 1 and 100000"),
    ],
)
def test_counts_in_recipes_are_bounded(fields, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.load({"passes": [fields]})


def test_noise_is_not_made_up_without_end():
    program = gfx.trace(built(), torch.zeros(1, 3, 64, 64))
    for count, most in ((10**9, 4096), (99_999, 4096)):
        with pytest.raises(InputError, match=rf"batches={count} of noise .* at most {most}, or"):
            synthetic(program, count)
    with pytest.raises(InputError, match="batches=1000000000; at most 100,000 are run"):
        gfx.inspect(program, batches=10**9)


@pytest.mark.parametrize("shape", [[1, 3, 10**6, 10**6], [1] * 17, [10**400]])
def test_inputs_are_bounded(shape):
    with pytest.raises(RecipeError, match="an input has at most 16 and 1,073,741,824"):
        Recipe.load({"input": shape, "passes": []})


@pytest.mark.parametrize("options", [{"ngf": 10**9}, {"z_dim": 10**9}])
def test_options_of_the_zoo_are_bounded(options):
    with pytest.raises(InputError, match="give at most 16,384"):
        gfx.zoo.build("dcgan", **options)


def long_names(length: int, count: int) -> list[str]:
    """Names of a length that differ at the end."""
    return [f"{'layer' * (length // 5)}{n}" for n in range(count)]


def recipes_of(names: list[str]) -> list[object]:
    return [
        {"passes": names},
        {"passes": [{"channel_prune": dict.fromkeys(names, 1)}]},
        {"passes": [{"channel_prune": {"keep": names, "ratio": names}}]},
        dict.fromkeys(names, 1),
        {"passes": [{"channel_prune": {"importance": names[0]}}]},
        {"stages": {f"no {names[0]}": {"do": ["fuse_batch_norm"]}}},
        {"stages": {"slim": {"fit": {"losses": dict.fromkeys(names, 1)}}}},
        {"stages": {"slim": {"fit": {"losses": {"l1": 1}, "teacher": names}}}},
    ]


@pytest.mark.parametrize(("length", "count"), [(70_000, 1), (70_000, 3), (40, 400)])
def test_a_message_is_short_whatever_names_a_file_holds(length, count, tmp_path):
    from safetensors.torch import save_file

    names = long_names(length, count)
    tensors = {name: torch.zeros(1) for name in names}
    save_file(tensors, tmp_path / "state.safetensors")
    contents = [
        tensors,
        {"state_dict": tensors},
        {name: {"weight": torch.zeros(1), "bias": torch.zeros(1)} for name in names},
        {name: built().state_dict() for name in names[:40]},
        dict.fromkeys(names),
        list(names),
    ]
    for number, content in enumerate(contents):
        torch.save(content, tmp_path / f"{number}.pt")
    said = []
    for path in sorted(tmp_path.iterdir()):
        for how in ({}, {"model": built}, {"key": names[-1]}, {"key": "g"}):
            try:
                gfx.open_model(path, **how)
            except GfxError as error:
                said.append(str(error))
    for recipe in recipes_of(names):
        with pytest.raises(RecipeError) as caught:
            gfx.compress(recipe, built()) if "stages" in recipe else Recipe.load(recipe)
        said.append(str(caught.value))
    assert len(said) > 20
    assert max(map(len, said)) < 4000
    assert not [text for text in said if len(max(text.split(), key=len)) > 1000]


def test_a_short_message_is_as_it_was_written():
    path = "/".join(["folder"] * 100)
    assert str(ArchiveError(f"{path} does not exist")) == f"{path} does not exist"
    assert str(ArchiveError("a" * 5000 + "; copy it again")).endswith("; copy it again")
    assert str(InputError("many " * 5000 + "; give one")).endswith("; give one")
    assert ArchiveError("a" * 5000).args == ("a" * 5000,)
