"""The folders of runs: one made for each, under its name or the next number, whoever else is making one at the same time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path


def make_folder(runs: Path, name: str | None) -> Path:
    """Make a folder for a run inside of `runs`.

    Args:
        runs: The folder of all runs, made where it is missing.
        name: The run's name; one that is taken gets ``-2``, ``-3``, ... behind it. None takes the number after the largest.

    Raises:
        OSError: Nothing can be written there.
    """
    runs.mkdir(parents=True, exist_ok=True)
    names = _numbers(runs) if name is None else _variants(name)
    for candidate in names:
        folder = runs / candidate
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("there is always another name")


def newest_first(runs: Path) -> list[Path]:
    """The folders of runs, the one that began last, or was resumed last, before the others."""
    began = {path.parent: path.stat().st_mtime for path in runs.glob("*/run.json")}
    return sorted(began, key=lambda path: (began[path], path.name.zfill(20)), reverse=True)


def _numbers(runs: Path) -> Iterator[str]:
    with os.scandir(runs) as entries:
        taken = [int(entry.name) for entry in entries if entry.name.isdecimal() and entry.name.isascii()]
    return map(str, count(max(taken, default=-1) + 1))


def _variants(name: str) -> Iterator[str]:
    yield name
    for number in count(2):
        yield f"{name}-{number}"
