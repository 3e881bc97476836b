"""A signal to the whole group, workers included: the run stops, is saved, and goes on as if nothing had been."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.resuming.killing import differences
from tests.resuming.test_kills import ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "killpg"), reason="there are no groups of processes")


def started(folder: Path, *how: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.resuming.signalled", *how]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def outcome(folder: Path, *how: str) -> Any:
    process = started(folder, *how)
    said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return pickle.loads((folder / "outcome").read_bytes())


def stopped(folder: Path, at: int, number: signal.Signals, context: str) -> tuple[int, str]:
    """A run whose whole group gets a signal once it has made this many transitions: its exit code, and what it said."""
    process = started(folder, context, str(at))
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == at:
            os.killpg(process.pid, number)
            break
    _, said = process.communicate(timeout=120)
    return process.returncode, said


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The run to which nobody sends anything. It does not depend on how workers are made."""
    return outcome(tmp_path_factory.mktemp("whole"), "fork")


@pytest.mark.parametrize(
    ("context", "number", "code", "at"),
    [("fork", signal.SIGTERM, 143, 24), ("fork", signal.SIGINT, 130, 16), ("forkserver", signal.SIGTERM, 143, 31)],
)
def test_a_group_s_signal_stops_the_run_and_it_goes_on_in_the_same_bits(
    tmp_path: Path, whole: Any, context: str, number: signal.Signals, code: int, at: int
) -> None:
    ended, said = stopped(tmp_path, at, number, context)
    assert ended == code, said
    resumed = outcome(tmp_path, context, "resume")
    assert differences(whole, resumed) == []
    assert len(resumed["events"]) < len(whole["events"]) - at + 20  # it went on from where it was stopped
