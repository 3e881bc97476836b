"""Flush files and folders to the disk, so that they survive a power cut."""

from __future__ import annotations

import errno
import os

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NOT_SUPPORTED = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)  # by this file system


def sync_file(descriptor: int) -> None:
    """Flush an open file to the disk: once this returns, its content survives a power cut.

    Raises:
        OSError: It could not be flushed.
    """
    if fcntl is not None and hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync leaves it in the drive's cache
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Flush the names in a folder to the disk. Does nothing where folders cannot be flushed.

    Raises:
        OSError: They could not be flushed.
    """
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
    finally:
        os.close(descriptor)
