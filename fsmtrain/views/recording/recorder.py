"""`Recorder`: the callback whose thread writes the run folder and passes metrics to loggers.

The training thread only appends to the metric queue. The recorder thread pops records every 0.1 to 0.5 s and hands every write
to the operating system at once, so a killed process loses only what came after the last flush.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fsmtrain.core.metric_record import MetricRecord
from fsmtrain.options import Options
from fsmtrain.views.recording.folder_lock import FolderLock
from fsmtrain.views.recording.logger_calls import LoggerCalls
from fsmtrain.views.recording.resume_trim import CheckpointTotals
from fsmtrain.views.recording.run_folder import RunFolder
from fsmtrain.views.run_view import PendingRecords, RunView

MIN_FLUSH_SECONDS, MAX_FLUSH_SECONDS = 0.1, 0.5  # between two flushes: a hundredth of the wall time, within these bounds
POLL_SECONDS = 0.002  # between two looks whether the last values have arrived from the device
END_TIMEOUT_SECONDS = 10.0  # for which the end of a run waits for the recorder thread, and for the last values
EXIT_TIMEOUT_SECONDS = 1.0  # for which the exit of the process waits for the recorder thread
MAX_PENDING_POPS = 4  # batches of records that may wait for a device at a time

log = logging.getLogger("fsmtrain")


class Recorder:
    """Records one run: in a folder of its own, with loggers, or both.

    Args:
        runs: The folder of all runs, in which the run's own is created; None creates none.
        name: The run's name; None numbers it.
        loggers: Objects with ``log_metrics(metrics, step)``.
        into: The folder of another run, to which this run's metrics are added: a test after its fit.
        warnings: Warnings issued before the run begins. The list may still grow until then.
    """

    def __init__(
        self, runs: str | None, name: str | None, loggers: Iterable[Any], *, into: Path | None, warnings: Sequence[str]
    ) -> None:
        self._runs, self._name, self._into, self._warnings = runs, name, into, warnings
        self._loggers = LoggerCalls(loggers)
        self._folder: RunFolder | None = None
        self._before = CheckpointTotals()
        self._lock_on_folder: FolderLock | None = None  # if the run continues in its own folder
        self._run: RunView | None = None
        self._pending: deque[PendingRecords] = deque()
        self._last_values: dict[str, float] = {}  # of each metric
        self._write_lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._at_exit = partial(_flush_at_exit, weakref.ref(self), os.getpid())
        self.path: Path | None = None  # of the folder; stays after the run

    # ---- resuming

    @property
    def creates_folder(self) -> bool:
        """Whether this run is recorded in a folder of its own."""
        return self._runs is not None

    def continue_from(self, checkpoint: Path, metadata: Mapping[str, Any], run: tuple[Path, FolderLock] | None) -> None:
        """Continue from a checkpoint. Call it before the run begins.

        Args:
            checkpoint: The checkpoint.
            metadata: What `checkpoint_metadata` stored in it.
            run: The folder of the resumed run and the lock on it; None if this run begins a folder of its own.
        """
        self._before = CheckpointTotals.parse(checkpoint.absolute(), metadata)
        if run is not None:
            folder, self._lock_on_folder = run
            self.path = folder.absolute()
            weakref.finalize(self, self._lock_on_folder.release).atexit = False  # for a machine that never runs

    def checkpoint_metadata(self, run: RunView, *, work_done: bool) -> dict[str, Any]:
        """Return what a checkpoint saved now stores about the run folder; see `RunFolder.checkpoint_metadata`."""
        return {} if self._folder is None else self._folder.checkpoint_metadata(run, work_done=work_done)

    # ---- hooks

    def on_run_start(self, machine: RunView) -> None:
        """Create or reopen the folder, and start the recorder thread."""
        self._run = machine
        trains = machine.spec.limits.epochs > 0
        try:
            self._folder = self._open_folder(machine, trains=trains)
            if self._folder is not None:
                self.path = self._folder.path
                self._last_values |= self._folder.last_values
                weakref.finalize(self, self._folder.close).atexit = False  # for a machine that is dropped in mid-run
                for warning in self._warnings:
                    self._folder.log(f"warning: {warning}")
        except OSError as error:
            self._stop_recording(error)
        if trains and self._loggers and machine.hparams and getattr(machine.model, "logs_hparams", True):
            self._loggers.log_hyperparams(machine.hparams)
        if trains and (self._folder is not None or self._loggers):
            arguments = (weakref.ref(self), self._ended)
            self._thread = threading.Thread(target=_flush_until_ended, args=arguments, name="fsmtrain recorder", daemon=True)
            self._thread.start()
            atexit.register(self._at_exit)

    def _open_folder(self, run: RunView, *, trains: bool) -> RunFolder | None:
        if self._into is not None:
            return RunFolder(self._into, is_own=False)
        if self._lock_on_folder is not None and self.path is not None:
            return RunFolder.reopen(run, self.path, self._lock_on_folder, self._before)
        if self._runs is not None and trains:
            return RunFolder.create(run, self._runs, self._name, self._before.checkpoint)
        return None

    def on_run_end(self, machine: RunView) -> None:
        """Write the remaining records and why the run ended, and close the folder."""
        if self._run is None:
            return  # on_run_start of an earlier callback failed
        error = sys.exception()
        self._ended.set()
        if self._thread is not None:
            self._thread.join(END_TIMEOUT_SECONDS)
        if not self._write_lock.acquire(timeout=END_TIMEOUT_SECONDS):
            log.warning("the run folder %s is incomplete: its last write has not finished.", self.path)
            return
        try:
            self._write(is_last=True)
            if self._folder is not None:
                self._folder.write_end(machine, self._last_values, error)
        except OSError as failure:
            self._stop_recording(failure)
        finally:
            atexit.unregister(self._at_exit)
            if self._folder is not None:
                self._folder.close()
            self._loggers.close()
            self._run, self._folder = None, None
            self._write_lock.release()

    # ---- writing

    def flush(self) -> float:
        """Write the records that have arrived. Returns the seconds until the next flush."""
        with self._write_lock:
            if self._run is None:
                return MAX_FLUSH_SECONDS
            self._try_write()
            return min(MAX_FLUSH_SECONDS, max(MIN_FLUSH_SECONDS, self._run.wall_seconds / 100))

    def flush_at_exit(self) -> None:
        """Write the remaining records of a run that has not ended, at the exit of the process."""
        if self._write_lock.acquire(timeout=EXIT_TIMEOUT_SECONDS):
            try:
                self._try_write(is_last=True)
            finally:
                self._write_lock.release()

    def _try_write(self, *, is_last: bool = False) -> None:
        try:
            self._write(is_last=is_last)
        except OSError as error:
            self._stop_recording(error)

    def _write(self, *, is_last: bool = False) -> None:
        run = self._run
        if run is None:
            return
        records = self._drain(run, is_last=is_last)
        for record in records:
            self._last_values |= record.values
        if self._folder is not None:
            self._folder.write(run, records, is_last=is_last)
        if self._loggers:
            self._loggers.log_records(records)

    def _drain(self, run: RunView, *, is_last: bool) -> list[MetricRecord]:
        """Pop the records whose values have arrived, in order. The last time, wait for the others."""
        queue = run.metric_queue
        if queue is None:
            return []
        deadline = time.monotonic() + END_TIMEOUT_SECONDS
        records: list[MetricRecord] = []
        try:
            while True:
                while queue.pending and (len(self._pending) < MAX_PENDING_POPS or is_last):
                    self._pending.append(queue.pop())
                while self._pending and self._pending[0].arrived:
                    records += self._pending.popleft().records()
                if not is_last or not self._pending or time.monotonic() > deadline:
                    return records
                time.sleep(POLL_SECONDS)
        except RuntimeError as error:  # of the device; the training thread will get it too
            log.warning("the metrics of some batches could not be read: %s", str(error).splitlines()[0])
            self._pending.clear()
            return records

    def _stop_recording(self, error: OSError) -> None:
        """Report that the folder cannot be written, and continue the run without it."""
        where = self.path or self._into or self._runs
        log.warning("recording in %s stopped, since it cannot be written: %s. The run continues.", where, error)
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.close()


def create_recorder(options: Options, *, trains: bool, into: Path | None, warnings: Sequence[str]) -> Recorder | None:
    """Return the recorder of a run with these options; None if nothing is to be recorded."""
    runs = options.runs_dir if trains and into is None else None
    if runs is None and into is None and not options.loggers:
        return None
    runs_dir = None if runs is None else os.fspath(runs)
    return Recorder(runs_dir, options.run_name, options.loggers, into=into, warnings=warnings)


def _flush_until_ended(reference: weakref.ref[Recorder], ended: threading.Event) -> None:
    """Flush a recorder repeatedly until its run ends, or nothing refers to the recorder any more."""
    seconds = MIN_FLUSH_SECONDS
    while not ended.wait(seconds):
        recorder = reference()
        if recorder is None:
            return
        seconds = recorder.flush()
        del recorder


def _flush_at_exit(reference: weakref.ref[Recorder], process: int) -> None:
    recorder = reference()
    if recorder is not None and os.getpid() == process:  # not in a forked child, which has a copy of the recorder
        recorder.flush_at_exit()
