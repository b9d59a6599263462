"""A file is called what it is, by its content."""

import gzip
import io
import tarfile
import zipfile

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from gfx.errors import ArchiveError
from gfx.io.archive import open_model


def a_tar():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pt"))
    return stream.getvalue()


def an_array(write):
    stream = io.BytesIO()
    write(stream, np.zeros(3))
    return stream.getvalue()


def an_onnx():
    node = helper.make_node("Relu", ["x"], ["y"])
    ends = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in "xy"]
    model = helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:]))
    return model.SerializeToString()


FILES = {
    "lfs.pt": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "pointer of Git LFS"),
    "page.pth": (
        b"<!DOCTYPE html><html></html>",
        "a page of HTML or XML, perhaps that of a failed",
    ),
    "keras.h5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "an HDF5 file, as Keras writes it"),
    "lite.tflite": (b"\x1c\0\0\0TFL3" + bytes(64), "a TensorFlow Lite model"),
    "model.pt.gz": (gzip.compress(b"model"), "compressed by gzip; unpack it first"),
    "model.tar": (a_tar(), "a tar archive; unpack it first"),
    "array.npy": (an_array(np.save), "a NumPy array"),
    "arrays.npz": (an_array(np.savez), "an archive of NumPy arrays"),
    "model.onnx": (an_onnx(), r"an ONNX model; gfx writes those \(gfx export\) and does not read"),
    "renamed.pt": (an_onnx(), "an ONNX model"),
    "picture.pt": (b"\x89PNG\r\n\x1a\n" + bytes(64), r"a picture \(PNG\), not a model"),
    "words.pt": (b"hello", "is no model file: gfx opens .gfx, .pt.*begins with b'hello'"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_model_is_called_what_it_is(tmp_path, name):
    content, said = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArchiveError, match=said):
        open_model(tmp_path / name)


def test_what_opens_is_not_taken_for_anything_else(tmp_path):
    torch.save(nn.ReLU(), tmp_path / "a.onnx")
    assert isinstance(open_model(tmp_path / "a.onnx"), nn.ReLU)
    state = nn.Conv2d(1, 1, 1).state_dict()
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    opened = open_model(tmp_path / "old.pt", model=nn.Conv2d(1, 1, 1))
    assert torch.equal(opened.weight, state["weight"])
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hi")
    with pytest.raises(ArchiveError, match=r"a zip file, but neither a \.gfx archive"):
        open_model(tmp_path / "other.zip")
