"""The order of runs is a number in each run.json; no file's time counts, and no clock that is set back."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain.views.recording.list_runs import RUN_FILE, ListedRun, list_runs, next_sequence, read_run

CONTENTS = {"command": ["fsmtrain", "fit"], "model": {"class": "Model"}}


def add(runs: Path, name: str, **contents: Any) -> Path:
    """Add a run folder."""
    (runs / name).mkdir(parents=True)
    (runs / name / RUN_FILE).write_text(json.dumps({**CONTENTS, **contents}))
    return runs / name


def names(runs: Path) -> list[str]:
    return [run.name for run in list_runs(runs)]


@given(clock=st.lists(st.integers(0, 10**19), min_size=1, max_size=8))
def test_a_run_that_starts_later_is_newer_whatever_the_clock_says(
    clock: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    runs = tmp_path_factory.mktemp("runs")
    given_names = [str(9 - number) for number in range(len(clock))]  # by name the order would be the opposite
    with pytest.MonkeyPatch.context() as patch:
        for name, now in zip(given_names, clock, strict=True):
            patch.setattr(time, "time_ns", lambda now=now: now)
            add(runs, name, sequence=next_sequence(runs))
    assert names(runs) == given_names[::-1]


def test_older_runs_are_sorted_by_the_last_start_in_them_and_equal_ones_by_name(tmp_path: Path) -> None:
    add(tmp_path, "2", started="2025-01-01T00:00:00+00:00")
    add(tmp_path, "10", started="2025-01-01T00:00:00+00:00")
    add(tmp_path, "1", started="2024-01-01T00:00:00+00:00", resumed=[{"started": "2025-06-01T00:00:00+02:00"}, 3])
    add(tmp_path, "0", sequence=next_sequence(tmp_path))
    (tmp_path / "no run").mkdir()
    for path in (*tmp_path.glob("*/run.json"), *tmp_path.iterdir()):
        os.utime(path, (9e9, 9e9))
    assert names(tmp_path) == ["0", "1", "10", "2", "no run"]


@pytest.mark.parametrize("sequence", [True, -1, 0, "7", 1.5, None, [], 10**30])
@pytest.mark.parametrize("started", ["yesterday", 3, None, "9999-12-31T23:59:59-23:59", "\ud800"])
def test_what_is_no_number_or_time_counts_as_the_oldest(tmp_path: Path, sequence: Any, started: Any) -> None:
    add(tmp_path, "odd", sequence=sequence, started=started, resumed={"a": 1})
    add(tmp_path, "even", sequence=5 * 10**14)
    assert names(tmp_path) == ["even", "odd"]
    assert next_sequence(tmp_path) > 5 * 10**14


@pytest.mark.parametrize("text", ["", "[]", "{}", "\0" * 9, '{"command": "a", "model": {"class": "M"}}', '{"command": []}'])
def test_a_run_json_without_a_command_and_a_model_is_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / RUN_FILE).write_text(text)
    assert read_run(tmp_path) == ListedRun(path=str(tmp_path))


def test_only_paths_count_as_folders_of_checkpoints(tmp_path: Path) -> None:
    run = read_run(add(tmp_path, "0", checkpoint_folders=["a", "/b", 3, "c\0"]))
    assert run.checkpoint_folders == (f"{tmp_path}/0/a", "/b")
    assert read_run(add(tmp_path, "1")).checkpoint_folders == (f"{tmp_path}/1/checkpoints",)  # an older run
    assert not read_run(add(tmp_path, "2", checkpoint_folders="a")).is_intact


def test_10_000_runs_are_gone_through_in_half_a_second(tmp_path: Path) -> None:
    """CPU time, since other processes may use the same cores."""
    contents = json.dumps({**CONTENTS, "options": {f"flag_{number}": number for number in range(60)}, "sequence": 1}, indent=2)
    for number in range(10_000):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / RUN_FILE).write_text(contents)
    seconds = []
    for _ in range(3):
        before = time.process_time()
        assert len(list_runs(tmp_path)) == 10_000
        seconds.append(time.process_time() - before)
    assert min(seconds) < 0.5
