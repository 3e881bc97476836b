"""Bytes into files and out of them, all of them, with their SHA-256. Both let other threads run meanwhile."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from attrs import frozen

from fsmtrain.runtime.checkpoint_files.files import Files, close_quietly

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK_BYTES = 2**20  # what is smaller is gathered to a write of this many bytes


@frozen
class FileDigest:
    """What a file holds: its size in bytes, and its SHA-256 in hexadecimal digits."""

    size: int
    sha256: str


def write_file(files: Files, path: str, parts: Iterable[bytes | memoryview]) -> FileDigest:
    """Make a file of these parts, durable when this returns (but for its name, which is its folder's)."""
    digest = hashlib.sha256()
    size = 0
    handle = files.create(path)
    try:
        for piece in _chunks(parts):
            digest.update(piece)
            _write_all(files, handle, piece)
            size += len(piece)
        files.sync(handle)
    except BaseException:
        close_quietly(files, handle)
        raise
    files.close(handle)
    return FileDigest(size, digest.hexdigest())


def _chunks(parts: Iterable[bytes | memoryview]) -> Iterator[memoryview]:
    """The same bytes in pieces that are worth a system call."""
    small = bytearray()
    for part in parts:
        if len(part) < _CHUNK_BYTES:
            small += part
        if len(small) >= _CHUNK_BYTES or (small and len(part) >= _CHUNK_BYTES):
            yield memoryview(small)
            small = bytearray()
        if len(part) >= _CHUNK_BYTES:
            yield memoryview(part)
    if small:
        yield memoryview(small)


def _write_all(files: Files, handle: int, data: memoryview) -> None:
    while data:
        count = files.write(handle, data)
        if count <= 0:
            raise OSError(errno.EIO, "nothing was written")
        data = data[count:]


class Reader:
    """A file that is read once, from its beginning to its end."""

    def __init__(self, files: Files, handle: int, size: int) -> None:
        self._files = files
        self._handle = handle
        self._digest = hashlib.sha256()
        self.remaining = size

    def read_into(self, target: memoryview) -> None:
        """Fill the target with the next bytes.

        Raises:
            ValueError: The file has not that many.
        """
        if len(target) > self.remaining:
            raise ValueError("it ends too early")
        self.remaining -= len(target)
        whole = target
        while target:
            count = self._files.read(self._handle, target)
            if count <= 0:
                raise ValueError("it ends too early")
            target = target[count:]
        self._digest.update(whole)

    def read(self, count: int) -> bytes:
        """The next bytes."""
        if count > self.remaining:
            raise ValueError("it ends too early")
        data = bytearray(count)
        self.read_into(memoryview(data))
        return bytes(data)

    def verify(self, sha256: Any) -> None:
        """The file must have been read to its end, and be the one with this SHA-256.

        Raises:
            ValueError: It is not.
        """
        if self.remaining:
            raise ValueError(f"it has {self.remaining} bytes more than belong there")
        if self._digest.hexdigest() != sha256:
            raise ValueError("its content is not what was written: the SHA-256 differs from the manifest's")


@contextmanager
def open_reader(files: Files, path: str, size: int | None = None, max_size: int | None = None) -> Iterator[Reader]:
    """A file for reading.

    Raises:
        ValueError: Its size is not this one, or more than the most.
    """
    handle = files.open(path)
    try:
        found = files.size(handle)
        if size is not None and found != size:
            raise ValueError(f"it has {found} bytes, and {size} were written")
        if max_size is not None and found > max_size:
            raise ValueError(f"it has {found} bytes, and at most {max_size} are read")
        yield Reader(files, handle, found)
    finally:
        close_quietly(files, handle)


def error_text(error: BaseException) -> str:
    """An error as a reason in a sentence: for one of the operating system, its text without number and path.

    >>> shown(OSError(28, "No space left on device", "/a")), shown(ValueError("it is short"))
    ('No space left on device', 'it is short')
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.strerror or os.strerror(error.errno)
    return str(error) or type(error).__name__
