"""Holding a run's folder: one run at a time is written down in it, whichever processes want to.

The lock is one of POSIX (``lockf``), not ``flock``: a loader's forked worker, which may outlive its parent by seconds, does not
hold it. It has two properties to be minded: a process does not keep itself out, and closing the file anywhere in the process
gives it up. So what this process holds is remembered, and the file is opened nowhere else.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from attrs import define

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"  # in the folder; it stays there, empty

_here: set[str] = set()  # the folders that this process holds


@define
class FolderLock:
    """A folder that is held until `release`, or until this process ends in whatever way."""

    _folder: str
    _file: int | None

    def release(self) -> None:
        """Others may have it. Harmless where they may already."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            _here.discard(self._folder)


def lock_folder(folder: Path) -> FolderLock | None:
    """Hold a run's folder; None where another process does, or another run of this one.

    Where files cannot be locked (Windows, some network drives) only this process is kept out.

    Raises:
        OSError: Nothing can be written there.
    """
    name = os.path.realpath(folder)
    if name in _here:
        return None
    file = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        if fcntl is not None:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            os.close(file)
            return None
        # There are no locks here: better a run that others could disturb than none.
    _here.add(name)
    return FolderLock(name, file)
