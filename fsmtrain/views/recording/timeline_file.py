"""The timeline of states: a line with all that has been spent so far, written again and again while the run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fsmtrain.views.recording.append_files import RowFile

MOST = 2_000  # lines; beyond these, every second one is left out


class Timeline:
    """The file ``timeline.jsonl``, from now to `close`. Its lines are cumulative, so that any of them can be left out."""

    def __init__(self, folder: Path, most: int = MOST) -> None:
        self._file = RowFile(folder / "timeline.jsonl")
        self._most = most
        before = [row["time"] for row in self._file.rows()]  # of a run that is resumed
        self._lines = len(before)
        self._spacing, self._last = (before[-1] / len(before) if len(before) > most // 2 else 0.0), -1.0  # seconds

    def add(self, row: dict[str, Any], *, is_last: bool = False) -> None:
        """Write a line, unless another is only just written, in terms of the length of the run."""
        if row["time"] < self._last + self._spacing and not is_last:
            return
        self._last = row["time"]
        self._file.add_rows([row])
        self._lines += 1
        if self._lines > self._most:
            rows = list(self._file.rows())[::-1][::2][::-1]  # the last one stays
            self._file.replace_rows(rows)
            self._lines = len(rows)
            self._spacing = row["time"] / len(rows)

    def close(self) -> None:
        """No more is added."""
        self._file.close()
