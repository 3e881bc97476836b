"""The loggers that a user gave: objects with ``log_metrics(metrics, step)``, called one after the other."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from typing import Any

from fsmtrain.core.metric_record import MetricRecord
from fsmtrain.views.recording.metric_rows import Bins, Row

log = logging.getLogger("fsmtrain")


AT_ONCE = 200  # calls for one taking of notes, about


class Loggers:
    """The loggers of one run. One that raises is told of once, and is not called again in this run.

    They are called by the thread that writes the record, never by two threads at the same time. They are given numbers, and
    the learning rate as ``lr``, or ``lr/0`` and ``lr/1``: those of each batch, or where batches come faster than some hundreds
    a second means over several.
    """

    def __init__(self, loggers: Iterable[Any]) -> None:
        self._loggers = list(loggers)
        self._bins = Bins()

    def __bool__(self) -> bool:
        return bool(self._loggers)

    def log(self, notes: Sequence[MetricRecord]) -> None:
        """Hand the metrics of these notes to each logger."""
        self._bins.width = 1 + len(notes) // AT_ONCE
        told = [(_metrics(row), row["step"]) for row in (*self._bins.add(notes), *self._bins.rest(math.inf))]
        for logger in tuple(self._loggers):
            all(self._call(logger, "log_metrics", metrics.copy(), step) for metrics, step in told)

    def close(self) -> None:
        """Tell those that want to know that the run is over."""
        for logger in tuple(self._loggers):
            if callable(getattr(logger, "close", None)):
                self._call(logger, "close")

    def _call(self, logger: Any, method: str, *args: Any) -> bool:
        try:
            getattr(logger, method)(*args)
        except Exception as error:
            self._loggers.remove(logger)
            log.warning(
                "the logger %s raised in %s, so nothing more is logged there; the run goes on: %r",
                type(logger).__name__,
                method,
                error,
            )
            return False
        return True


def _metrics(row: Row) -> dict[str, float]:
    """The numbers of a row by name."""
    rates = row.get("lr", [])
    lr = {"lr" if len(rates) == 1 else f"lr/{i}": float(rate) for i, rate in enumerate(rates) if rate is not None}
    return {**{name: float(value) for name, value in row["values"].items()}, **lr}
