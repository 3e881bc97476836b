"""A run's folder, read as it is: of a run that has ended, goes on, or was killed while it wrote.

What cannot be read is left out and counted, so that a report of the rest can be made, and can say so. What a reader of this
format does not know it leaves alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attrs import field, frozen

from fsmtrain.errors import UsageError
from fsmtrain.views.recording.folder_names import newest_first
from fsmtrain.views.recording.run_metadata import FORMAT

Row = dict[str, Any]


@frozen(kw_only=True)
class Recorded:
    """What a folder holds. A file that is not there, or cannot be read, is an empty dict or list.

    `damage` tells in sentences what could not be read.
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

    @property
    def has_ended(self) -> bool:
        """Whether the run has written why it ended."""
        return bool(self.end)

    @property
    def last(self) -> Row:
        """The last that is known of where the run stood, and of all that it spent."""
        return self.end or self.status or (self.timeline[-1] if self.timeline else {})


def recorded(path: Path) -> Recorded:
    """Read a run's folder.

    Raises:
        UsageError: It is no run's folder, or one in a format that is not known.
    """
    damage: list[str] = []
    run = _document(path / "run.json", damage)
    if not run:
        raise UsageError(f"{path} is not the folder of a run: {damage[0] if damage else 'it has no run.json.'}")
    if run.get("format") != FORMAT:
        raise UsageError(f"{path} is written in format {run.get('format')}; this version of fsmtrain reads format {FORMAT}.")
    return Recorded(
        path=path,
        run=run,
        table=_document(path / "table.json", damage),
        metrics=_rows(path / "metrics.jsonl", damage, _is_metrics),
        timeline=_rows(path / "timeline.jsonl", damage, _is_spent),
        status=_document(path / "status.json", damage),
        end=_document(path / "end.json", damage),
        log=_text(path / "log.txt"),
        damage=tuple(damage),
    )


def find_run_folder(name: str | None, runs: Path) -> Path:
    """The folder of a run: a path, a name or number among all `runs`, or for None the one that began last.

    Raises:
        UsageError: There is none.
    """
    if name is None:
        began = newest_first(runs)
        if not began:
            raise UsageError(f"there is no run in {runs}; name a run's folder, or --runs_dir where they are.")
        return began[0]
    given, inside = Path(name), runs / name
    for path in (given, inside):
        if (path / "run.json").is_file():
            return path
    if given.is_dir():
        raise UsageError(f"{given} is not the folder of a run: it has no run.json.")
    there = sorted(path.parent.name for path in runs.glob("*/run.json"))
    known = f"those in {runs} are {', '.join(there[:20])}{', ...' if len(there) > 20 else ''}" if there else f"{runs} has none"
    raise UsageError(f"there is no run {name}: it is neither a run's folder nor a run in {runs}; {known}.")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _document(path: Path, damage: list[str]) -> Row:
    if not path.exists():
        return {}
    try:
        content = json.loads(_text(path))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        damage.append(f"{path.name} is damaged, and was left out.")
        return {}
    return content


def _is_metrics(row: Row) -> bool:
    return isinstance(row.get("step"), int) and isinstance(row.get("values"), dict) and isinstance(row.get("kind"), str)


def _is_spent(row: Row) -> bool:
    states = row.get("states")
    if not isinstance(row.get("time"), (int, float)) or not isinstance(states, dict):
        return False
    return all(isinstance(spent, list) and len(spent) == 2 for spent in states.values())


def _rows(path: Path, damage: list[str], is_whole: Callable[[Row], bool]) -> list[Row]:
    rows, lost = [], 0
    for row in _parsed(_text(path)):
        if row is not None and is_whole(row):
            rows.append(row)
        else:
            lost += 1
    if lost:
        damage.append(f"{path.name}: {lost} line{'s are' if lost > 1 else ' is'} damaged, and left out.")
    return rows


def _parsed(content: str) -> Iterator[Row | None]:
    for line in content.split("\n"):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            yield row if isinstance(row, dict) else None
