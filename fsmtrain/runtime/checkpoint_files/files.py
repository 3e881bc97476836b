"""The few operations on files that checkpoints are made of. A test puts another object in their place, and lets them fail."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_OPEN_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class Files:
    """The file system of this machine. Every method may raise an `OSError`; a handle is a number."""

    def make_folder(self, path: str) -> None:
        """Make one folder; its parent exists, itself it does not."""
        os.mkdir(path)

    def create(self, path: str) -> int:
        """Make a file that did not exist, for writing."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | _OPEN_FLAGS, 0o666)

    def open(self, path: str) -> int:
        """Open a file for reading. What is no plain file (a link, a folder, a pipe) is refused."""
        if _NO_FOLLOW == 0 and os.path.islink(path):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        handle = os.open(path, os.O_RDONLY | _NO_FOLLOW | _OPEN_FLAGS | getattr(os, "O_NONBLOCK", 0))
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise OSError(errno.EINVAL, "not a plain file", path)
        return handle

    def write(self, handle: int, data: memoryview) -> int:
        """Write what can be written at once; returns how many bytes that was."""
        return os.write(handle, data)

    def read(self, handle: int, into: memoryview) -> int:
        """Read what can be read at once; returns how many bytes that was, 0 at the end."""
        return os.readv(handle, [into]) if hasattr(os, "readv") else _read(handle, into)

    def size(self, handle: int) -> int:
        """The size of an open file in bytes."""
        return os.fstat(handle).st_size

    def sync(self, handle: int) -> None:
        """Return when all that was written to a file would survive a power cut."""
        if fcntl is not None and hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync leaves it in the drive's cache
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
        else:
            os.fsync(handle)

    def close(self, handle: int) -> None:
        """Close a file; a write that the system had put off may fail now."""
        os.close(handle)

    def names(self, folder: str) -> list[str]:
        """The names in a folder, in no order."""
        return os.listdir(folder)

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder, and not a link to one."""
        try:
            return stat.S_ISDIR(os.lstat(path).st_mode)
        except FileNotFoundError:
            return False

    def exists(self, path: str) -> bool:
        """Whether there is anything of this name, be it a broken link."""
        return os.path.lexists(path)

    def sync_folder(self, path: str) -> None:
        """Return when the names in a folder would survive a power cut."""
        if os.name == "nt":  # folders cannot be opened there
            return
        handle = os.open(path, os.O_RDONLY | _OPEN_FLAGS)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):  # a file system that has no such thing
                raise
        finally:
            os.close(handle)

    def rename(self, old: str, new: str) -> None:
        """Give a folder another name in one step; fails where that name has content already."""
        os.rename(old, new)

    def remove(self, path: str) -> None:
        """Remove a file."""
        os.unlink(path)

    def remove_folder(self, path: str) -> None:
        """Remove an empty folder."""
        os.rmdir(path)

    def lock(self, folder: str) -> int | None:
        """Hold a folder until the handle is closed or this process ends; None if another holds it, or it is gone.

        Raises:
            OSError: This file system or operating system cannot lock folders.
        """
        if fcntl is None:
            raise OSError(errno.ENOSYS, "folders cannot be locked here", folder)
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | _NO_FOLLOW | _OPEN_FLAGS)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # It may have been removed or renamed since it was opened: then something else was locked.
            if os.path.samestat(os.fstat(handle), os.lstat(folder)):
                return handle
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        return None


def close_quietly(files: Files, handle: int) -> None:
    """Close what is of no more interest."""
    with contextlib.suppress(OSError):
        files.close(handle)


def _read(handle: int, into: memoryview) -> int:
    data = os.read(handle, len(into))
    into[: len(data)] = data
    return len(data)
