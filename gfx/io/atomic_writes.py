"""Writes files that appear whole, and together, or not at all.

1. Each is first written to a file without a name in the same folder, and out to the disk. A process
   that is killed leaves nothing there.
2. Then all get their names at once: nothing else is done between the first and the last. If one
   cannot be named, those before it become what they were. For a process that is killed between
   two names, a journal stands beside them (gfx/io/write_journal.py).
3. An older file is replaced by a rename, for which the new one has a hidden name for a moment.
   Where the file system has no files without names, hidden ones stand in from the beginning.
4. What a killed process leaves in a folder, journal and hidden files, the next command of gfx that
   reads or writes a file there undoes and removes.
"""

import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from gfx.errors import ArchiveError
from gfx.io.guards import printable, writing
from gfx.io.pending_file import Name, PendingFile, Write
from gfx.io.write_journal import Journal, recover

__all__ = ["check_writable", "write_atomic", "write_files"]


def check_writable(path: Name) -> Path:
    """Checks that a file can be written at a path, and returns the path with links followed.

    Call it before long work. It leaves nothing in the folder, whenever it is stopped.

    Raises: ArchiveError if the folder is missing or not writable, or the path is no plain file.

    Example:
        >>> check_writable("/no/such/folder/small.gfx")
        Traceback (most recent call last):
        gfx.errors.ArchiveError: cannot write /no/such/folder/small.gfx: there is no folder ...
    """
    said = f"cannot write {printable(path)}"
    with writing(path):
        target = Path(os.path.realpath(path))
        if not target.parent.is_dir():
            folder = printable(target.parent)
            raise ArchiveError(f"{said}: there is no folder {folder}; create it first")
        with suppress(FileNotFoundError):
            target.stat()  # a circle of links, a name that is too long
        if target.is_dir():
            raise ArchiveError(f"{said}: it is a folder; name a file in it")
        if target.exists() and not target.is_file():
            raise ArchiveError(f"{said}: it is a device or a pipe; name a plain file")
        recover(target.parent)
        PendingFile(path, target).close()
    return target


def write_atomic(path: Name, write: Write) -> None:
    """Writes one file, as `write_files` does.

    Raises: ArchiveError if it cannot be written; an older file keeps its content then.
    """
    write_files({path: write})


def write_files(files: Mapping[Name, Write]) -> None:
    """Writes several files: all appear, each whole, or none.

    On any failure, a full disk too, nothing is left behind and older files keep their content. A
    process that is killed leaves all or none, or a journal by which the next command of gfx in the
    folder takes back what appeared. Name the main file last: where it is, the others are.

    Raises: ArchiveError if one cannot be written.
    """
    if not files:
        return
    journal = Journal()
    with ExitStack() as stack:
        stack.callback(journal.close)  # called last
        pending = []
        for path, write in files.items():
            target = check_writable(path)
            with writing(path):
                made = PendingFile(path, target)
            stack.callback(made.close)
            made.fill(write)
            pending.append(made)
        alone = len(pending) == 1
        noted = [(made.target.parent, made.plan(alone=alone)) for made in pending]
        with writing(pending[-1].path):
            journal.begin([] if alone else noted)
        try:
            for made in pending:
                made.prepare()
            for made in pending:
                made.appear()
        except BaseException:  # an interrupt too
            journal.undo()
            raise
        journal.done()
