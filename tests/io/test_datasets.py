"""Folders of data sets are read by number; layouts and tables are found in all their forms."""

import threading

import pytest
import torch
from PIL import Image

from gfx.errors import InputError
from gfx.io.data.datasets import PictureSet
from gfx.io.data.datasets.attribute_tables import read_table
from gfx.io.data.datasets.folder_layout import find_layout
from support.picture_folders import write_pictures


@pytest.mark.parametrize(
    ("folders", "kind"),
    [
        (["A", "B"], "two folders"),
        (["trainA", "trainB", "testA", "testB"], "two folders"),
        (["a", "b", "c"], "classes"),
        (["cat", "dog", ".hidden", "__MACOSX"], "classes"),
        (["images"], "pictures"),
        (["train/x", "train/y"], "classes"),
        (["."], "pictures"),
        ([".", "more"], "pictures"),
    ],
)
def test_a_layout_is_found(tmp_path, folders, kind):
    for folder in folders:
        write_pictures(tmp_path / folder, 2)
    layout = find_layout(tmp_path)
    assert layout.kind == kind
    assert not any(f.name in (".hidden", "__MACOSX") for f in layout.folders)


def test_wide_pictures_are_pairs_unless_they_go_on_across_their_middle(tmp_path):
    write_pictures(tmp_path / "pairs", 3, (16, 32))
    assert find_layout(tmp_path / "pairs").kind == "side by side"
    (tmp_path / "wide").mkdir()
    Image.linear_gradient("L").resize((32, 16)).save(tmp_path / "wide" / "sky.png")
    assert find_layout(tmp_path / "wide").kind == "pictures"


@pytest.mark.parametrize(
    "text",
    [
        "file,young,bald\nx/1.png,1,0\n2,0,1\n",
        "\ufefffile;young;bald\nx/1.png;1;-1\n2.png;-1;1\n",
        "file\tyoung\tbald\n1.png\tTrue\tfalse\n2.png\tFALSE\ttrue\n\n",
        "2\nyoung bald\n1.png  1 -1\n2.png -1  1\n",
        "file, young, bald\n1.png, 1.0, 0.0\n2.png, 0.0, 1.0\n",
    ],
)
def test_a_table_is_read_in_every_form(tmp_path, text):
    write_pictures(tmp_path, ["x/1.png", "2.png"])
    (tmp_path / "t.csv").write_text(text, "utf-8")
    table = read_table(tmp_path / "t.csv")
    assert table.names == ("young", "bald")
    paths = [tmp_path / "x" / "1.png", tmp_path / "2.png"]
    assert table.rows_of(paths, tmp_path).tolist() == [[1, 0], [0, 1]]


def test_words_of_one_column_are_classes(tmp_path):
    (tmp_path / "t.csv").write_text("file,mood\n1.png,sad\n2.png,happy\n")
    table = read_table(tmp_path / "t.csv")
    assert table.names == ("happy", "sad")
    assert table.rows == {"1.png": (0.0, 1.0), "2.png": (1.0, 0.0)}


def test_a_table_that_is_none_is_refused(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"t\.csv cannot be read as a table"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        (None, (9, 14)),
        ((9, 9), (9, 14)),
        ((18, 9), (18, 28)),
        ((3, 3), (3, 5)),
        ((4, 14), (9, 14)),
    ],
)
def test_a_picture_is_scaled_to_cover_a_size(tmp_path, size, shape):
    folder = write_pictures(tmp_path, 1, (9, 14))
    pictures = PictureSet([folder / "00.png"], size=size)
    assert pictures[0].shape == (3, *shape)
    assert pictures[0].dtype == torch.uint8


def test_threads_read_the_same_pictures(tmp_path):
    folder = write_pictures(tmp_path, 8, (32, 32))
    paths = sorted(folder.iterdir())
    wanted = [PictureSet(paths)[i] for i in range(8)]
    shared, found = PictureSet(paths, keep=5 * 3 * 1024), {}

    def read(start):
        for i in range(24):
            index = (start + i) % 8
            found[start, i] = torch.equal(shared[index], wanted[index])

    threads = [threading.Thread(target=read, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 96
    assert all(found.values())
    assert shared._bytes == 5 * 3 * 1024
