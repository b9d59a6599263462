"""Tells what a file is from its content: what gfx opens, and what people take for a model."""

from pathlib import Path
from typing import Literal

from gfx.errors import ArchiveError
from gfx.io.archive.files import members_of
from gfx.io.guards import reading_file

__all__ = ["WORDS", "Kind", "kind_of"]

Kind = Literal["gfx", "export", "pickle", "safetensors"]

WORDS = {
    "gfx": "a .gfx archive",
    "export": "a program of torch.export",
    "pickle": "a pickle, as torch.save writes it",
    "safetensors": "a state dict (safetensors)",
}
_OPENS = "gfx opens .gfx, .pt, .pth, .pt2 and .safetensors"
# how files begin that are no model of PyTorch, what they are, and what to do
_OTHERS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the file itself; run git lfs pull"),
    (0, b"<", "a page of HTML or XML, perhaps that of a failed download; download it again"),
    (0, b"\x89HDF", "an HDF5 file, as Keras writes it; gfx reads models of PyTorch"),
    (4, b"TFL3", "a TensorFlow Lite model; gfx reads models of PyTorch"),
    (0, b"GGUF", "a GGUF file; gfx reads models of PyTorch"),
    (0, b"\x93NUMPY", "a NumPy array; gfx reads models of PyTorch"),
    (0, b"\x1f\x8b", "compressed by gzip; unpack it first"),
    (0, b"BZh", "compressed by bzip2; unpack it first"),
    (0, b"\xfd7zXZ", "compressed by xz; unpack it first"),
    (0, b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (0, b"Rar!", "a RAR archive; unpack it first"),
    (257, b"ustar", "a tar archive; unpack it first"),
    (0, b"\x89PNG", "a picture (PNG), not a model"),
    (0, b"\xff\xd8\xff", "a picture (JPEG), not a model"),
)
_ONNX = (
    "an ONNX model; gfx writes those (gfx export) and does not read them: give the model that it "
    "was exported from"
)


def kind_of(file: Path) -> Kind:
    """Detects what kind of model a file holds.

    Raises: ArchiveError saying what it is, if gfx cannot open it.
    """
    with reading_file(file), open(file, "rb") as opened:
        head = opened.read(512)
    if head[:4] == b"PK\x03\x04":
        return _zip_kind(file)
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return "safetensors"
    if head[:1] == b"\x80":  # every pickle protocol from 2 on
        return "pickle"
    for place, mark, words in _OTHERS:
        if head[place:].startswith(mark):
            raise ArchiveError(f"{file} is {words}")
    if _is_onnx(file, head):
        raise ArchiveError(f"{file} is {_ONNX}")
    raise ArchiveError(f"{file} is no model file: {_OPENS}, and it begins with {head[:16]!r}")


def _zip_kind(file: Path) -> Kind:
    names = members_of(file)
    bare = {name.partition("/")[2] for name in names} | set(names)
    if "graph.json" in names:
        return "gfx"
    if "constants.pkl" in bare:
        raise ArchiveError(
            f"{file} is a TorchScript archive, which cannot be traced; save the original module "
            "with torch.save"
        )
    if bare & {"archive_format", "serialized_exported_program.json"}:
        return "export"
    if "data.pkl" in bare:
        return "pickle"
    if names and all(name.endswith(".npy") for name in names):
        raise ArchiveError(f"{file} is an archive of NumPy arrays; gfx reads models of PyTorch")
    raise ArchiveError(f"{file} is a zip file, but neither a .gfx archive nor a torch file")


def _is_onnx(file: Path, head: bytes) -> bool:
    """Whether a file is ONNX: a protobuf that begins with the version of its format."""
    begins = head[:1] == b"\x08" and len(head) > 2 and 1 <= head[1] <= 32
    return begins and (file.suffix.lower() == ".onnx" or head[2:3] in (b"\x12", b"\x1a", b":"))
