"""Names of run folders: create ``runs/0``, ``runs/1``, ... or ``runs/<run_name>`` without races."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path


def create_run_folder(runs: Path, name: str | None) -> Path:
    """Create the folder of a new run in `runs`.

    Args:
        runs: The folder of all runs; created if it is missing.
        name: The run's name. If it is taken, ``-2``, ``-3``, ... is appended. None: the number after the largest one.

    Raises:
        OSError: `runs` is not writable.
    """
    runs.mkdir(parents=True, exist_ok=True)
    for candidate in _next_numbers(runs) if name is None else _name_variants(name):
        with suppress(FileExistsError):
            (runs / candidate).mkdir()
            return runs / candidate
    raise AssertionError("names never run out")


def runs_newest_first(runs: Path) -> list[Path]:
    """Return the run folders in `runs`, the one that was started or resumed last first."""
    started = {path.parent: path.stat().st_mtime for path in runs.glob("*/run.json")}
    return sorted(started, key=lambda path: (started[path], path.name.zfill(20)), reverse=True)


def _next_numbers(runs: Path) -> Iterator[str]:
    with os.scandir(runs) as entries:
        numbers = [int(entry.name) for entry in entries if entry.name.isdecimal() and entry.name.isascii()]
    return map(str, count(max(numbers, default=-1) + 1))


def _name_variants(name: str) -> Iterator[str]:
    yield name
    for number in count(2):
        yield f"{name}-{number}"
