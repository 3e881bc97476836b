"""Read a run folder for the report, also if the run is still running or was killed while writing.

What cannot be read is left out and listed in `RunRecord.damage`. Unknown fields are ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from attrs import field, frozen

from fsmtrain.errors import UsageError
from fsmtrain.views.recording.files.json_files import Row, read_json, read_json_lines, read_text
from fsmtrain.views.recording.folder_lock import is_locked
from fsmtrain.views.recording.list_runs import RUN_FILE, list_runs
from fsmtrain.views.recording.run_metadata import FORMAT
from fsmtrain.views.recording.run_outcome import Outcome, outcome_of

MAX_LISTED_RUNS = 20  # in an error message
MAX_COUNT = 2**53  # of batches, steps and seconds; a float has all numbers below


@frozen(kw_only=True)
class RunRecord:
    """The contents of a run folder. A file that is missing or unreadable is an empty dict or list.

    Attributes:
        path: The folder.
        run: ``run.json``.
        table: ``table.json``.
        metrics: The rows of ``metrics.jsonl``.
        timeline: The lines of ``timeline.jsonl``.
        status: ``status.json``.
        end: ``end.json``; empty if the run has not ended.
        log: ``log.txt``.
        damage: A sentence for each file that could not be read completely.
        is_locked: Whether a process was writing to the folder; None if that cannot be found out.
    """

    path: Path
    run: Row
    table: Row
    metrics: list[Row] = field(repr=False)
    timeline: list[Row] = field(repr=False)
    status: Row
    end: Row
    log: str = field(repr=False)
    damage: tuple[str, ...]
    is_locked: bool | None = None

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self.run.get("name") or self.path.name)

    @property
    def model_class(self) -> str:
        """The name of the model's class."""
        return str(as_dict(self.run.get("model")).get("class") or "unknown model")

    @property
    def options(self) -> Row:
        """The flags of the run."""
        return as_dict(self.run.get("options"))

    def outcome(self, now: datetime) -> Outcome:
        """What has become of the run."""
        return outcome_of(self.end, self.status, self.is_locked, now)

    @property
    def last(self) -> Row:
        """The last known position and totals of the run."""
        return self.end or self.status or (self.timeline[-1] if self.timeline else {})


def as_dict(value: object) -> Row:
    """Return a value from a run folder if it is a dict, else an empty one."""
    return value if isinstance(value, dict) else {}


def read_run_folder(path: Path, *, with_timeline: bool = True) -> RunRecord:
    """Read a run folder.

    Args:
        path: The folder.
        with_timeline: Whether to read ``timeline.jsonl``, too.

    Raises:
        UsageError: It is not a run folder, or has an unknown format.
    """
    damage: list[str] = []
    locked = is_locked(path)  # before end.json, which is written before the lock is released
    run = _read_document(path / "run.json", damage)
    if not run:
        raise UsageError(f"{path} is not a run folder: {damage[0] if damage else 'it has no run.json.'}")
    if run.get("format") != FORMAT:
        raise UsageError(f"{path} has format {run.get('format')!r:.100}; this version of fsmtrain reads format {FORMAT}.")
    return RunRecord(
        path=path,
        run=run,
        table=_read_document(path / "table.json", damage),
        metrics=_read_rows(path / "metrics.jsonl", damage, _is_metric_row),
        timeline=_read_rows(path / "timeline.jsonl", damage, _is_timeline_row) if with_timeline else [],
        status=_read_document(path / "status.json", damage),
        end=_read_document(path / "end.json", damage),
        log=read_text(path / "log.txt"),
        damage=tuple(damage),
        is_locked=locked,
    )


def find_run_folder(name: str | None, runs: Path) -> Path:
    """Find a run folder.

    Args:
        name: A path, or the name or number of a run in `runs`. None: the run that was started last.
        runs: The folder of all runs.

    Raises:
        UsageError: There is no such run.
    """
    if name is None:
        for run in list_runs(runs):
            if run.is_intact:
                return run.folder
        raise UsageError(f"there is no run in {runs}. Name a run folder, or pass --runs_dir.")
    for path in (Path(name), runs / name):
        if (path / RUN_FILE).is_file():
            return path
    if Path(name).is_dir():
        raise UsageError(f"{name} is not a run folder: it has no run.json.")
    names = sorted(run.name for run in list_runs(runs) if run.is_intact)
    more = ", ..." if len(names) > MAX_LISTED_RUNS else ""
    known = f"{runs} has {', '.join(names[:MAX_LISTED_RUNS])}{more}" if names else f"{runs} has no runs"
    raise UsageError(f"there is no run {name}: it is neither a run folder nor a run in {runs}; {known}.")


def _read_document(path: Path, damage: list[str]) -> Row:
    document = read_json(path)
    if not document and path.exists():
        damage.append(f"{path.name} is damaged and was skipped.")
    return document


def _read_rows(path: Path, damage: list[str], is_intact: Callable[[Row], bool]) -> list[Row]:
    try:
        rows = list(read_json_lines(path))
    except OSError as error:
        damage.append(f"{path.name} was skipped: {error.strerror or error}.")
        return []
    intact = [row for row in rows if row is not None and is_intact(row)]
    damaged = len(rows) - len(intact)
    if damaged:
        damage.append(f"{path.name}: {damaged} damaged line{'s were' if damaged > 1 else ' was'} skipped.")
    return intact


def _is_metric_row(row: Row) -> bool:
    numbers = (row.get(name, 0) for name in ("step", "epoch", "batch", "batches"))
    counts = row.get("counts", {})
    return (
        "step" in row
        and all(map(_is_count, numbers))
        and isinstance(row.get("values"), dict)
        and isinstance(row.get("kind"), str)
        and isinstance(row.get("lr", []), list)
        and isinstance(counts, dict)
        and all(map(_is_count, counts.values()))
    )


def _is_timeline_row(row: Row) -> bool:
    states, time = row.get("states"), row.get("time")
    if not isinstance(time, (int, float)) or not abs(time) < MAX_COUNT or not isinstance(states, dict):
        return False
    return all(isinstance(timing, list) and len(timing) == 2 for timing in states.values())


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < MAX_COUNT
