"""Append whole lines to files so that they survive a kill; read files that may be damaged."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from fsmtrain import strict_json
from fsmtrain.plain_files import open_plain_file, read_plain_file
from fsmtrain.replace_file import replace_file
from fsmtrain.sync_files import sync_file, sync_folder
from fsmtrain.views.recording.files.json_values import json_line

Row = dict[str, Any]


class AppendFile:
    """A file to which lines are appended, unbuffered: what was appended is with the operating system.

    It consists of whole lines: part of one, which a kill or a full disk leaves, is removed when the file is opened, and when an
    append fails.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _remove_partial_line(path)
        self._file = path.open("ab", buffering=0)
        self._name_is_durable = False

    def append(self, content: bytes) -> None:
        """Append whole lines: all of them, or none.

        Raises:
            OSError: They could not be written.
        """
        size = os.fstat(self._file.fileno()).st_size
        left = memoryview(content)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            with suppress(OSError):
                self._file.truncate(size)
            raise

    def replace(self, content: bytes) -> None:
        """Replace the whole content, atomically."""
        replace_file(self.path, content)
        self._file.close()
        self._file = self.path.open("ab", buffering=0)
        self._name_is_durable = False

    def sync(self) -> None:
        """Flush the file to the disk: once this returns, its content survives a power cut.

        Raises:
            OSError: It could not be flushed.
        """
        sync_file(self._file.fileno())
        if not self._name_is_durable:
            sync_folder(self.path.parent)
            self._name_is_durable = True

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class JsonLinesFile(AppendFile):
    """A JSON Lines file."""

    def append_rows(self, rows: Iterable[Row]) -> None:
        """Append rows."""
        self.append(b"".join(map(json_line, rows)))

    def read_rows(self) -> Iterator[Row]:
        """Yield all rows but damaged ones."""
        return (row for row in read_json_lines(self.path) if row is not None)

    def replace_rows(self, rows: Iterable[Row]) -> None:
        """Replace all rows, atomically."""
        self.replace(b"".join(map(json_line, rows)))


def _remove_partial_line(path: Path) -> None:
    """Cut a file after its last newline. Does nothing if it is missing, or ends with one."""
    with suppress(FileNotFoundError), path.open("r+b") as file:
        end = size = file.seek(0, os.SEEK_END)
        last = b"\n"
        while end and b"\n" not in (last := _read_before(file, end)):
            end -= len(last)
            if size - end > MAX_LINES_BYTES:
                raise OSError(errno.EFBIG, "its last line does not begin", str(path))
        end = end - len(last) + last.rfind(b"\n") + 1 if end else 0
        if end < size:
            file.truncate(end)


def _read_before(file: BinaryIO, end: int) -> bytes:
    """Return the bytes of a file before a position, at most 64 KiB."""
    start = max(0, end - (1 << 16))
    file.seek(start)
    return file.read(end - start)


# ---- reading what another process wrote, which may have been killed; or what anyone has put there

MAX_DOCUMENT_BYTES = 2**24  # of run.json, status.json, ...
MAX_LINES_BYTES = 2**28  # of metrics.jsonl, timeline.jsonl, log.txt


def read_text(path: Path) -> str:
    """Return a file's text; an empty string if the file cannot be read."""
    try:
        return read_plain_file(path, MAX_LINES_BYTES).decode(errors="replace")
    except OSError:
        return ""


def read_json(path: str | os.PathLike[str]) -> Row:
    """Return the object in a JSON file; an empty dict if the file is missing or damaged."""
    try:
        content = strict_json.parse(read_plain_file(path, MAX_DOCUMENT_BYTES))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def read_json_lines(path: Path) -> Iterator[Row | None]:
    """Yield the rows of a JSON Lines file, None for each damaged line. A missing file has no rows.

    Raises:
        OSError: The file cannot be read, or is no plain file, or has more than `MAX_LINES_BYTES`.
    """
    try:
        lines = open_plain_file(path, MAX_LINES_BYTES)
    except FileNotFoundError:
        return
    with lines:
        for line in lines:
            if line.strip():
                try:
                    row = strict_json.parse(line)
                except ValueError:
                    row = None
                yield row if isinstance(row, dict) else None
