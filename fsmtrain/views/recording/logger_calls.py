"""Calls to the user's loggers, which are objects with ``log_metrics(metrics, step)``."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fsmtrain.core.metric_record import MetricRecord
from fsmtrain.views.recording.files.json_files import Row
from fsmtrain.views.recording.files.metric_rows import RowBuilder

log = logging.getLogger("fsmtrain")

MAX_CALLS_PER_FLUSH = 200  # about


class LoggerCalls:
    """The loggers of one run. One that raises is reported once, and not called again in this run.

    The recorder thread calls them, one call at a time. Metrics are floats by name; the learning rate is ``lr``, or ``lr/0``,
    ``lr/1``, ... of several optimizers. A call has the metrics of one batch, or means over several if batches are fast.
    """

    def __init__(self, loggers: Iterable[Any]) -> None:
        self._loggers = list(loggers)
        self._rows = RowBuilder()

    def __bool__(self) -> bool:
        return bool(self._loggers)

    def log_records(self, records: Sequence[MetricRecord]) -> None:
        """Pass the metrics of these records to each logger."""
        self._rows.batches_per_row = 1 + len(records) // MAX_CALLS_PER_FLUSH
        rows = [*self._rows.add(records), *self._rows.flush(math.inf)]
        calls = [(_metrics_of(row), row["step"]) for row in rows]
        for logger in tuple(self._loggers):
            all(self._call(logger, "log_metrics", metrics.copy(), step) for metrics, step in calls)

    def log_hyperparams(self, hparams: Mapping[str, Any]) -> None:
        """Call ``log_hyperparams(hparams)`` of the loggers that have it, before their first metrics."""
        for logger in tuple(self._loggers):
            if callable(getattr(logger, "log_hyperparams", None)):
                self._call(logger, "log_hyperparams", copy.deepcopy(dict(hparams)))

    def close(self) -> None:
        """Call ``close()`` of the loggers that have it."""
        for logger in tuple(self._loggers):
            if callable(getattr(logger, "close", None)):
                self._call(logger, "close")

    def _call(self, logger: Any, method: str, *args: Any) -> bool:
        """Call a method of a logger. Returns whether the logger is still in use."""
        try:
            getattr(logger, method)(*args)
        except Exception as error:
            self._loggers.remove(logger)
            log.warning("the logger %s raised in %s and is disabled for this run: %r", type(logger).__name__, method, error)
            return False
        return True


def _metrics_of(row: Row) -> dict[str, float]:
    rates = row.get("lr", [])
    lr = {"lr" if len(rates) == 1 else f"lr/{i}": float(rate) for i, rate in enumerate(rates) if rate is not None}
    return {**{name: float(value) for name, value in row["values"].items()}, **lr}
