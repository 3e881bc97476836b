"""Law 8: killed anywhere, a run resumes from its last save and ends in the same bits."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def _told(*command: str) -> str:
    """What a command says that ends well."""
    python = [sys.executable, "-W", "ignore", "-m", *command]
    ended = subprocess.run(python, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    told = ended.stdout + ended.stderr
    assert ended.returncode == 0, told
    return told


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked")
def test_a_run_killed_anywhere_ends_in_the_same_bits() -> None:
    """A part of the matrix: each scenario at a few moments. The whole is one command, see `kill_matrix`."""
    told = _told("tests.resuming.kill_matrix", "--every", "71")
    same, tried, resumed = map(int, re.findall(r"^(\d+) of (\d+); (\d+)", told, re.MULTILINE)[0])
    assert same == tried > 60, told
    assert resumed > tried / 2, told  # else little was tried but beginning anew


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked")
def test_a_run_killed_at_a_random_moment_ends_in_the_same_bits() -> None:
    """A part: a kill of each of eight set-ups. All of them are one command, see `random_kills`."""
    told = _told("tests.resuming.random_kills", "--kills", "8", "--seed", "1")
    assert "\n8 of 8; " in told
