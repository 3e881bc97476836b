"""``log.txt``: header, validations, warnings and errors of a run, for people.

An entry begins with its time; its further lines are indented.
"""

from __future__ import annotations

import logging
import threading
from datetime import datetime
from pathlib import Path

from fsmtrain.core.metric_record import MetricRecord
from fsmtrain.user_warnings import add_listener, remove_listener
from fsmtrain.views.line_rate import LineRate
from fsmtrain.views.number_format import metric
from fsmtrain.views.recording.files.json_files import AppendFile

logger = logging.getLogger("fsmtrain")


class LogFile(logging.Handler):
    """Writes ``log.txt``. Until `close` it also receives the package's warnings and log records.

    Attributes:
        failure: Why a warning or a log record could not be written; None if all were. Those who warn get no error.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(logging.INFO)
        self._file = AppendFile(folder / "log.txt")
        self._write_lock = threading.Lock()
        self.failure: Exception | None = None
        self._line_rate = LineRate()
        add_listener(self.write_warning)
        logger.addHandler(self)

    def write(self, text: str) -> None:
        """Append an entry of one or more lines."""
        first, *more = text.splitlines() or [""]
        lines = [f"{datetime.now():%Y-%m-%d %H:%M:%S}  {first}", *(f"    {line}" for line in more)]
        with self._write_lock:
            self._file.append("".join(f"{line}\n" for line in lines).encode(errors="replace"))

    def write_warning(self, message: str) -> None:
        """Append a warning. Never raises."""
        self._try_write(f"warning: {message}")

    def write_metrics(self, record: MetricRecord) -> None:
        """Append the metrics of a pass. Of very many validations, which the metrics files have, some are left out."""
        if record.kind == "validation" and not self._line_rate.allows(record.seconds):
            return
        metrics = ", ".join(metric(name, value) for name, value in record.values.items()) or "no metrics"
        self.write(f"{record.kind} (epoch {record.epoch}, batch {record.batch}, step {record.step}): {metrics}")

    def emit(self, record: logging.LogRecord) -> None:
        """Append a log record of this package."""
        try:
            text = record.getMessage()
        except Exception:
            self.handleError(record)
        else:
            self._try_write(f"{record.levelname.lower()}: {text}")

    def _try_write(self, text: str) -> None:
        try:
            self.write(text)
        except (OSError, ValueError) as error:  # ValueError: another thread has closed the file
            self.failure = error

    def close(self) -> None:
        """Stop receiving, and close the file."""
        remove_listener(self.write_warning)
        logger.removeHandler(self)
        self._file.close()
        super().close()
