"""``log.txt``: what a person wants to read of a run afterwards, a line each with the time before it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from fsmtrain.user_warnings import add_listener, remove_listener
from fsmtrain.views.number_format import metric
from fsmtrain.views.recording.append_files import Appended

QUIET = 1.0  # seconds between two lines about checks, at least

logger = logging.getLogger("fsmtrain")


class Log(logging.Handler):
    """The file, from now to `close`. Warnings of this package, and what it logs, are written as they come."""

    def __init__(self, folder: Path) -> None:
        super().__init__(logging.INFO)
        self._file = Appended(folder / "log.txt")
        self._writing = threading.Lock()
        self._checked_at = -QUIET
        add_listener(self.warned)
        logger.addHandler(self)

    def say(self, text: str) -> None:
        """Write a line, or several that belong together."""
        first, *more = text.splitlines() or [""]
        lines = [f"{datetime.now():%Y-%m-%d %H:%M:%S}  {first}", *(f"    {line}" for line in more)]
        with self._writing:
            self._file.add("".join(f"{line}\n" for line in lines).encode(errors="replace"))

    def warned(self, message: str) -> None:
        """Write a warning."""
        self.say(f"warning: {message}")

    def evaluated(self, kind: str, seconds: float, where: str, values: Mapping[str, float]) -> None:
        """Write the metrics of a check, unless another's are only just written, or those of a test."""
        if kind == "validation":
            if seconds < self._checked_at + QUIET:
                return
            self._checked_at = seconds
        told = ", ".join(metric(name, value) for name, value in values.items())
        self.say(f"{kind} ({where}): {told or 'no metrics'}")

    def emit(self, record: logging.LogRecord) -> None:
        """Write what this package logs."""
        try:
            self.say(f"{record.levelname.lower()}: {record.getMessage()}")
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """No more is written."""
        remove_listener(self.warned)
        logger.removeHandler(self)
        self._file.close()
        super().close()
