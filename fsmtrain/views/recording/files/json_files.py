"""Append whole lines to files so that they survive a kill; read files that may be damaged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fsmtrain.replace_file import replace_file
from fsmtrain.views.recording.files.json_values import json_line

Row = dict[str, Any]


class AppendFile:
    """A file to which lines are appended, unbuffered: what was appended is with the operating system."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)

    def append(self, content: bytes) -> None:
        """Append whole lines."""
        left = memoryview(content)
        while left:
            left = left[self._file.write(left) :]

    def replace(self, content: bytes) -> None:
        """Replace the whole content, atomically."""
        replace_file(self.path, content)
        self._file.close()
        self._file = self.path.open("ab", buffering=0)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class JsonLinesFile(AppendFile):
    """A JSON Lines file."""

    def append_rows(self, rows: Iterable[Row]) -> None:
        """Append rows."""
        self.append(b"".join(map(json_line, rows)))

    def read_rows(self) -> Iterator[Row]:
        """Yield all rows. The file must be intact."""
        with self.path.open("rb") as lines:
            for line in lines:
                yield json.loads(line)

    def replace_rows(self, rows: Iterable[Row]) -> None:
        """Replace all rows, atomically."""
        self.replace(b"".join(map(json_line, rows)))


# ---- reading what another process wrote, which may have been killed


def read_text(path: Path) -> str:
    """Return a file's text; an empty string if the file cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def read_json(path: Path) -> Row:
    """Return the object in a JSON file; an empty dict if the file is missing or damaged."""
    try:
        content = json.loads(read_text(path))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def read_json_lines(path: Path) -> Iterator[Row | None]:
    """Yield the rows of a JSON Lines file, None for each damaged line. A missing file has no rows."""
    for line in read_text(path).split("\n"):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            yield row if isinstance(row, dict) else None
