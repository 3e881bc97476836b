"""Lock of a run folder: at most one run writes to it at a time, across processes and within this one.

The lock is a POSIX lock (``lockf``), not ``flock``: a forked DataLoader worker, which may outlive its parent by seconds, does
not inherit it. A POSIX lock belongs to the process, which has two consequences: it does not keep its own process out, and
closing any descriptor of the file in the process releases it. So this module remembers which folders the process has locked,
and nothing else opens the lock file.
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

LOCK_FILE = ".lock"  # in the folder; empty, and never deleted

_locked_folders: set[str] = set()  # by this process; global because a POSIX lock belongs to the process, not to an object


@define
class FolderLock:
    """A locked folder. The lock ends with `release`, or when the process ends in whatever way."""

    _folder: str
    _descriptor: int | None

    def release(self) -> None:
        """Release the lock. Idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            _locked_folders.discard(self._folder)


def lock_folder(folder: Path) -> FolderLock | None:
    """Lock a run folder; return None if another process or another run of this process has locked it.

    If files cannot be locked (Windows, some network drives), only this process is kept out.

    Raises:
        OSError: The folder is not writable.
    """
    name = os.path.realpath(folder)
    if name in _locked_folders:
        return None
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        if fcntl is not None:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            os.close(descriptor)
            return None
        # This file system has no locks. Train without one: a run that another may disturb is better than no run.
    _locked_folders.add(name)
    return FolderLock(name, descriptor)
