"""Save checkpoints in the background: copy a state at once, write it in a thread.

At most two copies exist: the one being written and the one waiting. A third replaces the one waiting, so the newest state is
saved; if the one waiting must be kept, the third blocks until it is being written. A save that fails is reported, training
continues, and earlier checkpoints are unchanged.
"""

from __future__ import annotations

import gc
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsmtrain.errors import CheckpointError, FsmtrainError
from fsmtrain.runtime.checkpoint_files.checked_io import error_text
from fsmtrain.runtime.checkpoint_files.codec.codec import encode_unnamed
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import RetentionPolicy, Store
from fsmtrain.runtime.checkpoint_files.store.manifest import encode_metadata
from fsmtrain.runtime.checkpoint_files.store.snapshots import Snapshot, SpareMemory, take_snapshot
from fsmtrain.user_warnings import warn


class BackgroundWriter:
    """Writes checkpoints in a thread of its own, which lives only while there is something to write.

    The process does not end before the last checkpoint is written, not even after an exception. Call `close` at the end, which
    reports the last errors.

    Args:
        store: Where to save.
        policy: Which checkpoints to keep after each save; None keeps all.
        others: More folders, with their policies: a checkpoint may be saved to several at once.
        report: Called with the message of an error, once per kind of error, in the thread that calls `submit`, `poll` or
            `close`. By default it warns.

    Attributes:
        last_saved: The last checkpoint that was saved and is durable.
        last_error: Why the last save failed; None if it did not.
    """

    def __init__(
        self,
        store: Store,
        policy: RetentionPolicy | None = None,
        report: Callable[[str], None] = warn,
        *,
        others: Sequence[tuple[Store, RetentionPolicy | None]] = (),
    ) -> None:
        self.store = store
        self.last_saved: Path | None = None
        self.last_error: BaseException | None = None
        self._folders = ((store, policy), *others)
        self._report = report
        self._changed = threading.Condition()
        self._waiting: Snapshot | None = None
        self._waits_for: Sequence[int] = ()  # the folders in which it is to be saved
        self._must_keep_waiting = self._is_writing = False
        self._before_commit: Callable[[], object] | None = None  # of the snapshot that waits
        self._spare: SpareMemory | None = None  # of the last snapshot that was written
        self._unreported: list[BaseException] = []
        self._error_counts: Counter[tuple[Any, ...]] = Counter()

    def submit(
        self,
        tree: Any,
        metadata: Mapping[str, Any],
        *,
        must_keep: bool = False,
        before_commit: Callable[[], object] | None = None,
        into: Sequence[int] = (0,),
    ) -> None:
        """Save the present state. Returns once it is copied.

        Args:
            tree: The state.
            metadata: What the manifest says about it.
            must_keep: If true, it is written even if a newer state comes before its turn.
            before_commit: Called in the writer's thread; the checkpoint is valid no earlier than this returns.
            into: The indices of the folders to save it to. Where there are several it is written once, and linked.

        Raises:
            CodecError: The state or the metadata has a value that cannot be saved.
        """
        self.poll()
        self._wait_for_room(into)
        try:
            with _without_garbage_collection():
                encoded, encoded_metadata = encode_unnamed(tree), encode_metadata(metadata)
                snapshot = take_snapshot(encoded, encoded_metadata, self._take_spare_memory())
        except (MemoryError, RuntimeError) as error:  # torch raises RuntimeError
            message = f"{self.store.folder}: the checkpoint was not saved: the state could not be copied: {error_text(error)}"
            self._record_error(CheckpointError(message))
            self.poll()
            return
        with self._changed:
            self._waiting, self._must_keep_waiting, self._before_commit = snapshot, must_keep, before_commit
            self._waits_for = into
            starts, self._is_writing = not self._is_writing, True
        if starts:
            try:
                threading.Thread(target=self._write_all, name="fsmtrain saving").start()
            except RuntimeError:  # no thread can be started, for example at interpreter exit
                self._write_all()

    def poll(self) -> None:
        """Report new errors. Does not wait."""
        with self._changed:
            unreported, self._unreported = self._unreported, []
        for error in unreported:
            known = isinstance(error, FsmtrainError)
            self._report(str(error) if known else f"{self.store.folder}: the checkpoint was not saved: {error!r}")

    def wait(self) -> None:
        """Wait until everything submitted has been saved or has failed."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_writing)
        self.poll()

    def close(self) -> None:
        """Wait for the last save; report new errors, and how often each kind of error occurred."""
        self.wait()
        self._spare = None
        for (*_, reason), count in self._error_counts.items():
            if count > 1:
                self._report(f"{self.store.folder}: {count} checkpoints were not saved, for the same reason: {reason}.")
        self._error_counts.clear()

    def _wait_for_room(self, into: Sequence[int]) -> None:
        """Wait until no snapshot waits that must be kept, or that is for a folder which the new one is not for."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._waiting is None or not (self._must_keep_waiting or set(self._waits_for) - set(into))
            )

    def _take_spare_memory(self) -> SpareMemory | None:
        """Return memory to reuse: that of the snapshot waiting, which is dropped, or of one that has been written."""
        with self._changed:
            if self._waiting is not None:
                dropped, self._waiting = self._waiting, None
                return dropped.spare_memory()
            spare, self._spare = self._spare, None
            return spare

    def _write_all(self) -> None:
        while True:
            with self._changed:
                snapshot, self._waiting = self._waiting, None
                before_commit, self._before_commit = self._before_commit, None
                folders = [self._folders[i] for i in self._waits_for]
                self._is_writing = snapshot is not None
                self._changed.notify_all()
            if snapshot is None:
                return
            try:
                snapshot.wait()
                (first, _), *others = folders
                self.last_saved = first.write(snapshot.named(), snapshot.metadata, before_commit)
                self.last_error = None
                for store, _ in others:
                    store.link(self.last_saved)
                for store, policy in folders:
                    if policy is not None:
                        store.prune(policy)
            except BaseException as error:
                self._record_error(error)
            spare, snapshot = snapshot.spare_memory(), None
            with self._changed:
                self._spare = spare

    def _record_error(self, error: BaseException) -> None:
        cause = error.__cause__ or error
        kind = (type(error), type(cause), error_text(cause))
        with self._changed:
            self.last_error = error
            self._error_counts[kind] += 1
            if self._error_counts[kind] == 1:
                self._unreported.append(error)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Let the collector wait: thousands of new objects, all in use, would make it look through all of the process's again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
