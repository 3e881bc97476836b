"""Saving while training goes on: a state is copied at once and written in the background.

At most two copies of a state exist: the one being written and the one that waits. A third replaces the one that
waits, so what is saved is always the newest; one that must be kept is not replaced, the third then waits for its turn.
A save that fails is reported, and training goes on; the checkpoints before it are as they were.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from attrs import frozen

from fsmtrain.errors import CheckpointError, FsmtrainError
from fsmtrain.runtime.checkpoint_files.checked_io import error_text
from fsmtrain.runtime.checkpoint_files.codec.codec import encode
from fsmtrain.runtime.checkpoint_files.store.manifest import encode_metadata
from fsmtrain.runtime.checkpoint_files.store.retention import RetentionPolicy
from fsmtrain.runtime.checkpoint_files.store.snapshots import Snapshot, copy_encoded
from fsmtrain.runtime.checkpoint_files.store.store import Store
from fsmtrain.user_warnings import warn

MAX_KEPT_ERRORS = 100  # that are remembered


@frozen(eq=False)
class _Job:
    snapshot: Snapshot
    must_keep: bool


class BackgroundWriter:
    """Saves into a store from a thread of its own, which lives only while there is something to write.

    The process does not end before the last save has: not at its normal end, and not after an exception. Use it as a
    context manager, or call `close`, to be told of the last errors as well.

    Args:
        store: Where to save.
        policy: Which checkpoints to keep after each one that was saved; None keeps all.
        report: What is called with the message of an error, once for each kind of error, in the thread that calls
            `submit`, `poll` or `close`. A warning if it is not given.
    """

    def __init__(self, store: Store, policy: RetentionPolicy | None = None, report: Callable[[str], None] = warn) -> None:
        self.store = store
        self.last_saved: Path | None = None  # the last checkpoint that was saved, durable
        self.states_replaced = 0  # how many states were never written because a newer one came
        self.errors: list[BaseException] = []  # the first of them, each told or still to be told by its kind's first
        self._policy = policy
        self._report = report
        self._changed = threading.Condition()
        self._waiting: _Job | None = None
        self._is_writing = False
        self._spare: Snapshot | None = None
        self._unreported: list[BaseException] = []
        self._error_counts: Counter[tuple[Any, ...]] = Counter()

    def submit(self, tree: Any, metadata: Mapping[str, Any], *, must_keep: bool = False) -> None:
        """Save this state as it is now. Returns when it is copied.

        Args:
            tree: The state.
            about: What it is of.
            must_keep: Whether this one is to be written even if a newer state comes before its turn.

        Raises:
            CodecError: The state, or what it is of, holds something that cannot be saved.
        """
        self.poll()
        encoded, encoded_about = encode(tree), encode_metadata(metadata)
        try:
            job = _Job(copy_encoded(encoded, encoded_about, self._reusable_snapshot()), must_keep)
        except (MemoryError, RuntimeError) as error:  # torch says RuntimeError
            message = f"{self.store.folder}: no checkpoint could be saved: the state could not be copied: {error_text(error)}"
            self._record_error(CheckpointError(message))
            self.poll()
            return
        with self._changed:
            self._waiting = job
            starts = not self._is_writing
            self._is_writing = True
        if starts:
            self._start_thread()

    def poll(self) -> None:
        """Report the errors that have come up since, and do not wait for anything."""
        with self._changed:
            untold, self._unreported = self._unreported, []
        for error in untold:
            known = isinstance(error, FsmtrainError)
            self._report(str(error) if known else f"{self.store.folder}: saving failed: {error!r}")

    def wait(self) -> None:
        """Return when all that was submitted is saved, or has failed."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_writing)
        self.poll()

    def close(self) -> None:
        """Wait for the last save, and report what has not been told yet: how often each kind of error came up again."""
        self.wait()
        self._spare = None
        for (*_, reason), count in self._error_counts.items():
            if count > 1:
                self._report(f"{self.store.folder}: saving failed {count} times in the same way: {reason}.")
        self._error_counts.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _reusable_snapshot(self) -> Snapshot | None:
        """A snapshot whose memory may be used again: the one that waits, which is given up, or one that is written."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is None or not self._waiting.must_keep)
            if self._waiting is not None:
                free, self._waiting = self._waiting.snapshot, None
                self.states_replaced += 1
                return free
            free_now, self._spare = self._spare, None
            return free_now

    def _start_thread(self) -> None:
        try:
            threading.Thread(target=self._write_all, name="fsmtrain saving").start()
        except RuntimeError:  # no thread can be had, as when the interpreter ends
            self._write_all()

    def _write_all(self) -> None:
        while True:
            with self._changed:
                job, self._waiting = self._waiting, None
                self._is_writing = job is not None
                self._changed.notify_all()
            if job is None:
                return
            try:
                job.snapshot.wait()
                self.last_saved = self.store.write(job.snapshot.encoded, job.snapshot.metadata)
                if self._policy is not None:
                    self.store.prune(self._policy)
            except BaseException as error:
                self._record_error(error)
            with self._changed:
                self._spare = job.snapshot

    def _record_error(self, error: BaseException) -> None:
        cause = error.__cause__ or error
        kind = (type(error), type(cause), error_text(cause))
        with self._changed:
            self._error_counts[kind] += 1
            if self._error_counts[kind] == 1:
                self._unreported.append(error)
            if len(self.errors) < MAX_KEPT_ERRORS:
                self.errors.append(error)
