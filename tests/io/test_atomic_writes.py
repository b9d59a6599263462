"""Files appear whole, and together, or not at all; nothing is left beside them."""

import errno
import os
import signal

import pytest
import torch
from torch import fx, nn

import gfx
from gfx.errors import ArchiveError
from gfx.io import atomic_writes
from gfx.io.atomic_writes import check_writable, write_atomic, write_files

NAMES = ("a.txt", "b.txt", "c.txt")


@pytest.fixture(params=["nameless", "hidden"])
def way(request, monkeypatch):
    """Both ways to write: files without names, and hidden ones where there are none."""
    if request.param == "hidden":
        monkeypatch.setattr(atomic_writes, "_NAMELESS", None)
    return request.param


def put(text):
    return lambda file: file.write(text.encode())


def fail(file):
    file.write(b"half")
    raise OSError(errno.ENOSPC, "No space left on device")


def texts(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize("older", [(), ("a.txt",), NAMES])
def test_several_files_appear_over_older_ones_or_none(tmp_path, way, older):
    for name in older:
        (tmp_path / name).write_text("old")
    write_files({tmp_path / name: put(f"new {name}") for name in NAMES})
    assert texts(tmp_path) == {name: f"new {name}" for name in NAMES}


@pytest.mark.parametrize("older", [(), ("b.txt",), NAMES])
@pytest.mark.parametrize("bad", NAMES)
def test_one_that_cannot_be_written_keeps_all_from_appearing(tmp_path, way, older, bad):
    for name in older:
        (tmp_path / name).write_text("old")
    files = {tmp_path / name: fail if name == bad else put("new") for name in NAMES}
    with pytest.raises(ArchiveError, match=f"{bad}: the disk is full; nothing was written"):
        write_files(files)
    assert texts(tmp_path) == dict.fromkeys(older, "old")


@pytest.mark.parametrize("older", [(), ("a.txt",), NAMES])
@pytest.mark.parametrize("error", [OSError(errno.EACCES, "Permission denied"), KeyboardInterrupt()])
def test_one_that_cannot_be_named_takes_the_others_back(tmp_path, way, older, error, monkeypatch):
    for name in older:
        (tmp_path / name).write_text("old")
    appear = atomic_writes._Pending.appear

    def third(self):
        if self.target.name == "c.txt":
            raise error
        appear(self)

    monkeypatch.setattr(atomic_writes._Pending, "appear", third)
    with pytest.raises(type(error)):
        write_files({tmp_path / name: put("new") for name in NAMES})
    assert texts(tmp_path) == dict.fromkeys(older, "old")


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("moment", ["while it is written", "before it appears"])
def test_a_killed_process_leaves_nothing(tmp_path, older, moment):
    target = tmp_path / "a.txt"
    if older:
        target.write_text("old")
    child = os.fork()
    if child == 0:

        def die(*_):
            os.kill(os.getpid(), signal.SIGKILL)

        if moment == "before it appears":
            os.fsync = die
        write_atomic(target, die if moment == "while it is written" else put("new"))
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert texts(tmp_path) == ({"a.txt": "old"} if older else {})


def test_what_a_killed_process_left_is_removed_by_the_next_write(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic_writes, "_NAMELESS", None)
    child = os.fork()
    if child == 0:
        write_atomic(tmp_path / "a.txt", lambda file: os.kill(os.getpid(), signal.SIGKILL))
    os.waitpid(child, 0)
    assert [name[:5] for name in texts(tmp_path)] == [".gfx-"]
    write_atomic(tmp_path / "b.txt", put("other"))
    assert len(texts(tmp_path)) == 2  # it may not be this one's to remove
    write_atomic(tmp_path / "a.txt", put("new"))
    assert texts(tmp_path) == {"a.txt": "new", "b.txt": "other"}


def test_a_write_that_runs_keeps_its_hidden_file(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic_writes, "_NAMELESS", None)

    def slow(file):
        file.write(b"first")
        write_atomic(tmp_path / "a.txt", put("second"))

    write_atomic(tmp_path / "a.txt", slow)
    assert texts(tmp_path) == {"a.txt": "first"}


def test_a_full_disk_under_torch_save_is_called_so(tmp_path, monkeypatch):
    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        def __getattr__(self, name):
            return getattr(self.file, name)

    opened = atomic_writes._Pending._opened
    monkeypatch.setattr(atomic_writes._Pending, "_opened", lambda self: Full(opened(self)))
    with pytest.raises(ArchiveError, match=r"a.pt: the disk is full; nothing was written"):
        gfx.save(fx.symbolic_trace(nn.Conv2d(3, 3, 1)), tmp_path / "a.pt")
    assert texts(tmp_path) == {}


def test_what_cannot_be_pickled_is_said_before_anything_appears(tmp_path):
    module = fx.symbolic_trace(nn.Conv2d(3, 3, 1))
    module.meta["odd"] = lambda: torch.zeros(1)
    module.odd = module.meta["odd"]
    with pytest.raises(ArchiveError, match=r"cannot write .*a.pt: .*; nothing was written"):
        gfx.save(module, tmp_path / "a.pt")
    assert texts(tmp_path) == {}


def test_places_where_no_file_can_be_are_told_before(tmp_path):
    (tmp_path / "loop.gfx").symlink_to("loop.gfx")
    for name, message in {
        "loop.gfx": "its links lead in a circle",
        "é" * 200 + ".gfx": "the name is too long",
        "a\0.gfx": "a.x00.gfx: ValueError: embedded null byte",
        "no/a.gfx": "there is no folder",
    }.items():
        with pytest.raises(ArchiveError, match=message):
            check_writable(f"{tmp_path}/{name}")
    write_atomic(tmp_path / ("x" * 255), put("a long name"))
    assert sorted(len(path.name) for path in tmp_path.iterdir()) == [8, 255]
