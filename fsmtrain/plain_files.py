"""Open a file that may be anything, and read it within a bound.

Opening a pipe waits for a writer, a device may never end, and a sparse file of a terabyte fills the memory. So every reader of
the package opens its file here; checkpoints have `runtime.checkpoint_files.files` for the same.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def open_plain_file(path: str | os.PathLike[str], max_bytes: int) -> BinaryIO:
    """Open a file for reading. Links are followed.

    Args:
        path: The file.
        max_bytes: The size that it may have at most.

    Raises:
        OSError: It does not exist, cannot be read, is no plain file, or is larger.
    """
    _require_plain(path, os.stat(path), max_bytes)  # first, since opening a device may already do something
    file = open(path, "rb", opener=lambda name, _: os.open(name, _OPEN_FLAGS))  # noqa: SIM115
    try:
        _require_plain(path, os.fstat(file.fileno()), max_bytes)
    except OSError:
        file.close()
        raise
    return file


def read_plain_file(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """Return the content of a file. Without a buffer in between, since thousands of small files may be read in a row.

    Raises:
        OSError: As `open_plain_file`.
    """
    _require_plain(path, os.stat(path), max_bytes)
    descriptor = os.open(path, _OPEN_FLAGS)
    try:
        status = os.fstat(descriptor)
        _require_plain(path, status, max_bytes)
        content = os.read(descriptor, status.st_size)
        while len(content) < status.st_size and (more := os.read(descriptor, status.st_size - len(content))):
            content += more
        return content
    finally:
        os.close(descriptor)


def _require_plain(path: str | os.PathLike[str], status: os.stat_result, max_bytes: int) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder, not a file", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a plain file", str(path))
    if status.st_size > max_bytes:
        raise OSError(errno.EFBIG, f"it has {status.st_size} bytes, more than the {max_bytes} that are read", str(path))
