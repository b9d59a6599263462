"""Of a path that leads nowhere the message says why: "does not exist" only of what does not."""

import errno
import os

import pytest

import gfx
from gfx.errors import ArchiveError, InputError, RecipeError
from gfx.io.data import ImageFolder


def missing(folder):
    return folder / "a.pt"


def in_a_file(folder):
    (folder / "file").write_text("x")
    return folder / "file" / "a.pt"


def lost_link(folder):
    (folder / "a.pt").symlink_to(folder / "gone.pt")
    return folder / "a.pt"


def loop(folder):
    (folder / "a.pt").symlink_to(folder / "a.pt")
    return folder / "a.pt"


def long(folder):
    return folder / ("a" * 300)


def nul(folder):
    return f"{folder}/a\0.pt"


NOWHERE = [
    (missing, r"a\.pt does not exist; check the path", r"it does not exist; give"),
    (in_a_file, r"does not exist: a part of the path is a file", r"a part of the path"),
    (lost_link, r"a\.pt is a link to .*gone\.pt, which does not exist", r"it is a link to "),
    (loop, r"a\.pt is a link that leads back to itself", r"it is a link that leads back to itself"),
    (long, r"its name is longer than the system allows", r"its name is longer than the system"),
    (nul, r"is no path \(embedded null", r"it is no path \(embedded null"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "said", "of_images"), NOWHERE)
def test_a_path_that_leads_nowhere_is_explained(tmp_path, make, said, of_images):
    path = make(tmp_path)
    for opener in (gfx.open_model, gfx.load):
        with pytest.raises(ArchiveError, match=said):
            opener(path)
    with pytest.raises(InputError, match=of_images):
        ImageFolder(path)


def test_what_is_there_but_no_file_is_called_what_it_is(tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(ArchiveError, match=r"pipe\.pt is a device or a pipe; copy what it gives"):
        gfx.open_model(tmp_path / "pipe.pt")
    with pytest.raises(ArchiveError, match="is a folder; name a file in it"):
        gfx.open_model(tmp_path)
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"a\.png is no folder but a file; give the folder of the"):
        ImageFolder(tmp_path / "a.png")


def test_what_may_not_be_read_is_not_said_to_be_missing(tmp_path, monkeypatch):
    def refuse(path, **options):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    (tmp_path / "a.pt").write_bytes(b"x")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything
    with pytest.raises(ArchiveError, match=r"a\.pt cannot be read: permission denied"):
        gfx.open_model(tmp_path / "a.pt")
    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(ArchiveError, match=r"b\.pt cannot be read: permission denied"):
        gfx.open_model("b.pt")
    with pytest.raises(InputError, match=r"b is no folder: it cannot be read: permission denied"):
        ImageFolder("b")


def test_a_recipe_behind_a_broken_link_is_explained(tmp_path):
    with pytest.raises(RecipeError, match=r"recipe file .*a\.yaml does not exist"):
        gfx.Recipe.load(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").symlink_to(tmp_path / "gone.yaml")
    with pytest.raises(
        RecipeError, match=r"a\.yaml is a link to .*gone\.yaml, which does not exist"
    ):
        gfx.Recipe.load(tmp_path / "a.yaml")
