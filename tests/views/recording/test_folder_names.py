"""Names and numbers of run folders, also if several processes start at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fsmtrain.views.recording.folder_names import create_run_folder


def test_unnamed_runs_are_numbered_from_0_after_the_largest_number(tmp_path: Path) -> None:
    runs = tmp_path / "a" / "runs"
    assert [create_run_folder(runs, None).name for _ in range(3)] == ["0", "1", "2"]
    (runs / "10").mkdir()
    (runs / "baseline").mkdir()
    (runs / "²").mkdir()  # str.isdigit() is true, but it is not a number
    assert create_run_folder(runs, None).name == "11"


def test_a_taken_run_name_gets_a_number_appended(tmp_path: Path) -> None:
    assert [create_run_folder(tmp_path, "a").name for _ in range(3)] == ["a", "a-2", "a-3"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["None", "'same'"])
def test_processes_that_start_at_the_same_time_get_different_folders(tmp_path: Path, name: str) -> None:
    """Each process waits until all are ready, so that they start at the same moment."""
    code = (
        "import sys, time; from pathlib import Path; from fsmtrain.views.recording.folder_names import create_run_folder\n"
        f"runs = Path({str(tmp_path / 'runs')!r}); runs.mkdir(exist_ok=True)\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        f"print(*[create_run_folder(runs, {name}).name for _ in range(50)])"
    )
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    racing = [subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(3)]
    for process in racing:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in racing:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    made = [folder for process in racing for folder in process.communicate()[0].split()]
    assert len(made) == len(set(made)) == 150
    assert {path.name for path in (tmp_path / "runs").iterdir()} == set(made)
