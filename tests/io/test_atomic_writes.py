"""Files appear whole, and together, or not at all; nothing is left beside them."""

import errno
import os
import signal
from functools import partial

import pytest
import torch
from torch import fx, nn

import gfx
from gfx.errors import ArchiveError
from gfx.io import hidden_files
from gfx.io.atomic_writes import check_writable, write_atomic, write_files
from gfx.io.pending_file import PendingFile
from gfx.io.write_journal import recover

NAMES = ("a.txt", "b.txt", "c.txt")


@pytest.fixture(params=["nameless", "hidden"])
def way(request, monkeypatch):
    """Both ways to write: files without names, and hidden ones where there are none."""
    if request.param == "hidden":
        monkeypatch.setattr(hidden_files, "_NAMELESS", None)
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
    appear = PendingFile.appear

    def third(self):
        if self.target.name == "c.txt":
            raise error
        appear(self)

    monkeypatch.setattr(PendingFile, "appear", third)
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


@pytest.mark.parametrize("then", ["write", "other", "check", "read"])
def test_what_a_killed_process_left_is_removed_by_the_next_command(tmp_path, monkeypatch, then):
    monkeypatch.setattr(hidden_files, "_NAMELESS", None)
    child = os.fork()
    if child == 0:
        write_atomic(tmp_path / "a.txt", lambda file: os.kill(os.getpid(), signal.SIGKILL))
    os.waitpid(child, 0)
    assert [name[:5] for name in texts(tmp_path)] == [".gfx-"]
    if then == "check":
        check_writable(tmp_path / "b.txt")
    elif then == "read":
        with pytest.raises(ArchiveError, match=r"b\.gfx does not exist"):
            gfx.load(tmp_path / "b.gfx")
    else:
        write_atomic(tmp_path / ("a.txt" if then == "write" else "b.txt"), put("new"))
    assert set(texts(tmp_path)) <= {"a.txt", "b.txt"}


# what a process asks of the system with names of files, and may be killed before
CALLS = ("link", "replace", "unlink", "pwrite", "open", "fsync", "close")


def killed_before(number, action):
    """Does something in a process that is killed before its n-th such call; says whether it was."""
    child = os.fork()
    if child == 0:
        count = [0]

        def dying(call):
            def asked(*given, **named):
                count[0] += 1
                if count[0] == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*given, **named)

            return asked

        for name in CALLS:
            setattr(os, name, dying(getattr(os, name)))
        try:
            action()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


@pytest.mark.parametrize("older", [(), ("a.txt",), NAMES])
@pytest.mark.parametrize("places", [(".", ".", "."), ("x", "y", "x")])
def test_killed_at_any_call_all_or_none_are_there_after_the_next_command(
    tmp_path, way, older, places
):
    number = killed = 0
    dies, seen = True, set()
    while dies:
        number += 1
        top = tmp_path / str(number)
        targets = [top / place / name for place, name in zip(places, NAMES, strict=True)]
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.name in older:
                target.write_text("old")
        files = {target: put("new") for target in targets}
        dies = killed_before(number, partial(write_files, files))
        killed += dies
        for folder in dict.fromkeys(target.parent for target in targets):
            recover(folder)
        left = {p.name: p.read_text() for p in top.rglob("*") if p.is_file()}
        new = dict.fromkeys(NAMES, "new")
        assert left in (new, dict.fromkeys(older, "old")), number
        seen.add(left == new)
    assert killed > 12
    assert seen == {True, False}


def test_killed_while_it_is_undone_the_next_command_goes_on(tmp_path, way):
    for number in range(1, 40):
        top = tmp_path / str(number)
        top.mkdir()
        (top / "a.txt").write_text("old")
        files = {top / name: put("new") for name in NAMES}
        # somewhere between the names
        at = next(n for n in range(1, 200) if _between(top, files, n))
        assert at
        killed = killed_before(number, partial(recover, top))
        recover(top)
        assert texts(top) == {"a.txt": "old"}
        if not killed:
            return
    raise AssertionError("the process was always killed")


def _between(top, files, number):
    """Whether a process that is killed before its n-th call leaves some names of several."""
    killed_before(number, partial(write_files, files))
    found = {path.name for path in top.iterdir() if not path.name.startswith(".gfx-")}
    if "b.txt" in found and "c.txt" not in found:
        return True
    recover(top)
    return False


@pytest.mark.parametrize("content", [
    b"", b"U", b"U{", b'U{"files": [{"target": "../b", "hidden": null, "older": null,'
    b'"known_by": [1, 2, 3]}], "first": null, "others": []}', b"D[]", b"\xff\xfe",
])  # fmt: skip
def test_a_journal_that_is_none_touches_nothing(tmp_path, content):
    (tmp_path / ".gfx-0.journal").write_bytes(content)
    (tmp_path / "b").write_text("b")
    recover(tmp_path)
    assert texts(tmp_path) == {"b": "b"}


def test_a_file_that_was_written_since_is_not_undone(tmp_path):
    files = {tmp_path / name: put("new") for name in NAMES}
    assert any(_between(tmp_path, files, number) for number in range(1, 200))
    os.unlink(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_text("mine")
    recover(tmp_path)
    assert texts(tmp_path) == {"a.txt": "mine"}


def test_a_write_that_runs_keeps_its_hidden_file(tmp_path, monkeypatch):
    monkeypatch.setattr(hidden_files, "_NAMELESS", None)

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

    opened = PendingFile._opened
    monkeypatch.setattr(PendingFile, "_opened", lambda self: Full(opened(self)))
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
