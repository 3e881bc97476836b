"""``timeline.jsonl``: cumulative counters and time of each state over the course of a run."""

from __future__ import annotations

from pathlib import Path

from fsmtrain.views.recording.files.json_files import JsonLinesFile, Row

MAX_LINES = 2_000


class TimelineFile:
    """Writes ``timeline.jsonl``. Lines are cumulative, so beyond `max_lines` every second one is removed."""

    def __init__(self, folder: Path, max_lines: int = MAX_LINES) -> None:
        self._file = JsonLinesFile(folder / "timeline.jsonl")
        self._max_lines = max_lines
        times = [row["time"] for row in self._file.read_rows()]  # not empty if the run is resumed
        self._lines = len(times)
        self._min_seconds = times[-1] / len(times) if len(times) > max_lines // 2 else 0.0  # between two lines
        self._last_time = -1.0

    def append(self, row: Row, *, is_last: bool = False) -> None:
        """Append a line, unless the last one is too recent for a run of this length."""
        if row["time"] < self._last_time + self._min_seconds and not is_last:
            return
        self._last_time = row["time"]
        self._file.append_rows([row])
        self._lines += 1
        if self._lines > self._max_lines:
            rows = list(self._file.read_rows())[::-1][::2][::-1]  # the last line stays
            self._file.replace_rows(rows)
            self._lines = len(rows)
            self._min_seconds = row["time"] / len(rows)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
