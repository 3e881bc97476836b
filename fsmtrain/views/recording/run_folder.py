"""The files of one run's folder together: made when it begins, written while it goes on, ended when it ends."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fsmtrain.atomic_write import write_atomically
from fsmtrain.core.metric_record import MetricRecord
from fsmtrain.views.console.progress_text import closing_line
from fsmtrain.views.console.run_header import header_lines
from fsmtrain.views.recording import run_metadata
from fsmtrain.views.recording.folder_lock import FolderLock, lock_folder
from fsmtrain.views.recording.folder_names import make_folder
from fsmtrain.views.recording.json_csv import document
from fsmtrain.views.recording.log_file import Log
from fsmtrain.views.recording.metric_rows import Bins
from fsmtrain.views.recording.metrics_files import MetricsFiles
from fsmtrain.views.recording.resume_trim import Earlier, cut_back, facts_in
from fsmtrain.views.recording.timeline_file import Timeline
from fsmtrain.views.run_view import RunView
from fsmtrain.wording import plural

BEGINNING = ("name", "started", "command", "process")  # what a run that is resumed keeps of its run.json
HOLD = 0.3  # seconds for which a row waits for the rest of its batches, at most


class RunFolder:
    """A folder in which a run is recorded, from now to `close`.

    Args:
        path: The folder.
        is_own: Whether it is this run's own. To that of another run only metrics and lines of the log are added.
        held: What keeps other runs out of it.
        earlier: What had been recorded there of this run, before it was resumed.
    """

    def __init__(
        self, path: Path, *, is_own: bool = True, held: FolderLock | None = None, earlier: Earlier | None = None
    ) -> None:
        self.path, self._is_own, self._held = path, is_own, held
        self._earlier = earlier or Earlier()
        self._bins = Bins()
        self._written_at = self._earlier.seconds
        self._metrics = MetricsFiles(path)
        self._log = Log(path)
        self._timeline = Timeline(path) if is_own else None
        self.latest = self._metrics.reread() if not is_own or earlier is not None else {}  # of each metric, what was last

    @classmethod
    def of(cls, run: RunView, runs: str, name: str | None, earlier: Earlier | None = None) -> RunFolder:
        """A new folder for a run, with all that is known before the run begins; `earlier` where it begins at a checkpoint."""
        path = make_folder(Path(runs).absolute(), name)  # the program may go elsewhere meanwhile
        made = cls(path, held=lock_folder(path))
        told = run_metadata.run_facts(run, path.name)
        if earlier is not None and earlier.checkpoint is not None:
            told["resumed"] = [made._resumed(run, earlier, told)]
        made._introduce(run, told)
        return made

    @classmethod
    def again(cls, run: RunView, path: Path, held: FolderLock, earlier: Earlier) -> RunFolder:
        """The folder of a run that is resumed, cut back to its checkpoint. It is one run: its beginning stays what it was.

        Raises:
            OSError: It cannot be written, or holds something else.
        """
        before, told = facts_in(path), run_metadata.run_facts(run, path.name)
        try:
            gone = cut_back(path, earlier)
            made = cls(path, held=held, earlier=earlier)
        except (KeyError, TypeError, ValueError) as error:
            raise OSError(f"what is there is not what a run writes ({error!r})") from error
        resumed = [*before.get("resumed", ()), made._resumed(run, earlier, told)]
        made.say(f"{plural(gone, 'row')} of metrics came after that checkpoint, and went: what they tell of is done again")
        made._introduce(run, {**told, **{name: before[name] for name in BEGINNING if name in before}, "resumed": resumed})
        return made

    def _resumed(self, run: RunView, earlier: Earlier, told: Mapping[str, Any]) -> dict[str, Any]:
        """Where and by whom the run was resumed; it is said in the log as well."""
        assert earlier.checkpoint is not None
        counters = run.counters
        where = {"epoch": counters.current_epoch, "batch": counters.batch_nb, "step": counters.global_step}
        checkpoint = os.path.relpath(earlier.checkpoint, self.path)
        self.say(f"resumed from {checkpoint} ({', '.join(f'{name} {number}' for name, number in where.items())})")
        by = {name: told[name] for name in ("command", "process", "host", "commit")}
        return {"resumed": run_metadata.now(), "checkpoint": checkpoint, "time": earlier.seconds, **where, **by}

    def _introduce(self, run: RunView, run_facts: Mapping[str, Any]) -> None:
        """Write what is known before the run goes on."""
        try:
            write_atomically(self.path / "run.json", document(run_facts))
            write_atomically(self.path / "table.json", document(run_metadata.table_facts(run.spec)))
            for text in header_lines(run):
                self.say(text)
        except OSError:
            self.close()
            raise

    def say(self, text: str) -> None:
        """Write a line into the log."""
        self._log.say(text)

    def write(self, run: RunView, notes: Sequence[MetricRecord], *, is_last: bool = False) -> None:
        """Write what has come, and where the run stands."""
        seconds = self._earlier.seconds + run.wall_seconds
        for note in notes:
            note.seconds += self._earlier.noted
        self._bins.width = self._metrics.width(len(notes), seconds - self._written_at)
        self._written_at = seconds
        rows = [*self._bins.add(notes), *self._bins.rest(math.inf if is_last else seconds - HOLD)]
        self._metrics.add(rows)
        for note in notes:
            if note.kind != "train":
                where = f"epoch {note.epoch}, batch {note.batch}, step {note.step}"
                self._log.evaluated(note.kind, note.seconds, where, note.values)
        if self._timeline is not None:
            spent = self._spent(run)
            self._timeline.add({name: value for name, value in spent.items() if name != "taken"}, is_last=is_last)
            status = {"format": run_metadata.FORMAT, "written": run_metadata.now(), **spent}
            write_atomically(self.path / "status.json", document(status))

    def end(self, run: RunView, metrics: Mapping[str, float], error: BaseException | None) -> None:
        """Write why the run has ended."""
        error = error if run.stop_reason is None else None
        self._log.say(closing_line(run, self._earlier.seconds + run.wall_seconds, error))
        if error is not None:
            self._log.say(run_metadata.traced(error))
        lost = run.metric_queue.dropped if run.metric_queue is not None else 0
        if lost:
            self._log.warned(f"{lost} batches are not in the metrics: they came faster than they could be written.")
        if self._is_own:
            end = run_metadata.end_facts(run, self._spent(run), metrics, error, lost)
            write_atomically(self.path / "end.json", document(end))

    def at_checkpoint(self, run: RunView, *, work_done: bool) -> dict[str, Any]:
        """What a checkpoint that is saved now is to say, so that the folder can be gone on with from there.

        Where the work of the state that is saved is done, its transition is made again, and is not counted yet.
        """
        spent, noted = self._spent(run), run.metric_queue.seconds if run.metric_queue is not None else 0.0
        row = run.trace.last_row
        if work_done and row is not None:
            spent["taken"][row] -= 1
        return {"folder": str(self.path), "noted": round(self._earlier.noted + noted, 6), "spent": spent}

    def _spent(self, run: RunView) -> dict[str, Any]:
        """What the run has spent in all."""
        return self._earlier.and_now(run_metadata.spent_facts(run, run.wall_seconds))

    def close(self) -> None:
        """No more is written."""
        for file in (self._metrics, self._timeline, self._log):
            if file is not None:
                with suppress(OSError):
                    file.close()
        if self._held is not None:
            self._held.release()
