"""Write and read whole files with SHA-256 checksums. Other threads run meanwhile."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from attrs import frozen

from fsmtrain.runtime.checkpoint_files.files import Files, close_quietly

_CHUNK_BYTES = 2**20  # smaller parts are joined into one write


@frozen
class FileDigest:
    """The size of a file in bytes, and its SHA-256 in hexadecimal digits."""

    size: int
    sha256: str


def write_file(files: Files, path: str, parts: Iterable[bytes | memoryview]) -> FileDigest:
    """Write a new file. When this returns its content is durable; its name is once its folder is synced."""
    digest = hashlib.sha256()
    size = 0
    handle = files.create(path)
    try:
        for chunk in _chunks(parts):
            digest.update(chunk)
            _write_all(files, handle, chunk)
            size += len(chunk)
        files.sync(handle)
    except BaseException:
        close_quietly(files, handle)
        raise
    files.close(handle)
    return FileDigest(size, digest.hexdigest())


def _chunks(parts: Iterable[bytes | memoryview]) -> Iterator[memoryview]:
    """Yield the same bytes in chunks that are worth a system call."""
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
    """Reads a file once, from beginning to end, and computes its checksum.

    Attributes:
        remaining: The bytes that have not been read yet.
    """

    def __init__(self, files: Files, handle: int, size: int) -> None:
        self._files = files
        self._handle = handle
        self._digest = hashlib.sha256()
        self.remaining = size

    def read_into(self, target: memoryview) -> None:
        """Fill a buffer with the next bytes.

        Raises:
            ValueError: The file has fewer.
        """
        if len(target) > self.remaining:
            raise ValueError("it is cut off")
        self.remaining -= len(target)
        missing = target
        while missing:
            count = self._files.read(self._handle, missing)
            if count <= 0:
                raise ValueError("it is cut off")
            missing = missing[count:]
        self._digest.update(target)

    def read(self, count: int) -> bytes:
        """Return the next bytes.

        Raises:
            ValueError: The file has fewer.
        """
        if count > self.remaining:  # before memory is allocated for it
            raise ValueError("it is cut off")
        data = bytearray(count)
        self.read_into(memoryview(data))
        return bytes(data)

    def sha256(self) -> str:
        """Return the SHA-256 of what has been read, in hexadecimal digits."""
        return self._digest.hexdigest()


@contextmanager
def open_reader(files: Files, path: str, written: FileDigest | None = None, max_size: int | None = None) -> Iterator[Reader]:
    """Open a file for reading. When the context ends, the file must have been read to its end.

    Args:
        files: The file system.
        path: The file.
        written: The size and SHA-256 that it must have; None for any.
        max_size: The size that it may have at most, in bytes; None for any.

    Raises:
        ValueError: The file has another size or SHA-256, or was not read to its end.
    """
    handle = files.open(path)
    try:
        actual = files.size(handle)
        if written is not None and actual != written.size:
            raise ValueError(f"it has {actual} bytes, but {written.size} were written")
        if max_size is not None and actual > max_size:
            raise ValueError(f"it has {actual} bytes, more than the {max_size} that are read")
        reader = Reader(files, handle, actual)
        yield reader
        if reader.remaining:
            raise ValueError(f"it has {reader.remaining} bytes too many")
        if written is not None and reader.sha256() != written.sha256:
            raise ValueError("it is damaged: its SHA-256 is not the one in the manifest")
    finally:
        close_quietly(files, handle)


def link_or_copy(files: Files, old: str, new: str) -> None:
    """Give a file a second name, or copy it where the file system cannot. Its content is durable then."""
    try:
        files.link(old, new)
    except OSError:
        with open_reader(files, old) as reader:
            parts = iter(lambda: reader.read(min(reader.remaining, _CHUNK_BYTES)), b"")
            write_file(files, new, parts)


def error_text(error: BaseException) -> str:
    """Return an error as the reason in a sentence: of an `OSError`, the text without its number and path.

    >>> error_text(OSError(28, "No space left on device", "/a")), error_text(ValueError("it is short"))
    ('No space left on device', 'it is short')
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.strerror or os.strerror(error.errno)
    return str(error) or type(error).__name__
