"""Calls to the user's loggers, which are objects with ``log_metrics(metrics, step)``: each logger has a thread of its own."""

from __future__ import annotations

import copy
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any

from fsmtrain.core.metric_record import MetricRecord
from fsmtrain.views.recording.files.json_files import Row
from fsmtrain.views.recording.files.metric_rows import RowBuilder
from fsmtrain.views.recording.report_failure import describe, report_failure

MAX_CALLS_AT_A_TIME = 1_000  # about; of more records that wait, means over several are passed
MAX_WAITING_RECORDS = 1 << 16  # beyond these, the recorder waits for the logger
STALL_SECONDS = 60.0  # after which a call is reported, and neither checkpoints nor the end of the run wait for it any more
POLL_SECONDS = 0.1  # between two looks whether a call has lasted too long


class LoggerCalls:
    """The calls of one logger in one run, made by a thread of its own, in order.

    Metrics are floats by name; the learning rate is ``lr``, or ``lr/0``, ``lr/1``, ... of several optimizers. A call has the
    metrics of one batch, or means over several if batches are faster than the logger.

    A logger that raises is reported once, and not called again in this run. One that does not return is reported once, and not
    waited for until it does; if too many records wait for it then, it is given up in the same way.

    Args:
        logger: The logger.
    """

    def __init__(self, logger: Any) -> None:
        self._logger, self._name = logger, type(logger).__name__
        self._rows = RowBuilder()
        self._changed = threading.Condition()
        self._waiting: deque[MetricRecord | Callable[[], object]] = deque()
        self._is_busy = self._has_ended = self._has_failed = self._stall_is_reported = False
        self._call: tuple[str, float] | None = None  # the method under way, and when it was called
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._call_until_ended, name="fsmtrain logger", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # the system has no more threads
            self._fail(f"the logger {self._name} gets no metrics in this run: {describe(error)}.")

    def log_hyperparams(self, hparams: Mapping[str, Any]) -> None:
        """Call ``log_hyperparams(hparams)``, if the logger has it, and wait for it."""
        if callable(getattr(self._logger, "log_hyperparams", None)):
            self._submit([lambda: self._invoke("log_hyperparams", copy.deepcopy(dict(hparams)))])
            self.wait()

    def begin_run(self, run_id: str | None, name: str | None, resumed_step: int | None, rows: Sequence[Row] = ()) -> None:
        """Call ``begin_run(run_id, name, resumed_step)``, if the logger has it, then pass rows again, and do not wait.

        Args:
            run_id: The identity of the run, which a resumed run keeps; None if it is not recorded.
            name: The name of its folder; None likewise.
            resumed_step: ``global_step`` of the checkpoint that a resumed run continues from; None for a new run.
            rows: Rows of ``metrics.jsonl`` from before the checkpoint, at this step or later, which the logger may drop.
        """
        if callable(getattr(self._logger, "begin_run", None)):
            again = [lambda row=row: self._invoke("log_metrics", _metrics_of(row), row["step"]) for row in rows]
            self._submit([lambda: self._invoke("begin_run", run_id, name, resumed_step), *again])

    def log_records(self, records: Sequence[MetricRecord]) -> None:
        """Queue records for the logger. Waits if too many wait already."""
        while len(self._waiting) > MAX_WAITING_RECORDS and self._is_in_use:
            if self._is_stalled():
                self._fail(f"the logger {self._name} gets no further metrics in this run: too many wait for it.")
            with self._changed:
                self._changed.wait(POLL_SECONDS)
        self._submit(records)

    def wait(self, seconds: float = math.inf) -> None:
        """Wait until all that is queued has been passed to the logger; at most as long, and not for a call that stalls."""
        deadline = monotonic() + seconds
        while self._is_in_use and (self._waiting or self._is_busy) and not self._is_stalled() and monotonic() < deadline:
            with self._changed:
                self._changed.wait(POLL_SECONDS)

    def flush(self) -> None:
        """Call ``flush()``, else Lightning's ``save()``, if the logger has it, after everything that is queued, and wait."""
        method = next((name for name in ("flush", "save") if callable(getattr(self._logger, name, None))), None)
        if method is not None:
            self._submit([lambda: self._invoke(method)])
        self.wait()

    def end(self) -> None:
        """Let the thread end once all that is queued has been passed on. Does not wait for it."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def close(self, *, failed: bool = False) -> None:
        """Call ``close()``, else Lightning's ``finalize(status)``, after everything else; wait, and end the thread."""
        if callable(getattr(self._logger, "close", None)):
            self._submit([lambda: self._invoke("close")])
        elif callable(getattr(self._logger, "finalize", None)):
            self._submit([lambda: self._invoke("finalize", "failed" if failed else "success")])
        self.wait()
        self.end()

    @property
    def _is_in_use(self) -> bool:
        return not self._has_failed and self._thread is not None

    def _submit(self, items: Sequence[MetricRecord | Callable[[], object]]) -> None:
        with self._changed:
            if self._is_in_use:
                self._waiting.extend(items)
                self._changed.notify_all()

    def _is_stalled(self) -> bool:
        """Return whether the present call takes too long; report the first one."""
        call = self._call
        if call is None or monotonic() - call[1] < STALL_SECONDS:
            return False
        if not self._stall_is_reported:
            self._stall_is_reported = True
            report_failure(
                f"the logger {self._name} has not returned from {call[0]} for {STALL_SECONDS:g} s. The run continues; if it is "
                f"killed, metrics that wait for this logger are lost to it."
            )
        return True

    def _fail(self, message: str) -> None:
        report_failure(message)  # first: the run does not end, and close its log, before the failure is known
        with self._changed:
            self._has_failed = True
            self._waiting.clear()
            self._changed.notify_all()

    # ---- in the thread

    def _call_until_ended(self) -> None:
        while True:
            with self._changed:
                self._is_busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._has_ended or self._has_failed)
                if self._has_failed or not self._waiting:
                    return
                items = list(self._waiting)
                self._waiting.clear()
                self._is_busy = True
            for call in self._calls_of(items):
                if self._has_failed:
                    return
                call()

    def _calls_of(self, items: Sequence[MetricRecord | Callable[[], object]]) -> Iterator[Callable[[], object]]:
        """Yield a call for each item, or for several records together."""
        self._rows.batches_per_row = 1 + len(items) // MAX_CALLS_AT_A_TIME
        records: list[MetricRecord] = []
        for item in items:
            if isinstance(item, MetricRecord):
                records.append(item)
                continue
            yield from self._metric_calls(records)
            records = []
            yield item
        yield from self._metric_calls(records)

    def _metric_calls(self, records: Sequence[MetricRecord]) -> Iterator[Callable[[], object]]:
        for row in (*self._rows.add(records), *self._rows.flush(math.inf)):
            yield lambda row=row: self._invoke("log_metrics", _metrics_of(row), row["step"])  # type: ignore[misc]

    def _invoke(self, method: str, *args: Any) -> None:
        self._call = method, monotonic()
        try:
            getattr(self._logger, method)(*args)
        except BaseException as error:
            what = describe(error)
            self._fail(f"the logger {self._name} raised in {method} and is disabled for this run: {what}. The run continues.")
        finally:
            self._call = None


def _metrics_of(row: Row) -> dict[str, float]:
    rates = row.get("lr", [])
    lr = {"lr" if len(rates) == 1 else f"lr/{i}": float(rate) for i, rate in enumerate(rates) if rate is not None}
    return {**{name: float(value) for name, value in row["values"].items()}, **lr}
