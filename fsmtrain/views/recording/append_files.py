"""Files that survive their process: what has been written is with the operating system, or not written at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fsmtrain.atomic_write import write_atomically
from fsmtrain.views.recording.json_csv import line


class Appended:
    """A file to which lines are added."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)

    def add(self, content: bytes) -> None:
        """Add whole lines, in one write. Nothing stays in this process."""
        left = memoryview(content)
        while left:
            left = left[self._file.write(left) :]

    def replace(self, content: bytes) -> None:
        """Put other content in the place of all that is there."""
        write_atomically(self.path, content)
        self._file.close()
        self._file = self.path.open("ab", buffering=0)

    def close(self) -> None:
        """No more is added."""
        self._file.close()


class RowFile(Appended):
    """A file of rows, each a line of JSON."""

    def add_rows(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add rows."""
        self.add(b"".join(map(line, rows)))

    def rows(self) -> Iterator[dict[str, Any]]:
        """All rows that are there."""
        with self.path.open("rb") as lines:
            for text in lines:
                yield json.loads(text)

    def replace_rows(self, rows: Iterable[dict[str, Any]]) -> None:
        """Put other rows in the place of all that are there."""
        self.replace(b"".join(map(line, rows)))
