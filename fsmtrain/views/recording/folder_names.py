"""Names of run folders: create ``runs/0``, ``runs/1``, ... or ``runs/<run_name>`` without races."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

from fsmtrain.sync_files import sync_folder


def create_run_folder(runs: Path, name: str | None) -> Path:
    """Create the folder of a new run in `runs`. When this returns, it survives a power cut.

    Args:
        runs: The folder of all runs; created if it is missing.
        name: The run's name. If it is taken, ``-2``, ``-3``, ... is appended. None: the number after the largest one.

    Raises:
        OSError: `runs` is not writable.
    """
    _make_durable_folder(runs)
    for candidate in _next_numbers(runs) if name is None else _name_variants(name):
        with suppress(FileExistsError):
            (runs / candidate).mkdir()
            _sync(runs)
            return runs / candidate
    raise AssertionError("names never run out")


def _make_durable_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, so that they survive a power cut."""
    if not folder.is_dir():
        _make_durable_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    with suppress(PermissionError):  # no permission to open the folder itself
        sync_folder(folder)


def _next_numbers(runs: Path) -> Iterator[str]:
    with os.scandir(runs) as entries:
        numbers = [int(entry.name) for entry in entries if entry.name.isdecimal() and entry.name.isascii()]
    return map(str, count(max(numbers, default=-1) + 1))


def _name_variants(name: str) -> Iterator[str]:
    yield name
    for number in count(2):
        yield f"{name}-{number}"
