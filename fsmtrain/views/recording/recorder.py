"""`Recorder`: the callback whose thread writes the run folder and passes metrics to loggers.

The training thread only appends to the metric queue. The recorder thread pops records every 0.1 to 0.5 s and hands every write
to the operating system at once, so a killed process loses only what came after the last flush.

A checkpoint becomes valid no earlier than what comes before it is recorded: its writer waits for that (`Checkpointed`), and not
the training thread. A resumed run cuts what is newer than its checkpoint, so that each batch is recorded once.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from attrs import astuple, evolve, frozen

from fsmtrain.core.metric_record import MetricRecord
from fsmtrain.mask_secrets import mask_values
from fsmtrain.options import Options
from fsmtrain.user_warnings import warn
from fsmtrain.views.recording.files.json_files import Row, read_json_lines
from fsmtrain.views.recording.folder_lock import FolderLock
from fsmtrain.views.recording.list_runs import read_run
from fsmtrain.views.recording.logger_calls import LoggerCalls
from fsmtrain.views.recording.report_failure import describe, report_failure
from fsmtrain.views.recording.resume_trim import CheckpointTotals
from fsmtrain.views.recording.run_folder import RunFolder
from fsmtrain.views.run_view import PendingRecords, RunView

MIN_FLUSH_SECONDS, MAX_FLUSH_SECONDS = 0.1, 0.5  # between two flushes: a hundredth of the wall time, within these bounds
POLL_SECONDS = 0.002  # between two looks whether the last values have arrived from the device
END_TIMEOUT_SECONDS = 10.0  # for which the end of a run waits for the recorder thread, and for the last values
BEFORE_SECONDS = 1e-6  # by which a boundary comes before a record: the resolution of times in rows
EXIT_TIMEOUT_SECONDS = 1.0  # for which the exit of the process waits for the recorder thread
MAX_PENDING_POPS = 4  # batches of records that may wait for a device at a time


@frozen
class CheckpointBoundary:
    """The place of a checkpoint among the metric records.

    Attributes:
        position: How many records were appended before it.
        seconds: Its time, on the clock of the rows.
    """

    position: int
    seconds: float


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
        self._loggers = [LoggerCalls(logger) for logger in loggers]
        self._folder: RunFolder | None = None
        self._before = CheckpointTotals()
        self._lock_on_folder: FolderLock | None = None  # if the run continues in its own folder
        self._run: RunView | None = None
        self._pending: deque[PendingRecords] = deque()
        self._unfinished: list[MetricRecord] = []  # of the batch under way, which make one row with those that follow
        self._boundary_seconds = 0.0  # of the last checkpoint, on the clock of the rows
        self._queue_was_full = False
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

    # ---- saving

    def begin_checkpoint(self, run: RunView, *, work_done: bool, at_stop: bool) -> tuple[dict[str, Any], Callable[[], None]]:
        """Mark the place of a checkpoint among the records. Call it in the training thread when the state is copied.

        Args:
            run: The run.
            work_done: See `RunFolder.checkpoint_metadata`.
            at_stop: Whether the run has been stopped, perhaps within a batch. Then the checkpoint carries the records of that
                batch; the resumed run makes one row of them and of the rest.

        Returns:
            What the checkpoint stores about the record, and a function that returns once all before that place is recorded
            durably, or recording has failed. It may be called in any thread.
        """
        queue = run.metric_queue
        assert queue is not None
        if at_stop:
            self._record_up_to(CheckpointBoundary(queue.appended, 0.0))
        seconds = self._seconds_before + queue.seconds
        if at_stop and self._unfinished:
            seconds = self._unfinished[0].seconds - BEFORE_SECONDS
        boundary = CheckpointBoundary(queue.appended, round(seconds, 6))
        self._boundary_seconds = boundary.seconds
        folder = self._folder
        if folder is None:
            return {}, partial(self._record_up_to, boundary)
        folder.add_boundary(boundary.seconds)
        metadata = folder.checkpoint_metadata(run, work_done=work_done)
        unfinished = [list(astuple(record)) for record in self._unfinished] if at_stop else []
        return {**metadata, "metric_seconds": boundary.seconds, "unfinished": unfinished}, partial(self._record_up_to, boundary)

    def _record_up_to(self, boundary: CheckpointBoundary) -> None:
        while not self._try_record_up_to(boundary):
            time.sleep(POLL_SECONDS)
        for logger in self._loggers:
            logger.flush()

    def _try_record_up_to(self, boundary: CheckpointBoundary) -> bool:
        """Write the records that have arrived. Returns whether all before a boundary are recorded."""
        with self._write_lock:
            run = self._run
            if run is None or run.metric_queue is None:
                return True
            self._write()
            if run.metric_queue.popped - sum(map(len, self._pending)) < boundary.position:
                return False
            if self._folder is not None:
                with self._stopping_on_errors():
                    self._folder.write_up_to(boundary.seconds)
            return True

    def roll_back(self, checkpoint: Path, metadata: Mapping[str, Any]) -> None:
        """Remove what was recorded after a checkpoint to which the run has gone back. Call it in the training thread.

        Args:
            checkpoint: The checkpoint: one of this process, or the one from which it was resumed.
            metadata: What `begin_checkpoint` stored in it.
        """
        run = self._run
        if run is None or run.metric_queue is None:
            return
        self._record_up_to(CheckpointBoundary(run.metric_queue.appended, 0.0))
        is_of_this_process = checkpoint.absolute() != self._before.checkpoint
        totals = CheckpointTotals.parse(checkpoint, metadata) if is_of_this_process else self._before
        with self._write_lock:
            self._unfinished = [] if is_of_this_process else self._unfinished_before()
            if self._folder is not None:
                with self._stopping_on_errors():
                    self._folder.cut(totals.metric_seconds if is_of_this_process else self._seconds_before)

    # ---- hooks

    def on_run_start(self, machine: RunView) -> None:
        """Create or reopen the folder, and start the recorder thread."""
        self._run = machine
        trains = machine.spec.limits.epochs > 0
        with self._stopping_on_errors():
            self._folder = self._open_folder(machine, trains=trains)
            if self._folder is not None:
                self.path = self._folder.path
                self._last_values |= self._folder.last_values
                weakref.finalize(self, self._folder.close).atexit = False  # for a machine that is dropped in mid-run
                for warning in self._warnings:
                    self._folder.log(f"warning: {warning}")
        self._unfinished = self._unfinished_before()
        for logger in self._loggers:
            logger.start()
            weakref.finalize(self, logger.end).atexit = False
            logger.begin_run(*self._identity(), *self._logged_before(machine))
            if trains and machine.hparams and getattr(machine.model, "logs_hparams", True):
                logger.log_hyperparams(mask_values(machine.hparams))
        if self._folder is not None or self._loggers:
            arguments = (weakref.ref(self), self._ended)
            self._thread = threading.Thread(target=_flush_until_ended, args=arguments, name="fsmtrain recorder", daemon=True)
            with suppress(RuntimeError):  # no more threads: then other threads write, at checkpoints, at the end, if it is full
                self._thread.start()
            atexit.register(self._at_exit)

    def _identity(self) -> tuple[str | None, str | None]:
        """Return the run's identity and the name of its folder, of the fit's run for its test; None if it is not recorded."""
        if self._folder is None:
            return None, None
        path = self._folder.path
        return read_run(path).run_id, path.name

    def _logged_before(self, run: RunView) -> tuple[int | None, list[Row]]:
        """Return the step from which this run continues an earlier process's, and the recorded rows at that step or later."""
        if self._lock_on_folder is None or self._folder is None:
            return None, []
        step = min([run.counters.global_step, *(record.step for record in self._unfinished)])
        return step, [row for row in read_json_lines(self._folder.path / "metrics.jsonl") if row and row.get("step", 0) >= step]

    @property
    def _seconds_before(self) -> float:
        """The time in this folder's rows at which this process began."""
        return self._before.metric_seconds if self._lock_on_folder is not None else 0.0

    def _unfinished_before(self) -> list[MetricRecord]:
        """Return the records of the batch in which the run had been stopped, before this process."""
        return [] if self._lock_on_folder is None else [evolve(record) for record in self._before.unfinished]

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
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(END_TIMEOUT_SECONDS)
        if not self._write_lock.acquire(timeout=END_TIMEOUT_SECONDS):
            report_failure(f"the run folder {self.path} is incomplete: its last write has not finished.")
            return
        try:
            self._write(is_last=True)
            if self._folder is not None:
                with self._stopping_on_errors():
                    self._folder.write_end(machine, self._last_values, error)
            for logger in self._loggers:
                logger.close(failed=error is not None)
        finally:
            atexit.unregister(self._at_exit)
            if self._folder is not None:
                self._folder.close()
            for logger in self._loggers:
                logger.end()
            self._run, self._folder = None, None
            self._write_lock.release()

    # ---- writing

    def flush(self) -> float:
        """Write the records that have arrived. Returns the seconds until the next flush."""
        with self._write_lock:
            if self._run is None:
                return MAX_FLUSH_SECONDS
            self._write()
            return min(MAX_FLUSH_SECONDS, max(MIN_FLUSH_SECONDS, self._run.wall_seconds / 100))

    def flush_at_exit(self) -> None:
        """Write the remaining records of a run that has not ended, at the exit of the process."""
        if self._write_lock.acquire(timeout=EXIT_TIMEOUT_SECONDS):
            try:
                self._write(is_last=True)
                for logger in self._loggers:
                    logger.wait(EXIT_TIMEOUT_SECONDS)
            finally:
                self._write_lock.release()

    def make_room(self) -> None:
        """Write records until the queue is not full any more. The queue calls it in the training thread."""
        run = self._run
        if run is None or run.metric_queue is None:
            return
        if not self._queue_was_full:
            self._queue_was_full = True
            warn(
                f"{run.metric_queue.pending} records of metrics wait to be written: the run waits until they are. Batches are "
                f"faster than the disk of {self.path}, or than a logger. This is reported once."
            )
        before = run.metric_queue.pending
        while run.metric_queue.pending >= before:
            self.flush()
            time.sleep(POLL_SECONDS)

    def _write(self, *, is_last: bool = False) -> None:
        """Write what has arrived, and pass it to the loggers. Never raises."""
        run = self._run
        if run is None:
            return
        records: list[MetricRecord] = []
        with self._stopping_on_errors():
            records = self._finished(run, is_last=is_last)
            for record in records:
                self._last_values |= record.values
            if self._folder is not None:
                self._folder.write(run, records, is_last=is_last)
        for logger in self._loggers:
            logger.log_records(records)

    def _finished(self, run: RunView, *, is_last: bool) -> list[MetricRecord]:
        """Pop the records of finished batches; those of the batch under way wait, so that each batch is one row.

        A batch is finished if the run has come to a later one, to a validation, or to a checkpoint.
        """
        counters, kind = run.counters, run.state.info.kind  # read first: what was appended before is popped
        position = (counters.current_epoch, counters.batch_nb)
        records = self._unfinished + self._drain(run, is_last=is_last)
        self._unfinished = []
        if is_last:
            return records
        everything_is_here = not self._pending and run.metric_queue is not None and not run.metric_queue.pending
        while records and records[-1].kind == "train" and records[-1].seconds > self._boundary_seconds:
            last = records[-1].epoch, records[-1].batch
            if self._unfinished and last != (self._unfinished[0].epoch, self._unfinished[0].batch):
                break
            if everything_is_here and (last < position or kind == "evaluation"):
                break
            self._unfinished.insert(0, records.pop())
        return records

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
                    arrived = self._pending.popleft().records()
                    for record in arrived:
                        record.seconds += self._seconds_before
                    records += arrived
                if not is_last or not self._pending or time.monotonic() > deadline:
                    return records
                time.sleep(POLL_SECONDS)
        except RuntimeError as error:  # of the device; the training thread will get it too
            report_failure(f"the metrics of some batches could not be read: {describe(error)}")
            self._pending.clear()
            return records

    @contextmanager
    def _stopping_on_errors(self) -> Iterator[None]:
        """If the folder cannot be written, report it, and continue the run without a record."""
        try:
            yield
        except Exception as error:
            where = self.path or self._into or self._runs
            report_failure(f"recording in {where} stopped, since it cannot be written: {describe(error)}. The run continues.")
            folder, self._folder = self._folder, None
            if folder is not None:
                folder.close()


def create_recorder(options: Options, *, trains: bool, into: Path | None, warnings: Sequence[str]) -> Recorder | None:
    """Return the recorder of a run with these options; None if nothing is to be recorded."""
    runs = options.runs_dir if trains and into is None else None
    loggers = () if options.fast_dev_run else options.loggers
    if runs is None and into is None and not loggers:
        return None
    runs_dir = None if runs is None else os.fspath(runs)
    return Recorder(runs_dir, options.run_name, loggers, into=into, warnings=warnings)


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
