"""A process that locks a folder, does something with it, and waits: ``lock_holder FOLDER ACTION``.

It prints whether it got the lock. More arguments name the kinds of lock that the file system lacks.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from fsmtrain.views.recording import folder_lock
from fsmtrain.views.recording.folder_lock import LOCK_FILE, FolderLock, lock_folder


def kinds_without(names: Iterable[str]) -> list[Callable[[int], None]]:
    """Return the kinds of lock, with those named failing as on a file system that lacks them."""

    def refused(descriptor: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    return [refused if kind.__name__ in names else kind for kind in folder_lock._KINDS]


def _nothing(folder: Path, lock: FolderLock) -> None:
    pass


def _read_lock_file(folder: Path, lock: FolderLock) -> None:
    (folder / LOCK_FILE).read_bytes()


def _copy_folder(folder: Path, lock: FolderLock) -> None:
    with tempfile.TemporaryDirectory() as elsewhere:
        shutil.copytree(folder, Path(elsewhere, "copy"))


def _upload_from_child(folder: Path, lock: FolderLock) -> None:
    """Fork a child that reads the folder, releases the lock that it has inherited, and ends."""
    child = os.fork()
    if child == 0:
        (folder / LOCK_FILE).read_bytes()
        lock.release()
        os._exit(0)
    os.waitpid(child, 0)


def _leave_worker(folder: Path, lock: FolderLock) -> None:
    """Fork a child that lives longer than this process, as a worker of a loader may."""
    reads, writes = os.pipe()
    if os.fork() == 0:
        os.write(writes, b"it runs")
        time.sleep(60)
        os._exit(0)
    os.read(reads, 1)


ACTIONS = {
    "nothing": _nothing,
    "read": _read_lock_file,
    "copy": _copy_folder,
    "child": _upload_from_child,
    "worker": _leave_worker,
}


if __name__ == "__main__":
    folder_lock._KINDS[:] = kinds_without(sys.argv[3:])
    held = lock_folder(Path(sys.argv[1]))
    if held is not None:
        ACTIONS[sys.argv[2]](Path(sys.argv[1]), held)
    print(held is not None, flush=True)
    if held is not None:
        time.sleep(60)
