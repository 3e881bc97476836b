"""`Recorder`: a callback that has a run written down while it goes on, by a thread that wakes up twice a second.

The thread that trains does nothing for it but note its metrics. What is written goes to the operating system at once, so that a
process that is killed loses what came after the last waking. The files are made in `run_folder`.
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
from pathlib import Path
from typing import Any

from fsmtrain.core.metric_record import MetricRecord
from fsmtrain.options import Options
from fsmtrain.views.recording.folder_lock import FolderLock
from fsmtrain.views.recording.logger_calls import Loggers
from fsmtrain.views.recording.resume_trim import Earlier, said_of_the_record
from fsmtrain.views.recording.run_folder import RunFolder
from fsmtrain.views.run_view import PendingRecords, RunView

LEAST, MOST = 0.1, 0.5  # seconds from one waking to the next: a hundredth of the run's so far, within these bounds
PATIENCE = 0.002  # seconds from one question whether the last numbers have come to the next
GRACE = 10.0  # seconds that the end of a run waits for the thread, and for the last numbers of a device
UNDER_WAY = 4  # takings that may be on their way from a device at a time

log = logging.getLogger("fsmtrain")
_unfinished: weakref.WeakSet[Recorder] = weakref.WeakSet()


class Recorder:
    """Records one run: in a folder of its own, for loggers, or both.

    Args:
        runs: The folder in which the run's own is made; None makes none.
        name: The run's name; None numbers it.
        loggers: Objects with ``log_metrics(metrics, step)``.
        into: The folder of another run, to which the metrics of this one are added: a test's, after its fit.
        said: Warnings that came up before the run began.
    """

    def __init__(
        self,
        runs: str | None,
        name: str | None,
        loggers: Iterable[Any],
        *,
        into: Path | None = None,
        said: Sequence[str] = (),
    ) -> None:
        self._runs, self._name, self._into, self._said = runs, name, into, said
        self._loggers = Loggers(loggers)
        self._folder: RunFolder | None = None
        self._earlier = Earlier()
        self._held: FolderLock | None = None  # of a run that goes on in its own folder
        self._run: RunView | None = None
        self._under_way: deque[PendingRecords] = deque()
        self._latest: dict[str, float] = {}  # of each metric
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self.path: Path | None = None  # the folder's, also when the run has ended

    # ---- resuming

    @property
    def makes_a_folder(self) -> bool:
        """Whether this run is recorded in a folder of its own."""
        return self._runs is not None

    def go_on(self, checkpoint: Path, said: Mapping[str, Any], run: tuple[Path, FolderLock] | None) -> None:
        """The run goes on from a checkpoint.

        Args:
            checkpoint: The checkpoint.
            said: What it says of the record: `at_checkpoint`.
            run: The folder of that run, which is held, to go on with; None where this is a run of its own.
        """
        if run is None:
            self._earlier = Earlier(checkpoint=checkpoint.absolute())
            return
        folder, self._held = run
        self.path = folder.absolute()
        weakref.finalize(self, self._held.release).atexit = False  # of a run that is never begun
        self._earlier = Earlier(checkpoint=checkpoint.absolute(), **said_of_the_record(said))

    def at_checkpoint(self, run: RunView, *, work_done: bool) -> dict[str, Any]:
        """What a checkpoint that is saved now is to say of the record, so that it can be gone on with from there."""
        return {} if self._folder is None else self._folder.at_checkpoint(run, work_done=work_done)

    # ---- the run's hooks

    def on_run_start(self, machine: RunView) -> None:
        """Make the folder, and begin to write."""
        self._run = machine
        trains = machine.spec.limits.epochs > 0
        try:
            if self._into is not None:
                self._folder = RunFolder(self._into, is_own=False)
            elif self._held is not None and self.path is not None:
                self._folder = RunFolder.again(machine, self.path, self._held, self._earlier)
                self._latest |= self._folder.latest
            elif self._runs is not None and trains:
                self._folder = RunFolder.of(machine, self._runs, self._name, self._earlier)
            if self._folder is not None:
                self.path = self._folder.path
                weakref.finalize(self, self._folder.close).atexit = False  # of a run that is left alone and forgotten
                for warning in self._said:
                    self._folder.say(f"warning: {warning}")
        except OSError as error:
            self._give_up(error)
        if trains and (self._folder is not None or self._loggers):
            self._thread = threading.Thread(target=_write_on, args=(weakref.ref(self), self._over), daemon=True)
            self._thread.name = "fsmtrain record"
            self._thread.start()
            _unfinished.add(self)

    def on_run_end(self, machine: RunView) -> None:
        """Write all that is left, and why the run has ended."""
        if self._run is None:
            return  # another callback's on_run_start failed before
        error = sys.exception()
        self._over.set()
        if self._thread is not None:
            self._thread.join(GRACE)
        if not self._lock.acquire(timeout=GRACE):
            log.warning("the record in %s is not complete: its last write has not come to an end.", self.path)
            return
        try:
            self._write(is_last=True)
            if self._folder is not None:
                self._folder.end(machine, self._latest, error)
        except OSError as failure:
            self._give_up(failure)
        finally:
            self._close()
            self._lock.release()

    # ---- writing

    def flush(self) -> float:
        """Write what has come since the last time; returns the seconds up to the next."""
        with self._lock:
            if self._run is None:
                return MOST
            try:
                self._write()
            except OSError as error:
                self._give_up(error)
            return min(MOST, max(LEAST, self._run.wall_seconds / 100))

    def finish(self) -> None:
        """Write what is left of a run that was left alone before it ended, now that the process ends."""
        if os.getpid() != self._process or not self._lock.acquire(timeout=1.0):
            return  # a child of the process has a copy of this, and nothing to say
        try:
            self._write(is_last=True)
        except OSError as error:
            self._give_up(error)
        finally:
            self._lock.release()

    def _write(self, *, is_last: bool = False) -> None:
        run = self._run
        if run is None:
            return
        notes = self._drain(run, is_last=is_last)
        for note in notes:
            self._latest |= note.values
        if self._folder is not None:
            self._folder.write(run, notes, is_last=is_last)
        if self._loggers:
            self._loggers.log(notes)

    def _drain(self, run: RunView, *, is_last: bool) -> list[MetricRecord]:
        """The notes whose numbers have come, in their order."""
        if run.metric_queue is None:
            return []
        until = time.monotonic() + GRACE
        come: list[MetricRecord] = []
        try:
            while True:
                while run.metric_queue.pending and (len(self._under_way) < UNDER_WAY or is_last):
                    self._under_way.append(run.metric_queue.pop())
                while self._under_way and self._under_way[0].arrived:
                    come += self._under_way.popleft().records()
                if not is_last or not self._under_way or time.monotonic() > until:
                    return come
                time.sleep(PATIENCE)
        except RuntimeError as error:  # of a device, of which the run itself will have more to say
            log.warning("the metrics of some batches could not be read: %s", str(error).splitlines()[0])
            self._under_way.clear()
            return come

    def _give_up(self, error: OSError) -> None:
        log.warning("the run cannot be recorded in %s, so it goes on without: %s", self.path or self._into or self._runs, error)
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.close()

    def _close(self) -> None:
        _unfinished.discard(self)
        if self._folder is not None:
            self._folder.close()
        self._loggers.close()
        self._run, self._folder = None, None


def record_of(options: Options, *, trains: bool, into: Path | None, said: Sequence[str]) -> Recorder | None:
    """What records a run with these options; None where nothing is to be recorded."""
    runs = options.runs_dir if trains and into is None else None
    if runs is None and into is None and not options.loggers:
        return None
    return Recorder(None if runs is None else os.fspath(runs), options.run_name, options.loggers, into=into, said=said)


def _write_on(reference: weakref.ref[Recorder], over: threading.Event) -> None:
    """Waken a record again and again, as long as somebody has it and its run goes on."""
    wait = LEAST
    while not over.wait(wait):
        record = reference()
        if record is None:
            return
        wait = record.flush()
        del record


@atexit.register
def _finish_all() -> None:
    for record in tuple(_unfinished):
        record.finish()
