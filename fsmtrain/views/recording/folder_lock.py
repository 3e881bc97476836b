"""Lock of a run folder: at most one run writes to it at a time, across processes and within this one.

The lock belongs to the open lock file, not to the process. So it stays when the process opens and closes ``.lock`` elsewhere,
as an uploader does that copies the folder; a POSIX lock would be lost then. A forked DataLoader worker, which may outlive its
parent by seconds, inherits the open file, and with it the lock; so a forked child closes it at once.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".lock"  # in the folder; empty, and never deleted

RETRY_SECONDS, POLL_SECONDS = 0.5, 0.01  # for which a lock that another process holds is waited for

_IS_LOCKED = (errno.EACCES, errno.EAGAIN)  # another holds the lock

_held: dict[str, FolderLock] = {}  # by folder; the locks of this process, which a forked child must give up


class FolderLock:
    """A locked folder. The lock ends with `release`, or when the process ends in whatever way. Made by `lock_folder`."""

    def __init__(self, folder: str, descriptor: int) -> None:
        self._folder = folder
        self._descriptor: int | None = descriptor
        _held[folder] = self

    def release(self) -> None:
        """Release the lock. Idempotent; in a forked child it does nothing."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            _held.pop(self._folder, None)
            os.close(descriptor)


def lock_folder(folder: Path) -> FolderLock | None:
    """Lock a run folder; return None if another process or another run of this process has locked it.

    If files cannot be locked (Windows, some network drives), only this process is kept out.

    Raises:
        OSError: The folder is not writable.
    """
    name = os.path.realpath(folder)
    path = os.path.join(name, LOCK_FILE)
    while name not in _held:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        lock = FolderLock(name, descriptor)
        if not _lock_within(RETRY_SECONDS, descriptor):
            lock.release()
            return None
        if _is_file(descriptor, path):
            return lock
        lock.release()  # somebody has deleted or replaced the file since it was opened
    return None


def is_locked(folder: Path) -> bool | None:
    """Return whether a run is writing to a folder; None if that cannot be found out. It takes no lock, and creates no file."""
    if os.path.realpath(folder) in _held:
        return True
    if fcntl is None or not hasattr(fcntl, "F_OFD_GETLK"):
        return None
    try:
        descriptor = os.open(os.path.join(folder, LOCK_FILE), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        whole_file = struct.pack("hhqqi", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, whole_file)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    kind: int = struct.unpack_from("h", answer)[0]
    return kind != fcntl.F_UNLCK


def _lock_within(seconds: float, descriptor: int) -> bool:
    """Lock an open file, and try again for a while: a process that was just forked may not have closed its copy yet."""
    end = time.monotonic() + seconds
    while not (is_locked := _lock(descriptor)) and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
    return is_locked


def _lock(descriptor: int) -> bool:
    """Lock an open file with the first kind of lock that its file system has; return False if another holds it."""
    for lock in _KINDS:
        try:
            lock(descriptor)
            return True
        except OSError as error:
            if error.errno in _IS_LOCKED:
                return False
    # This file system has no locks. Train without one: a run that another may disturb is better than no run.
    return True


def _lock_open_file(descriptor: int) -> None:
    """Take a lock of an open file description, which also excludes POSIX locks."""
    whole_file = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, whole_file)


def _flock(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lockf(descriptor: int) -> None:
    """Take a POSIX lock. The last resort, since closing any descriptor of the file in this process releases it."""
    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


_KINDS: list[Callable[[int], None]] = []
if fcntl is not None:
    _KINDS = [*([_lock_open_file] if sys.platform == "linux" else []), _flock, _lockf]


def _is_file(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _give_up_locks() -> None:
    """Close the lock files that a forked child has inherited. The parent keeps its locks."""
    for lock in list(_held.values()):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_give_up_locks)
