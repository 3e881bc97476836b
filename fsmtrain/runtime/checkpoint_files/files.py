"""`Files`: every file operation of checkpoints, replaceable by tests that inject faults."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from fsmtrain.sync_files import sync_file, sync_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_OPEN_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class Files:
    """The file system. Every method may raise an `OSError`. A handle is a file descriptor."""

    def make_folder(self, path: str) -> None:
        """Make a folder. Its parent exists; the folder itself must not."""
        os.mkdir(path)

    def create(self, path: str) -> int:
        """Make a file for writing. It must not exist."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | _OPEN_FLAGS, 0o666)

    def open(self, path: str) -> int:
        """Open a file for reading. Links, folders and pipes are refused."""
        if _NO_FOLLOW == 0 and os.path.islink(path):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        handle = os.open(path, os.O_RDONLY | _NO_FOLLOW | _OPEN_FLAGS | getattr(os, "O_NONBLOCK", 0))
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise OSError(errno.EINVAL, "not a plain file", path)
        return handle

    def write(self, handle: int, data: memoryview) -> int:
        """Write as many bytes as one system call does; return how many."""
        return os.write(handle, data)

    def read(self, handle: int, into: memoryview) -> int:
        """Read as many bytes as one system call does; return how many, 0 at the end of the file."""
        return os.readv(handle, [into]) if hasattr(os, "readv") else _read(handle, into)

    def size(self, handle: int) -> int:
        """Return the size of an open file in bytes."""
        return os.fstat(handle).st_size

    def sync(self, handle: int) -> None:
        """Flush a file to the disk: once this returns, its content survives a power cut."""
        sync_file(handle)

    def close(self, handle: int) -> None:
        """Close a file. A write that the system has delayed may fail now."""
        os.close(handle)

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, in any order."""
        return os.listdir(folder)

    def is_folder(self, path: str) -> bool:
        """Return whether there is a folder of this name; a link to one is not a folder."""
        try:
            return stat.S_ISDIR(os.lstat(path).st_mode)
        except FileNotFoundError:
            return False

    def exists(self, path: str) -> bool:
        """Return whether there is anything of this name, even a broken link."""
        return os.path.lexists(path)

    def sync_folder(self, path: str) -> None:
        """Flush the names in a folder to the disk."""
        sync_folder(path)

    def rename(self, old: str, new: str) -> None:
        """Rename a folder in one step. Fails if the new name is a folder that is not empty."""
        os.rename(old, new)

    def link(self, old: str, new: str) -> None:
        """Give a file a second name, which must be free. Not all file systems can, and none across two of them."""
        os.link(old, new)

    def remove(self, path: str) -> None:
        """Remove a file."""
        os.unlink(path)

    def remove_folder(self, path: str) -> None:
        """Remove an empty folder."""
        os.rmdir(path)

    def lock(self, folder: str) -> int | None:
        """Lock a folder until the handle is closed or this process ends; None if it is locked or gone.

        The lock is ``flock``'s, on the folder itself: it adds no file to a checkpoint, and it also excludes other threads of
        this process. The lock on a run's folder has opposite needs, see `views.recording.folder_lock`.

        Raises:
            OSError: This file system or operating system cannot lock folders.
        """
        if fcntl is None:
            raise OSError(errno.ENOSYS, "folders cannot be locked on this system", folder)
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | _NO_FOLLOW | _OPEN_FLAGS)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # If it was removed or renamed since it was opened, something else has been locked.
            if os.path.samestat(os.fstat(handle), os.lstat(folder)):
                return handle
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        return None


def close_quietly(files: Files, handle: int | None) -> None:
    """Close a file, if there is one, and ignore errors."""
    if handle is not None:
        with contextlib.suppress(OSError):
            files.close(handle)


def _read(handle: int, into: memoryview) -> int:
    data = os.read(handle, len(into))
    into[: len(data)] = data
    return len(data)
