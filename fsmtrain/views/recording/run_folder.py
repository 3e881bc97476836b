"""The files of one run's folder together: made when it begins, written while it goes on, ended when it ends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from fsmtrain.core.notes import Note
from fsmtrain.views.opening import opening
from fsmtrain.views.recording import facts
from fsmtrain.views.recording.encoding import document
from fsmtrain.views.recording.facts import Recorded
from fsmtrain.views.recording.files import put
from fsmtrain.views.recording.folder import make_folder
from fsmtrain.views.recording.log import Log
from fsmtrain.views.recording.metrics import MetricsFiles
from fsmtrain.views.recording.rows import Bins
from fsmtrain.views.recording.timeline import Timeline
from fsmtrain.views.standing import ending

HOLD = 0.3  # seconds for which a row waits for the rest of its batches, at most


class RunFolder:
    """A folder in which a run is recorded, from now to `close`.

    Args:
        path: The folder.
        is_own: Whether it is this run's own. To that of another run only metrics and lines of the log are added.
    """

    def __init__(self, path: Path, *, is_own: bool = True) -> None:
        self.path, self._is_own = path, is_own
        self._bins = Bins()
        self._written_at = 0.0
        self._metrics = MetricsFiles(path)
        self._log = Log(path)
        self._timeline = Timeline(path) if is_own else None
        if not is_own:
            self._metrics.reread()

    @classmethod
    def of(cls, run: Recorded, runs: str, name: str | None) -> RunFolder:
        """A new folder for a run, with all that is known before the run begins."""
        path = make_folder(Path(runs).absolute(), name)  # the program may go elsewhere meanwhile
        put(path / "run.json", document(facts.run_facts(run, path.name)))
        put(path / "table.json", document(facts.table_facts(run.loop)))
        made = cls(path)
        for text in opening(run):
            made.say(text)
        return made

    def say(self, text: str) -> None:
        """Write a line into the log."""
        self._log.say(text)

    def write(self, run: Recorded, notes: Sequence[Note], *, is_last: bool = False) -> None:
        """Write what has come, and where the run stands."""
        seconds = run.wall_seconds
        self._bins.width = self._metrics.width(len(notes), seconds - self._written_at)
        self._written_at = seconds
        rows = [*self._bins.add(notes), *self._bins.rest(math.inf if is_last else seconds - HOLD)]
        self._metrics.add(rows)
        for note in notes:
            if note.kind != "train":
                where = f"epoch {note.epoch}, batch {note.batch}, step {note.step}"
                self._log.evaluated(note.kind, note.seconds, where, note.values)
        if self._timeline is not None:
            status = facts.status_facts(run, seconds)
            self._timeline.add(status, is_last=is_last)
            ahead = {"format": facts.FORMAT, "written": facts.now()}
            put(self.path / "status.json", document({**ahead, **status, "taken": facts.taken(run)}))

    def end(self, run: Recorded, metrics: Mapping[str, float], error: BaseException | None) -> None:
        """Write why the run has ended."""
        error = error if run.stop_reason is None else None
        self._log.say(ending(run, run.wall_seconds, error))
        if error is not None:
            self._log.say(facts.traced(error))
        lost = run.notes.lost if run.notes is not None else 0
        if lost:
            self._log.warned(f"{lost} batches are not in the metrics: they came faster than they could be written.")
        if self._is_own:
            put(self.path / "end.json", document(facts.end_facts(run, metrics, error, lost)))

    def close(self) -> None:
        """No more is written."""
        for file in (self._metrics, self._timeline, self._log):
            if file is not None:
                with suppress(OSError):
                    file.close()
