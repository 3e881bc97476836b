"""`RunFolder`: all files of one run folder, written during the run, reopened if it is resumed."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fsmtrain.core.metric_record import MetricRecord
from fsmtrain.core.states import State
from fsmtrain.plurals import plural
from fsmtrain.replace_file import replace_file
from fsmtrain.views.console.run_header import header_lines
from fsmtrain.views.console.run_position import closing_line
from fsmtrain.views.recording import run_metadata
from fsmtrain.views.recording.files.json_files import read_json
from fsmtrain.views.recording.files.json_values import json_document
from fsmtrain.views.recording.files.log_txt import LogFile
from fsmtrain.views.recording.files.metric_rows import RowBuilder
from fsmtrain.views.recording.files.metrics_jsonl import MetricsFiles
from fsmtrain.views.recording.files.timeline_jsonl import TimelineFile
from fsmtrain.views.recording.folder_lock import FolderLock, lock_folder
from fsmtrain.views.recording.folder_names import create_run_folder
from fsmtrain.views.recording.list_runs import RUN_FILE, checkpoint_names
from fsmtrain.views.recording.resume_trim import CheckpointTotals, trim_run_folder
from fsmtrain.views.run_view import RunView

KEPT_ON_RESUME = ("name", "id", "started", "command", "pid")  # keys of run.json
MAX_ROW_DELAY_SECONDS = 0.3  # for which an unfinished row waits for the rest of its batches


class RunFolder:
    """Writes one run folder until `close`. Use `create` or `reopen` for the run's own folder.

    Args:
        path: The folder.
        is_own: Whether it is this run's own folder. In another run's folder, only metrics and log entries are added.
        lock: The lock on the folder; released by `close`.
        before: The totals of the run up to its checkpoint; None if it is not continued in this folder.
    """

    def __init__(
        self, path: Path, *, is_own: bool = True, lock: FolderLock | None = None, before: CheckpointTotals | None = None
    ) -> None:
        self.path, self._is_own, self._lock = path, is_own, lock
        self._before = before or CheckpointTotals()
        self._is_closed = False
        self._identity: dict[str, Any] = {}  # what checkpoints of this run have in common with its run.json
        self._rows = RowBuilder()
        self._last_write_seconds = self._before.seconds
        self._metrics = MetricsFiles(path)
        self.last_values = self._metrics.reload() if not is_own or before is not None else {}  # of each metric
        self._timeline = TimelineFile(path) if is_own else None
        self._log = LogFile(path)  # last: from now on it receives the process's log records

    @classmethod
    def create(cls, run: RunView, runs: str, name: str | None, checkpoint: Path | None) -> RunFolder:
        """Create the folder of a new run, and write what is known before it begins.

        Args:
            run: The run.
            runs: The folder of all runs.
            name: The run's name; None numbers it.
            checkpoint: The checkpoint of another run from which this one begins.
        """
        path = create_run_folder(Path(runs).absolute(), name)  # absolute: the program may change its working directory
        folder = cls(path, lock=lock_folder(path))
        contents = run_metadata.run_json(run, path)
        if checkpoint is not None:
            contents["resumed"] = [folder._log_resume(run, CheckpointTotals(checkpoint=checkpoint), contents)]
        folder._write_start(run, contents)
        return folder

    @classmethod
    def reopen(cls, run: RunView, path: Path, lock: FolderLock, before: CheckpointTotals) -> RunFolder:
        """Reopen the folder of a resumed run, trimmed to its checkpoint.

        Raises:
            OSError: It is not writable, or its files are not those of a run.
        """
        old, contents = read_json(path / RUN_FILE), run_metadata.run_json(run, path)
        listed = checkpoint_names(old)
        if not old or listed is None:
            raise OSError(f"its {RUN_FILE} is missing or damaged")
        try:
            removed = trim_run_folder(path, before)
            folder = cls(path, lock=lock, before=before)
        except (KeyError, TypeError, ValueError) as error:
            raise OSError(f"its files are not those of a run ({error!r})") from error
        resumed = [*old.get("resumed", ()), folder._log_resume(run, before, contents)]
        folder.log(f"removed {plural(removed, 'row')} of metrics newer than that checkpoint; those batches are trained again")
        folder._metrics.add_boundary(before.metric_seconds)
        kept = {name: old[name] for name in KEPT_ON_RESUME if name in old}
        kept["checkpoint_folders"] = list(dict.fromkeys([*contents["checkpoint_folders"], *listed]))
        folder._write_start(run, {**contents, **kept, "resumed": resumed})
        return folder

    def _log_resume(self, run: RunView, before: CheckpointTotals, contents: Mapping[str, Any]) -> dict[str, Any]:
        """Log where the run resumes. Returns the entry for ``resumed`` in ``run.json``."""
        assert before.checkpoint is not None
        counters = run.counters
        position = {"epoch": counters.current_epoch, "batch": counters.batch_nb, "step": counters.global_step}
        checkpoint = os.path.relpath(before.checkpoint, self.path)
        self.log(f"resumed from {checkpoint} ({', '.join(f'{name} {number}' for name, number in position.items())})")
        process = {name: contents[name] for name in ("command", "pid", "host", "git_commit")}
        return {"started": contents["started"], "checkpoint": checkpoint, "time": before.seconds, **position, **process}

    def _write_start(self, run: RunView, contents: Mapping[str, Any]) -> None:
        """Write ``run.json`` and ``table.json``, and the run's header into the log."""
        self._identity = {"run": contents["id"], "sequence": contents["sequence"]}
        try:
            replace_file(self.path / RUN_FILE, json_document(contents), durable=True)
            replace_file(self.path / "table.json", json_document(run_metadata.table_json(run.spec)))
            for line in header_lines(run):
                self.log(line)
        except OSError:
            self.close()
            raise

    def log(self, text: str) -> None:
        """Append an entry to the log."""
        self._log.write(text)

    def write(self, run: RunView, records: Sequence[MetricRecord], *, is_last: bool = False) -> None:
        """Write new metric records, and the run's current position and totals."""
        if self._log.failure is not None:
            raise self._log.failure
        seconds = self._before.seconds + run.wall_seconds
        self._rows.batches_per_row = self._metrics.batches_per_row(len(records), seconds - self._last_write_seconds)
        self._last_write_seconds = seconds
        unfinished = math.inf if is_last else seconds - MAX_ROW_DELAY_SECONDS
        self._metrics.append([*self._rows.add(records), *self._rows.flush(unfinished)])
        if is_last:
            self._metrics.update_csv()
        for record in records:
            if record.kind != "train":
                self._log.write_metrics(record)
        if self._timeline is not None:
            totals = self._totals(run)
            self._timeline.append({name: value for name, value in totals.items() if name != "row_counts"}, is_last=is_last)
            status = {"format": run_metadata.FORMAT, "written": run_metadata.timestamp(), **totals}
            replace_file(self.path / "status.json", json_document(status))

    def write_end(self, run: RunView, metrics: Mapping[str, float], error: BaseException | None) -> None:
        """Write ``end.json`` and the last log entry: why the run ended, and the last value of each metric."""
        error = error if run.stop_reason is None else None
        if run.tested is not None:
            self._log.write(f"tested the weights of {run.tested}")
        self._log.write(closing_line(run, self._before.seconds + run.wall_seconds, error, is_of_all_parts=True))
        if error is not None:
            self._log.write(run_metadata.format_error(error))
        if self._is_own:
            end = run_metadata.end_json(run, self.path, self._totals(run), metrics, error)
            replace_file(self.path / "end.json", json_document(end))
        elif (end := read_json(self.path / "end.json")) and (run.tested is not None or "tested" in end):
            end["tested"] = run_metadata.checkpoint_json(run.tested, self.path)
            replace_file(self.path / "end.json", json_document(end))

    def checkpoint_metadata(self, run: RunView, *, work_done: bool) -> dict[str, Any]:
        """Return what a checkpoint saved now stores about this folder, so that a resumed run can continue it.

        Args:
            run: The run.
            work_done: Whether the work of the saved state is done. Its transition is then made again on resume, so it does not
                count yet; except one to `save` and back, which the resumed run does not make.
        """
        totals, row = self._totals(run), run.trace.last_row
        if work_done and row is not None:
            way_back = way_back_from_save(run)
            if way_back is None:
                totals["row_counts"][row] -= 1
            else:
                totals["row_counts"][way_back] += 1
                for state in (State.SAVE, run.spec.table.rows[row].source):
                    visits, seconds = totals["states"].get(state.value, (0, 0.0))
                    totals["states"][state.value] = [visits + 1, seconds]
        return {"folder": str(self.path), **self._identity, "totals": totals}

    def add_boundary(self, seconds: float) -> None:
        """Let no row stand for batches before and after this time, at which a checkpoint is saved."""
        self._rows.add_boundary(seconds)
        self._metrics.add_boundary(seconds)

    def write_up_to(self, boundary: float) -> None:
        """Make all rows up to a boundary durable. Their records have been written."""
        self._metrics.append(list(self._rows.flush(boundary)))
        self._metrics.sync()

    def cut(self, boundary: float) -> None:
        """Remove the rows after a boundary: the run has gone back to the checkpoint there."""
        self._rows.drop_open()
        self._metrics.cut(boundary)

    def _totals(self, run: RunView) -> dict[str, Any]:
        return self._before.plus(run_metadata.status_totals(run))

    def close(self) -> None:
        """Close all files, and release the lock. Idempotent: another process may have the folder by the second call."""
        if self._is_closed:
            return
        self._is_closed = True
        for file in (self._metrics, self._timeline, self._log):
            if file is not None:
                with suppress(OSError):
                    file.close()
        if self._lock is not None:
            self._lock.release()


def way_back_from_save(run: RunView) -> int | None:
    """Return the row by which a run goes back from `save` to the state before it; None if it is not there, or ends after it."""
    if run.state is not State.SAVE or run.counters.ending:
        return None
    rows = enumerate(run.spec.table)
    return next((i for i, row in rows if row.source is State.SAVE and row.to is run.trace.source and row.when is None), None)
