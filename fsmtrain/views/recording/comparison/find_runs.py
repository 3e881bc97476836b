"""Find the runs to put side by side: all in a folder, or those that are named; what cannot be read is told, and left out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from fsmtrain.errors import UsageError
from fsmtrain.views.recording.comparison.run_facts import RunFacts, read_facts
from fsmtrain.views.recording.list_runs import RUN_FILE, list_runs
from fsmtrain.views.recording.read_run_folder import find_run_folder


def runs_of(folder: Path, now: datetime) -> tuple[list[RunFacts], dict[str, str]]:
    """Return all runs in a folder, newest first; and for each that cannot be read, why. Other folders are left out.

    Raises:
        UsageError: There is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}. Name the folder of all runs, which is runs by default.")
    found: list[RunFacts] = []
    damaged: dict[str, str] = {}
    for run in list_runs(folder):
        if not (run.folder / RUN_FILE).is_file():
            continue
        try:
            found.append(read_facts(run, now))
        except UsageError as error:
            damaged[run.name] = str(error)
    return found, damaged


def named_runs(names: Sequence[str], runs_dir: Path, now: datetime) -> tuple[list[RunFacts], dict[str, str]]:
    """Return the runs of these names, in this order; and for each that cannot be read, why.

    Args:
        names: Folders of runs, names or numbers in `runs_dir`, ranges of numbers such as ``3-7``, and folders of runs. None at
            all: every run in `runs_dir`, in the order in which they began.
        runs_dir: The folder of all runs.
        now: The time at which they are read.

    Raises:
        UsageError: There is no run of such a name.
    """
    found: dict[Path, RunFacts] = {}
    damaged: dict[str, str] = {}
    for name in names or [str(runs_dir)]:
        if (Path(name) / RUN_FILE).is_file() or not Path(name).is_dir():
            for each in _expand(name, runs_dir):
                path = find_run_folder(each, runs_dir)
                found.setdefault(path.absolute(), read_facts(path, now))
        else:
            runs, broken = runs_of(Path(name), now)
            found |= {run.record.path.absolute(): run for run in reversed(runs)}
            damaged |= broken
    return [*found.values()], damaged


def _expand(name: str, runs_dir: Path) -> list[str]:
    """Return the runs that a range of numbers names; any other name as it is.

    >>> _expand("3-6", Path("runs")), _expand("baseline-2", Path("runs"))
    (['3', '4', '5', '6'], ['baseline-2'])
    """
    numbers = re.fullmatch(r"(\d{1,9})-(\d{1,9})", name)
    if numbers is None or (runs_dir / name).is_dir():
        return [name]
    first, last = int(numbers[1]), int(numbers[2])
    return [str(n) for n in range(first, min(last, first + 9_999) + 1)]
