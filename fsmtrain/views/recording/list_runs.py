"""The runs in a folder, the one that was started or resumed last first.

Their order is a number in each ``run.json``. It is the time of the start in milliseconds, but always larger than the numbers of
all runs that were there; so neither a clock that is set back nor a copy that changes the times of files alters the order.
"""

from __future__ import annotations

import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from attrs import frozen

from fsmtrain.views.recording.files.json_files import Row, read_json

RUN_FILE = "run.json"
_MAX_SEQUENCE = 2**62  # of larger numbers, which no run writes, no next one would fit


@frozen(kw_only=True)
class ListedRun:
    """A folder that is, or was, that of a run, with the part of its ``run.json`` by which it is found and continued.

    Attributes:
        path: The folder.
        is_intact: Whether its ``run.json`` can be read. If not, the rest is empty.
        sequence: Its place in the order; 0 if it is unknown.
        run_id: The run's identity; None for runs of older versions.
        command: The command that started it.
        model_class: The name of its model's class.
        checkpoint_folders: The folders of its checkpoints.
    """

    path: str
    is_intact: bool = False
    sequence: int = 0
    run_id: str | None = None
    command: tuple[str, ...] = ()
    model_class: str = ""
    checkpoint_folders: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder."""
        return Path(self.path)

    @property
    def name(self) -> str:
        """The name of the folder."""
        return os.path.basename(self.path)


def read_run(folder: str | os.PathLike[str]) -> ListedRun:
    """Read the ``run.json`` of a folder. One without a command and a model counts as damaged."""
    path = os.fspath(folder)
    contents = read_json(os.path.join(path, RUN_FILE))
    command, model, names = contents.get("command"), contents.get("model"), checkpoint_names(contents)
    model_class = model.get("class") if isinstance(model, dict) else None
    if not isinstance(command, list) or not isinstance(model_class, str) or names is None:
        return ListedRun(path=path)
    run_id = contents.get("id")
    return ListedRun(
        path=path,
        is_intact=True,
        sequence=valid_sequence(contents.get("sequence")) or _milliseconds(contents),
        run_id=run_id if isinstance(run_id, str) else None,
        command=tuple(map(str, command)),
        model_class=model_class,
        checkpoint_folders=tuple(os.path.join(path, name) for name in names),
    )


def checkpoint_names(contents: Row) -> list[str] | None:
    """Return the folders of checkpoints that a ``run.json`` lists, relative ones in the run's folder; None if it is damaged."""
    names = contents.get("checkpoint_folders", ["checkpoints"])  # older versions listed none, and had no other
    if not isinstance(names, list):
        return None
    return [name for name in names if isinstance(name, str) and "\0" not in name]


def list_runs(runs: Path) -> list[ListedRun]:
    """Return all folders in `runs`, those with an intact ``run.json`` first, newest first."""
    try:
        with os.scandir(runs) as entries:
            listed = [read_run(entry.path) for entry in entries if _is_folder(entry)]
    except OSError:
        return []
    return sorted(listed, key=lambda run: (run.is_intact, run.sequence, run.name.zfill(20)), reverse=True)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def next_sequence(runs: Path) -> int:
    """Return the number of a run that starts or resumes now: larger than those of all runs in `runs`."""
    return max(time.time_ns() // 1_000_000, *(run.sequence + 1 for run in list_runs(runs)), 1)


def valid_sequence(value: Any) -> int | None:
    """Return a number that ``run.json`` or a checkpoint gives for its run; None if it is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MAX_SEQUENCE else None


def _milliseconds(contents: Row) -> int:
    """Return the last start or resume that an older ``run.json`` tells, in milliseconds."""
    resumed = contents.get("resumed")
    starts = [contents, *(resumed if isinstance(resumed, list) else ())]
    return max(_parse_time(start.get("started")) if isinstance(start, dict) else 0 for start in starts)


def _parse_time(text: Any) -> int:
    try:
        return max(0, int(datetime.fromisoformat(text).timestamp() * 1000))
    except (TypeError, ValueError, OverflowError):
        return 0
