"""A real process is killed with SIGKILL at each operation of a save: what was saved before is there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.checkpoint_files.killed_saves import OPERATIONS

ROOT = Path(__file__).parents[4]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("killed")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-W",
        "ignore::DeprecationWarning",
        "-m",
        "tests.runtime.checkpoint_files.killed_saves",
        str(folder),
    ]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.slow
def test_a_process_killed_at_any_operation_leaves_what_was_saved_before(told: list[dict[str, Any]]) -> None:
    by_operation = [line for line in told if isinstance(line["at"], int)]
    assert {line["operation"] for line in by_operation} == set(OPERATIONS)
    assert {line["signal"] for line in by_operation} == {signal.SIGKILL}
    assert not any(line["skipped"] for line in by_operation)
    renamed = next(line["at"] for line in by_operation if line["operation"] == "rename")
    assert [line["number"] for line in by_operation] == [1 if line["at"] <= renamed else 2 for line in by_operation]


def test_a_process_killed_at_any_moment_leaves_what_was_saved_before(told: list[dict[str, Any]]) -> None:
    at_random = [line for line in told if line["at"] == "random"]
    assert len(at_random) == 6
    assert {line["signal"] for line in at_random} == {signal.SIGKILL}
    assert not any(line["skipped"] for line in at_random)


def test_the_next_process_removes_the_leftovers_of_a_killed_one(told: list[dict[str, Any]]) -> None:
    left = {name for line in told for name in line["left"]}
    assert all(name.isdigit() for name in left)


def test_a_process_that_ends_by_itself_finishes_its_last_save(told: list[dict[str, Any]]) -> None:
    [end] = [line for line in told if line["at"] == "end"]
    assert end["number"] == 7
